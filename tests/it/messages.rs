//! The guide's tables of messages, in both languages, beside the messages in the source.
//!
//! Each reason to stop, each log line at WARN or ERROR, and each error that ends a command has a row. Errors of usage that only
//! `cli/settings` knows are not among them: they say in full what to type.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Files with errors that end a command.
const ERRORS: [&str; 8] = [
    "client/error.rs",
    "error.rs",
    "files.rs",
    "journal/error.rs",
    "limiter/quota/error.rs",
    "limiter/timetable.rs",
    "rows/error.rs",
    "tls.rs",
];

/// Enums whose texts are parts of the messages of others.
const PARTS: [&str; 1] = ["pub enum NotAReport"];

/// Messages that are put together: the file, how the text in it begins, and what the guide has for it.
const PUT_TOGETHER: [(&str, &str, &str); 10] = [
    (
        "cli/engine/input.rs",
        "{}, line {line}: {what}. {}",
        "not all of this row is valid text",
    ),
    (
        "cli/engine/input.rs",
        "{}",
        "no known header, so column 1 of … is the user",
    ),
    ("cli/engine/quota.rs", "{}", "can't be used as a lock file …"),
    (
        "limiter/quota/machine/mod.rs",
        "{error}",
        "can't be used as a lock file …",
    ),
    (
        "run/policy.rs",
        "{}; at ten minutes",
        "this machine's clock is … the server's",
    ),
    (
        "rows/error.rs",
        "{0} while its rows were read",
        "… was rewritten or replaced …",
    ),
    ("error.rs", "{0}", "… failed, which is a bug in zim-batch"),
    ("journal/error.rs", "{}: {}", "another run is writing this file"),
    (
        "journal/error.rs",
        "{}: {reason}",
        "this file exists already and has other content",
    ),
    // What prints all of the others.
    ("cli/output/print.rs", "{}", "stopped: …"),
];

/// Each reason to stop, and what the guide has for it.
const STOPS: [(&str, &str); 15] = [
    ("Signal", "SIGTERM"),
    // Only a program that embeds the library cancels a run.
    ("Cancelled", "SIGINT"),
    ("MaxDuration", "--max-duration … was reached"),
    ("Until", "--until … was reached"),
    ("GaveUp", "the service was unreachable, or accepted no request, for …"),
    ("NoQuota", "the app's quota could not be used for …"),
    ("MaxFailures", "… rows have failed (--max-failures)"),
    ("AllRejected", "the first … rows were all rejected …"),
    ("Fatal", "line …: ZIM rejected it: code …"),
    ("Untrusted", "the server's certificate is not trusted"),
    ("ReportFailed", "can't be written"),
    ("InputFailed", "the file was cut short while its rows were read"),
    ("InputFailed", "this row, the last one, was still being written"),
    ("Bug", "… failed, which is a bug in zim-batch"),
    ("RowsLeft", "rows were left over though nothing stopped the run"),
];

/// Messages of the guide that are put together from several texts of the source.
const ONLY_IN_PARTS: [&str; 5] = [
    "--until: … has passed already",
    "runs on this machine share the quota through files in /run/zim-batch",
    "the first 20 rows were all rejected …",
    "the proxy … requires a user and a password",
    "… rows have failed (--max-failures)",
];

/// A text of the source, and where in its file it begins.
struct Literal {
    at: usize,
    text: String,
}

/// The texts between double quotes, outside comments.
fn literals(source: &str) -> Vec<Literal> {
    let mut literals = Vec::new();
    let mut chars = source.char_indices().peekable();
    while let Some((at, c)) = chars.next() {
        match c {
            '/' if source[at..].starts_with("//") => while chars.next_if(|(_, c)| *c != '\n').is_some() {},
            // A character, not a lifetime.
            '\'' if source[at..].starts_with("'\"'") => drop((chars.next(), chars.next())),
            '"' => {
                let mut text = String::new();
                while let Some((_, c)) = chars.next().filter(|(_, c)| *c != '"') {
                    match (c, chars.peek()) {
                        ('\\', Some((_, '\n'))) => while chars.next_if(|(_, c)| c.is_whitespace()).is_some() {},
                        ('\\', _) => text.extend(chars.next().map(|(_, c)| c)),
                        _ => text.push(c),
                    }
                }
                literals.push(Literal { at, text });
            }
            _ => {}
        }
    }
    literals
}

