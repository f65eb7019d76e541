//! Removes records from a report: those of rows that were invalid and have changed since.
//!
//! The remaining records are written to a new file next to the report, which is synced and then replaces the report with
//! one `rename`. So after a crash or a power cut the report is either the old or the new one. The next run removes an
//! unfinished new file.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::appender::Appender;
use super::error::ReportError;
use super::place;
use super::schema::Schema;
use crate::csv_reader::{CsvReader, CsvRecord};
use crate::row::Outcome;

/// The size of a read, in bytes.
const CHUNK: usize = 256 * 1024;

/// Removes the `invalid` records of these lines, which must be ascending, from an open report. Returns how many there were.
pub(super) fn forget(report: &mut Appender, lines: &[u64], schema: &Schema) -> Result<u64, ReportError> {
    if lines.is_empty() {
        return Ok(0);
    }
    let path = report.path();
    let (file, len, removed) = remove_invalid(path, lines, schema).map_err(|source| ReportError::Write {
        path: path.to_owned(),
        source,
    })?;
    report.replace(file, len);
    Ok(removed)
}

/// Replaces the report by one without the `invalid` records of these lines, which must be ascending. Returns the new file,
/// locked and open for appending, its length, and how many records were removed.
fn remove_invalid(report: &Path, lines: &[u64], schema: &Schema) -> io::Result<(File, u64, u64)> {
    // A symbolic link is kept, and its target is replaced.
    let report = report.canonicalize()?;
    let beside = new_file_for(&report);
    remove_left_over(&beside, schema)?;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    let written = write_without(&report, lines, schema, &file).and_then(|removed| {
        // Locked before it gets the report's name. Some file systems don't support locks.
        let _ = file.try_lock();
        file.sync_all()?;
        fs::rename(&beside, &report)?;
        place::sync_directory(&report);
        Ok((file.metadata()?.len(), removed))
    });
    match written {
        Ok((len, removed)) => Ok((file, len, removed)),
        Err(error) => {
            let _ = fs::remove_file(&beside);
            Err(error)
        }
    }
}

fn new_file_for(report: &Path) -> PathBuf {
    let mut name = report.file_name().unwrap_or_default().to_owned();
    name.push(".rewriting");
    report.with_file_name(name)
}

/// Removes the unfinished file of a killed run; any other file of that name is an error.
fn remove_left_over(beside: &Path, schema: &Schema) -> io::Result<()> {
    let header = schema.columns.join(",");
    let mut start = Vec::new();
    match beside.symlink_metadata() {
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(metadata) if metadata.is_file() => {
            let file = File::open(beside)?;
            file.take(header.len() as u64).read_to_end(&mut start)?;
        }
        Ok(_) => start.push(0),
    }
    match header.as_bytes().starts_with(&start) {
        true => fs::remove_file(beside),
        false => Err(io::Error::other(format!(
            "{} is in the way, where the report is to be rewritten; move it away",
            beside.display()
        ))),
    }
}

fn write_without(report: &Path, lines: &[u64], schema: &Schema, to: &File) -> io::Result<u64> {
    let mut from = File::open(report)?;
    let metadata = from.metadata()?;
    to.set_permissions(metadata.permissions())?;
    keep_owner(to, &metadata);
    let mut records = CsvReader::new(BufReader::with_capacity(CHUNK, File::open(report)?), b',');
    let mut to = BufWriter::with_capacity(CHUNK, to);
    // The start of the current range of bytes to copy.
    let (mut kept_from, mut removed) = (0, 0);
    let mut record_start = 0;
    while records.advance()? {
        let ends = records.offset();
        if is_removed(&records.current(), lines, schema) {
            copy(&mut from, kept_from..record_start, &mut to)?;
            (kept_from, removed) = (ends, removed + 1);
        }
        record_start = ends;
    }
    copy(&mut from, kept_from..record_start, &mut to)?;
    to.flush()?;
    Ok(removed)
}

fn is_removed(record: &CsvRecord, lines: &[u64], schema: &Schema) -> bool {
    let text = |index| std::str::from_utf8(record.get(index)?).ok();
    let line = text(0).and_then(|line| line.parse().ok());
    record.get(schema.outcome).and_then(Outcome::from_bytes) == Some(Outcome::Invalid)
        && line.is_some_and(|line| lines.binary_search(&line).is_ok())
}

fn copy(from: &mut File, range: std::ops::Range<u64>, to: &mut impl Write) -> io::Result<()> {
    from.seek(SeekFrom::Start(range.start))?;
    io::copy(&mut from.take(range.end - range.start), to)?;
    Ok(())
}

/// Keeps the owner of a report that root resumes for another user.
fn keep_owner(file: &File, metadata: &fs::Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let _ = fchown(file, Some(metadata.uid()), Some(metadata.gid()));
}

#[cfg(test)]
mod tests {
    use super::super::outcomes::COLUMNS;
    use super::super::schema::ROWS;
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
            fs::write(new_file_for(&path), "line,user,co").unwrap(); // left by a killed run
            let (mut file, len, removed) = remove_invalid(&path, lines, &ROWS).unwrap();
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

    #[test]
    fn another_file_in_the_way_is_left_unchanged() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        fs::write(&path, report(&["3,,b,0,invalid"])).unwrap();
        fs::write(new_file_for(&path), "precious").unwrap();
        let error = remove_invalid(&path, &[3], &ROWS).unwrap_err();
        assert!(error.to_string().contains("out.csv.rewriting is in the way"), "{error}");
        assert_eq!(fs::read_to_string(new_file_for(&path)).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), report(&["3,,b,0,invalid"]));
    }
}
