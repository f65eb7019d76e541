//! The settings of `simulate`.

use std::path::PathBuf;

use zim_batch::simulator::{Options, Outage};

use crate::cli::args::SimulateArgs;
use crate::cli::errors::Error;
use crate::cli::settings::files::Files;

/// What `simulate` does.
#[derive(Debug)]
pub struct SimulateSettings {
    /// On 127.0.0.1; 0 is a free one.
    pub port: u16,
    /// The users and conversations; `None` is a sample.
    pub conversations: Option<PathBuf>,
    /// Where events are appended; `-` is standard output.
    pub events: Option<PathBuf>,
    /// The file with the secret of the app, if it is not the one in the options.
    pub secret_file: Option<PathBuf>,
    pub options: Options,
}

impl SimulateSettings {
    pub fn new(args: SimulateArgs, files: &mut Files) -> Result<SimulateSettings, Error> {
        files.add_settings(args.secret_file.as_slice());
        files.add_of_flag("--conversations", args.conversations.as_deref())?;
        files.add_of_flag(
            "--events",
            args.events.as_deref().filter(|path| path.as_os_str() != "-"),
        )?;
        let kind = args.outage_kind.into();
        Ok(SimulateSettings {
            port: args.port,
            conversations: args.conversations,
            events: args.events,
            secret_file: args.secret_file,
            options: Options {
                app_id: args.app_id,
                cap: args.cap,
                newest: args.newest,
                latency: args.latency,
                jitter: args.jitter,
                arrival_jitter: args.arrival_jitter,
                competing: args.competing,
                error_rate: args.error_rate,
                limited_rate: args.limited_rate,
                reset_rate: args.reset_rate,
                outage: args.outage.map(|outage| Outage { kind, ..outage }),
                retry_after: args.retry_after,
                clock_offset: args.clock_offset,
                seed: args.seed,
                ..Options::default()
            },
        })
    }
}
