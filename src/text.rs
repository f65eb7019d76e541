//! Text for people: times, durations and numbers, text from outside made safe to show, and words of shell commands.

use std::borrow::Cow;
use std::error::Error;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::tz::TimeZone;

/// A time in milliseconds since 1970 as RFC 3339, UTC, with milliseconds.
pub fn utc(time: i64) -> String {
    format!("{:.3}", timestamp(time))
}

/// A time in milliseconds since 1970 as local time with its offset from UTC, to the second.
pub fn local(time: i64) -> String {
    formatted(time, "%Y-%m-%d %H:%M:%S %:z")
}

/// The local time of day with its offset from UTC, which is left out if it is zero, and with the date if it is not today:
/// `14:00`, `14:00 +08:00`, `Tue 01 Dec 14:00 +08:00`.
pub fn clock(at: SystemTime) -> String {
    with_offset(&short_clock(at), at)
}

fn with_offset(text: &str, at: SystemTime) -> String {
    let offset = formatted(milliseconds(at), " %:z");
    format!("{text}{}", if offset == " +00:00" { "" } else { &offset })
}

/// As [`clock`], without the offset: `14:00`, `Tue 01 Dec 14:00`.
pub fn short_clock(at: SystemTime) -> String {
    let (now, at) = (milliseconds(SystemTime::now()), milliseconds(at));
    let date = |time| formatted(time, "%F");
    let format = if date(at) == date(now) {
        "%H:%M"
    } else {
        "%a %d %b %H:%M"
    };
    formatted(at, format)
}

/// As [`clock`], of a moment in the future: to the second if it is less than ten minutes away and no full minute.
pub fn ends_at(at: SystemTime) -> String {
    let soon = Duration::from_secs(600);
    let is_soon = at.duration_since(SystemTime::now()).is_ok_and(|wait| wait < soon);
    if is_soon && milliseconds(at) / 1000 % 60 != 0 {
        with_offset(&formatted(milliseconds(at), "%H:%M:%S"), at)
    } else {
        clock(at)
    }
}

/// A time in milliseconds since 1970, local, as `strftime` formats it.
pub(crate) fn formatted(time: i64, format: &str) -> String {
    timestamp(time)
        .to_zoned_datetime(TimeZone::system())
        .strftime(format)
        .to_string()
}

/// Milliseconds since 1970.
pub fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time in milliseconds since 1970.
pub(crate) fn system_time(time: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_millis(time.max(0).cast_unsigned())
}

pub(crate) fn timestamp(time: i64) -> Timestamp {
    let bounds = Timestamp::MIN.as_millisecond()..=Timestamp::MAX.as_millisecond();
    Timestamp::from_millisecond(time.clamp(*bounds.start(), *bounds.end())).unwrap_or_default()
}

/// A duration in milliseconds, with a suitable precision: `0.3s`, `42s`, `1h 5m`, `9days 3h`.
pub fn duration(milliseconds: i64) -> String {
    let seconds = milliseconds.max(0).cast_unsigned() / 1000;
    let coarse = match seconds {
        0..10 if milliseconds % 1000 != 0 => return format!("{:.1}s", milliseconds as f64 / 1000.0),
        0..3600 => seconds,
        3600..172_800 => (seconds + 30) / 60 * 60,
        _ => (seconds + 1800) / 3600 * 3600,
    };
    humantime::format_duration(Duration::from_secs(coarse)).to_string()
}

