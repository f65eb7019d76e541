//! The examples of the help that need no credentials work as they stand.

use super::support::Desk;

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
        match example.starts_with("list") {
            true => desk.write("users.csv", "user\nalice\nbob\n"),
            false => desk.write("rows.csv", "user,conv,type\nalice,bob,peer\nalice,team,group\n"),
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
