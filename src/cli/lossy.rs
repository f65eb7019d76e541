//! Writing where perhaps nobody reads: a thread of its own writes, and what doesn't fit into its buffer is dropped.
//!
//! A terminal that was stopped with Ctrl-S, a stalled ssh connection or a full pipe blocks whoever writes to it. So
//! nobody but this thread does. tracing-appender has such a thread too, but no bar, no mention in
//! the output itself of what was dropped, and it reports on stderr, which blocks, that stderr is blocked.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Bytes that wait for a slow reader.
const BUFFER: usize = 256 * 1024;

/// Written at a time, in bytes: as much as a pipe takes whole.
const PIECE: usize = 4096;

/// A reader that has read nothing for this long is no longer waited for.
const PATIENCE: Duration = Duration::from_secs(1);

/// The longest wait for a reader that is slow.
const PATIENCE_IN_ALL: Duration = Duration::from_secs(5);

/// How long to wait before a writer that is not ready is tried again.
const NOT_READY: Duration = Duration::from_millis(20);

/// Erases the line that the cursor is on.
const ERASE: &[u8] = b"\r\x1b[2K";

/// A writer that never blocks. Clones write to the same place.
#[derive(Clone)]
pub struct LossyWriter {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// There is something to write, or something was written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    lines: Vec<u8>,
    /// Lines that did not fit behind them.
    dropped: u64,
    /// Stays on the last line, below all lines, until it is replaced.
    last_line: Option<String>,
    title: Option<String>,
    /// `last_line` or `title` were replaced.
    is_redrawn: bool,
    is_writing: bool,
    /// Bytes written so far.
    written: u64,
    /// A reader was waited for in vain when so much was written.
    stalled_at: Option<u64>,
}

impl State {
    fn has_work(&self) -> bool {
        !self.lines.is_empty() || self.dropped > 0 || self.is_redrawn
    }
}

impl LossyWriter {
    /// Starts the thread that writes to `sink`. Where lines were dropped, `missing` says how many, as a line.
    ///
    /// # Errors
    /// The thread can't be started.
    pub fn start(
        sink: impl Write + Send + 'static,
        missing: impl Fn(u64) -> String + Send + 'static,
    ) -> io::Result<LossyWriter> {
        let shared = Arc::new(Shared {
            state: Mutex::default(),
            changed: Condvar::new(),
        });
        let writer = LossyWriter {
            shared: Arc::clone(&shared),
        };
        thread::Builder::new()
            .name("output".into())
            .spawn(move || shared.write_to(sink, missing))?;
        Ok(writer)
    }