/// An error and its causes, on one line. The errors of this crate do not repeat their causes in their own text.
///
/// ```
/// use std::io;
/// use zim_batch::journal::ReportError;
/// use zim_batch::text::with_causes;
///
/// let source = io::Error::other("disk full");
/// let error = ReportError::Write { path: "out.csv".into(), source };
/// assert_eq!(error.to_string(), "out.csv: can't be written");
/// assert_eq!(with_causes(&error), "out.csv: can't be written: disk full");
/// ```
pub fn with_causes(error: &(dyn Error + 'static)) -> String {
    let texts: Vec<String> = causes(error).map(ToString::to_string).collect();
    texts.join(": ")
}

/// An error, its cause, and so on to the first cause.
pub(crate) fn causes<'a>(error: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    std::iter::successors(Some(error), |&error: &&'a (dyn Error + 'static)| error.source())
}

/// Whether a character can't be seen, or changes how the text around it is shown: control characters, marks that set the
/// direction of text, characters without width, and separators of lines. Other spaces are visible as such.
pub fn is_invisible(c: char) -> bool {
    c.is_control()
        || matches!(
            c,
            '\u{ad}' | '\u{34f}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
                | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{2800}' | '\u{3164}'
                | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
                | '\u{e0000}'..='\u{e0fff}'
        )
}

/// Makes text from outside safe to show: invisible characters are escaped. Line ends are kept.
///
/// ```
/// use zim_batch::text::visible;
///
/// assert_eq!(visible("用户 1,\n2"), "用户 1,\n2");
/// assert_eq!(visible("\u{1b}[2J\r\u{202e}"), "\\u{1b}[2J\\r\\u{202e}");
/// ```
pub fn visible(text: &str) -> Cow<'_, str> {
    escaped(text, |c| is_invisible(c) && c != '\n')
}

/// Like [`visible`], in one line: line ends are escaped too.
///
/// ```
/// use zim_batch::text::one_line;
///
/// assert_eq!(one_line("two\nlines"), "two\\nlines");
/// ```
pub fn one_line(text: &str) -> Cow<'_, str> {
    escaped(text, is_invisible)
}

fn escaped(text: &str, is_escaped: impl Fn(char) -> bool) -> Cow<'_, str> {
    if !text.contains(&is_escaped) {
        return text.into();
    }
    let mut shown = String::with_capacity(text.len());
    for c in text.chars() {
        if is_escaped(c) {
            shown.extend(c.escape_default());
        } else {
            shown.push(c);
        }
    }
    shown.into()
}

/// Text of a report for a cell of the page's tables, which may be pasted into a spreadsheet: like [`one_line`], and with a
/// quote before what a spreadsheet would read as a formula.
///
/// ```
/// use zim_batch::text::table_cell;
///
/// assert_eq!(table_cell("用户1"), "用户1");
/// assert_eq!(table_cell("=1+1"), "'=1+1");
/// ```
pub fn table_cell(text: &str) -> Cow<'_, str> {
    if text.starts_with(['=', '+', '-', '@']) {
        format!("'{}", one_line(text)).into()
    } else {
        one_line(text)
    }
}

/// A word of a shell command, quoted if necessary: as POSIX defines it, or as `$'…'` (bash, zsh, ksh) if it is not UTF-8 or
/// contains invisible characters.
///
/// ```
/// use zim_batch::text::shell_word;
///
/// assert_eq!(shell_word("out.csv"), "out.csv");
/// assert_eq!(shell_word("it's"), r"'it'\''s'");
/// assert_eq!(shell_word("a\nb"), r"$'a\012b'");
/// ```
pub fn shell_word(word: impl AsRef<OsStr>) -> String {
    let is_plain = |c: char| c.is_ascii_alphanumeric() || "-_./:=,@%+".contains(c);
    let bytes = word.as_ref().as_bytes();
    match std::str::from_utf8(bytes) {
        Ok(word) if !word.is_empty() && word.chars().all(is_plain) => word.to_owned(),
        Ok(word) if !word.contains(is_invisible) => format!("'{}'", word.replace('\'', r"'\''")),
        _ => format!("$'{}'", escaped_for_shell(bytes)),
    }
}

