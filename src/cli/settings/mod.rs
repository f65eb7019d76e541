//! Settings: arguments, environment and profile, checked and converted once. Commands take these, and no arguments.

pub mod app;
pub mod files;
pub mod input;
pub mod origin;
pub mod profile;
pub mod results;
pub mod run;
pub mod secret;
pub mod simulate;
pub mod sources;

use std::path::PathBuf;

use zim_batch::rows::Format;
use zim_batch::{ConvType, Rate};

use crate::cli::args::app::{PROFILE, RATE};
use crate::cli::args::values::Since;
use crate::cli::args::{CheckArgs, ClearArgs, Cli, Command, ConfigArgs, Given, ListArgs, Logging, ReportArgs};
use crate::cli::errors::Error;
use files::{Files, Role};
use input::InputSettings;
use results::{ListPaths, ReportPaths};
use run::RunSettings;
use simulate::SimulateSettings;
use sources::Sources;

/// The flag of the file with log lines.
const LOG_FILE: &str = "--log-file";

/// A command, with its settings.
pub enum Settings {
    Clear(Box<ClearSettings>),
    List(Box<ListSettings>),
    Check(Box<CheckSettings>),
    Report(ReportSettings),
    Simulate(Box<SimulateSettings>),
    Codes { codes: Vec<i64>, json: bool },
    Config(Box<ConfigSettings>),
    Completions { shell: clap_complete::Shell },
    Man,
}

impl Settings {
    /// The settings, and the files that the command uses, as far as they are known if the settings are wrong.
    ///
    /// # Errors
    /// If the log file is another one of these: log lines would corrupt it.
    pub fn new(cli: Cli) -> Result<(Files, Result<Settings, Error>), Error> {
        let Cli {
            command,
            logging,
            given,
        } = cli;
        let mut files = Files::default();
        let settings = Settings::of_command(command, given, &logging, &mut files);
        if let Some(log_file) = &logging.log_file {
            files.add(Role::Other(LOG_FILE), log_file)?;
        }
        Ok((files, settings))
    }

    fn of_command(command: Command, given: Given, logging: &Logging, files: &mut Files) -> Result<Settings, Error> {
        Ok(match command {
            Command::Clear(args) => Settings::of_clear(*args, given, logging, files)?,
            Command::List(args) => Settings::List(ListSettings::new(*args, given, logging, files)?.into()),
            Command::Check(args) => Settings::Check(CheckSettings::new(*args, given, logging, files)?.into()),
            Command::Report(args) => Settings::Report(ReportSettings::new(args, files)?),
            Command::Simulate(args) => Settings::Simulate(SimulateSettings::new(*args, files)?.into()),
            Command::Codes { codes, json } => Settings::Codes { codes, json },
            Command::Config(args) => Settings::Config(ConfigSettings::new(*args, files).into()),
            Command::Completions { shell } => Settings::Completions { shell },
            Command::Man => Settings::Man,
        })
    }

    /// With `--dry-run`, `clear` is a check.
    fn of_clear(args: ClearArgs, given: Given, logging: &Logging, files: &mut Files) -> Result<Settings, Error> {
        let sources = Sources::new(args.app, args.simulator.simulate);
        files.add_settings(sources.files.clone());
        let input = InputSettings::rows(args.rows, args.pace.limit, files)?;
        let paths = ReportPaths::new(&args.output, &args.run, &input, files);
        if args.output.dry_run {
            let (rate, without_profile) = rate_of_a_run(sources)?;
            return Ok(Settings::Check(Box::new(CheckSettings {
                input,
                rate,
                without_profile,
                json: args.run.json,
                given,
                is_dry_run: true,
                online: None,
            })));
        }
        let paths = paths?;
        if let Some(page) = &args.output.html {
            files.add(Role::Other("--html"), page)?;
        }
        Ok(Settings::Clear(Box::new(ClearSettings {
            input,
            paths,
            page: args.output.html,
            run: RunSettings::new(args.run, args.pace, sources, given, logging, files)?,
        })))
    }
}

/// What `clear` does.
#[derive(Debug)]
pub struct ClearSettings {
    pub input: InputSettings,
    pub paths: ReportPaths,
    /// The page to write at the end.
    pub page: Option<PathBuf>,
    pub run: RunSettings,
}

/// What `list` does. Its input is read as users.
#[derive(Debug)]
pub struct ListSettings {
    pub input: InputSettings,
    pub paths: ListPaths,
    pub since: Option<Since>,
    pub conv_type: Option<ConvType>,
    /// Where to write why the rows of the input were outside.
    pub explanation: Option<PathBuf>,
    pub run: RunSettings,
}

