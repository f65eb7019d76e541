//! Where text leaves the program: results on stdout, errors on stderr, and the command line that resumes a run.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use zim_batch::error::Error;

/// Prints a result on stdout. A reader that has seen enough, like `head`, is no error.
pub fn print(text: &str) -> Result<ExitCode, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Unexpected(format!("stdout can't be written: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints an error on stderr. If even that fails there is nobody left to tell.
pub fn print_error(text: &str) {
    let _ = writeln!(io::stderr(), "zim-batch: {text}");
}

/// Says on stderr why there is no result, and where a result was asked for as JSON, on stdout too; gives the exit status.
pub fn fail(exit: u8, why: &str) -> ExitCode {
    print_error(why);
    print_error_object(exit, why);
    ExitCode::from(exit)
}

/// Prints what the arguments came to instead of a command: the help or the version, or what is wrong with them.
pub fn usage_error(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell if it can't be printed.
    let _ = error.print();
    let exit = u8::try_from(error.exit_code()).unwrap_or(2);
    if error.use_stderr() {
        let text = error.to_string();
        let why = text.split("\n\nUsage:").next().unwrap_or_default().trim();
        print_error_object(exit, why.strip_prefix("error: ").unwrap_or(why));
    }
    ExitCode::from(exit)
}

/// In the place of a result: one JSON object with `exit` and `error`, if `--json` was typed.
fn print_error_object(exit: u8, why: &str) {
    let mut options = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    if options.any(|argument| argument == "--json") {
        let object = serde_json::json!({"exit": exit, "error": why});
        // It has been said on stderr.
        let _ = print(&format!("{object}\n"));
    }
}

/// The command that was typed, without some flags and with another one: what to type next.
pub fn command_line(arguments: impl Iterator<Item = OsString>, without: &[&str], with: Option<&str>) -> String {
    let mut words: Vec<String> = arguments
        .map(|argument| argument.to_string_lossy().into_owned())
        .filter(|argument| !without.contains(&argument.as_str()))
        .collect();
    if let Some(with) = with
        && !words.iter().any(|word| word == with)
    {
        // Before a `--`, behind which everything is a file name.
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.insert(end, with.to_owned());
    }
    words.iter().map(|word| quoted(word)).collect::<Vec<_>>().join(" ")
}

/// Quoted for a POSIX shell, if it needs to be.
pub fn quoted(word: &str) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    if !word.is_empty() && word.chars().all(is_plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_that_resumes_is_the_one_that_was_typed_quoted_for_a_shell() {
        let typed = [
            "zim-batch",
            "clear",
            "my rows.csv",
            "--overwrite",
            "--report",
            "it's.csv",
            "--",
            "x",
        ];
        assert_eq!(
            command_line(
                typed.into_iter().map(OsString::from),
                &["--overwrite"],
                Some("--resume")
            ),
            r"zim-batch clear 'my rows.csv' --report 'it'\''s.csv' --resume -- x"
        );
        let typed = ["zim-batch", "clear", "--resume", "a.csv"];
        assert_eq!(
            command_line(
                typed.into_iter().map(OsString::from),
                &["--overwrite"],
                Some("--resume")
            ),
            "zim-batch clear --resume a.csv"
        );
    }
}
