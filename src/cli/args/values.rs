//! Values of arguments: text → value, without a look at anything else. Errors don't show the text: clap shows it.

use std::ffi::OsStr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};
use std::time::{Duration, SystemTime};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::Error as ClapError;
use clap::{Arg, Command};
use jiff::Timestamp;
use url::{ParseError, Url};
use zim_batch::Rate;
use zim_batch::code::TABLE;
use zim_batch::endpoint::{DEFAULT_ENDPOINT, Region, is_loopback};
use zim_batch::limiter::RateError;
use zim_batch::row::{Outcome, UnknownName};
use zim_batch::rows::Encoding;

use crate::cli::errors::redact::shown;

/// Parses `500ms`, `10s`, `5m`, `2h` or a sum such as `1h 30m`; longer than zero.
pub fn duration(text: &str) -> Result<Duration, String> {
    match humantime::parse_duration(text) {
        Ok(duration) if duration.is_zero() => Err("it must be longer than zero".into()),
        Ok(duration) => Ok(duration),
        Err(error) => Err(format!("{error}; write it like 500ms, 10s, 5m or 2h")),
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
pub fn since(text: &str) -> Result<Since, String> {
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

/// Parses how many requests may be in flight.
pub fn in_flight(text: &str) -> Result<NonZeroUsize, String> {
    match text.parse::<NonZeroUsize>() {
        Ok(number) if number.get() <= 10_000 => Ok(number),
        _ => Err("it must be a whole number from 1 to 10000".into()),
    }
}

/// Parses how many attempts a row gets.
pub fn attempts(text: &str) -> Result<NonZeroU32, String> {
    match text.parse::<NonZeroU32>() {
        Ok(attempts) if attempts.get() <= 1000 => Ok(attempts),
        _ => Err("it must be a whole number from 1 to 1000".into()),
    }
}

/// Parses a number of rows.
pub fn count(text: &str) -> Result<NonZeroU64, String> {
    text.parse().map_err(|_| "it must be a whole number, at least 1".into())
}

/// Parses one character, or `tab`.
pub fn delimiter(text: &str) -> Result<u8, String> {
    match text.as_bytes() {
        b"tab" | b"\\t" => Ok(b'\t'),
        b"\"" | b"\r" | b"\n" => Err("a quote or a line end can't be the delimiter".into()),
        [byte] => Ok(*byte),
        _ => Err("it must be one ASCII character, or 'tab'".into()),
    }
}

/// Parses the name of an outcome, or `all`.
pub fn only(text: &str) -> Result<OnlyWord, String> {
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
pub fn encoding(text: &str) -> Result<&'static Encoding, String> {
    zim_batch::rows::encoding(text)
        .ok_or_else(|| "it must be a WHATWG label, such as gbk or big5, or a code page, such as cp936".into())
}

/// Parses a return code.
pub fn code(text: &str) -> Result<i64, String> {
    text.parse()
        .map_err(|_| "a return code is a whole number, such as 660800002".into())
}

/// The words of `--only`.
pub fn outcomes() -> Vec<&'static str> {
    let outcomes = Outcome::ALL.iter().map(|outcome| outcome.as_str());
    outcomes.chain(["all"]).collect()
}

/// ZIM's return codes, with their meanings.
pub fn codes() -> impl Iterator<Item = PossibleValue> {
    TABLE
        .iter()
        .map(|code| PossibleValue::new(code.code.to_string()).help(code.meaning))
}

/// A parser, with values that completions offer. Other values may be valid too.
#[derive(Clone)]
pub struct Offering<P> {
    parser: P,
    values: Vec<PossibleValue>,
}

/// Adds to a parser the values that completions offer.
pub fn offering<P: TypedValueParser>(
    parser: P,
    values: impl IntoIterator<Item = impl Into<PossibleValue>>,
) -> Offering<P> {
    let values = values.into_iter().map(Into::into).collect();
    Offering { parser, values }
}

impl<P: TypedValueParser> TypedValueParser for Offering<P> {
    type Value = P::Value;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &OsStr) -> Result<P::Value, ClapError> {
        self.parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().cloned()))
    }
}

/// The text of a setting that can't be any bytes.
pub fn text(text: &OsStr) -> Result<&str, String> {
    text.to_str().ok_or_else(|| "its value is not UTF-8 text".into())
}

/// Parses an AppId.
pub fn app_id(app_id: &OsStr) -> Result<u32, String> {
    let app_id = text(app_id)?.trim().parse();
    app_id.map_err(|_| "the AppId must be a number from 0 to 4294967295".into())
}

/// Parses a rate in requests per second.
pub fn rate(rate: &OsStr) -> Result<Rate, String> {
    text(rate)?.parse().map_err(|error: RateError| error.to_string())
}

/// Parses a region, ignoring case.
pub fn region(region: &OsStr) -> Result<Region, String> {
    let region = text(region)?.parse();
    region.map_err(|UnknownName { expected, .. }| format!("it must be one of {expected}"))
}

/// The regions, with their places.
pub fn regions() -> Vec<PossibleValue> {
    let value = |region: Region| PossibleValue::new(region.as_str()).help(region.location());
    Region::ALL.map(value).into()
}

/// Parses the base URL of ZIM's server API. The error shows it, except for what may be secret.
pub fn endpoint(endpoint: &OsStr) -> Result<Url, String> {
    let text = text(endpoint)?;
    // A password with a slash would seem to be a path.
    if text.contains('@') {
        return Err("the endpoint must not contain a user name or a password; remove them".into());
    }
    // The query and the fragment may be secret.
    let shown = shown(text.split(['?', '#']).next().unwrap_or_default());
    let refuse = |why: &str| Err(format!("'{shown}': {why}"));
    let url: Url = match text.parse() {
        Ok(url) => url,
        Err(ParseError::RelativeUrlWithoutBase) => {
            return refuse(&format!("this is not a URL; write it like {DEFAULT_ENDPOINT}"));
        }
        Err(error) => return refuse(&format!("{error}; write it like {DEFAULT_ENDPOINT}")),
    };
    if url.query().is_some() || url.fragment().is_some() {
        return refuse("it must not contain '?' or '#'");
    }
    if url.host().is_none() {
        return refuse(&format!("it has no host; write it like {DEFAULT_ENDPOINT}"));
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
