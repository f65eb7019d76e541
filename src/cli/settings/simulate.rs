//! The settings of `simulate`, and of the simulator of `--simulate`.

use std::path::PathBuf;
use std::time::Duration;

use zim_batch::Rate;
use zim_batch::simulator::{Options, Outage};

use crate::cli::args::SimulateArgs;
use crate::cli::errors::Error;
use crate::cli::settings::files::{Files, Role};

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
        files.add_settings(args.secret_file.clone());
        for (flag, path) in [("--conversations", &args.conversations), ("--events", &args.events)] {
            if let Some(path) = path.as_ref().filter(|path| path.as_os_str() != "-") {
                files.add(Role::Other(flag), path)?;
            }
        }
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

/// The simulator of `--simulate`: healthy, with an occasional retry, and a cap that fits `rate`.
pub fn demonstration(rate: Rate) -> Options {
    Options {
        cap: rate.cap().max(20) as u32,
        error_rate: 0.01,
        jitter: Duration::from_millis(20),
        seed: 3,
        ..Options::default()
    }
}
