//! `zim-batch completions`: the completion scripts for shells.
//!
//! clap_complete generates them from the arguments. Some things are added here: what can't be a file is not completed as
//! one, outcomes are completed after a comma too, and profiles by their names in the configuration file.

use std::process::ExitCode;

use clap::builder::PossibleValue;
use clap::{Arg, Command, CommandFactory, ValueHint};
use clap_complete::Shell;

use crate::cli::args::Cli;
use crate::cli::args::values::outcomes;
use crate::cli::errors::Error;
use crate::cli::output::shell::print;

/// Prints the names of the profiles in the configuration file in this directory, in any shell.
fn profiles(directory: &str) -> String {
    format!(
        r"sed -n 's/^ *\[ *profiles *\. *\([A-Za-z0-9_-]*\) *\].*/\1/p' {directory}/zim-batch/config.toml 2>/dev/null"
    )
}

/// The user's directory of configuration files, in POSIX shells.
const DIRECTORY: &str = r#""${XDG_CONFIG_HOME:-$HOME/.config}""#;

pub fn completions(shell: Shell) -> Result<ExitCode, Error> {
    let mut script = Vec::new();
    let mut command = Cli::command().mut_subcommands(|command| command.mut_args(hinted));
    clap_complete::generate(shell, &mut command, "zim-batch", &mut script);
    let script = String::from_utf8_lossy(&script);
    print(&match shell {
        Shell::Bash => bash(&script),
        Shell::Zsh => zsh(&script),
        Shell::Fish => fish(&script) + &fish_positionals(&command),
        _ => script.into_owned(),
    })
}

/// Says what the value of an argument is: a path, if its type is one, and otherwise nothing that is a file.
fn hinted(arg: Arg) -> Arg {
    match arg.get_value_hint() {
        ValueHint::Unknown if arg.get_action().takes_values() => arg.value_hint(ValueHint::Other),
        ValueHint::AnyPath => arg.value_hint(ValueHint::FilePath),
        _ => arg,
    }
}

fn bash(script: &str) -> String {
    let (outcomes, profiles) = (outcomes().join(" "), profiles(DIRECTORY));
    let any = r#"--profile)
                    COMPREPLY=("${cur}")
                    if [[ "${BASH_VERSINFO[0]}" -ge 4 ]]; then
                        compopt -o nospace
                    fi"#;
    // Bash takes the = between an option and its value for a word.
    let previous = "    prev=\"$3\"\n";
    let value_of_option = r#"    if [[ "${cur}" == "=" ]]; then
        cur=""
    elif [[ "${prev}" == "=" ]]; then
        prev="${COMP_WORDS[COMP_CWORD-2]}"
    fi
"#;
    let script = script
        .replace(previous, &format!("{previous}{value_of_option}"))
        // clap_complete 4.6 uses two different names for a state when the program's name has a hyphen; without this
        // replacement, no option is completed.
        .replace("zim__subcmd__batch__", "zim__batch__")
        .replace(
            &format!(r#"compgen -W "{outcomes}" -- "${{cur}}""#),
            &format!(r#"compgen -P "${{cur%"${{cur##*,}}"}}" -W "{outcomes}" -- "${{cur##*,}}""#),
        )
        .replace(
            any,
            &format!("--profile)\n                    COMPREPLY=($(compgen -W \"$({profiles})\" -- \"${{cur}}\"))"),
        );
    // A word that is not an option is a file; bash completes it if nothing else does.
    let sections = script.split_inclusive("\n        zim__batch__subcmd__").map(|section| {
        let takes_file = ["check)", "clear)", "list)", "report)"]
            .iter()
            .any(|name| section.starts_with(name));
        match takes_file {
            true => section.replace(" || ${COMP_CWORD} -eq 2", "").replace(
                "            esac\n            COMPREPLY=( $(compgen -W \"${opts}\" -- \"${cur}\") )",
                "            esac",
            ),
            false => section.to_owned(),
        }
    });
    sections.collect()
}

fn zsh(script: &str) -> String {
    let (outcomes, profiles) = (outcomes().join(" "), profiles(DIRECTORY));
    let start = "_zim-batch() {\n";
    let script = script
        .replace(
            &format!(":({outcomes})'"),
            &format!(":_values -s , outcome {outcomes}'"),
        )
        .replace(
            start,
            &format!("_zim-batch_profiles() {{\n    compadd -- $({profiles})\n}}\n\n{start}"),
        );
    let is_of_profile = |line: &str| line.starts_with("'--profile=[");
    each_line(&script, is_of_profile, |line| {
        line.replace(":NAME:", ":NAME:_zim-batch_profiles")
    })
}

fn fish(script: &str) -> String {
    let outcomes = outcomes();
    let listed: Vec<String> = outcomes.iter().map(|outcome| format!("{outcome}\\t''")).collect();
    let listed = format!("-a \"{}\"", listed.join("\n"));
    let script = script.replace(&listed, &format!("-a \"(__fish_append , {})\"", outcomes.join(" ")));
    let directory = r#"(test -n "$XDG_CONFIG_HOME"; and echo $XDG_CONFIG_HOME; or echo ~/.config)"#;
    let profiles = profiles(directory).replace('\\', r"\\").replace('\'', r"\'");
    let is_of_profile = |line: &str| line.contains(" -l profile -d ");
    each_line(&script, is_of_profile, |line| format!("{line} -a '({profiles})'"))
}

/// Completes arguments that are not options: clap_complete 4.6 does that for bash and zsh only. Where none is a file, files
/// are not completed.
fn fish_positionals(command: &Command) -> String {
    let mut lines = String::new();
    let takes_file = |arg: &Arg| arg.get_value_hint() == ValueHint::FilePath;
    for command in command.get_subcommands() {
        let condition = format!("__fish_zim_batch_using_subcommand {}", command.get_name());
        let values = command.get_positionals().flat_map(Arg::get_possible_values);
        let values: Vec<String> = values.map(|value| fish_value(&value)).collect();
        if !values.is_empty() {
            lines += &format!(
                "complete -c zim-batch -n \"{condition}\" -f -a \"{}\"\n",
                values.join("\n")
            );
        } else if !command.get_positionals().any(takes_file) {
            lines += &format!("complete -c zim-batch -n \"{condition}\" -f\n");
        }
    }
    lines
}

fn fish_value(value: &PossibleValue) -> String {
    let help = value.get_help().map(ToString::to_string).unwrap_or_default();
    format!("{}\\t'{}'", value.get_name(), help.replace(['\'', '"', '$', '\\'], ""))
}

/// Changes some lines of a script.
fn each_line(script: &str, is_meant: impl Fn(&str) -> bool, change: impl Fn(&str) -> String) -> String {
    let lines = script.lines().map(|line| match is_meant(line) {
        true => change(line) + "\n",
        false => format!("{line}\n"),
    });
    lines.collect()
}
