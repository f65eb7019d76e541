//! What a test says besides passing: that it was passed over, and the figures that it came to.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::io::{self, Write};

/// On stderr itself, where it is seen even if the test passes.
pub fn passed_over(why: &str) {
    writeln!(io::stderr(), "PASSED OVER: {why}").ok();
}

/// Shown with `--nocapture`, or when the test fails.
#[expect(clippy::print_stdout, reason = "the only way that the test harness can keep back")]
pub fn figures(text: &str) {
    println!("{text}");
}
