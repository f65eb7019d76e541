//! Settings: arguments, checked and converted to the library's types. `app.rs` has those of the app.

pub mod app;
pub mod origin;
pub mod profile;
pub mod secret;

use std::ffi::{OsStr, OsString};
use std::io::ErrorKind;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::FileTypeExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use url::{Host, ParseError, Url};
use zim_batch::files::{self, identity, same_file};
use zim_batch::journal::IfExists;
use zim_batch::row::Outcome;
use zim_batch::rows::{Columns, Encoding, Format, InputErrorKind, Source};
use zim_batch::run::Limits;

use crate::cli::args::DialectArgs;
use crate::cli::args::OutputArgs;
use crate::cli::args::PaceArgs;
use crate::cli::args::Region;
use crate::cli::args::RowsArgs;
use crate::cli::args::RunArgs;
use crate::cli::errors::Error;

/// The default endpoint.
const ENDPOINT: &str = "https://zim-api.zego.im";

/// Parses `500ms`, `10s`, `5m`, `2h` or a sum such as `1h 30m`; longer than zero.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be longer than zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 500ms, 10s, 5m or 2h")),
    }
}

/// Parses a rate in requests per second.
pub fn parse_rate(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(rate) if (0.001..=1_000_000.0).contains(&rate) => Ok(rate),
        _ => Err("it must be a number from 0.001 to 1000000".into()),
    }
}

/// From when on conversations are listed.
#[derive(Debug, Clone, Copy)]
pub enum Since {
    /// This long before the list began.
    Back(Duration),
    At(SystemTime),
}

/// Parses a duration back from now, or a date; without a time, midnight UTC.
pub fn parse_since(text: &str) -> Result<Since, String> {
    let timestamp = |text: &str| {
        text.parse::<Timestamp>()
            .ok()
            .and_then(|at| SystemTime::try_from(at).ok())
    };
    let time = match humantime::parse_duration(text) {
        Ok(duration) => Some(Since::Back(duration)),
        Err(_) => timestamp(text)
            .or_else(|| timestamp(&format!("{text}T00:00:00Z")))
            .map(Since::At),
    };
    time.ok_or_else(|| {
        "it must be a duration back from now, like 24h or 7d, or a date, like 2026-11-25 or 2026-11-25T03:00:00Z".into()
    })
}

/// Parses an AppId. The error does not show the text, which may be the secret by mistake.
pub fn parse_app_id(text: &str) -> Result<u32, String> {
    let app_id = text.trim().parse();
    app_id.map_err(|_| "the AppId must be a number from 0 to 4294967295".into())
}

/// Parses the base URL of ZIM's server API.
pub fn parse_endpoint(text: &str) -> Result<Url, String> {
    // A password with a slash would seem to be a path.
    if text.contains('@') {
        return Err("the endpoint must not contain a user name or a password; remove them".into());
    }
    // The query and the fragment may be secret.
    let shown = text.split(['?', '#']).next().unwrap_or_default();
    let shown = match secret::may_be_secret(shown) {
        true => "(not shown)",
        false => shown,
    };
    let refuse = |why: &str| Err(format!("'{shown}': {why}"));
    let url: Url = match text.parse() {
        Ok(url) => url,
        Err(ParseError::RelativeUrlWithoutBase) => {
            return refuse(&format!("this is not a URL; write it like {ENDPOINT}"));
        }
        Err(error) => return refuse(&format!("{error}; write it like {ENDPOINT}")),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("it must not contain '?' or '#'");
    }
    if url.host().is_none() {
        return refuse(&format!("it has no host; write it like {ENDPOINT}"));
    }
    match url.scheme() {
        "https" => Ok(url),
        "http" if is_loopback(&url) => Ok(url),
        "http" => refuse(
            "plain http is allowed only to a loopback address, because anyone who reads a signed request can reuse it; use https",
        ),
        _ => refuse("it must start with https://"),
    }
}

/// The endpoint of ZIM.
pub fn default_endpoint() -> Url {
    ENDPOINT.parse().expect("it is a URL")
}

impl Region {
    pub fn name(self) -> &'static str {
        match self {
            Region::Sha => "sha",
            Region::Hkg => "hkg",
            Region::Fra => "fra",
            Region::Lax => "lax",
            Region::Bom => "bom",
            Region::Sgp => "sgp",
        }
    }

    /// The endpoint in this region.
    pub fn endpoint(self) -> Url {
        let url = format!("https://zim-api-{}.zego.im", self.name());
        url.parse().expect("it is a URL")
    }
}

