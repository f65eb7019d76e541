//! The settings of `quota`.

use std::time::SystemTime;

use zim_batch::limiter::quota::Limit;

use crate::cli::args::QuotaArgs;
use crate::cli::args::quota::LimitWord;
use crate::cli::errors::Error;
use crate::cli::settings::app::App;
use crate::cli::settings::call::Call;

/// What `quota` does.
#[derive(Debug)]
pub struct QuotaSettings {
    pub app: App,
    pub app_id: u32,
    /// The limit to set; `Some(None)` ends it.
    pub limit: Option<Option<Limit>>,
    pub json: bool,
}

impl QuotaSettings {
    /// A limit begins now.
    pub fn new(args: QuotaArgs, call: &mut Call) -> Result<QuotaSettings, Error> {
        let app = App::new(call.sources(args.app.0, false))?;
        let Some(app_id) = app.app_id.as_ref().map(|app_id| app_id.value) else {
            return Err(Error::Usage(
                "the AppId is missing: set ZIM_APP_ID (or --app-id), or choose a profile that has it (--profile). No secret \
                 is needed"
                    .into(),
            ));
        };
        call.labels.app_id = app_id.to_string();
        let until = args.lasts.map(|lasts| SystemTime::now() + lasts);
        let limit = match args.limit {
            None => None,
            Some(LimitWord::Off) if until.is_some() => {
                return Err(Error::Usage(
                    "--limit off ends the limit now, so it can't be combined with --for".into(),
                ));
            }
            Some(LimitWord::Off) => Some(None),
            Some(LimitWord::Pause) => Some(Some(Limit::new(None, until))),
            Some(LimitWord::Rate(rate)) => Some(Some(Limit::new(Some(rate), until))),
        };
        Ok(QuotaSettings {
            app,
            app_id,
            limit,
            json: args.json,
        })
    }
}
