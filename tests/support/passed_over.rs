//! Tests that were passed over, because the machine lacks what they need. The library's own tests include this file too.

#![allow(dead_code, reason = "each test program uses its own part of this")]

use std::fs::File;
use std::io::Write;
use std::os::unix::process::parent_id;
use std::path::PathBuf;

/// The tests that one `cargo test` passed over, a line for each: its process is the parent of every test binary.
pub fn list_of_passed_over() -> PathBuf {
    std::env::temp_dir().join(format!("zim-batch-passed-over.{}", parent_id()))
}

/// With `ZIM_TEST_REQUIRE_ALL` set, as in CI, the test fails; otherwise `tests/what_was_passed_over.rs` tells at the end.
pub fn passed_over(why: &str) {
    let requires_all = std::env::var_os("ZIM_TEST_REQUIRE_ALL").is_some_and(|value| !value.is_empty());
    assert!(!requires_all, "{why}, and ZIM_TEST_REQUIRE_ALL is set");
    let list = File::options().append(true).create(true).open(list_of_passed_over());
    list.and_then(|mut list| list.write_all(format!("{why}\n").as_bytes()))
        .unwrap_or_else(|error| panic!("{}: {error}", list_of_passed_over().display()));
}
