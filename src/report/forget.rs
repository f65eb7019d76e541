//! Takes records out of a report: those of rows that were invalid and have changed since.
//!
//! The records that stay are written to a new file beside the report, which is brought to the disk and then takes the
//! report's place with one `rename`. So whenever the process ends or the power fails, the report is the old one, with
//! all of its records, or the new one; a new file that was left unfinished is begun anew by the next run.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufReader, BufWriter, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use super::outcomes::COLUMNS;
use crate::csv_reader::{CsvReader, CsvRecord};
use crate::row::Outcome;

/// Read from the report at a time, in bytes.
const CHUNK: usize = 256 * 1024;

/// Replaces the report by one without the `invalid` records of these lines, which ascend. Gives the new file, locked and
/// open for appending, its length, and how many records are gone.
pub(super) fn without(report: &Path, lines: &[u64]) -> io::Result<(File, u64, u64)> {
    // A link stays, and what it points to is replaced.
    let report = report.canonicalize()?;
    let beside = new_file_for(&report);
    remove_left_over(&beside)?;
    let file = OpenOptions::new()
        .read(true)
        .append(true)
        .create_new(true)
        .mode(0o600)
        .open(&beside)?;
    let written = write_without(&report, lines, &file).and_then(|forgotten| {
        // Locked before it can be found under the report's name; some file systems know no locks.
        let _ = file.try_lock();
        file.sync_all()?;
        fs::rename(&beside, &report)?;
        super::sync_directory(&report);
        Ok((file.metadata()?.len(), forgotten))
    });
    match written {
        Ok((len, forgotten)) => Ok((file, len, forgotten)),
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

/// Removes what a run that was killed has left; anything else of that name is an error.
fn remove_left_over(beside: &Path) -> io::Result<()> {
    let header = COLUMNS.join(",");
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

fn write_without(report: &Path, lines: &[u64], to: &File) -> io::Result<u64> {
    let mut from = File::open(report)?;
    let metadata = from.metadata()?;
    to.set_permissions(metadata.permissions())?;
    keep_owner(to, &metadata);
    let mut records = CsvReader::new(BufReader::with_capacity(CHUNK, File::open(report)?), b',');
    let mut to = BufWriter::with_capacity(CHUNK, to);
    // What is kept is copied as it is, from here on.
    let (mut kept_from, mut forgotten) = (0, 0);
    let mut begins = 0;
    while records.advance()? {
        let ends = records.offset();
        if is_forgotten(&records.current(), lines) {
            copy(&mut from, kept_from..begins, &mut to)?;
            (kept_from, forgotten) = (ends, forgotten + 1);
        }
        begins = ends;
    }
    copy(&mut from, kept_from..begins, &mut to)?;
    to.flush()?;
    Ok(forgotten)
}

fn is_forgotten(record: &CsvRecord, lines: &[u64]) -> bool {
    let text = |index| std::str::from_utf8(record.get(index)?).ok();
    let line = text(0).and_then(|line| line.parse().ok());
    record.get(4).and_then(Outcome::from_bytes) == Some(Outcome::Invalid)
        && line.is_some_and(|line| lines.binary_search(&line).is_ok())
}

fn copy(from: &mut File, range: std::ops::Range<u64>, to: &mut impl Write) -> io::Result<()> {
    from.seek(SeekFrom::Start(range.start))?;
    io::copy(&mut from.take(range.end - range.start), to)?;
    Ok(())
}

/// Root may resume another user's report, which stays that user's; for others it is their own anyway.
fn keep_owner(file: &File, metadata: &fs::Metadata) {
    use std::os::unix::fs::{MetadataExt, fchown};
    let _ = fchown(file, Some(metadata.uid()), Some(metadata.gid()));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn report(records: &[&str]) -> String {
        let mut text = COLUMNS.join(",") + "\n";
        for record in records {
            text += &format!("{record},,,message,,0,,2026-11-25T03:00:00.000Z\n");
        }
        text
    }

    #[test]
    fn only_the_invalid_records_of_these_lines_go_and_all_else_stays_byte_for_byte() {
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
            fs::write(new_file_for(&path), "line,user,co").unwrap(); // what a killed run left
            let (mut file, len, forgotten) = without(&path, lines).unwrap();
            assert_eq!(fs::read_to_string(&path).unwrap(), report(left), "{lines:?}");
            assert_eq!(
                (len, forgotten),
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
    fn a_file_of_somebody_else_in_the_way_is_left_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("out.csv");
        fs::write(&path, report(&["3,,b,0,invalid"])).unwrap();
        fs::write(new_file_for(&path), "precious").unwrap();
        let error = without(&path, &[3]).unwrap_err();
        assert!(error.to_string().contains("out.csv.rewriting is in the way"), "{error}");
        assert_eq!(fs::read_to_string(new_file_for(&path)).unwrap(), "precious");
        assert_eq!(fs::read_to_string(&path).unwrap(), report(&["3,,b,0,invalid"]));
    }
}