/// Whether the endpoint is on this machine.
pub fn is_loopback(url: &Url) -> bool {
    match url.host() {
        Some(Host::Ipv4(address)) => address.is_loopback(),
        Some(Host::Ipv6(address)) => address.is_loopback(),
        Some(Host::Domain(name)) => name == "localhost",
        None => false,
    }
}

/// Parses how many attempts a row gets.
pub fn parse_attempts(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<NonZeroU32>() {
        Ok(attempts) if attempts.get() <= 1000 => Ok(attempts),
        _ => Err("it must be a whole number from 1 to 1000".into()),
    }
}

/// Parses a number of rows.
pub fn parse_rows(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "it must be a whole number, at least 1".into())
}

/// Parses one character, or `tab`.
pub fn parse_delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        b"\"" | b"\r" | b"\n" => Err("a quote or a line end can't be the delimiter".into()),
        [byte] => Ok(*byte),
        _ => Err("it must be one ASCII character, or 'tab'".into()),
    }
}

/// Parses the name of an outcome, or `all`.
pub fn parse_only(text: &str) -> Result<OnlyWord, String> {
    if text.trim() == "all" {
        return Ok(OnlyWord(None));
    }
    let outcome = text.trim().parse::<Outcome>().map_err(|_| {
        let all: Vec<&str> = Outcome::ALL.iter().map(|outcome| outcome.as_str()).collect();
        format!("it must be one of {}, or all", all.join(", "))
    })?;
    Ok(OnlyWord(Some(outcome)))
}

/// One word of `--only`; `None` is `all`.
#[derive(Debug, Clone, Copy)]
pub struct OnlyWord(pub Option<Outcome>);

/// The encodings that completions offer.
pub const COMMON_ENCODINGS: [&str; 8] = [
    "utf-8",
    "utf-16le",
    "utf-16be",
    "gbk",
    "gb18030",
    "big5",
    "shift_jis",
    "windows-1252",
];

/// Parses the label of an encoding.
pub fn parse_encoding(text: &str) -> Result<&'static Encoding, String> {
    zim_batch::rows::encoding(text)
        .ok_or_else(|| "it must be a WHATWG label, such as gbk or big5, or a code page, such as cp936".into())
}

/// How to read the rows.
pub fn format(args: &RowsArgs) -> Format {
    Format {
        types: args.types.clone().unwrap_or_default(),
        ..dialect(&args.dialect, args.columns.as_ref())
    }
}

/// How to read an input, except for what only rows have.
pub fn dialect(args: &DialectArgs, columns: Option<&Columns>) -> Format {
    Format {
        delimiter: args.delimiter,
        columns: columns.cloned().unwrap_or_default(),
        encoding: args.encoding,
        ..Format::default()
    }
}

/// The files that a run writes.
#[derive(Debug, Clone)]
pub struct Output {
    pub report: PathBuf,
    pub outside: PathBuf,
    pub existing: IfExists,
}

impl Output {
    pub fn new(args: &OutputArgs, run: &RunArgs, rows: &Source) -> Result<Output, Error> {
        refuse_directory(rows)?;
        let report = match (&args.report, rows) {
            (Some(report), _) => report.clone(),
            (None, Source::File(path)) if rows.can_be_read_twice() => beside(path, "report.csv"),
            (None, _) => {
                return Err(Error::Usage(
                    "rows from standard input or a pipe have no default report; name one with --report FILE".into(),
                ));
            }
        };
        refuse_standard_output([(Some(&report), "--report"), (args.outside.as_ref(), "--outside")])?;
        let outside = match &args.outside {
            Some(outside) => outside.clone(),
            None => default_outside(&report)?,
        };
        let output = Output {
            report,
            outside,
            existing: run.existing(),
        };
        let advice =
            "name another one with --report (the outside log is named after the report, unless --outside is given)";
        check_distinct(&[&output.report, &output.outside], rows, "rows", advice)?;
        if same_file(&output.report, &output.outside) {
            return Err(Error::Usage(format!(
                "{}: the report and the outside log can't be the same file; name another one with --outside FILE",
                output.report.display()
            )));
        }
        if run.resume {
            refuse_named_pipe(rows)?;
        }
        Ok(output)
    }
}

/// Refuses `-` for files that a later run reads.
pub fn refuse_standard_output<const N: usize>(outputs: [(Option<&PathBuf>, &str); N]) -> Result<(), Error> {
    for (path, flag) in outputs {
        if path.is_some_and(|path| path.as_os_str() == "-") {
            return Err(Error::Usage(format!(
                "{flag} -: this must be a file, not standard output, because a later run reads it; name a file, or \
                 write ./- for a file of that name"
            )));
        }
    }
    Ok(())
}

