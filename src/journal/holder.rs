//! Whether a run is writing a report, and which process that is.
//!
//! A run locks its report (`flock`). The kernel's list of locks shows the holder; only Linux has one, and it shows no process
//! of another PID namespace, such as another container's. So the lock itself is asked too: a shared lock can't be had while a
//! run holds the report. It is held for a moment only, and a run that begins in that moment waits for it.

use std::fs::{self, File, TryLockError};
use std::io::{BufRead, BufReader};
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::text::one_line;

/// The process that has locked a file.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Holder {
    /// Its process ID.
    pub process: u32,
    /// The name of its program, without control characters.
    pub program: String,
}

impl Holder {
    /// The process that has locked the file, if the system can show it.
    pub(super) fn of(path: &Path) -> Option<Holder> {
        let process = holder(path)?;
        let name = fs::read_to_string(format!("/proc/{process}/comm")).ok()?;
        let program = one_line(name.trim_end()).into_owned();
        Some(Holder { process, program })
    }
}

/// The ID of the process that has locked the report at `path`; `None` if there is none, or the system can't show it.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("out.csv");
/// let report = std::fs::File::create(&path)?;
/// assert_eq!(zim_batch::journal::holder(&path), None);
/// report.try_lock()?;
/// # #[cfg(target_os = "linux")]
/// assert_eq!(zim_batch::journal::holder(&path), Some(std::process::id()));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn holder(path: &Path) -> Option<u32> {
    let report = path.metadata().ok().filter(fs::Metadata::is_file)?;
    let locks = BufReader::new(File::open("/proc/locks").ok()?);
    let locks: Vec<Lock> = locks
        .lines()
        .map_while(Result::ok)
        .filter_map(|line| Lock::parse(&line))
        .collect();
    let device = (major(report.dev()), minor(report.dev()));
    let by_name = locks
        .iter()
        .find(|lock| lock.device == device && lock.inode == report.ino());
    // Some file systems show other inode numbers there than elsewhere.
    let by_files = || {
        let mut processes: Vec<u32> = locks.iter().map(|lock| lock.process).collect();
        processes.sort_unstable();
        processes.dedup();
        processes.into_iter().find(|&process| has_locked(process, &report))
    };
    by_name.map(|lock| lock.process).or_else(by_files)
}

/// Whether a run has locked the report at `path`, also one whose process the system can't show: one in another container, or
/// on another machine that shares the file system.
///
/// ```
/// # let directory = tempfile::tempdir()?;
/// # let path = directory.path().join("out.csv");
/// let report = std::fs::File::create(&path)?;
/// assert!(!zim_batch::journal::is_locked(&path));
/// report.try_lock()?;
/// assert!(zim_batch::journal::is_locked(&path));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn is_locked(path: &Path) -> bool {
    let is_file = path.metadata().is_ok_and(|metadata| metadata.is_file());
    let is_refused = |report: File| matches!(report.try_lock_shared(), Err(TryLockError::WouldBlock));
    is_file && (holder(path).is_some() || File::open(path).is_ok_and(is_refused))
}

/// An exclusive `flock`.
struct Lock {
    process: u32,
    device: (u64, u64),
    inode: u64,
}

impl Lock {
    /// Parses a line like `2: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`.
    fn parse(line: &str) -> Option<Lock> {
        let mut words = line.split_ascii_whitespace().skip(1);
        let is_held = words.next()? == "FLOCK" && words.next().is_some() && words.next()? == "WRITE";
        let process = words.next()?.parse().ok().filter(|&process| is_held && process != 0)?;
        let mut file = words.next()?.split(':');
        let mut hexadecimal = || u64::from_str_radix(file.next()?, 16).ok();
        let device = (hexadecimal()?, hexadecimal()?);
        Some(Lock {
            process,
            device,
            inode: file.next()?.parse().ok()?,
        })
    }
}

/// Whether one of the process's open files is this report, locked.
fn has_locked(process: u32, report: &fs::Metadata) -> bool {
    let Ok(files) = fs::read_dir(format!("/proc/{process}/fd")) else {
        return false;
    };
    files.flatten().any(|file| {
        let is_report = fs::metadata(file.path())
            .is_ok_and(|metadata| (metadata.dev(), metadata.ino()) == (report.dev(), report.ino()));
        let info = || format!("/proc/{process}/fdinfo/{}", file.file_name().to_string_lossy());
        is_report && fs::read_to_string(info()).is_ok_and(|info| info.lines().any(is_lock))
    })
}

/// Parses a line like `lock: 1: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF`.
fn is_lock(line: &str) -> bool {
    line.strip_prefix("lock:").and_then(Lock::parse).is_some()
}

/// The major number of a Linux device ID.
fn major(device: u64) -> u64 {
    (device >> 8 & 0xfff) | (device >> 32 & 0xffff_f000)
}

fn minor(device: u64) -> u64 {
    (device & 0xff) | (device >> 12 & 0xffff_ff00)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_exclusive_locks_that_are_held_count() {
        let lock = Lock::parse("2: FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF").unwrap();
        assert_eq!((lock.process, lock.device, lock.inode), (1234, (0xfd, 1), 5678));
        for other in [
            "3: FLOCK  ADVISORY  READ 1234 fd:01:5678 0 EOF",
            "4: POSIX  ADVISORY  WRITE 1234 fd:01:5678 0 EOF",
            "2: -> FLOCK  ADVISORY  WRITE 1234 fd:01:5678 0 EOF",
            "5: LEASE  ACTIVE    READ 1234 fd:01:5678 0 EOF",
            "",
        ] {
            assert!(Lock::parse(other).is_none(), "{other}");
        }
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_lock_is_also_found_among_the_open_files_of_its_process() {
        let file = tempfile::tempfile().unwrap();
        let metadata = file.metadata().unwrap();
        assert!(!has_locked(std::process::id(), &metadata));
        file.try_lock().unwrap();
        assert!(has_locked(std::process::id(), &metadata));
    }
}
