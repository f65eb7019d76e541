//! Other threads read the rows, in real time. Before the simulated clock advances, they must have done what they can do:
//! else how far they are would depend on the machine, and no life would be the same twice.
//!
//! The runtime calls [`wait_for_other_threads`] before it parks, which is before it advances its clock. What a thread sends
//! meanwhile wakes the runtime, which then doesn't advance.

use std::cell::{Cell, RefCell};
use std::fs::{self, File};
use std::os::unix::fs::FileExt;
use std::thread;

thread_local! {
    /// How often all threads are looked for, since a run has begun.
    static LOOKS: Cell<u32> = const { Cell::new(0) };
    /// The state of each reading thread.
    static READERS: RefCell<Vec<File>> = const { RefCell::new(Vec::new()) };
}

/// A run begins, which starts threads.
pub fn threads_may_start() {
    LOOKS.set(LOOKS.get().max(40));
}

/// Returns when all other threads wait.
pub fn wait_for_other_threads() {
    if LOOKS.get() > 0 {
        LOOKS.set(LOOKS.get() - 1);
        let others = other_threads(|_| true);
        others.iter().for_each(|(_, state)| {
            while is_running(state) {
                thread::yield_now();
            }
        });
        let readers = other_threads(|name| name == "rows");
        READERS.set(readers.into_iter().map(|(_, state)| state).collect());
    }
    READERS.with_borrow_mut(|readers| {
        readers.retain(|state| {
            while is_running(state) {
                thread::yield_now();
            }
            is_alive(state)
        });
    });
}

fn other_threads(is_meant: impl Fn(&str) -> bool) -> Vec<(String, File)> {
    let own = fs::read_link("/proc/thread-self").unwrap();
    let own = own.file_name().unwrap().to_owned();
    let mut threads = Vec::new();
    for entry in fs::read_dir("/proc/self/task").unwrap().flatten() {
        let name = fs::read_to_string(entry.path().join("comm")).unwrap_or_default();
        if entry.file_name() != own
            && is_meant(name.trim_end())
            && let Ok(state) = File::open(entry.path().join("stat"))
        {
            threads.push((name, state));
        }
    }
    threads
}

/// The letter of its state; `None` if it has ended.
fn state(stat: &File) -> Option<u8> {
    let mut text = [0; 64];
    let len = stat.read_at(&mut text, 0).ok()?;
    let text = &text[..len];
    let end = text.iter().rposition(|byte| *byte == b')')?;
    text.get(end + 2).copied()
}

fn is_running(stat: &File) -> bool {
    matches!(state(stat), Some(b'R' | b'D'))
}

fn is_alive(stat: &File) -> bool {
    matches!(state(stat), Some(letter) if !matches!(letter, b'X' | b'Z'))
}
