//! Completions, by clap_complete: a shell asks the program itself which words fit, so it gets values too. `zim-batch
//! completions` prints the script that makes a shell ask.

use std::process::ExitCode;

use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::engine::{ArgValueCandidates, CompletionCandidate};
use clap_complete::env::Shells;
use clap_complete::{CompleteEnv, Shell};

use crate::cli::args::Cli;
use crate::cli::args::app::PROFILE;
use crate::cli::errors::Error;
use crate::cli::output::print::print;
use crate::cli::settings::profile::ConfigFile;

/// The variable by which a shell asks. clap's default, `COMPLETE`, may be set for something else.
const VARIABLE: &str = "ZIM_BATCH_COMPLETE";

/// The name under which shells find the program.
const PROGRAM: &str = "zim-batch";

/// zsh reads a script in `$fpath` when it completes for the first time, and uses it as the completing function.
const ZSH_FIRST_TIME: &str = "if [[ $funcstack[1] == _zim-batch ]]; then $_comps[zim-batch] \"$@\"; fi\n";

/// Answers a shell that asks which words fit. Returns `false` if none asks.
pub fn answer() -> Result<bool, clap::Error> {
    let directory = std::env::current_dir().ok();
    let completions = CompleteEnv::with_factory(command).var(VARIABLE);
    completions.try_complete(std::env::args_os(), directory.as_deref())
}

/// Prints the script for a shell. It calls the program that is found by its name.
pub fn completions(shell: Shell) -> Result<ExitCode, Error> {
    let unexpected = |error: &dyn std::fmt::Display| Error::Unexpected(format!("{shell}: {error}"));
    let mut script = Vec::new();
    Shells::builtins()
        .completer(&shell.to_string())
        .ok_or_else(|| unexpected(&"there are no completions for this shell"))?
        .write_registration(VARIABLE, PROGRAM, PROGRAM, PROGRAM, &mut script)
        .map_err(|error| unexpected(&error))?;
    if shell == Shell::Zsh {
        script.extend(ZSH_FIRST_TIME.as_bytes());
    }
    print(&String::from_utf8_lossy(&script))
}

/// The arguments, with what is known of their values only when a shell asks.
fn command() -> Command {
    let with_values = |arg: Arg| {
        if arg.get_id() == PROFILE.about.key {
            arg.add(ArgValueCandidates::new(profiles))
        } else if arg.get_value_hint() == ValueHint::AnyPath {
            arg.value_hint(ValueHint::FilePath)
        } else {
            arg
        }
    };
    Cli::command().mut_subcommands(|command| command.mut_args(with_values))
}

/// The names of the profiles in the configuration file.
fn profiles() -> Vec<CompletionCandidate> {
    let file = ConfigFile::read().ok().flatten();
    let names = file.and_then(|file| file.names().ok());
    names.into_iter().flatten().map(CompletionCandidate::new).collect()
}
