//! The log of runs, beside a report: one JSON object a line, when a run begins and when it ends.
//!
//! It is not the journal: a run resumes without it, and what can't be read of it is skipped. A run without an end was killed,
//! or is under way, which the report's lock shows.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Write};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use rustix::process::geteuid;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::files::{OWNER_ONLY, check_owner, named_after, other_owner};
use crate::host::host_name;
use crate::row::rfc3339_millis;
use crate::text::{milliseconds, utc};

/// What every line of a log begins with.
const LINE_BEGINS: &[u8] = br#"{"event":""#;

/// The beginning of a run.
///
/// What a log does not have, because another version of this program wrote it, is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct RunBegin {
    /// When the run began, in milliseconds since 1970.
    #[serde(serialize_with = "as_utc", deserialize_with = "of_utc")]
    pub at: i64,
    /// Identifies the run.
    pub run: String,
    /// The process ID, on its host.
    pub process: u32,
    /// The name of the machine.
    pub host: String,
    /// The version of this program.
    pub version: String,
    /// The command line, without secrets.
    pub command: String,
    /// The AppId.
    pub app_id: Option<u32>,
    /// The address of the server.
    pub endpoint: String,
    /// The answers come from a simulator.
    pub simulated: bool,
    /// The path of the input as it was given; `-` is standard input.
    pub input: String,
    /// How many rows of the input are to be done, with those that are done already: all that were selected, also beyond
    /// `limit`. `None` if that is not known before the end, as of standard input.
    pub total: Option<u64>,
    /// How many of them the report had already.
    pub already_done: u64,
    /// The flags that select rows of the input; `None` if all rows are to be done.
    pub selected: Option<String>,
    /// The flags that choose what is listed of a user; empty if the run lists none.
    #[serde(skip_serializing_if = "String::is_empty")]
    pub listing: String,
    /// The most rows that this run sends.
    pub limit: Option<u64>,
    /// The highest rate of the run in requests per second, or its timetable: `20`, `08:00=5,22:00=20`.
    pub rate: String,
    /// When a time limit ends the run, if nothing does before, in milliseconds since 1970.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[serde(serialize_with = "as_utc_if_known", deserialize_with = "of_utc_if_known")]
    pub ends_at: Option<i64>,
    /// The run lists users and clears what is listed; the list report is beside the report.
    pub lists: bool,
    /// The users of the input then, if their number is known.
    pub users: Option<u64>,
    /// The working directory, which paths in `input` and in commands may be relative to.
    pub directory: PathBuf,
    /// The command that resumes the run, without secrets.
    pub resume: String,
    /// The command that starts it again, likewise.
    pub start_again: String,
    /// The flags of the command that choose the app and the rate, as words for a shell, without secrets.
    pub flags: String,
}

impl RunBegin {
    /// The beginning, now, of a run of this process.
    pub fn now() -> RunBegin {
        RunBegin {
            at: milliseconds(SystemTime::now()),
            run: format!("{:016x}", fastrand::u64(..)),
            process: std::process::id(),
            host: host_name(),
            version: env!("CARGO_PKG_VERSION").to_owned(),
            directory: std::env::current_dir().unwrap_or_default(),
            ..RunBegin::default()
        }
    }
}

/// The end of a run.
#[derive(Debug, Clone, Default, PartialEq, Deserialize)]
#[serde(default)]
pub struct RunEnd {
    /// When the run ended, in milliseconds since 1970.
    #[serde(deserialize_with = "of_utc")]
    pub at: i64,
    /// The run, as in [`RunBegin::run`].
    pub run: String,
    /// The exit status.
    pub exit: u8,
    /// Why it stopped before its last row; `None` if it did not.
    pub stopped: Option<String>,
    /// All that was sent was rejected: it should be started again, with other rows or settings, and not resumed.
    pub all_rejected: bool,
    /// What it has done; `None` if a bug ended it.
    pub summary: Option<RunCounts>,
}

