//! Programs that tests need, and measured figures.

use std::process::{Command, Stdio};

use super::passed_over;

/// The first of these programs that is installed. If none is, the test that asks is to be passed over.
pub fn program(names: &[&'static str]) -> Option<&'static str> {
    let is_present = |name: &&&str| {
        let mut tried = Command::new(name);
        let tried = tried.arg("--version").stdin(Stdio::null()).stdout(Stdio::null());
        tried.stderr(Stdio::null()).status().is_ok()
    };
    let found = names.iter().find(is_present).copied();
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
