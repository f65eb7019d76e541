//! What stands below the program, made to fail on demand: the clock, the disk, the names of hosts.
//!
//! `below.c`, compiled with the system's `cc` and loaded into the real program with `LD_PRELOAD`, stands between it and
//! the C library. It needs Linux and a C compiler; where they are missing, a test says so on stderr and is passed over.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::say::passed_over;
use super::support::Call;

/// A system below one run, with faults to be switched on and off while it runs.
pub struct Below {
    library: PathBuf,
    directory: TempDir,
}

impl Below {
    /// `None`, loudly, where this can't be had.
    pub fn new() -> Option<Self> {
        static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
        let library = LIBRARY.get_or_init(compile).clone();
        if library.is_none() {
            passed_over("no faults below the program without Linux and `cc`");
        }
        let directory = tempfile::tempdir().expect("a temporary folder can be made");
        library.map(|library| Self { library, directory })
    }

    /// The call, with this system below it.
    pub fn under(&self, call: Call) -> Call {
        call.env("LD_PRELOAD", self.library.to_str().expect("the path is text"))
            .env("BELOW", self.directory.path().to_str().expect("the path is text"))
    }

    /// Moves the wall clock by so many seconds.
    pub fn move_clock(&self, seconds: i64) {
        self.tell("clock", seconds);
    }

    /// No name is found any more, or again. Those that end with `.test` are loopback's.
    pub fn lose_names(&self, is_lost: bool) {
        self.tell("names", i64::from(is_lost));
    }

    /// Names that end with `.test` take so many seconds to be looked up.
    pub fn slow_names(&self, seconds: i64) {
        self.tell("lookup", seconds);
    }

    /// Names that end with `.test` have another address before loopback's: 127.0.0.2.
    pub fn add_address(&self) {
        self.tell("address", 1);
    }

    /// The next write to a CSV is cut in half, those after it fail with this error number; 0 is no fault.
    pub fn fail_writes(&self, errno: i64) {
        self.tell("write", errno);
    }

    /// A CSV can't be shortened.
    pub fn fail_truncates(&self) {
        self.tell("truncate", 1);
    }

    /// Syncs of a CSV fail with this error number.
    pub fn fail_syncs(&self, errno: i64) {
        self.tell("sync", errno);
    }

    /// Syncs of a CSV take this long.
    pub fn slow_syncs(&self, milliseconds: i64) {
        self.tell("slow", milliseconds);
    }

    /// Every sync so far: `fdatasync PATH` or `fsync PATH`.
    pub fn syncs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("syncs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn tell(&self, name: &str, number: i64) {
        // Renamed into place: it is read at any moment.
        let [new, place] = ["new", name].map(|name| self.directory.path().join(name));
        fs::write(&new, number.to_string()).expect("the folder can be written to");
        fs::rename(new, place).expect("the folder can be written to");
    }
}

fn compile() -> Option<PathBuf> {
    let directory = tempfile::tempdir().expect("a temporary folder can be made").keep();
    let library = directory.join("below.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/below.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .status();
    (cfg!(target_os = "linux") && compiled.is_ok_and(|status| status.success())).then_some(library)
}
