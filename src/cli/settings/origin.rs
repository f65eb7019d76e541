//! The value of a setting, and where it comes from.

use std::ffi::OsString;
use std::fmt;
use std::path::Path;
use std::sync::Arc;

use crate::cli::errors::Error;

/// A value, and where it comes from.
#[derive(Debug, Clone)]
pub struct Sourced<T> {
    pub value: T,
    pub origin: Origin,
}

/// Where a value comes from. In text: what the user has to change to change the value.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Origin {
    Flag(&'static str),
    Variable(&'static str),
    /// A profile in the configuration file.
    Profile {
        name: Arc<str>,
        file: Arc<Path>,
        line: usize,
    },
    Default,
}

/// What is wrong with a setting, and where it comes from.
pub type Wrong = Sourced<String>;

impl From<Wrong> for Error {
    fn from(wrong: Wrong) -> Error {
        Error::Usage(wrong.value)
    }
}

impl<T> Sourced<T> {
    pub fn flag(name: &'static str, value: T) -> Sourced<T> {
        let origin = Origin::Flag(name);
        Sourced { value, origin }
    }

    pub fn variable(name: &'static str, value: T) -> Sourced<T> {
        let origin = Origin::Variable(name);
        Sourced { value, origin }
    }

    pub fn default(value: T) -> Sourced<T> {
        let origin = Origin::Default;
        Sourced { value, origin }
    }

    /// Converts the value.
    pub fn map<U>(self, convert: impl FnOnce(T) -> U) -> Sourced<U> {
        Sourced {
            value: convert(self.value),
            origin: self.origin,
        }
    }

    /// Converts the value, which may fail; the error can name the origin.
    pub fn try_map<U, E: fmt::Display>(
        self,
        convert: impl FnOnce(T, &Origin) -> Result<U, E>,
    ) -> Result<Sourced<U>, Wrong> {
        let Sourced { value, origin } = self;
        match convert(value, &origin) {
            Ok(value) => Ok(Sourced { value, origin }),
            Err(why) => Err(Sourced {
                value: why.to_string(),
                origin,
            }),
        }
    }
}

impl Origin {
    /// One word for scripts.
    pub fn kind(&self) -> &'static str {
        match self {
            Origin::Flag(_) => "flag",
            Origin::Variable(_) => "environment",
            Origin::Profile { .. } => "profile",
            Origin::Default => "default",
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Flag(name) | Origin::Variable(name) => f.write_str(name),
            Origin::Profile { file, line, .. } => write!(f, "{}, line {line}", file.display()),
            Origin::Default => f.write_str("default"),
        }
    }
}

/// An environment variable. An empty one counts as not set.
pub fn variable(name: &str) -> Option<OsString> {
    std::env::var_os(name).filter(|value| !value.is_empty())
}
