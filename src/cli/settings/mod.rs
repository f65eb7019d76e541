//! Settings: arguments, environment and profile, checked and converted once. Commands take these, and no arguments.

pub mod app;
mod call;
pub mod files;
pub mod input;
pub mod labels;
pub mod origin;
pub mod profile;
pub mod quota;
pub mod results;
pub mod run;
pub mod secret;
pub mod simulate;
pub mod sources;

use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use jiff::Timestamp;
use zim_batch::files::same_file;
use zim_batch::journal::RunLog;
use zim_batch::rows::{Format, Only};
use zim_batch::{ConvType, Timetable};

use crate::cli::args::app::{PROFILE, RATE};
use crate::cli::args::time::Since;
use crate::cli::args::{
    CheckArgs, ClearArgs, Cli, Command, ConfigArgs, Given, ListArgs, OutputArgs, PaceArgs, ReportArgs, RowsOrUsers,
    RunArgs,
};
use crate::cli::errors::Error;
use crate::cli::errors::exit_ok::ExitOk;
pub use call::Call;
use files::Files;
use input::InputSettings;
use labels::Labels;
use quota::QuotaSettings;
use results::{ListPaths, ReportPaths, UsersReportPaths};
use run::RunSettings;
use simulate::SimulateSettings;
use sources::Sources;

/// The flag of the file with log lines.
const LOG_FILE: &str = "--log-file";

/// A command, with its settings.
pub enum Settings {
    Clear(Box<ClearSettings>),
    ClearUsers(Box<ClearUsersSettings>),
    List(Box<ListSettings>),
    Check(Box<CheckSettings>),
    Report(Box<ReportSettings>),
    Simulate(Box<SimulateSettings>),
    Quota(Box<QuotaSettings>),
    Codes { codes: Vec<i64>, json: bool },
    Config(Box<ConfigSettings>),
    Completions { shell: clap_complete::Shell },
    Man,
}

impl Settings {
    /// The settings, and what is known of the call if they are wrong.
    ///
    /// # Errors
    /// If the log file is another one of these: log lines would corrupt it.
    pub fn new(cli: Cli) -> Result<(Call, Result<Settings, Error>), Error> {
        let mut call = Call {
            labels: Labels {
                command: cli.given.command().to_owned(),
                ..Labels::default()
            },
            given: cli.given,
            logging: cli.logging,
            files: Files::default(),
            exit_ok: ExitOk::default(),
        };
        let settings = Settings::of_command(cli.command, &mut call);
        call.files.add_of_flag(LOG_FILE, call.logging.log_file.as_deref())?;
        Ok((call, settings))
    }

    fn of_command(command: Command, call: &mut Call) -> Result<Settings, Error> {
        Ok(match command {
            Command::Clear(args) => Settings::of_clear(*args, call)?,
            Command::List(args) => Settings::List(ListSettings::new(*args, call)?.into()),
            Command::Check(args) => Settings::Check(CheckSettings::new(*args, call)?.into()),
            Command::Report(args) => Settings::Report(ReportSettings::new(*args, &mut call.files)?.into()),
            Command::Simulate(args) => Settings::Simulate(SimulateSettings::new(*args, &mut call.files)?.into()),
            Command::Quota(args) => Settings::Quota(QuotaSettings::new(*args, call)?.into()),
            Command::Codes { codes, json } => Settings::Codes { codes, json },
            Command::Config(args) => Settings::Config(ConfigSettings::new(*args, call).into()),
            Command::Completions { shell } => Settings::Completions { shell },
            Command::Man => Settings::Man,
        })
    }