    /// Takes whole lines, or drops them if too much is waiting.
    pub fn lines(&self, lines: &[u8]) {
        let mut state = self.shared.state();
        // Behind a gap nothing is taken before the gap was written down.
        if state.dropped > 0 || state.lines.len() + lines.len() > BUFFER {
            state.dropped += memchr::memchr_iter(b'\n', lines).count().max(1) as u64;
        } else {
            state.lines.extend_from_slice(lines);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Keeps a text on the last line, or takes it away. Only the newest is ever written.
    pub fn last_line(&self, text: Option<String>) {
        self.redraw(|state| state.last_line = text);
    }

    /// Sets the terminal's title, or restores the one that it had.
    pub fn title(&self, title: Option<String>) {
        self.redraw(|state| state.title = title);
    }

    fn redraw(&self, change: impl FnOnce(&mut State)) {
        let mut state = self.shared.state();
        change(&mut state);
        state.is_redrawn = true;
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Waits until everything is written; not for a reader that takes nothing for a second, and never longer than
    /// five.
    pub fn drain(&self) {
        let mut state = self.shared.state();
        let started_at = Instant::now();
        let (mut seen, mut seen_at) = (state.written, started_at);
        while state.has_work() || state.is_writing {
            let now = Instant::now();
            if state.written != seen {
                (seen, seen_at) = (state.written, now);
            }
            let until = (seen_at + PATIENCE).min(started_at + PATIENCE_IN_ALL);
            if now >= until || state.stalled_at == Some(state.written) {
                state.stalled_at = Some(state.written);
                return;
            }
            let waited = self.shared.changed.wait_timeout(state, until - now);
            state = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
    }
}

impl Write for LossyWriter {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.lines(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl fmt::Debug for LossyWriter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LossyWriter").finish_non_exhaustive()
    }
}

impl Shared {
    fn state(&self) -> MutexGuard<'_, State> {
        // Every change of it is whole, whatever becomes of the thread that made it.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn write_to(&self, mut sink: impl Write, missing: impl Fn(u64) -> String) {
        let (mut is_line_shown, mut title_shown) = (false, None);
        loop {
            let mut state = self.state();
            while !state.has_work() {
                state = self.changed.wait(state).unwrap_or_else(PoisonError::into_inner);
            }
            let lines = std::mem::take(&mut state.lines);
            let dropped = std::mem::take(&mut state.dropped);
            let (last_line, title) = (state.last_line.clone(), state.title.clone());
            state.is_redrawn = false;
            state.is_writing = true;
            drop(state);

            let last_line = last_line.map(String::into_bytes);
            let mut redrawn = last_line.clone().unwrap_or_default();
            if is_line_shown && lines.is_empty() && dropped == 0 {
                // In one write, so that it doesn't flicker.
                redrawn.splice(..0, ERASE.iter().copied());
            } else if is_line_shown {
                self.write(&mut sink, ERASE);
            }
            for piece in pieces(&lines) {
                self.write(&mut sink, piece);
            }
            if dropped > 0 {
                self.write(&mut sink, missing(dropped).as_bytes());
            }
            if title != title_shown {
                self.write(
                    &mut sink,
                    change_of_title(title_shown.as_deref(), title.as_deref()).as_bytes(),
                );
                title_shown = title;
            }
            self.write(&mut sink, &redrawn);
            is_line_shown = last_line.is_some();

            self.state().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Writes all of it, however long that takes. What can't be written is lost: there is nobody left to tell.
    fn write(&self, sink: &mut impl Write, mut bytes: &[u8]) {
        while !bytes.is_empty() {
            match sink.write(bytes) {
                Ok(0) => return,
                Ok(count) => {
                    bytes = &bytes[count..];
                    self.state().written += count as u64;
                    self.changed.notify_all();
                }
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(NOT_READY),
                Err(_) => return,
            }
        }
    }
}

/// As many whole lines at a time as fit into a piece; at least one.
fn pieces(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let fits = &lines[..lines.len().min(PIECE)];
        let end = match memchr::memrchr(b'\n', fits) {
            Some(end) => end + 1,
            None => memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1),
        };
        let (piece, rest) = lines.split_at(end);
        lines = rest;
        (!piece.is_empty()).then_some(piece)
    })
}

/// Saves the title of before on the terminal's own stack first, and restores it last. Where there is no such stack, the
/// title ends up empty.
fn change_of_title(from: Option<&str>, to: Option<&str>) -> String {
    match (from, to) {
        (None, Some(title)) => format!("\x1b[22;0t\x1b]0;{title}\x07"),
        (_, Some(title)) => format!("\x1b]0;{title}\x07"),
        (_, None) => "\x1b]0;\x07\x1b[23;0t".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    /// Takes a write only when the test reads one.
    struct Stalled(SyncSender<Vec<u8>>);

    impl Write for Stalled {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            self.0.send(bytes.to_vec()).map_err(io::Error::other)?;
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    impl LossyWriter {
        fn await_stall(&self) {
            while !self.shared.state().is_writing {
                thread::yield_now();
            }
        }
    }

    fn stalled() -> (LossyWriter, Receiver<Vec<u8>>) {
        let (sender, receiver) = sync_channel(0);
        let writer = LossyWriter::start(Stalled(sender), |lines| format!("{lines} are missing\n")).unwrap();
        (writer, receiver)
    }

    #[test]
    fn what_nobody_reads_is_dropped_and_counted_where_it_is_missing() {
        let (writer, reader) = stalled();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let count = 3 * BUFFER / line.len();
        writer.lines(&line);
        writer.await_stall();
        for _ in 0..count {
            writer.lines(&line);
        }
        let mut read = String::new();
        while !read.contains("missing") {
            read += &String::from_utf8(reader.recv().unwrap()).unwrap();
        }
        let lines: Vec<&str> = read.lines().collect();
        let said = format!("{} are missing", count + 1 - (lines.len() - 1));
        assert_eq!(*lines.last().unwrap(), said);
        assert!(lines[..lines.len() - 1].iter().all(|line| line.len() == 99));
        writer.lines(b"again\n");
        assert_eq!(reader.recv().unwrap(), b"again\n");
    }

    #[test]
    fn the_end_waits_for_a_reader_but_not_for_one_that_takes_nothing() {
        let (writer, reader) = stalled();
        writer.lines(b"one\n");
        let reads = thread::spawn(move || (reader.recv().unwrap(), reader));
        writer.drain();
        let (read, _reader) = reads.join().unwrap();
        assert_eq!(read, b"one\n");
        writer.lines(b"two\n");
        // They come back at all.
        writer.drain();
        writer.drain();
    }

    #[test]
    fn only_the_newest_last_line_is_written_and_lines_stand_above_it() {
        let (writer, reader) = stalled();
        writer.lines(b"stalls\n");
        writer.await_stall();
        for text in ["1 %", "2 %", "3 %"] {
            writer.last_line(Some(text.into()));
        }
        writer.lines(b"a log line\n");
        let read = || String::from_utf8(reader.recv().unwrap()).unwrap();
        assert_eq!([read(), read(), read()], ["stalls\n", "a log line\n", "3 %"]);
        writer.last_line(None);
        assert_eq!(read().as_bytes(), ERASE);
    }

    #[test]
    fn pieces_end_with_lines() {
        let lines = [b"a\n".repeat(PIECE), b"b".repeat(2 * PIECE), b"\nc\n".to_vec()].concat();
        let cut: Vec<&[u8]> = pieces(&lines).collect();
        assert_eq!(cut.concat(), lines);
        assert!(cut.iter().all(|piece| piece.ends_with(b"\n")));
        assert_eq!(cut.iter().filter(|piece| piece.len() > PIECE).count(), 1);
    }
}