/// The counts of a run's summary that are read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct RunCounts {
    /// Rows of the input, as far as it was read.
    pub rows: u64,
    /// Rows that were cleared, or users that were listed.
    pub ok: u64,
    /// Rows out of reach.
    pub outside: u64,
    /// Rows that failed.
    pub failed: u64,
    /// Rows that could not be sent.
    pub invalid: u64,
    /// Repeated rows.
    pub skipped: u64,
    /// Where what is listed is cleared: the users with a record, over all runs of the report.
    pub users: Option<UserCounts>,
}

/// The counts of users of a run that clears what it lists, that are read back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(default)]
pub struct UserCounts {
    /// Users that were listed.
    pub ok: u64,
    /// Users that could not be listed.
    pub failed: u64,
    /// Users that could not be sent.
    pub invalid: u64,
    /// Repeated users.
    pub skipped: u64,
}

impl UserCounts {
    /// Users with a record.
    pub fn recorded(&self) -> u64 {
        self.ok + self.failed + self.invalid + self.skipped
    }
}

impl RunCounts {
    /// Rows that got a record.
    pub fn recorded(&self) -> u64 {
        self.sent() + self.invalid + self.skipped
    }

    /// Rows that were sent and got an outcome.
    pub fn sent(&self) -> u64 {
        self.ok + self.outside + self.failed
    }
}

/// A run, according to the log.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct LoggedRun {
    /// Its beginning.
    pub begin: RunBegin,
    /// Its end; `None` if it was killed, or is under way.
    pub end: Option<RunEnd>,
}

/// The log of the run of this process.
#[derive(Debug, Clone)]
pub struct RunLog {
    path: PathBuf,
    run: String,
}

impl RunLog {
    /// Where the log of a report's runs is: `out.csv` → `out.runs.jsonl`.
    ///
    /// ```
    /// use std::path::Path;
    /// use zim_batch::journal::RunLog;
    ///
    /// assert_eq!(RunLog::path_of(Path::new("reports/out.csv")), Path::new("reports/out.runs.jsonl"));
    /// ```
    pub fn path_of(report: &Path) -> PathBuf {
        named_after(report, ".runs.jsonl")
    }

    /// Writes the beginning of a run. `keep_earlier`: the log of the report's earlier runs is continued, not begun anew.
    ///
    /// # Errors
    /// An [`io::Error`] if the file can't be written, or is something else than a log of runs. It is left unchanged then.
    pub fn begin(path: PathBuf, begin: &RunBegin, keep_earlier: bool) -> io::Result<RunLog> {
        let file = open(&path)?;
        let mut start = [0; LINE_BEGINS.len()];
        let read = file.read_at(&mut start, 0)?;
        if !LINE_BEGINS.starts_with(&start[..read]) {
            return Err(io::Error::other(
                "this file exists already and is not a log of runs, so it is left untouched",
            ));
        }
        // What a full disk or a power cut has left of a first line is replaced too: with another line behind it, the next run
        // would not know the file.
        if !keep_earlier || read < LINE_BEGINS.len() {
            file.set_len(0)?;
        }
        append(
            &file,
            &Line {
                event: "begin",
                line: begin,
            },
        )?;
        Ok(RunLog {
            path,
            run: begin.run.clone(),
        })
    }

    /// Where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Removes the log: the run has not begun, and there was none before.
    pub fn remove(&self) {
        // If this fails, a log is left whose only run has no end and no records, which is harmless.
        let _ = fs::remove_file(&self.path);
    }

