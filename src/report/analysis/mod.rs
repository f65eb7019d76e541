//! What a whole report says, over all its runs: read in one pass, in memory that does not grow with it.
//!
//! Everything that would grow has a bound: buckets of time merge pairwise, spans of time merge when they are next to
//! each other, and of users, codes and reasons only so many are told apart. What a bound has cost is said, never hidden.

mod reader;
mod reasons;
mod spans;
#[cfg_attr(not(feature = "page"), expect(dead_code, reason = "only the page shows all of it"))]
mod timeline;
mod users;

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
use std::path::Path;
use std::time::SystemTime;

use hdrhistogram::Histogram;

use super::error::{NotAReport, ReportError};
use super::outcomes::COLUMNS;
use super::summary::Latencies;
use crate::csv_reader::{CsvReader, CsvRecord};
use crate::row::Outcome;
use reader::{Reader, Unread};
pub use reasons::Reason;
pub(crate) use spans::Spans;
pub(crate) use timeline::Timeline;
pub use users::UserRows;

/// The columns of a report of `list`, in order.
pub const LIST_COLUMNS: [&str; 11] = [
    "line",
    "user",
    "outcome",
    "conversations",
    "code",
    "http",
    "message",
    "request_id",
    "attempts",
    "latency_ms",
    "finished_at",
];

/// The longest latency that is distinguished from longer ones, in milliseconds.
const LONGEST: u64 = 3_600_000;

/// Read from the report at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// How far back the rate of a run that is under way looks, in milliseconds.
const LAST_MINUTE: i64 = 60_000;

/// Records by outcome, in the order of [`Outcome::ALL`].
pub(crate) type Counts = [u64; Outcome::ALL.len()];

/// Which command wrote the report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Kind {
    /// `clear`, or it is an outside log: a record for each row.
    Clear,
    /// `list`: a record for each user.
    List,
}

impl Kind {
    /// What its records are of: `rows` or `users`.
    pub fn noun(self) -> &'static str {
        match self {
            Kind::Clear => "rows",
            Kind::List => "users",
        }
    }
}

/// What a report says. Times are in milliseconds since 1970, UTC.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Analysis {
    /// Which command wrote it.
    pub kind: Kind,
    /// Its records.
    pub rows: u64,
    counts: Counts,
    /// Requests sent for them.
    pub requests: u64,
    /// Requests that were not a row's first.
    pub retries: u64,
    /// Conversations found; only `list` writes them.
    pub conversations: u64,
    /// Records by ZIM's return code of the last answer.
    pub codes: BTreeMap<i64, u64>,
    /// Records with still other codes, when there are thousands of them.
    pub other_codes: u64,
    /// Why rows are `failed` or `invalid`; those with most rows first.
    pub reasons: Vec<Reason>,
    /// The users with most `failed` and `outside` rows, most first; at most 1000.
    pub users: Vec<UserRows>,
    /// How many rows more any user may have, named or not: 0 unless more than 100 000 users have such rows.
    pub users_missed: u64,
    /// The time of the first record.
    pub first: Option<i64>,
    /// The time of the last record.
    pub last: Option<i64>,
    pub(crate) spans: Spans,
    pub(crate) timeline: Timeline,
    pub(crate) latencies: Histogram<u64>,
    longest: u64,
    /// The rows were sent to the simulator, not to ZIM.
    pub simulated: bool,
    /// Records whose time can't be read.
    pub untimed: u64,
    /// Records of the minute before the analysis began.
    recent: u64,
    asked_at: i64,
    /// The last record was torn and is left out.
    pub is_torn: bool,
    /// Lines in the middle of the report that are no records, and are left out: the first of them, and how many.
    pub damaged: Option<(u64, u64)>,
}

impl Analysis {
    /// Reads the report in this file, as it is now. A run may be writing it.
    pub fn of_file(path: &Path) -> Result<Analysis, ReportError> {
        let place = path.display().to_string();
        let open = || {
            let mut file = File::open(path)?;
            let metadata = file.metadata()?;
            if metadata.is_dir() {
                return Err(io::ErrorKind::IsADirectory.into());
            }
            let len = match metadata.is_file() {
                true => len_without_zeros(&mut file, metadata.len())?,
                false => u64::MAX,
            };
            Ok(BufReader::with_capacity(CHUNK, file.take(len)))
        };
        let input = open().map_err(|source| ReportError::Open {
            place: place.clone(),
            source,
        })?;
        Analysis::of(input, &place)
    }

