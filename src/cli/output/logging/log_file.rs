//! The log file.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use tracing::Level;
use zim_batch::files::{self, OWNER_ONLY};

use super::log_line;
use crate::cli::args::LogFormat;
use crate::cli::errors::Error;
use crate::cli::output::lossy::LossyWriter;

/// How often it is checked whether the file is still at its path: logrotate may have moved it.
const CHECK_EVERY: Duration = Duration::from_secs(1);

/// The log file. Lines that can't be written are lost, with one error message. If the file is moved or removed, as by
/// logrotate, a new one is created in its place.
pub struct LogFile {
    file: File,
    path: PathBuf,
    checked_at: Instant,
    terminal: LossyWriter,
    format: LogFormat,
    has_failed: bool,
    /// The last line is incomplete.
    is_torn: bool,
}

impl LogFile {
    pub fn open(path: &Path, terminal: LossyWriter, format: LogFormat) -> Result<LogFile, Error> {
        let file = open(path).map_err(|error| {
            Error::Usage(format!(
                "--log-file {}: the file can't be opened: {error}; choose another one",
                path.display()
            ))
        })?;
        Ok(LogFile {
            file,
            path: path.to_owned(),
            checked_at: Instant::now(),
            terminal,
            format,
            has_failed: false,
            is_torn: false,
        })
    }

    fn try_write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.checked_at.elapsed() >= CHECK_EVERY {
            self.checked_at = Instant::now();
            self.reopen_if_moved()?;
        }
        if self.is_torn {
            self.file.write_all(b"\n")?;
            self.is_torn = false;
        }
        self.file.write(bytes)
    }

    fn reopen_if_moved(&mut self) -> io::Result<()> {
        let metadata = self.file.metadata()?;
        let is_in_place = files::identity(&self.path) == Some((metadata.dev(), metadata.ino()));
        if metadata.is_file() && !is_in_place {
            match open(&self.path) {
                Ok(file) => (self.file, self.is_torn) = (file, false),
                // Lines still get into the file that was moved.
                Err(_) if metadata.nlink() > 0 => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

/// Opens a log file for appending, and creates it if necessary.
fn open(path: &Path) -> io::Result<File> {
    let mut options = OpenOptions::new();
    options.append(true).create(true).mode(OWNER_ONLY);
    // Opening a pipe that nobody reads must fail, not block.
    let file = options.custom_flags(libc::O_NONBLOCK).open(path)?;
    files::check_owner(path, &file)?;
    Ok(file)
}

/// Receives whole lines, unless the file accepts only a part of one.
impl Write for LogFile {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        match self.try_write(bytes) {
            Err(error) if !matches!(error.kind(), ErrorKind::Interrupted | ErrorKind::WouldBlock) => {
                self.is_torn |= !bytes.is_empty();
                if !std::mem::replace(&mut self.has_failed, true) {
                    let why = format!(
                        "--log-file {}: log lines are lost, because the file can't be written: {error}; the run continues",
                        self.path.display()
                    );
                    self.terminal
                        .lines(log_line(self.format, Level::ERROR, &why).as_bytes());
                }
                Ok(bytes.len())
            }
            result => result,
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
