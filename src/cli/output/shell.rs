//! Output: results on stdout, errors on stderr, and words quoted for a shell.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use crate::cli::args::LogFormat;
use crate::cli::errors::Error;
use crate::cli::errors::exit_status::ExitStatus;
use crate::cli::output::logging::{MESSAGE, one_line};

/// Prints a result on stdout. A reader that stops early, like `head`, is not an error.
pub fn print(text: &str) -> Result<ExitCode, Error> {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => {
            Err(Error::Unexpected(format!("stdout can't be written: {error}")))
        }
        _ => Ok(ExitCode::SUCCESS),
    }
}

/// Prints an error on stderr, at any log level.
pub fn print_error(text: &str) {
    tracing::error!(target: MESSAGE, "{}", escape_controls(text));
}

/// Prints a note on stderr, at any log level.
pub fn print_note(text: &str) {
    tracing::info!(target: MESSAGE, "{}", escape_controls(text));
}

/// Prints on stderr the command that resumes this run.
pub fn print_resume(command: &str) {
    tracing::info!(target: MESSAGE, resume = command, "to resume this run: {command}");
}

/// Escapes control characters: file names may contain them, and a terminal would obey them.
pub fn escape_controls(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_control) {
        false => text.into(),
        true => text
            .chars()
            .map(|c| match is_control(c) {
                true => c.escape_default().to_string(),
                false => c.into(),
            })
            .collect(),
    }
}

fn is_control(c: char) -> bool {
    c.is_control() && c != '\n'
}

/// Prints on stderr why there is no result, and with `--json` also on stdout. Returns the exit status.
pub fn fail(exit: ExitStatus, why: &str) -> ExitCode {
    print_error(why);
    print_error_object(exit.code(), why);
    exit.into()
}

/// Prints the help, the version, or what is wrong with the arguments.
pub fn usage_error(error: &clap::Error) -> ExitCode {
    // An error of stderr can't be reported anywhere.
    let _ = match error.use_stderr() && is_json_log_typed() {
        true => io::stderr().write_all(one_line(LogFormat::Json, "ERROR", &error.to_string()).as_bytes()),
        false => error.print(),
    };
    let exit = u8::try_from(error.exit_code()).unwrap_or(ExitStatus::Usage.code());
    if error.use_stderr() {
        let text = error.to_string();
        let why = text.split("\n\nUsage:").next().unwrap_or_default();
        let why = why.split("\n\nFor more information").next().unwrap_or_default().trim();
        print_error_object(exit, why.strip_prefix("error: ").unwrap_or(why));
    }
    ExitCode::from(exit)
}

/// Like [`fail`], before logging has started.
pub fn fail_early(format: LogFormat, exit: ExitStatus, why: &str) -> ExitCode {
    let line = match format {
        LogFormat::Text => format!("zim-batch: {why}\n"),
        LogFormat::Json => one_line(format, "ERROR", why),
    };
    // An error of stderr can't be reported anywhere.
    let _ = io::stderr().write_all(line.as_bytes());
    print_error_object(exit.code(), why);
    exit.into()
}

/// Whether `--log-format json` is given, in arguments that can't be parsed.
fn is_json_log_typed() -> bool {
    let words: Vec<_> = std::env::args_os().collect();
    let is_pair = |pair: &[OsString]| pair[0] == "--log-format" && pair[1] == "json";
    words.iter().any(|word| word == "--log-format=json") || words.windows(2).any(is_pair)
}

/// With `--json`, prints one JSON object with `exit` and `error` instead of a result.
fn print_error_object(exit: u8, why: &str) {
    let mut options = std::env::args_os().skip(1).take_while(|argument| argument != "--");
    if options.any(|argument| argument == "--json") {
        let object = serde_json::json!({"exit": exit, "error": why});
        // The error is already on stderr.
        let _ = print(&format!("{object}\n"));
    }
}

/// Quotes a word for a shell, if necessary: as POSIX defines it, or as `$'…'` (bash, zsh, ksh) if it is not UTF-8 or
/// contains control characters.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let bytes = word.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(word) if !word.is_empty() && word.chars().all(is_plain) => word.to_owned(),
        Ok(word) if !word.chars().any(char::is_control) => format!("'{}'", word.replace('\'', r"'\''")),
        _ => format!("$'{}'", escaped(bytes)),
    }
}

/// Escapes bytes for `$'…'`. An octal escape always ends after three digits.
fn escaped(bytes: &[u8]) -> String {
    let mut text = String::new();
    let octal = |text: &mut String, bytes: &[u8]| bytes.iter().for_each(|byte| *text += &format!("\\{byte:03o}"));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => text.extend(['\\', c]),
                c if c.is_control() => octal(&mut text, c.to_string().as_bytes()),
                c => text.push(c),
            }
        }
        octal(&mut text, chunk.invalid());
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bash_restores_words_that_are_not_utf_8_or_contain_control_characters() {
        let words: [&[u8]; 6] = [
            b"r\xf6ws.csv",
            b"a\nb",
            b"it's\x1b[2J\\",
            b"\xff8",
            "ü \u{85}1".as_bytes(),
            b"",
        ];
        let line = words.map(|word| quoted(OsStr::from_bytes(word))).join(" ");
        assert_eq!(
            line,
            r"$'r\366ws.csv' $'a\012b' $'it\'s\033[2J\\' $'\3778' $'ü \302\2051' ''"
        );
        let bash = std::process::Command::new("bash")
            .args(["-c", &format!("printf '%s\\0' {line}")])
            .output();
        let Ok(output) = bash else {
            return; // There is no bash here.
        };
        let given_back: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).take(words.len()).collect();
        assert_eq!(given_back, words);
    }

    #[test]
    fn control_characters_in_an_error_are_escaped() {
        assert_eq!(escape_controls("a\u{1b}[2Jb\r\nc\u{9b}"), "a\\u{1b}[2Jb\\r\nc\\u{9b}");
        assert_eq!(escape_controls("ü's"), "ü's");
    }
}