    /// With `--dry-run`, `clear` is a check.
    fn of_clear(args: ClearArgs, call: &mut Call) -> Result<Settings, Error> {
        let sources = call.sources(args.app, args.simulator.simulate);
        let (limit, conv_type) = (args.pace.limit, args.listing.conv_type);
        match args.input.rows_or_users() {
            RowsOrUsers::Rows(_) if args.listing.since.is_some() => Err(Error::Usage(
                "--since selects the conversations that are listed for --users USERS; rows have no time".into(),
            )),
            RowsOrUsers::Rows(_) if args.output.rows_file.is_some() => Err(Error::Usage(
                "--rows chooses the file of the rows that are listed for --users USERS; here the rows are the input"
                    .into(),
            )),
            RowsOrUsers::Rows(rows) => {
                let input = InputSettings::rows(rows, limit, conv_type, &mut call.files)?;
                let paths = ReportPaths::new(&args.output, &args.run, &input, &mut call.files);
                if args.output.dry_run {
                    return Settings::of_dry_run(input, args.run.json, sources, call);
                }
                let paths = paths?;
                let (page, run) = of_clear_run(args.output, args.run, args.pace, &paths.report, sources, call)?;
                Ok(Settings::Clear(Box::new(ClearSettings {
                    input,
                    paths,
                    page,
                    run,
                })))
            }
            RowsOrUsers::Users(users) => {
                let input = InputSettings::users(users, None, &mut call.files)?;
                let paths = UsersReportPaths::new(&args.output, &args.run, &input, &mut call.files);
                if args.output.dry_run {
                    return Settings::of_dry_run(input, args.run.json, sources, call);
                }
                let paths = paths?;
                let (page, run) = of_clear_run(args.output, args.run, args.pace, &paths.report.report, sources, call)?;
                Ok(Settings::ClearUsers(Box::new(ClearUsersSettings {
                    input,
                    limit: limit.map(NonZeroU64::get),
                    paths,
                    since: args.listing.since,
                    conv_type,
                    page,
                    run,
                })))
            }
        }
    }

    fn of_dry_run(input: InputSettings, json: bool, sources: Sources, call: &mut Call) -> Result<Settings, Error> {
        let exit_ok = call.exit_ok(&sources)?;
        let until = sources.until()?.map(|until| until.value);
        let (rate, without_profile) = rate_of_a_run(sources)?;
        Ok(Settings::Check(Box::new(CheckSettings {
            input,
            rate,
            until,
            without_profile,
            json,
            given: call.given.clone(),
            is_dry_run: true,
            exit_ok,
            online: None,
        })))
    }
}

/// The page and the run of `clear`, whose job is named after its report.
fn of_clear_run(
    output: OutputArgs,
    run: RunArgs,
    pace: PaceArgs,
    report: &Path,
    sources: Sources,
    call: &mut Call,
) -> Result<(Option<PathBuf>, RunSettings), Error> {
    call.labels.set_name(run.name.as_deref(), report);
    call.files.add_of_flag("--html", output.html.as_deref())?;
    Ok((output.html, RunSettings::new(run, pace, sources, call)?))
}

/// What `clear` does.
#[derive(Debug)]
pub struct ClearSettings {
    pub input: InputSettings,
    pub paths: ReportPaths,
    /// The page to write.
    pub page: Option<PathBuf>,
    pub run: RunSettings,
}

/// What `clear --users` does. Its input is read as users.
#[derive(Debug)]
pub struct ClearUsersSettings {
    pub input: InputSettings,
    /// Maximum rows to clear.
    pub limit: Option<u64>,
    pub paths: UsersReportPaths,
    pub since: Option<Since>,
    pub conv_type: Option<ConvType>,
    /// The page to write.
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
    /// The page to write.
    pub page: Option<PathBuf>,
    pub run: RunSettings,
}

impl ListSettings {
    fn new(args: ListArgs, call: &mut Call) -> Result<ListSettings, Error> {
        let sources = call.sources(args.app, args.simulator.simulate);
        let input = InputSettings::users(args.users, args.pace.limit, &mut call.files)?;
        let paths = ListPaths::new(&args.output, &args.run, &input, &mut call.files)?;
        let file = paths.report.as_deref().unwrap_or(input.path());
        call.labels.set_name(args.run.name.as_deref(), file);
        call.files.add_of_flag("--explain", args.output.explain.as_deref())?;
        call.files.add_of_flag("--html", args.output.html.as_deref())?;
        if args.output.html.is_some() && paths.report.is_none() {
            return Err(Error::Usage(
                "--html is the page of the list report; specify a file for it with --report FILE".into(),
            ));
        }
        Ok(ListSettings {
            input,
            paths,
            since: args.listing.since,
            conv_type: args.listing.conv_type,
            explanation: args.output.explain,
            page: args.output.html,
            run: RunSettings::new(args.run, args.pace, sources, call)?,
        })
    }
}

