//! `zim-batch completions`: the completion scripts for shells.

use std::process::ExitCode;

use clap::builder::{PossibleValue, TypedValueParser};
use clap::error::Error as ClapError;
use clap::{Arg, Command, CommandFactory};
use clap_complete::Shell;

use super::error::Error;
use super::{Cli, print};

pub fn completions(shell: Shell) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    clap_complete::generate(shell, &mut Cli::command(), "zim-batch", &mut script);
    print(&String::from_utf8_lossy(&script).replace("zim__subcmd__batch__", "zim__batch__"))
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

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<P::Value, ClapError> {
        self.parser.parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        Some(Box::new(self.values.iter().cloned()))
    }
}