impl ListSettings {
    fn new(args: ListArgs, given: Given, logging: &Logging, files: &mut Files) -> Result<ListSettings, Error> {
        let sources = Sources::new(args.app, args.simulator.simulate);
        files.add_settings(sources.files.clone());
        let input = InputSettings::users(args.users, args.pace.limit, files)?;
        let paths = ListPaths::new(&args.output, &args.run, &input, files)?;
        if let Some(explanation) = &args.output.explain {
            files.add(Role::Other("--explain"), explanation)?;
        }
        Ok(ListSettings {
            input,
            paths,
            since: args.output.since,
            conv_type: args.output.conv_type,
            explanation: args.output.explain,
            run: RunSettings::new(args.run, args.pace, sources, given, logging, files)?,
        })
    }
}

/// What `check` does.
#[derive(Debug)]
pub struct CheckSettings {
    pub input: InputSettings,
    /// The rate of a run, in requests per second.
    pub rate: Rate,
    /// Why the rate is that of a run without a profile.
    pub without_profile: Option<Error>,
    pub json: bool,
    /// The command line, for commands to run next.
    pub given: Given,
    /// It is `clear --dry-run`.
    pub is_dry_run: bool,
    pub online: Option<OnlineSettings>,
}

/// What `check --online` does besides.
#[derive(Debug)]
pub struct OnlineSettings {
    pub run: RunSettings,
    /// Where to write the rows of the users who don't exist.
    pub missing: Option<PathBuf>,
}

impl CheckSettings {
    fn new(args: CheckArgs, given: Given, logging: &Logging, files: &mut Files) -> Result<CheckSettings, Error> {
        let is_simulated = args.simulator.simulate;
        let has_app = args.app.has_app() || is_simulated;
        let sources = Sources::new(args.app, is_simulated);
        files.add_settings(sources.files.clone());
        let input = InputSettings::rows(args.rows, args.pace.limit, files)?;
        if let Some(missing) = &args.missing {
            files.add(Role::Other("--missing"), missing)?;
        }
        if args.online {
            let run = RunSettings::of_check(args.pace, args.json, sources, given.clone(), logging)?;
            return Ok(CheckSettings {
                input,
                rate: run.pace.rate.value,
                without_profile: None,
                json: args.json,
                given,
                is_dry_run: false,
                online: Some(OnlineSettings {
                    run,
                    missing: args.missing,
                }),
            });
        }
        if has_app {
            return Err(Error::Usage(
                "check sends nothing, so it needs no app; to ask ZIM which users exist, add --online".into(),
            ));
        }
        let (rate, without_profile) = rate_of_a_run(sources)?;
        Ok(CheckSettings {
            input,
            rate,
            without_profile,
            json: args.json,
            given,
            is_dry_run: false,
            online: None,
        })
    }
}

/// The rate of a run, for a command that does not run. A profile that can't be read is an error only if a flag chooses it;
/// otherwise the rate is that of a run without a profile, and why is returned too.
fn rate_of_a_run(sources: Sources) -> Result<(Rate, Option<Error>), Error> {
    let rate = sources.rate()?.value;
    let (has_profile, has_rate) = (sources.has_flag(&PROFILE.about), sources.has_flag(&RATE.about));
    match sources.profile {
        Err(error) if has_profile => Err(error),
        Err(error) if !has_rate => Ok((rate, Some(error))),
        _ => Ok((rate, None)),
    }
}

/// What `report` does.
#[derive(Debug)]
pub struct ReportSettings {
    /// `-` is standard input.
    pub report: PathBuf,
    /// The rows of the run.
    pub rows: Option<PathBuf>,
    /// How the rows are read.
    pub format: Format,
    /// The page to write.
    pub page: Option<PathBuf>,
    pub json: bool,
}

impl ReportSettings {
    fn new(args: ReportArgs, files: &mut Files) -> Result<ReportSettings, Error> {
        let format = input::format_of_report_rows(&args);
        [&args.report]
            .into_iter()
            .chain(&args.rows)
            .try_for_each(|path| input::refuse_secret(path))?;
        // The report itself may be read as rows.
        files.add_input(&args.report);
        args.rows.iter().for_each(|rows| files.add_input(rows));
        if let Some(page) = &args.html {
            files.add(Role::Other("--html"), page)?;
        }
        Ok(ReportSettings {
            report: args.report,
            rows: args.rows,
            format,
            page: args.html,
            json: args.json,
        })
    }
}

/// What `config` shows.
#[derive(Debug)]
pub struct ConfigSettings {
    pub json: bool,
    pub sources: Sources,
}

impl ConfigSettings {
    fn new(args: ConfigArgs, files: &mut Files) -> ConfigSettings {
        let sources = Sources::new(args.app, false);
        files.add_settings(sources.files.clone());
        ConfigSettings {
            json: args.json,
            sources,
        }
    }
}
