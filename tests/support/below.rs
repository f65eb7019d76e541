//! The system below the program, which fails on demand: the clock, the disk, name lookups.
//!
//! `below.c`, compiled with the system's `cc` and loaded into the real program with `LD_PRELOAD`, stands between it and
//! the C library. It needs Linux and a C compiler; where they are missing, a test says so on stderr and is passed over.

use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::sync::OnceLock;

use tempfile::TempDir;

use super::Call;
use super::passed_over;

/// The system below one run, with faults that can be switched on and off during the run.
pub struct Below {
    library: PathBuf,
    directory: TempDir,
}

impl Below {
    /// `None`, with a message, if it is not available here.
    pub fn new() -> Option<Self> {
        static LIBRARY: OnceLock<Option<PathBuf>> = OnceLock::new();
        let library = LIBRARY.get_or_init(compile).clone();
        if library.is_none() {
            passed_over("no faults below the program without Linux and a C compiler");
        }
        let directory = tempfile::tempdir().expect("a temporary directory can be created");
        library.map(|library| Self { library, directory })
    }

    /// The call, running on this system.
    pub fn under(&self, call: Call) -> Call {
        call.env("LD_PRELOAD", self.library.to_str().expect("the path is text"))
            .env("BELOW", self.directory.path().to_str().expect("the path is text"))
    }

    /// Moves the wall clock by this many seconds.
    pub fn move_clock(&self, seconds: i64) {
        self.tell("clock", seconds);
    }

    /// Makes name lookups fail, or work again. Names that end with `.test` are loopback addresses.
    pub fn lose_names(&self, is_lost: bool) {
        self.tell("names", i64::from(is_lost));
    }

    /// Looking up names that end with `.test` takes this many seconds.
    pub fn slow_names(&self, seconds: i64) {
        self.tell("lookup", seconds);
    }

    /// Names that end with `.test` have another address before loopback's: 127.0.0.2.
    pub fn add_address(&self) {
        self.tell("address", 1);
    }

    /// Cuts the end off the next write to a CSV file, and fails later ones with this error number; 0 means no fault.
    pub fn fail_writes(&self, errno: i64) {
        self.tell("write", errno);
    }

    /// CSV files can't be truncated.
    pub fn fail_truncates(&self) {
        self.tell("truncate", 1);
    }

    /// Syncs of CSV files fail with this error number.
    pub fn fail_syncs(&self, errno: i64) {
        self.tell("sync", errno);
    }

    /// Syncs of CSV files take this long.
    pub fn slow_syncs(&self, milliseconds: i64) {
        self.tell("slow", milliseconds);
    }

    /// Every sync so far: `fdatasync PATH` or `fsync PATH`.
    pub fn syncs(&self) -> Vec<String> {
        let text = fs::read_to_string(self.directory.path().join("syncs")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    fn tell(&self, name: &str, number: i64) {
        // Renamed into place, because it can be read at any moment.
        let [new, place] = ["new", name].map(|name| self.directory.path().join(name));
        fs::write(&new, number.to_string()).expect("the directory can be written to");
        fs::rename(new, place).expect("the directory can be written to");
    }
}

fn compile() -> Option<PathBuf> {
    let directory = tempfile::tempdir()
        .expect("a temporary directory can be created")
        .keep();
    let library = directory.join("below.so");
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/support/below.c");
    let compiled = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-o"])
        .arg(&library)
        .args([source, "-ldl"])
        .status();
    (cfg!(target_os = "linux") && compiled.is_ok_and(|status| status.success())).then_some(library)
}