    /// Writes the end of the run: its exit status, why it stopped, if it did, and the rest as in [`RunEnd`].
    ///
    /// # Errors
    /// An [`io::Error`] if the file can't be written.
    pub fn end(
        &self,
        exit: u8,
        stopped: Option<&str>,
        all_rejected: bool,
        summary: Option<&impl Serialize>,
    ) -> io::Result<()> {
        #[derive(Serialize)]
        struct End<'a, S> {
            #[serde(serialize_with = "rfc3339_millis")]
            at: SystemTime,
            run: &'a str,
            exit: u8,
            stopped: Option<&'a str>,
            all_rejected: bool,
            summary: Option<&'a S>,
        }
        let end = End {
            at: SystemTime::now(),
            run: &self.run,
            exit,
            stopped,
            all_rejected,
            summary,
        };
        append(
            &open(&self.path)?,
            &Line {
                event: "end",
                line: &end,
            },
        )
    }
}

#[derive(Serialize)]
struct Line<'a, L> {
    event: &'static str,
    #[serde(flatten)]
    line: &'a L,
}

/// Opens the log, or creates it.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    let file = options
        .read(true)
        .append(true)
        .create(true)
        .mode(OWNER_ONLY)
        .open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(io::Error::other("this is not a regular file"));
    }
    // Root may go on with a user's.
    if metadata.len() == 0 || !geteuid().is_root() {
        check_owner(path, &file)?;
    }
    Ok(file)
}

/// Appends a line with one `write`. A torn line before it remains a separate line.
fn append(mut file: &File, line: &impl Serialize) -> io::Result<()> {
    let mut bytes = Vec::new();
    let len = file.metadata()?.len();
    let mut last = [b'\n'];
    if len > 0 {
        file.read_exact_at(&mut last, len - 1)?;
    }
    if last != [b'\n'] {
        bytes.push(b'\n');
    }
    serde_json::to_writer(&mut bytes, line)?;
    bytes.push(b'\n');
    file.write_all(&bytes)
}

/// The runs in a log, in the order in which they began; `None` if it can't be read or has none.
pub fn read_runs(path: &Path) -> Option<Vec<LoggedRun>> {
    let file = File::open(path).ok()?;
    let metadata = file.metadata().ok()?;
    if !metadata.is_file() {
        return None;
    }
    let mut runs = runs_of(BufReader::new(file));
    if other_owner(path, &metadata).is_some() {
        // Nobody should run another user's command.
        runs.iter_mut().for_each(|run| run.begin.resume.clear());
    }
    (!runs.is_empty()).then_some(runs)
}

/// Skips what can't be read.
fn runs_of(input: impl BufRead) -> Vec<LoggedRun> {
    #[derive(Deserialize)]
    struct Event<'a> {
        event: &'a str,
    }
    let mut runs: Vec<LoggedRun> = Vec::new();
    for line in input.split(b'\n').map_while(Result::ok) {
        match serde_json::from_slice(&line) {
            Ok(Event { event: "begin" }) => {
                let begin = serde_json::from_slice(&line).ok();
                runs.extend(begin.map(|begin| LoggedRun { begin, end: None }));
            }
            Ok(Event { event: "end" }) => {
                if let Ok(end) = serde_json::from_slice::<RunEnd>(&line)
                    && let Some(run) = runs.iter_mut().rev().find(|run| run.begin.run == end.run)
                {
                    run.end = Some(end);
                }
            }
            _ => {}
        }
    }
    runs
}

fn as_utc<S: Serializer>(at: &i64, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.collect_str(&utc(*at))
}

fn of_utc<'de, D: Deserializer<'de>>(deserializer: D) -> Result<i64, D::Error> {
    let text = String::deserialize(deserializer)?;
    let time: jiff::Timestamp = text.parse().map_err(serde::de::Error::custom)?;
    Ok(time.as_millisecond())
}

fn as_utc_if_known<S: Serializer>(at: &Option<i64>, serializer: S) -> Result<S::Ok, S::Error> {
    at.map(utc).serialize(serializer)
}

fn of_utc_if_known<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<i64>, D::Error> {
    let text = Option::<String>::deserialize(deserializer)?;
    let time = text.and_then(|text| text.parse::<jiff::Timestamp>().ok());
    Ok(time.map(jiff::Timestamp::as_millisecond))
}

#[cfg(test)]
mod tests;
