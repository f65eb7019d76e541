//! Where text leaves the program: results on stdout, errors on stderr, and the command line that resumes a run.

use std::ffi::OsString;
use std::io::{self, Write};
use std::process::ExitCode;

use zim_batch::error::Error;

use super::logging::SAID;

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

/// Says an error on stderr, at any level of logging.
pub fn print_error(text: &str) {
    tracing::error!(target: SAID, "{text}");
}

/// Says on stderr what is no error, likewise.
pub fn print_note(text: &str) {
    tracing::info!(target: SAID, "{text}");
}

/// Says on stderr which command goes on where this run ended.
pub fn print_resume(command: &str) {
    tracing::info!(target: SAID, resume = command, "to go on where this run ended: {command}");
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
