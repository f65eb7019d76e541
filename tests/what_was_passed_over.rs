//! No test: the last binary that `cargo test` runs, which says in one line what the others passed over, and why.

use std::collections::BTreeMap;
use std::fs;

#[path = "support/passed_over.rs"]
mod passed_over;

#[expect(clippy::print_stdout, reason = "this is what it is for")]
fn main() {
    let list = passed_over::list_of_passed_over();
    let text = fs::read_to_string(&list).unwrap_or_default();
    fs::remove_file(&list).ok();
    let mut tests_by_reason = BTreeMap::<&str, u32>::new();
    for why in text.lines() {
        *tests_by_reason.entry(why).or_default() += 1;
    }
    let reasons: Vec<String> = tests_by_reason
        .iter()
        .map(|(why, tests)| format!("{why} ({tests})"))
        .collect();
    if reasons.is_empty() {
        println!("\nno test was passed over")
    } else {
        println!("\ntests passed over, for what is missing here: {}", reasons.join("; "))
    }
}
