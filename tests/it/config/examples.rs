//! The examples of the help that need no credentials work as they stand.

use super::write_config;
use crate::support::{Desk, SECRET};

#[test]
fn every_example_with_a_simulator_runs_as_it_stands() {
    let help = |words: &str| Desk::new().zim_batch(words.split(' ')).run().stdout;
    let helps = ["--help", "clear --help", "list --help", "check --help"].map(help);
    let lines = helps.iter().flat_map(|help| help.lines());
    let examples = lines.filter_map(|line| line.strip_prefix("  zim-batch "));
    let examples: Vec<&str> = examples.filter(|line| line.contains("--simulate")).collect();
    assert!(examples.len() >= 3, "{examples:?}");
    for example in examples {
        let desk = Desk::new();
        if example.contains("users.csv") {
            desk.write("users.csv", "user\nalice\nbob\n")
        } else {
            desk.write("rows.csv", "user,conv,type\nalice,bob,peer\nalice,team,group\n")
        };
        desk.zim_batch(example.split(' ')).run().assert_status(0);
        let written = desk.has("trial.csv") || desk.has("out.csv") || desk.has("rows.csv");
        assert!(written, "{example}");
        if desk.has("trial.csv") {
            // The next of the first steps.
            desk.zim_batch(["report", "trial.csv"]).run().assert_status(0);
        }
    }
}

#[test]
fn the_profile_in_the_help_of_config_works_as_it_stands() {
    let desk = Desk::new();
    let help = desk.zim_batch(["config", "--help"]).run().stdout;
    let table: Vec<&str> = help
        .lines()
        .skip_while(|line| *line != "  [profiles.night]")
        .take_while(|line| !line.is_empty())
        .collect();
    write_config(&desk, table.join("\n"));
    std::fs::create_dir(desk.path(".secrets")).expect("the desk can be written to");
    desk.write(".secrets/zim", SECRET);
    let outcome = desk.zim_batch(["config", "--profile", "night"]).run();
    outcome.assert_status(0);
    for (value, line) in [
        ("1234567890", 2),
        (".secrets/zim", 3),
        ("https://zim-api-fra.zego.im/", 4),
        ("20", 5),
    ] {
        let source = format!("profile night, line {line}");
        let is_shown = |row: &str| row.contains(value) && row.contains(&source);
        assert!(outcome.stdout.lines().any(is_shown), "{value}: {}", outcome.stdout);
    }
}