/// Refuses a directory as input, before outputs are named after it.
pub fn refuse_directory(input: &Source) -> Result<(), Error> {
    match input {
        Source::File(path) if path.is_dir() => Err(zim_batch::Error::from(
            InputErrorKind::Open(ErrorKind::IsADirectory.into()).of(&path.display().to_string()),
        )
        .into()),
        _ => Ok(()),
    }
}

/// Refuses input for --resume that can't be read again.
pub fn refuse_named_pipe(input: &Source) -> Result<(), Error> {
    match input {
        Source::File(path) if is_named_pipe(path) => Err(Error::Usage(format!(
            "{}: this is a named pipe (FIFO), but --resume reads the input again from its beginning; write it to a file \
             first, or pass it on standard input: - < {0}",
            path.display()
        ))),
        _ => Ok(()),
    }
}

/// Refuses outputs that would overwrite the input, or mix with standard output or standard error.
pub fn check_distinct(outputs: &[&Path], input: &Source, items: &str, advice: &str) -> Result<(), Error> {
    let input = match input {
        Source::File(path) => path,
        Source::Stdin => Path::new("/dev/stdin"),
    };
    for output in outputs {
        if same_file(input, output) {
            return Err(Error::Usage(format!(
                "{}: this file contains the {items} and can't be an output too; {advice}",
                output.display()
            )));
        }
    }
    for (stream, name) in [("/dev/stdout", "standard output"), ("/dev/stderr", "standard error")] {
        for output in outputs {
            if identity(Path::new(stream)).is_some_and(|stream| Some(stream) == identity(output)) {
                return Err(Error::Usage(format!(
                    "{}: {name} is redirected to this file, so the two would mix; {advice}",
                    output.display()
                )));
            }
        }
    }
    Ok(())
}

/// Refuses a file of `flag` that can't be written as a whole: see [`files::check_target`].
pub fn check_target<'a>(
    flag: &str,
    path: &Path,
    begins_with: &str,
    used: impl IntoIterator<Item = &'a PathBuf>,
) -> Result<(), Error> {
    let used = used.into_iter().map(PathBuf::as_path);
    files::check_target(path, begins_with, used)
        .map_err(|why| Error::Usage(format!("{flag} {}: {why}", path.display())))
}

/// Whether it is a named pipe. A shell's anonymous pipe has a path only in /dev and /proc.
fn is_named_pipe(path: &Path) -> bool {
    path.metadata().is_ok_and(|metadata| metadata.file_type().is_fifo()) && path.canonicalize().is_ok()
}

/// `rows.csv` and `rows.csv.gz` → `rows.report.csv`, for the ending `report.csv`.
pub fn beside(rows: &Path, ending: &str) -> PathBuf {
    let rows = match rows.extension() {
        Some(extension) if extension == "gz" || extension == "zst" => rows.with_extension(""),
        _ => rows.to_owned(),
    };
    rows.with_extension(ending)
}

/// `out.csv` → `out.outside.csv`, `out.2026-11-23` → `out.2026-11-23.outside.csv`: only `.csv` is removed, because another
/// extension may distinguish two reports.
fn default_outside(report: &Path) -> Result<PathBuf, Error> {
    // No file can be created beside a device.
    let is_file = report
        .metadata()
        .map_or(true, |metadata| metadata.is_file() || metadata.is_dir());
    match is_file {
        true => Ok(named_after(report, ".outside.csv")),
        false => Err(Error::Usage(format!(
            "{}: this is a device or a pipe, but the report must be a file, because a later run reads it; name one \
             with --report FILE",
            report.display()
        ))),
    }
}

/// `rows.csv` → `rows.list.csv`, for the ending `.list.csv`: as for an outside log, only `.csv` is removed.
pub fn named_after(file: &Path, ending: &str) -> PathBuf {
    let name = file.file_name().unwrap_or_default().as_bytes();
    let stem = name.strip_suffix(b".csv").unwrap_or(name);
    file.with_file_name(OsStr::from_bytes(&[stem, ending.as_bytes()].concat()))
}

/// An environment variable. An empty one counts as not set.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}

/// An environment variable that must be UTF-8 text.
pub fn text_variable(name: &str) -> Result<Option<String>, Error> {
    let text = variable(name).map(OsString::into_string).transpose();
    text.map_err(|_| {
        Error::Usage(format!(
            "{name}: the value of this environment variable is not UTF-8 text"
        ))
    })
}

/// The limits of the run.
pub fn limits(pace: &PaceArgs, max_in_flight: NonZeroUsize, give_up_after: Duration) -> Limits {
    Limits {
        max_in_flight,
        max_attempts: pace.max_attempts,
        give_up_after: pace.give_up_after.unwrap_or(give_up_after),
        max_failures: pace.max_failures,
        max_duration: pace.max_duration,
        ..Limits::default()
    }
}
