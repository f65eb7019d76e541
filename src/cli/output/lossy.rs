//! A writer that never blocks: a separate thread writes, and what does not fit into its buffer is dropped.
//!
//! A terminal stopped with Ctrl-S, a stalled ssh connection or a full pipe blocks every writer, so only this thread writes
//! to it. tracing-appender has such a thread too, but it has no bar, does not mark in the output where lines were dropped,
//! and reports on the blocked stderr that stderr is blocked.

use std::fmt;
use std::io::{self, Write};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

/// Maximum bytes that wait for a slow reader.
const MAX_BUFFERED: usize = 256 * 1024;

/// Maximum bytes per write: what a pipe accepts in one piece.
const MAX_CHUNK: usize = 4096;

/// At the end, how long to wait for a reader that reads nothing.
const STALL_TIMEOUT: Duration = Duration::from_secs(1);

/// At the end, how long to wait for a slow reader.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(5);

/// The delay before another write to a sink that would block.
const RETRY_DELAY: Duration = Duration::from_millis(20);

/// Erases the last line: from the cursor, which stands at its start (see [`drawn`]), to the end of the screen.
/// The first column is erased apart, because tmux keeps a screen that is erased from its first column in its history.
const ERASE: &[u8] = b"\r\x1b[C\x1b[J\r\x1b[K";

/// A writer that never blocks. Clones write to the same place.
#[derive(Clone)]
pub struct LossyWriter {
    shared: Arc<Shared>,
}

struct Shared {
    state: Mutex<State>,
    /// Signals that there is something to write, or that something was written.
    changed: Condvar,
}

#[derive(Default)]
struct State {
    /// Whole lines.
    lines: Vec<u8>,
    /// The number of lines after these that did not fit.
    dropped: u64,
    /// Stays below all other lines until it is replaced.
    last_line: Option<String>,
    title: Option<String>,
    /// `last_line` or `title` has changed.
    is_redrawn: bool,
    is_writing: bool,
    /// Bytes written so far.
    written: u64,
    /// The value of `written` when a wait for the reader timed out.
    stalled_at: Option<u64>,
}

impl State {
    fn has_work(&self) -> bool {
        !self.lines.is_empty() || self.dropped > 0 || self.is_redrawn
    }
}

impl LossyWriter {
    /// Starts the thread that writes to `sink`. `missing` makes the line that says how many lines were dropped there.
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

    /// Adds whole lines, or drops them if the buffer is full.
    pub fn lines(&self, lines: &[u8]) {
        let mut state = self.shared.state();
        // After a gap, nothing is accepted until the gap has been reported.
        if state.dropped > 0 || state.lines.len() + lines.len() > MAX_BUFFERED {
            state.dropped += memchr::memchr_iter(b'\n', lines).count().max(1) as u64;
        } else {
            state.lines.extend_from_slice(lines);
        }
        drop(state);
        self.shared.changed.notify_all();
    }

    /// Shows a text on the last line, or removes it. Only the latest text is written.
    pub fn last_line(&self, text: Option<String>) {
        self.redraw(|state| state.last_line = text);
    }

    /// Sets the terminal's title, or restores the original one.
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

    /// Waits until everything is written; at most one second for a reader that reads nothing, and five seconds in total.
    pub fn drain(&self) {
        let mut state = self.shared.state();
        let started_at = Instant::now();
        let (mut seen, mut seen_at) = (state.written, started_at);
        while state.has_work() || state.is_writing {
            let now = Instant::now();
            if state.written != seen {
                (seen, seen_at) = (state.written, now);
            }
            let until = (seen_at + STALL_TIMEOUT).min(started_at + DRAIN_TIMEOUT);
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
        // Every change is complete before anything could panic, so a poisoned lock is safe to use.
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

            let mut redrawn = last_line.as_deref().map(drawn).unwrap_or_default().into_bytes();
            if is_line_shown && lines.is_empty() && dropped == 0 {
                // One write avoids flicker.
                redrawn.splice(..0, ERASE.iter().copied());
            } else if is_line_shown {
                self.write(&mut sink, ERASE);
            }
            for chunk in chunks(&lines) {
                self.write(&mut sink, chunk);
            }
            if dropped > 0 {
                self.write(&mut sink, missing(dropped).as_bytes());
            }
            if title != title_shown {
                self.write(
                    &mut sink,
                    title_sequence(title_shown.as_deref(), title.as_deref()).as_bytes(),
                );
                title_shown = title;
            }
            self.write(&mut sink, &redrawn);
            is_line_shown = last_line.is_some();

            self.state().is_writing = false;
            self.changed.notify_all();
        }
    }