/// Escapes bytes for `$'…'`. An octal escape always ends after three digits.
fn escaped_for_shell(bytes: &[u8]) -> String {
    let mut text = String::new();
    let octal = |text: &mut String, bytes: &[u8]| bytes.iter().for_each(|byte| *text += &format!("\\{byte:03o}"));
    for chunk in bytes.utf8_chunks() {
        for c in chunk.valid().chars() {
            match c {
                '\\' | '\'' => text.extend(['\\', c]),
                c if is_invisible(c) => octal(&mut text, c.to_string().as_bytes()),
                c => text.push(c),
            }
        }
        octal(&mut text, chunk.invalid());
    }
    text
}

/// A number with a comma between thousands: `1,201`.
///
/// ```
/// use zim_batch::text::grouped;
///
/// assert_eq!([0, 999, 1201, 1234567].map(grouped), ["0", "999", "1,201", "1,234,567"]);
/// ```
pub fn grouped(number: u64) -> String {
    let digits = number.to_string();
    let mut grouped = String::new();
    for (index, digit) in digits.chars().enumerate() {
        if index > 0 && (digits.len() - index).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    grouped
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_end_that_is_near_is_shown_to_the_second_unless_it_is_a_full_minute() {
        let minute = Duration::from_secs(60);
        let now = SystemTime::now();
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap();
        let full = now - Duration::from_secs(since.as_secs() % 60) + 5 * minute;
        assert_eq!(ends_at(full), clock(full));
        let odd = full + Duration::from_secs(44);
        assert_eq!(
            ends_at(odd),
            with_offset(&formatted(milliseconds(odd), "%H:%M:44"), odd)
        );
        assert_eq!(ends_at(odd + 10 * minute), clock(odd + 10 * minute));
        assert_eq!(ends_at(odd - 10 * minute), clock(odd - 10 * minute));
    }

    #[test]
    fn what_can_t_be_seen_is_escaped_and_letters_and_spaces_are_not() {
        for c in [
            '\0',
            '\t',
            '\u{7f}',
            '\u{9b}',
            '\u{ad}',
            '\u{200b}',
            '\u{200f}',
            '\u{2028}',
            '\u{2029}',
            '\u{202a}',
            '\u{202e}',
            '\u{2060}',
            '\u{2066}',
            '\u{2069}',
            '\u{feff}',
            '\u{fe0f}',
            '\u{e0041}',
        ] {
            assert!(is_invisible(c), "{c:?}");
            let shown = visible(&format!("a{c}b")).into_owned();
            assert!(
                shown.starts_with("a\\") && shown.ends_with('b') && !shown.contains(is_invisible),
                "{shown}"
            );
        }
        for text in ["ü's \"\\", "用户\u{3000}1", "e\u{301}", "ไม้", "😀", "a\u{a0}b", ""] {
            assert_eq!(one_line(text), text);
        }
        assert_eq!(visible("a\u{1b}[2Jb\r\nc\u{9b}"), "a\\u{1b}[2Jb\\r\nc\\u{9b}");
        assert_eq!(one_line("a\nb"), "a\\nb");
    }

    #[test]
    fn bash_restores_every_word() {
        let words: [&[u8]; 9] = [
            b"plain-_./:=,@%+1",
            b"my rows.csv",
            b"r\xf6ws.csv",
            b"a\nb",
            b"it's\x1b[2J\\",
            b"\xff8",
            "ü \u{85}1".as_bytes(),
            "\u{202e}vsc.x".as_bytes(),
            b"",
        ];
        let line = words.map(|word| shell_word(OsStr::from_bytes(word))).join(" ");
        assert_eq!(
            line,
            r"plain-_./:=,@%+1 'my rows.csv' $'r\366ws.csv' $'a\012b' $'it\'s\033[2J\\' $'\3778' $'ü \302\2051' $'\342\200\256vsc.x' ''"
        );
        let bash = std::process::Command::new("bash")
            .args(["-c", &format!("printf '%s\\0' {line}")])
            .output();
        let Ok(output) = bash else {
            return; // There is no bash here.
        };
        let restored: Vec<&[u8]> = output.stdout.split(|byte| *byte == 0).take(words.len()).collect();
        assert_eq!(restored, words);
    }
}
