//! Values of arguments: text → value, without a look at anything else.

use std::ffi::OsStr;
use std::num::{NonZeroU32, NonZeroU64, NonZeroUsize};

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::Error as ClapError;
use clap::{Arg, Command};
use zim_batch::code::TABLE;
use zim_batch::limiter::RateError;
use zim_batch::row::{Outcome, UnknownName};
use zim_batch::rows::Encoding;
use zim_batch::text::is_invisible;

use super::quota::LimitWord;
use crate::cli::errors::redact;

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

/// Parses a limit for all runs: a rate, 0 for a pause, or `off`.
pub fn limit(text: &str) -> Result<LimitWord, String> {
    match (text, text.parse::<f64>()) {
        ("off", _) => Ok(LimitWord::Off),
        (_, Ok(0.0)) => Ok(LimitWord::Pause),
        _ => text
            .parse()
            .map(LimitWord::Rate)
            .map_err(|error: RateError| format!("{error}, 0 for a pause, or off")),
    }
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
    let outcome = text.trim().parse();
    outcome
        .map(|outcome| OnlyWord(Some(outcome)))
        .map_err(|UnknownName { expected, .. }| format!("it must be one of {expected}, or all"))
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

/// Parses the name of a job.
pub fn job_name(text: &str) -> Result<String, String> {
    if text.is_empty() || text.contains(is_invisible) {
        return Err("it must not be empty, or contain control characters or other invisible ones".into());
    }
    redact::refuse_secret(text)?;
    Ok(text.to_owned())
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