/// The program's files, each with its path below `src` and its text without tests.
fn sources() -> Vec<(String, String)> {
    fn collect(directory: &Path, files: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(directory).expect("the directory") {
            let path = entry.expect("an entry").path();
            match path.is_dir() {
                true => collect(&path, files),
                false => files.push(path),
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    collect(&src, &mut files);
    let name = |path: &Path| path.strip_prefix(&src).expect("below src").display().to_string();
    let files = files
        .iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"));
    let sources = files.map(|path| (name(path), fs::read_to_string(path).expect("a file")));
    let sources = sources.filter(|(name, _)| !name.contains("tests"));
    let without_tests = |text: String| text.split("#[cfg(test)]").next().unwrap_or_default().to_owned();
    sources.map(|(name, text)| (name, without_tests(text))).collect()
}

/// The messages in a file.
fn messages(name: &str, source: &str) -> Vec<String> {
    let literals = literals(source);
    let mut calls = vec!["tracing::warn!(", "tracing::error!(", "print_error("];
    if ERRORS.contains(&name) {
        calls.push("#[error(");
    }
    let parts = PARTS.iter().filter_map(|part| {
        let begin = source.find(part)?;
        Some(begin..begin + source[begin..].find("\n}")?)
    });
    let parts: Vec<_> = parts.collect();
    let found = calls.iter().flat_map(|call| source.match_indices(call));
    let messages = found.filter(|(at, _)| !parts.iter().any(|part| part.contains(at)));
    let messages = messages.filter_map(|(at, _)| {
        let literal = literals.iter().find(|literal| literal.at > at)?;
        // Another statement's: this one has a text from elsewhere.
        let is_its_own = !source[at..literal.at].contains([';', ']']);
        is_its_own.then(|| literal.text.clone())
    });
    match name {
        "limiter/timetable.rs" => messages.map(|message| format!("--rate: {message}")).collect(),
        _ => messages.collect(),
    }
}

/// What stands between placeholders and numbers.
fn fragments(text: &str) -> Vec<String> {
    let mut fragments = vec![String::new()];
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '{' => {
                while chars.next().is_some_and(|c| c != '}') {}
                fragments.push(String::new());
            }
            '…' => fragments.push(String::new()),
            '0'..='9' => {
                while chars.next_if(|c| c.is_ascii_alphanumeric()).is_some() {}
                fragments.push(String::new());
            }
            _ => fragments.last_mut().expect("one").push(c),
        }
    }
    let is_separator = |c: char| !c.is_alphanumeric() && c != '-' && c != ')';
    let fragments = fragments.iter().map(|fragment| fragment.trim_matches(is_separator));
    fragments
        .filter(|fragment| fragment.len() > 1)
        .map(str::to_owned)
        .collect()
}

/// The text with `…` in place of placeholders.
fn shape(text: &str) -> String {
    let parts = text.split('{');
    let parts = parts
        .enumerate()
        .map(|(index, part)| match (index, part.split_once('}')) {
            (1.., Some((_, after))) => format!("…{after}"),
            _ => part.to_owned(),
        });
    parts.collect()
}

/// Whether a message of the source has all of what a message of the guide has, in this order; or the guide's more.
fn are_same(guide: &str, source: &str) -> bool {
    let has = |long: &str, short: &str| {
        let long = fragments(long).join("…");
        let mut rest = &long[..];
        fragments(short)
            .iter()
            .all(|fragment| match rest.split_once(&fragment[..]) {
                Some((_, after)) => {
                    rest = after;
                    true
                }
                None => false,
            })
    };
    let words = |text: &str| fragments(text).join(" ").split(' ').count();
    shape(source) == guide || (words(guide) > 1 && has(source, guide)) || (words(source) > 2 && has(guide, source))
}

/// The messages in the first cells of the guide's tables, row by row.
fn guide(document: &str, title: &str) -> Vec<Vec<String>> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join(document)).expect("the guide");
    let (_, section) = text.split_once(&format!("\n## {title}\n")).expect("the section");
    let section = section.split("\n## ").next().unwrap_or_default();
    let rows = section
        .lines()
        .filter_map(|line| line.strip_prefix("| ")?.split_once(" | "));
    let messages = |cell: &str| cell.split('`').skip(1).step_by(2).map(str::to_owned).collect();
    let rows: Vec<Vec<String>> = rows.map(|(cell, _)| messages(cell)).collect();
    rows.into_iter().filter(|row| !row.is_empty()).collect()
}

