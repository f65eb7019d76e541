//! Removes records from a report: those of rows that were invalid and have changed since.
//!
//! The remaining records are written to a new file next to the report, which is synced and then replaces the report with
//! one `rename`. So after a crash or a power cut the report is either the old or the new one.

use std::fs::File;
use std::io::{self, BufWriter, Read, Seek, SeekFrom, Write};
use std::path::Path;

use super::appender::Appender;
use super::error::ReportError;
use super::reader::ReportReader;
use super::record::ReportRecord;
use super::table::{CHUNK, start_of};
use crate::files::{NewFile, OWNER_ONLY, sync_directory_of};
use crate::row::Outcome;

/// Removes the `invalid` records of these lines, which must be ascending, from an open report. Returns how many there were.
pub(super) fn forget(report: &mut Appender, lines: &[u64]) -> Result<u64, ReportError> {
    if lines.is_empty() {
        return Ok(0);
    }
    let path = report.path();
    let (file, len, removed) = remove_invalid(path, lines).map_err(|source| ReportError::Write {
        path: path.to_owned(),
        source,
    })?;
    report.replace(file, len);
    Ok(removed)
}

/// Replaces the report by one without the `invalid` records of these lines, which must be ascending. Returns the new file,
/// locked and open for appending, its length, and how many records were removed.
fn remove_invalid(report: &Path, lines: &[u64]) -> io::Result<(File, u64, u64)> {
    // A symbolic link is kept, and its target is replaced.
    let report = report.canonicalize()?;
    let new = NewFile::beside(&report, OWNER_ONLY)?;
    let removed = write_without(&report, lines, new.file())?;
    new.file().sync_all()?;
    let file = new.put_in_place()?;
    sync_directory_of(&report);
    let len = file.metadata()?.len();
    Ok((file, len, removed))
}

fn write_without(report: &Path, lines: &[u64], to: &File) -> io::Result<u64> {
    let mut from = File::open(report)?;
    let original = File::open(report)?;
    let mut records = ReportReader::new(start_of(&original, u64::MAX)?);
    let mut to = BufWriter::with_capacity(CHUNK, to);
    records.read_header()?;
    // The start of the current range of bytes to copy.
    let (mut kept_from, mut removed) = (0, 0);
    let mut record_start = records.len();
    while let Some(entry) = records.next()? {
        if entry.record.is_some_and(|record| is_removed(&record, lines)) {
            copy(&mut from, kept_from..record_start, &mut to)?;
            (kept_from, removed) = (entry.offset, removed + 1);
        }
        record_start = entry.offset;
    }
    copy(&mut from, kept_from..record_start, &mut to)?;
    to.flush()?;
    Ok(removed)
}

fn is_removed(record: &ReportRecord, lines: &[u64]) -> bool {
    record.outcome == Outcome::Invalid && lines.binary_search(&record.line).is_ok()
}

fn copy(from: &mut File, range: std::ops::Range<u64>, to: &mut impl Write) -> io::Result<()> {
    from.seek(SeekFrom::Start(range.start))?;
    io::copy(&mut from.take(range.end - range.start), to)?;
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::super::record::COLUMNS;
    use super::*;

    fn report(records: &[&str]) -> String {
        let mut text = COLUMNS.join(",") + "\n";
        for record in records {
            text += &format!("{record},,,message,,0,,2026-11-25T03:00:00.000Z\n");
        }
        text
    }

    #[test]
    fn only_the_invalid_records_of_these_lines_are_removed_and_the_rest_is_kept_byte_for_byte() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        let all = [
            "2,a,b,0,ok",
            "3,\"x\ny\",,0,invalid",
            "9,a,b,7,invalid",
            "4,a,b,0,failed",
            "5,,b,0,invalid",
        ];
        for (lines, left) in [
            (&[3, 5][..], &[all[0], all[2], all[3]][..]),
            (&[9], &[all[0], all[1], all[3], all[4]]),
            (&[2, 4, 7], &all),
            (&[3, 5, 9], &[all[0], all[3]]),
        ] {
            fs::write(&path, report(&all)).unwrap();
            let (mut file, len, removed) = remove_invalid(&path, lines).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), report(left), "{lines:?}");
            assert_eq!(
                (len, removed),
                (report(left).len() as u64, (all.len() - left.len()) as u64)
            );
            file.write_all(b"more").unwrap();
            assert_eq!(
                fs::read_to_string(&path).unwrap(),
                report(left) + "more",
                "it is appended to"
            );
            assert!(File::open(&path).unwrap().try_lock().is_err(), "it is locked");
            assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 1);
        }
    }
}
