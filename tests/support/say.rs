//! Messages of tests: that a test was passed over, and measured figures.

use std::io::{self, Write};

/// On stderr itself, where it is seen even if the test passes. With `ZIM_TEST_REQUIRE_ALL` set, as in CI, it fails.
pub fn passed_over(why: &str) {
    let requires_all = std::env::var_os("ZIM_TEST_REQUIRE_ALL").is_some_and(|value| !value.is_empty());
    assert!(!requires_all, "{why}, and ZIM_TEST_REQUIRE_ALL is set");
    writeln!(io::stderr(), "PASSED OVER: {why}").ok();
}

/// Shown with `--nocapture`, or when the test fails.
#[expect(clippy::print_stdout, reason = "the only way that the test harness can keep back")]
pub fn figures(text: &str) {
    println!("{text}");
}
