//! What a run tells the others that share its quota: who it is, and what it is doing.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use super::super::Rate;
use crate::host::host_name;
use crate::text::one_line;

/// The maximum length of a name or a path, in characters.
const MAX_NAME: usize = 300;

/// The entry of a run among those that share a quota.
///
/// Its text, in a file or in Redis, may have been written by anybody. What was read is safe to show: names are short, and
/// have no invisible characters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct Presence {
    /// The machine.
    pub host: String,
    /// The process on that machine.
    pub process: u32,
    /// What the job is called; empty if it has no name.
    #[serde(default)]
    pub name: String,
    /// The report of the run, as an absolute path.
    #[serde(default)]
    pub report: Option<String>,
    /// The run's own rate, in requests per second; the highest one if it changes with the time of day.
    pub rate: f64,
    /// Since when it shares the quota, in milliseconds since 1970.
    pub since: i64,
    /// What the run was doing when the entry was last renewed.
    #[serde(flatten)]
    pub activity: Activity,
}

/// What a run is doing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
#[non_exhaustive]
pub struct Activity {
    /// Requests per second, on average over the last ten seconds.
    pub recent_rate: f64,
    /// The service or the quota can't be used at present, so the run waits.
    pub on_hold: bool,
    /// The run's own rate at present, if it changes with the time of day; 0 is a pause.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rate_now: Option<f64>,
}

impl Presence {
    /// The entry of a run of this process that begins now.
    pub fn new(name: &str, rate: Rate) -> Presence {
        let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Presence {
            host: cleaned(&host_name()),
            process: std::process::id(),
            name: cleaned(name),
            report: None,
            rate: rate.per_second(),
            since: i64::try_from(since.as_millis()).unwrap_or(i64::MAX),
            activity: Activity::default(),
        }
    }

    /// Names the report of the run.
    #[must_use]
    pub fn report(self, path: &Path) -> Presence {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        Presence {
            report: Some(cleaned(&path.to_string_lossy())),
            ..self
        }
    }

    /// The run's own rate at present, in requests per second; 0 is a pause of its timetable.
    pub fn rate_now(&self) -> f64 {
        self.activity.rate_now.unwrap_or(self.rate)
    }

    /// Reads the text of an entry; `None` if it is none.
    pub(super) fn parse(text: &str) -> Option<Presence> {
        let presence: Presence = serde_json::from_str(text.lines().next()?).ok()?;
        Some(Presence {
            host: cleaned(&presence.host),
            name: cleaned(&presence.name),
            report: presence.report.as_deref().map(cleaned),
            ..presence
        })
    }

    /// As [`Presence::parse`], of a text that is perhaps not UTF-8.
    #[cfg(feature = "redis")]
    pub(super) fn parse_bytes(text: &[u8]) -> Option<Presence> {
        Presence::parse(&String::from_utf8_lossy(text))
    }

    /// The text of the entry: JSON in one line.
    pub(super) fn to_text(&self) -> String {
        serde_json::to_string(self).expect("it has only text and numbers")
    }
}

/// Who it is, for a message: `process 4711 on "web1" (job "nightly", report "/data/out.csv")`.
impl fmt::Display for Presence {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "process {} on {:?}", self.process, Quoted(&self.host))?;
        match (self.name.as_str(), &self.report) {
            ("", None) => Ok(()),
            ("", Some(report)) => write!(f, " (report {:?})", Quoted(report)),
            (name, None) => write!(f, " (job {:?})", Quoted(name)),
            (name, Some(report)) => write!(f, " (job {:?}, report {:?})", Quoted(name), Quoted(report)),
        }
    }
}

/// A text that somebody else may have written, in quotes. Invisible characters are escaped already.
struct Quoted<'a>(&'a str);

impl fmt::Debug for Quoted<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "\"{}\"", self.0.replace('"', "'"))
    }
}

/// Makes untrusted text safe to show on a terminal: one short line of visible characters.
pub(super) fn cleaned(text: &str) -> String {
    let short: String = text.trim().chars().take(MAX_NAME).collect();
    one_line(&short).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_entry_is_read_back_and_names_the_run_in_one_harmless_line() {
        let entry = Presence::new("nightly", Rate::default()).report(Path::new("/data/out.csv"));
        assert_eq!(Presence::parse(&entry.to_text()), Some(entry.clone()));
        let host = host_name();
        let expected = format!(
            "process {} on \"{host}\" (job \"nightly\", report \"/data/out.csv\")",
            std::process::id()
        );
        assert_eq!(entry.to_string(), expected);

        let hostile = Presence {
            host: "a\u{202e}b\u{1b}[2J".into(),
            name: "x\" is harmless\nzim-batch: done".into(),
            report: Some("\u{7}".repeat(10_000)),
            ..entry
        };
        let shown = Presence::parse(&hostile.to_text()).unwrap().to_string();
        assert!(!shown.contains(crate::text::is_invisible), "{shown}");
        assert!(shown.contains("job \"x' is harmless\\nzim-batch: done\""), "{shown}");
        assert!(shown.len() < 5_000);
    }

    #[test]
    fn a_text_that_is_no_entry_is_none_and_what_a_later_version_adds_is_ignored() {
        for text in ["", "4711 a run", "{}", "{\"host\":1}", "[]", "null"] {
            assert_eq!(Presence::parse(text), None, "{text}");
        }
        let text = r#"{"host":"a","process":7,"rate":20.0,"since":0,"more":[1]}"#;
        assert_eq!(Presence::parse(text).unwrap().to_string(), "process 7 on \"a\"");
    }
}
