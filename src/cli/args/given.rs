//! What was given on the command line, as clap parsed it: from this, commands to run next are written.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use clap::parser::ValueSource;
use clap::{Arg, ArgAction, ArgMatches, Command};

/// A command line: the program, the subcommand, and the arguments that were given.
#[derive(Debug, Clone, Default)]
pub struct Given {
    program: OsString,
    command: String,
    arguments: Vec<Argument>,
}

/// An argument that was given.
#[derive(Debug, Clone)]
pub struct Argument {
    /// Its name in the code.
    pub id: String,
    /// The group of flags in the help that it belongs to.
    pub heading: Option<String>,
    /// As words of a command line: the flag, the value, or both.
    pub words: Vec<OsString>,
    /// The value may hold a secret, so it must not be shown.
    pub is_secret: bool,
    /// Where on the command line it stands.
    index: usize,
}

impl Given {
    /// The arguments that `cli`, which has been built, has found. `program` is how this process was called.
    pub fn new(program: OsString, cli: &Command, matches: &ArgMatches) -> Given {
        let Some((command, matches)) = matches.subcommand() else {
            return Given::default();
        };
        let known = cli
            .find_subcommand(command)
            .into_iter()
            .flat_map(Command::get_arguments);
        let mut arguments: Vec<Argument> = known
            .filter(|arg| matches.value_source(arg.get_id().as_str()) == Some(ValueSource::CommandLine))
            .flat_map(|arg| occurrences(arg, matches))
            .collect();
        arguments.sort_by_key(|argument| argument.index);
        Given {
            program,
            command: command.to_owned(),
            arguments,
        }
    }

    /// The name of the subcommand.
    pub fn command(&self) -> &str {
        &self.command
    }

    /// The arguments, in the order in which they were given.
    pub fn arguments(&self) -> impl Iterator<Item = &Argument> {
        self.arguments.iter()
    }

    /// The same command line without a time that will have passed when it is run again: `--until` with a date.
    #[must_use]
    pub fn lasting(&self) -> Given {
        let passes = |argument: &&Argument| {
            let value = argument.words.last().map(|word| word.as_bytes());
            argument.id == "until" && value.is_some_and(|value| value.contains(&b'-'))
        };
        let mut lasting = self.clone();
        lasting.arguments.retain(|argument| !passes(&argument));
        lasting
    }

    /// The same command line without the arguments `without`, and with the flag `with`. Secrets are left out.
    pub fn changed(&self, without: &[&str], with: Option<&str>) -> Vec<OsString> {
        let kept = self
            .arguments()
            .filter(|argument| !argument.is_secret && !without.contains(&argument.id.as_str()));
        let mut words = vec![self.program.clone(), self.command.clone().into()];
        words.extend(kept.flat_map(|argument| &argument.words).cloned());
        if let Some(flag) = with
            && !words.iter().any(|word| word == flag)
        {
            words.push(flag.into());
        }
        words
    }
}

/// Each time that an argument was given.
fn occurrences(arg: &Arg, matches: &ArgMatches) -> Vec<Argument> {
    let id = arg.get_id().as_str();
    let argument = |index, words, is_secret| Argument {
        id: id.to_owned(),
        heading: arg.get_help_heading().map(str::to_owned),
        words,
        is_secret,
        index,
    };
    let mut indices = matches.indices_of(id).into_iter().flatten();
    if !arg.get_action().takes_values() {
        let times = match arg.get_action() {
            ArgAction::Count => matches.get_count(id).into(),
            _ => 1,
        };
        let words = vec![flag(arg); times];
        return indices.map(|index| argument(index, words.clone(), false)).collect();
    }
    let given = matches.get_raw_occurrences(id).into_iter().flatten();
    let delimiter = arg.get_value_delimiter().map(String::from).unwrap_or_default();
    given
        .map(|values| {
            let values: Vec<&[u8]> = values.map(OsStr::as_bytes).collect();
            let index = indices.by_ref().take(values.len().max(1)).min().unwrap_or_default();
            // A tab is shown by the name that `--delimiter` takes: not every shell can quote it so that it is visible.
            let value = match values.join(delimiter.as_bytes()) {
                tab if tab == b"\t" => "tab".into(),
                value => OsString::from_vec(value),
            };
            let is_secret = arg.is_hide_env_values_set() && may_hold_secret(&value);
            argument(index, words(arg, value), is_secret)
        })
        .collect()
}

fn flag(arg: &Arg) -> OsString {
    match (arg.get_short(), arg.get_long()) {
        (Some(short), _) => format!("-{short}").into(),
        (None, long) => format!("--{}", long.unwrap_or_default()).into(),
    }
}

fn words(arg: &Arg, value: OsString) -> Vec<OsString> {
    let looks_like_flag = value.len() > 1 && value.as_bytes().starts_with(b"-");
    match (arg.get_long(), looks_like_flag) {
        (Some(_), true) => {
            let mut word = flag(arg);
            word.push("=");
            word.push(value);
            vec![word]
        }
        (Some(_), false) => vec![flag(arg), value],
        (None, _) => vec![path_argument(Path::new(&value))],
    }
}

/// A path as an argument that can't be mistaken for a flag. `-` is standard input.
pub fn path_argument(path: &Path) -> OsString {
    match path.as_os_str().as_bytes() {
        [b'-', _, ..] => Path::new(".").join(path).into(),
        _ => path.into(),
    }
}

/// Whether a URL may have a password in it.
pub fn may_hold_secret(url: &OsStr) -> bool {
    url.as_bytes().iter().any(|byte| matches!(byte, b'@' | b'?'))
}