    /// Writes all bytes, however long that takes. Errors are ignored: there is no place to report them.
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
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => thread::sleep(RETRY_DELAY),
                Err(_) => return,
            }
        }
    }
}

/// The last line as it is written: without wrapping at the right edge, and with the cursor back at its start. So a terminal
/// that becomes narrower, and perhaps wraps the line, leaves the cursor where all of it can be erased.
fn drawn(line: &str) -> String {
    format!("\x1b[?7l{line}\r\x1b[?7h")
}

/// Splits lines into chunks of at most [`MAX_CHUNK`] bytes, or of one longer line.
fn chunks(mut lines: &[u8]) -> impl Iterator<Item = &[u8]> {
    std::iter::from_fn(move || {
        let fits = &lines[..lines.len().min(MAX_CHUNK)];
        let end = match memchr::memrchr(b'\n', fits) {
            Some(end) => end + 1,
            None => memchr::memchr(b'\n', lines).map_or(lines.len(), |end| end + 1),
        };
        let (chunk, rest) = lines.split_at(end);
        lines = rest;
        (!chunk.is_empty()).then_some(chunk)
    })
}

/// The escape sequence that changes the title. The first change saves the original title on the terminal's stack, and the
/// last one restores it; a terminal without such a stack ends up with an empty title.
fn title_sequence(from: Option<&str>, to: Option<&str>) -> String {
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

    /// Accepts a write only when the test reads it.
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
    fn dropped_lines_are_counted_in_their_place() {
        let (writer, reader) = stalled();
        let line = [b"x".repeat(99), b"\n".to_vec()].concat();
        let count = 3 * MAX_BUFFERED / line.len();
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
    fn drain_waits_for_a_reader_but_not_for_a_stalled_one() {
        let (writer, reader) = stalled();
        writer.lines(b"one\n");
        let reads = thread::spawn(move || (reader.recv().unwrap(), reader));
        writer.drain();
        let (read, _reader) = reads.join().unwrap();
        assert_eq!(read, b"one\n");
        writer.lines(b"two\n");
        // Both return.
        writer.drain();
        writer.drain();
    }

    #[test]
    fn only_the_latest_last_line_is_written_and_lines_appear_above_it() {
        let (writer, reader) = stalled();
        writer.lines(b"stalls\n");
        writer.await_stall();
        for text in ["1 %", "2 %", "3 %"] {
            writer.last_line(Some(text.into()));
        }
        writer.lines(b"a log line\n");
        let read = || String::from_utf8(reader.recv().unwrap()).unwrap();
        assert_eq!([read(), read(), read()], ["stalls\n", "a log line\n", &drawn("3 %")]);
        writer.last_line(None);
        assert_eq!(read().as_bytes(), ERASE);
    }

    #[test]
    fn chunks_end_at_line_breaks() {
        let lines = [b"a\n".repeat(MAX_CHUNK), b"b".repeat(2 * MAX_CHUNK), b"\nc\n".to_vec()].concat();
        let cut: Vec<&[u8]> = chunks(&lines).collect();
        assert_eq!(cut.concat(), lines);
        assert!(cut.iter().all(|chunk| chunk.ends_with(b"\n")));
        assert_eq!(cut.iter().filter(|chunk| chunk.len() > MAX_CHUNK).count(), 1);
    }
}