/// What `check` does.
#[derive(Debug)]
pub struct CheckSettings {
    pub input: InputSettings,
    /// The rate of a run.
    pub rate: Timetable,
    /// When a run that begins now ends by the clock.
    pub until: Option<Timestamp>,
    /// Why the rate is that of a run without a profile.
    pub without_profile: Option<Error>,
    pub json: bool,
    /// The command line, for commands to run next.
    pub given: Given,
    /// It is `clear --dry-run`.
    pub is_dry_run: bool,
    pub exit_ok: ExitOk,
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
    fn new(args: CheckArgs, call: &mut Call) -> Result<CheckSettings, Error> {
        let is_simulated = args.simulator.simulate;
        let has_app = args.app.has_app() || is_simulated;
        let sources = call.sources(args.app, is_simulated);
        let input = InputSettings::rows(args.rows, args.pace.limit, None, &mut call.files)?;
        for written in args
            .missing
            .iter()
            .flat_map(|missing| [missing.clone(), RunLog::path_of(missing)])
        {
            call.files.add_of_flag("--missing", Some(&written))?;
        }
        let exit_ok = call.exit_ok(&sources)?;
        let until = sources.until()?.map(|until| until.value);
        let (online, rate, without_profile) = if args.online {
            call.labels.set_name(None, input.path());
            let run = RunSettings::of_check(args.pace, args.json, sources, call)?;
            let rate = run.pace.rate.value.clone();
            let missing = args.missing;
            (Some(OnlineSettings { run, missing }), rate, None)
        } else if has_app {
            return Err(Error::Usage(
                "check sends nothing, so it needs no app; to ask ZIM which users exist, add --online".into(),
            ));
        } else {
            let (rate, without_profile) = rate_of_a_run(sources)?;
            (None, rate, without_profile)
        };
        Ok(CheckSettings {
            input,
            rate,
            until,
            without_profile,
            json: args.json,
            given: call.given.clone(),
            is_dry_run: false,
            exit_ok,
            online,
        })
    }
}

/// The rate of a run, for a command that does not run. A profile that can't be read is an error only if a flag chooses it;
/// otherwise the rate is that of a run without a profile, and why is returned too.
fn rate_of_a_run(sources: Sources) -> Result<(Timetable, Option<Error>), Error> {
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
    /// At least one, and none twice. `-` is standard input, which is read alone.
    pub reports: Vec<PathBuf>,
    /// The rows of the run.
    pub rows: Option<PathBuf>,
    /// How the rows are read.
    pub format: Format,
    /// Where records are copied to, and which.
    pub csv: Option<(PathBuf, Only)>,
    /// The page to write.
    pub page: Option<PathBuf>,
    pub json: bool,
}

impl ReportSettings {
    fn new(args: ReportArgs, files: &mut Files) -> Result<ReportSettings, Error> {
        let format = input::format_of_report_rows(&args);
        for path in args.reports.iter().chain(&args.rows) {
            input::refuse_secret(path)?;
            files.add_read_only(path);
        }
        let has_several = args.reports.len() > 1;
        let has_stdin = args.reports.iter().any(|report| report.as_os_str() == "-");
        if has_several && has_stdin {
            return Err(Error::Usage(
                "several reports are read twice, which standard input can't be; give files".into(),
            ));
        }
        if has_several && args.rows.is_some() {
            return Err(Error::Usage(
                "--rows is the input of one report, and several reports may have different ones; give one report with it".into(),
            ));
        }
        args.reports.iter().for_each(|report| files.add_of_runs(report));
        files.add_of_flag("--html", args.html.as_deref())?;
        files.add_of_flag("--csv", args.csv.as_deref())?;
        args.csv.as_deref().map_or(Ok(()), results::check_copy)?;
        let only = input::only(args.only.as_deref()).unwrap_or(Only::All);
        if args.csv.is_some() && has_stdin {
            return Err(Error::Usage(
                "--csv reads the report a second time, which standard input can't be; give a file".into(),
            ));
        }
        Ok(ReportSettings {
            csv: args.csv.map(|path| (path, only)),
            reports: without_repeats(args.reports),
            rows: args.rows,
            format,
            page: args.html,
            json: args.json,
        })
    }
}

/// Leaves out files that were named before, perhaps by another path.
fn without_repeats(paths: Vec<PathBuf>) -> Vec<PathBuf> {
    let mut distinct: Vec<PathBuf> = Vec::new();
    for path in paths {
        if !distinct.iter().any(|other| *other == path || same_file(other, &path)) {
            distinct.push(path);
        }
    }
    distinct
}

/// What `config` shows.
#[derive(Debug)]
pub struct ConfigSettings {
    pub json: bool,
    pub sources: Sources,
}

impl ConfigSettings {
    fn new(args: ConfigArgs, call: &mut Call) -> ConfigSettings {
        ConfigSettings {
            json: args.json,
            sources: call.sources(args.app, false),
        }
    }
}
