//! Where text leaves the program: results on stdout, errors on stderr, and the command line that resumes a run.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::io::{self, Write};
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use super::LogFormat;
use super::error::Error;
use super::exit_status::ExitStatus;
use super::logging::{SAID, one_line};

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
    tracing::error!(target: SAID, "{}", without_controls(text));
}

/// Says on stderr what is no error, likewise.
pub fn print_note(text: &str) {
    tracing::info!(target: SAID, "{}", without_controls(text));
}

/// Says on stderr which command goes on where this run ended.
pub fn print_resume(command: &str) {
    tracing::info!(target: SAID, resume = command, "to go on where this run ended: {command}");
}

/// Names of files may hold anything, and a terminal obeys what is printed raw.
pub fn without_controls(text: &str) -> Cow<'_, str> {
    match text.chars().any(is_obeyed) {
        false => text.into(),
        true => text
            .chars()
            .map(|c| match is_obeyed(c) {
                true => c.escape_default().to_string(),
                false => c.into(),
            })
            .collect(),
    }
}

fn is_obeyed(c: char) -> bool {
    c.is_control() && c != '\n'
}

/// Says on stderr why there is no result, and where a result was asked for as JSON, on stdout too; gives the exit status.
pub fn fail(exit: ExitStatus, why: &str) -> ExitCode {
    print_error(why);
    print_error_object(exit.code(), why);
    exit.into()
}

/// Prints what the arguments came to instead of a command: the help or the version, or what is wrong with them.
pub fn usage_error(error: &clap::Error) -> ExitCode {
    // Nobody is left to tell if it can't be printed.
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

/// Likewise, before anything can be logged.
pub fn fail_early(format: LogFormat, exit: ExitStatus, why: &str) -> ExitCode {
    let line = match format {
        LogFormat::Text => format!("zim-batch: {why}\n"),
        LogFormat::Json => one_line(format, "ERROR", why),
    };
    // If even that fails there is nobody left to tell.
    let _ = io::stderr().write_all(line.as_bytes());
    print_error_object(exit.code(), why);
    exit.into()
}

/// Whether logs are to be JSON, as far as can be told from arguments that are wrong.
fn is_json_log_typed() -> bool {
    let words: Vec<_> = std::env::args_os().collect();
    let is_pair = |pair: &[OsString]| pair[0] == "--log-format" && pair[1] == "json";
    words.iter().any(|word| word == "--log-format=json") || words.windows(2).any(is_pair)
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
    let mut words: Vec<OsString> = arguments
        .filter(|argument| !without.iter().any(|flag| argument == flag))
        .collect();
    if let Some(with) = with
        && !words.iter().any(|word| word == with)
    {
        // Before a `--`, behind which everything is a file name.
        let end = words.iter().position(|word| word == "--").unwrap_or(words.len());
        words.insert(end, with.into());
    }
    words.iter().map(quoted).collect::<Vec<_>>().join(" ")
}

/// The arguments that were pipes or open files of this one command, so that they have to be given anew: what to say
/// beside a command that is to be typed again.
pub fn given_anew(arguments: impl Iterator<Item = OsString>) -> Option<String> {
    let is_stream = |argument: &OsString| {
        let text = argument.to_string_lossy();
        text == "-"
            || ["/dev/fd/", "/dev/stdin", "/proc/self/fd/"]
                .iter()
                .any(|place| text.contains(place))
    };
    let streams: Vec<String> = arguments
        .skip(1)
        .filter(is_stream)
        .map(|stream| quoted(&stream))
        .collect();
    match streams[..] {
        [] => None,
        _ => Some(format!(
            "give the same input again in the place of {}, which was a pipe or an open file of this command",
            streams.join(" and ")
        )),
    }
}

/// Quoted for a shell, if it needs to be: as POSIX has it, but for what is not UTF-8 or holds control characters, which
/// bash, zsh and ksh read as `$'…'`.
pub fn quoted(word: impl AsRef<OsStr>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let bytes = word.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(word) if !word.is_empty() && word.chars().all(is_plain) => word.to_owned(),
        Ok(word) if !word.chars().any(char::is_control) => format!("'{}'", word.replace('\'', r"'\''")),
        _ => format!("$'{}'", escaped(bytes)),
    }
}

/// For between `$'` and `'`. Octal escapes end after three digits, whatever follows.
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

    #[test]
    fn what_is_not_utf_8_or_would_be_obeyed_by_a_terminal_is_quoted_so_that_bash_gives_it_back() {
        let words: [&[u8]; 6] = [
            b"r\xf6ws.csv",
            b"a\nb",
            b"it's\x1b[2J\\",
            b"\xff8",
            "ü \u{85}1".as_bytes(),
            b"",
        ];
        let typed = words.map(|word| OsStr::from_bytes(word).to_owned());
        let line = command_line(typed.into_iter(), &[], None);
        assert_eq!(
            line,
            r"$'r\366ws.csv' $'a\012b' $'it\'s\033[2J\\' $'\3778' $'ü \302\2051' ''"
        );
        let bash = std::process::Command::new("bash")
            .args(["-c", &format!("printf '%s\\0' {line}")])
            .output();
        let Ok(output) = bash else {
            return; // No bash to ask.
        };
        let given_back: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).take(words.len()).collect();
        assert_eq!(given_back, words);
    }

    #[test]
    fn control_characters_in_an_error_are_shown_and_not_obeyed() {
        assert_eq!(without_controls("a\u{1b}[2Jb\r\nc\u{9b}"), "a\\u{1b}[2Jb\\r\nc\\u{9b}");
        assert_eq!(without_controls("ü's"), "ü's");
    }

    #[test]
    fn pipes_of_a_command_have_to_be_given_anew() {
        let told = |typed: &[&str]| given_anew(typed.iter().map(OsString::from));
        assert_eq!(told(&["zim-batch", "clear", "rows.csv", "--report", "a-b"]), None);
        let said = told(&["zim-batch", "clear", "/dev/fd/63", "--secret-file=/proc/self/fd/3"]).unwrap();
        assert!(said.contains("/dev/fd/63 and --secret-file=/proc/self/fd/3"), "{said}");
        assert!(told(&["zim-batch", "clear", "-"]).is_some());
    }
}
