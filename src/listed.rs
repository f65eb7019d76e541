//! The rows file of a run that lists users and clears what was listed: how much of it is recorded.
//!
//! The journal says so once the rows and their users' records are on the disk. The rows are read no further, so no row is
//! sent that a resumed run would take out again; and while many rows wait, no more users are listed.

use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};

use tokio::runtime::Handle;
use tokio::sync::watch;

/// How many rows the first user is expected to have.
const ROWS_OF_FIRST: u64 = 100;

/// A rows file to which a run lists users, as far as it is recorded. Shared by the journal, the plan that reads the rows, and
/// the run; clones share one state.
#[derive(Debug, Clone)]
pub struct Listed {
    path: PathBuf,
    state: watch::Sender<State>,
}

#[derive(Debug, Clone, Copy, Default)]
struct State {
    /// The length of the rows file, in bytes.
    len: u64,
    /// The rows that were in it when the run began.
    earlier_rows: u64,
    /// The rows that this run has listed, recorded or not.
    rows: u64,
    /// Users that this run has listed, recorded or not, with or without success.
    users: u64,
    /// Those of them that are recorded.
    recorded: u64,
    /// Users that this run has taken from their source.
    taken: u64,
    /// All users have been taken.
    are_all_taken: bool,
}

impl State {
    /// No row comes any more.
    fn is_complete(&self) -> bool {
        self.are_all_taken && self.recorded == self.taken
    }

    /// The rows that are listed beyond the first `taken`, and those that are expected of users that are being listed: as many
    /// for each as for those before.
    fn ahead(&self, taken: u64) -> u64 {
        let being_listed = self.taken.saturating_sub(self.users);
        let expected = being_listed.saturating_mul(self.rows + ROWS_OF_FIRST) / (self.users + 1);
        (self.earlier_rows + self.rows).saturating_sub(taken) + expected
    }
}

impl Listed {
    /// A rows file of this length, in bytes, with so many rows.
    pub(crate) fn new(path: PathBuf, len: u64, rows: u64) -> Listed {
        let state = watch::Sender::new(State {
            len,
            earlier_rows: rows,
            ..State::default()
        });
        Listed { path, state }
    }

    /// The rows file.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// A user is listed, with so many rows, or can't be.
    pub(crate) fn list(&self, rows: u64) {
        self.state.send_modify(|state| {
            state.rows += rows;
            state.users += 1;
        });
    }

    /// More users are recorded, whose rows are in the file, which is now `len` bytes long.
    pub(crate) fn record(&self, len: u64, users: u64) {
        self.state.send_modify(|state| {
            state.len = len;
            state.recorded += users;
        });
    }

    /// A user was taken from the source.
    pub(crate) fn take_user(&self) {
        self.state.send_modify(|state| state.taken += 1);
    }

    /// There are no more users.
    pub(crate) fn all_users_taken(&self) {
        self.state.send_modify(|state| state.are_all_taken = true);
    }

    /// Completes when fewer than `most` rows are listed beyond the first `taken`.
    pub(crate) async fn ahead_less_than(&self, most: u64, taken: u64) {
        let is_less = |state: &State| state.ahead(taken) < most;
        // The sender is here, so it can't fail.
        let _ = self.state.subscribe().wait_for(is_less).await;
    }

    /// Reads what is recorded now.
    pub(crate) fn read_recorded(&self) -> io::Result<impl Read + Send + use<>> {
        let len = self.state.borrow().len;
        Ok(File::open(&self.path)?.take(len))
    }

    /// Reads the file as far as it is recorded, waits for more, and ends when no more can come. Call this in a Tokio runtime.
    /// What waits is a thread, so beyond what is recorded already it must not be read in a task.
    pub(crate) fn reader(&self) -> io::Result<impl Read + Send + use<>> {
        Ok(ListedReader {
            file: File::open(&self.path)?,
            position: 0,
            state: self.state.subscribe(),
            runtime: Handle::current(),
        })
    }
}

/// See [`Listed::reader`].
struct ListedReader {
    file: File,
    position: u64,
    state: watch::Receiver<State>,
    runtime: Handle,
}

impl Read for ListedReader {
    fn read(&mut self, buffer: &mut [u8]) -> io::Result<usize> {
        let position = self.position;
        let mut len = self.state.borrow().len;
        if len == position {
            let has_news = |state: &State| state.len > position || state.is_complete();
            // Without senders the run has ended.
            len = match self.runtime.block_on(self.state.wait_for(has_news)) {
                Ok(state) => state.len,
                Err(_) => position,
            };
        }
        let room = usize::try_from(len - position).unwrap_or(usize::MAX).min(buffer.len());
        let read = self.file.read(&mut buffer[..room])?;
        if read == 0 && room > 0 {
            return Err(io::Error::other("it was truncated during the run"));
        }
        self.position += read as u64;
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Write;
    use std::thread;

    use super::*;

    #[tokio::test]
    async fn rows_are_read_as_far_as_they_are_recorded_and_to_the_end_when_no_user_is_left() {
        let mut file = tempfile::NamedTempFile::new().unwrap();
        file.write_all(b"user\nrow of alice\nrow of bob\n").unwrap();
        let listed = Listed::new(file.path().to_owned(), 5, 0);
        let mut reader = listed.reader().unwrap();
        listed.take_user();
        listed.take_user();
        listed.record(18, 1);
        let mut first = [0; 100];
        let read = reader.read(&mut first).unwrap();
        assert_eq!(&first[..read], b"user\nrow of alice\n");
        let reading = thread::spawn(move || {
            let mut rest = String::new();
            reader.read_to_string(&mut rest).unwrap();
            rest
        });
        listed.all_users_taken();
        listed.record(29, 1);
        assert_eq!(reading.join().unwrap(), "row of bob\n");
    }
}