#[test]
fn the_guide_has_every_message_of_the_source() {
    let guide: Vec<String> = guide("docs/guide.md", "Messages").concat();
    let mut missing = Vec::new();
    let mut seen = 0;
    for (name, source) in sources() {
        for message in messages(&name, &source) {
            seen += 1;
            let known = PUT_TOGETHER
                .iter()
                .find(|(file, text, _)| *file == name && is_begin(&message, text));
            let message = known.map_or(message, |(.., text)| (*text).to_owned());
            if !guide.iter().any(|known| are_same(known, &message)) {
                missing.push(format!("{name}: {message}"));
            }
        }
    }
    assert!(seen > 100, "only {seen} messages were found");
    assert!(
        missing.is_empty(),
        "docs/guide.md, Messages, lacks\n{}",
        missing.join("\n")
    );
}

/// Placeholders alone are the whole text.
fn is_begin(message: &str, text: &str) -> bool {
    match fragments(text).is_empty() {
        true => message == text,
        false => message.starts_with(text),
    }
}

#[test]
fn the_guide_has_every_reason_to_stop() {
    let guide: Vec<String> = guide("docs/guide.md", "Messages").concat();
    for (stop, message) in STOPS {
        let is_known = guide.iter().any(|known| known == message || are_same(known, message));
        assert!(is_known, "{stop}: {message}");
    }
    let source = sources()
        .into_iter()
        .find(|(name, _)| name == "stop.rs")
        .expect("stop.rs")
        .1;
    let (_, body) = source.split_once("pub enum StopReason {").expect("the enum");
    let body = body.split("\n}").next().unwrap_or_default();
    let lines = body.lines().filter_map(|line| line.strip_prefix("    "));
    let variants = lines.filter(|line| line.starts_with(char::is_uppercase));
    let variants = variants.filter_map(|line| line.split([' ', '(', ',']).next());
    assert_eq!(
        variants.collect::<BTreeSet<_>>(),
        STOPS.iter().map(|(stop, _)| *stop).collect()
    );
}

#[test]
fn the_source_has_every_message_of_the_guide() {
    let sources = sources();
    let texts: Vec<String> = sources
        .iter()
        .flat_map(|(name, source)| {
            let texts = literals(source).into_iter().map(|literal| literal.text);
            let texts = texts.chain(messages(name, source));
            texts.collect::<Vec<_>>()
        })
        .collect();
    let in_source = |message: &String| {
        let is_known = |text: &String| are_same(message, text) || text.contains(&message[..]);
        texts.iter().any(is_known)
    };
    let mut others = guide("docs/guide.md", "Messages").concat();
    others.retain(|message| !in_source(message));
    others.sort_unstable();
    assert_eq!(others, ONLY_IN_PARTS, "messages that are not in the source");
}

#[test]
fn the_chinese_guide_has_the_same_messages() {
    let english = guide("docs/guide.md", "Messages");
    assert!(english.len() > 100, "only {} rows", english.len());
    for (ours, theirs) in english.iter().zip(guide("docs/guide.zh-CN.md", "报错与日志")) {
        assert_eq!(*ours, theirs);
    }
    assert_eq!(english.len(), guide("docs/guide.zh-CN.md", "报错与日志").len());
}