    /// Reads a report from anything; `place` names it in messages.
    pub fn of(mut input: impl BufRead, place: &str) -> Result<Analysis, ReportError> {
        let error = |line, source| ReportError::Read {
            place: place.to_owned(),
            line,
            source,
        };
        // Some spreadsheets write a byte order mark.
        if input
            .fill_buf()
            .map_err(|source| error(1, source))?
            .starts_with(b"\xef\xbb\xbf")
        {
            input.consume(3);
        }
        let mut records = CsvReader::new(input, b',');
        let advance = |records: &mut CsvReader<_>| {
            let line = records.line();
            records.advance().map_err(|source| error(line, source))
        };
        let kind = match advance(&mut records)? {
            true => kind(&records.current(), place)?,
            false => return Err(no_report(place, "there is nothing in it")),
        };
        let mut reader = Reader::new(kind);
        let mut unread = Unread::default();
        while advance(&mut records)? {
            let record = records.current();
            match reader.take(&record) {
                true => unread.close(),
                false => unread.note(&record),
            }
            // What a run writes behind a torn record belongs to it.
            if record.at_end {
                break;
            }
        }
        Ok(reader.finish(&unread))
    }

    /// Records of this outcome.
    pub fn outcome(&self, outcome: Outcome) -> u64 {
        self.counts[outcome as usize]
    }

    /// Quantiles of the latencies of the rows' last attempts, in milliseconds.
    pub fn latency_ms(&self) -> Latencies {
        let quantile = |q| self.latencies.value_at_quantile(q).min(self.longest) as f64;
        Latencies {
            p50: quantile(0.5),
            p90: quantile(0.9),
            p99: quantile(0.99),
            max: self.longest as f64,
        }
    }

    /// Whether there is any latency.
    pub fn has_latency(&self) -> bool {
        !self.latencies.is_empty()
    }

    /// Times without a record, in order: from the last record before to the first record after.
    pub fn pauses(&self) -> impl Iterator<Item = (i64, i64)> + '_ {
        self.spans.pauses()
    }

    /// The shortest time without a record that is a pause, in milliseconds: a minute, unless there are too many.
    pub fn pause_from(&self) -> i64 {
        self.spans.pause()
    }

    /// The time from the first record to the last without the pauses, in milliseconds.
    pub fn active(&self) -> i64 {
        self.spans.active()
    }

    /// Records per second, without the pauses; `None` if it took too little time to tell.
    pub fn rate(&self) -> Option<f64> {
        let seconds = self.active() as f64 / 1000.0;
        // The first record of each span began it: what it took is not in there.
        let rows = (self.rows - self.untimed).saturating_sub(self.spans.iter().count() as u64);
        (seconds >= 1.0).then(|| rows as f64 / seconds)
    }

    /// Records per second in the minute before the report was read; of a run that began within it, since then.
    pub fn recent_rate(&self) -> f64 {
        let minute_ago = self.asked_at - LAST_MINUTE;
        let started_at = self.spans.iter().next_back().map_or(minute_ago, |(start, _)| start);
        let took = (self.asked_at - started_at.max(minute_ago)).max(1000);
        self.recent as f64 * 1000.0 / took as f64
    }

    /// When the analysis began.
    pub fn asked_at(&self) -> i64 {
        self.asked_at
    }
}

/// Which command's report it is, by its header.
fn kind(header: &CsvRecord, place: &str) -> Result<Kind, ReportError> {
    let is = |columns: &[&str]| header.iter().eq(columns.iter().map(|column| column.as_bytes()));
    if is(&COLUMNS) {
        Ok(Kind::Clear)
    } else if is(&LIST_COLUMNS) {
        Ok(Kind::List)
    } else {
        let first = header.get(0).unwrap_or_default();
        Err(no_report(
            place,
            match first {
                [0x1f, 0x8b, ..] => "it is packed; unpack it first, say with gzip -d",
                [0x28, 0xb5, 0x2f, 0xfd, ..] => "it is packed; unpack it first, say with zstd -d",
                [b'P', b'K', 3, 4, ..] => "it is a workbook or a ZIP archive",
                _ if first.contains(&0) => "its text is not UTF-8",
                _ if first.starts_with(b"line;") || first.starts_with(b"line\t") => {
                    "another program has saved it with other delimiters"
                }
                _ => "its first line is another one",
            },
        ))
    }
}

fn no_report(place: &str, why: &'static str) -> ReportError {
    ReportError::NotAReport {
        place: place.to_owned(),
        reason: NotAReport::Unreadable(why),
    }
}

/// A power cut can leave zeros behind what was written.
fn len_without_zeros(file: &mut File, mut len: u64) -> io::Result<u64> {
    let mut block = [0; 4096];
    while len > 0 {
        let size = len.min(block.len() as u64);
        file.seek(SeekFrom::Start(len - size))?;
        let block = &mut block[..size as usize];
        file.read_exact(block)?;
        if let Some(last) = block.iter().rposition(|&byte| byte != 0) {
            len = len - size + last as u64 + 1;
            break;
        }
        len -= size;
    }
    file.seek(SeekFrom::Start(0))?;
    Ok(len)
}

/// A field's text, or its first `max` bytes if it is longer.
fn text(field: &[u8], max: usize) -> Cow<'_, str> {
    String::from_utf8_lossy(&field[..field.len().min(max)])
}

/// Since 1970.
pub(crate) fn milliseconds(time: SystemTime) -> i64 {
    let since = time.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests;
