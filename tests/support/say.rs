//! What tests need of the machine, and messages: that a test was passed over, and measured figures.

use std::io::{self, Write};
use std::process::{Command, Stdio};

/// On stderr itself, where it is seen even if the test passes. With `ZIM_TEST_REQUIRE_ALL` set, as in CI, it fails.
pub fn passed_over(why: &str) {
    let requires_all = std::env::var_os("ZIM_TEST_REQUIRE_ALL").is_some_and(|value| !value.is_empty());
    assert!(!requires_all, "{why}, and ZIM_TEST_REQUIRE_ALL is set");
    writeln!(io::stderr(), "PASSED OVER: {why}").ok();
}

/// The first of these programs that is installed. If none is, the test that asks is to be passed over.
pub fn program(names: &[&'static str]) -> Option<&'static str> {
    let is_there = |name: &&&str| {
        let mut tried = Command::new(name);
        let tried = tried.arg("--version").stdin(Stdio::null()).stdout(Stdio::null());
        tried.stderr(Stdio::null()).status().is_ok()
    };
    let found = names.iter().find(is_there).copied();
    if found.is_none() {
        passed_over(&format!("{} is not installed", names.join(" or ")));
    }
    found
}

/// Shown with `--nocapture`, or when the test fails.
#[expect(clippy::print_stdout, reason = "the only way that the test harness can keep back")]
pub fn figures(text: &str) {
    println!("{text}");
}
