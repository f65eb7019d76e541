//! The file with the secret and other files of settings are never written to, and never read as rows.

use super::SECRET;
use crate::support::{Desk, Outcome, kind_server, rows};

const FILES: [(&str, &str); 3] = [
    ("secret.txt", SECRET),
    ("ca.pem", "a certificate"),
    (
        ".config/zim-batch/config.toml",
        "[profiles.default]\nsecret_file = \"../../secret.txt\"\nca_cert = \"../../ca.pem\"\n",
    ),
];

fn desk() -> Desk {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path(".config/zim-batch")).expect("the desk can be written to");
    for (file, text) in FILES {
        desk.write(file, text);
    }
    desk.write("rows.csv", rows(2));
    desk
}

fn home(desk: &Desk) -> String {
    desk.path("").to_string_lossy().into_owned()
}

fn assert_refused(desk: &Desk, outcome: &Outcome) {
    outcome.assert_status(2).assert_says(&["secret or other settings"]);
    assert!(!format!("{}{}", outcome.stdout, outcome.stderr).contains(&SECRET[..8]));
    for (file, text) in FILES {
        assert_eq!(desk.read(file), text, "{outcome:?}");
    }
}

#[test]
fn a_file_that_settings_come_from_is_no_output_and_no_input() {
    let desk = desk();
    let given = [
        "clear rows.csv --overwrite --report",
        "clear rows.csv --overwrite --report out.csv --outside",
        "clear rows.csv --report out.csv --html",
        "list rows.csv --overwrite --rows",
        "list rows.csv --rows - --report",
        "check rows.csv --online --missing",
        "clear --report out.csv",
        "clear --dry-run",
        "list --rows out.csv",
        "check",
    ];
    for (file, _) in FILES {
        for words in given {
            let call = desk.zim_batch(words.split(' ').chain([file]));
            assert_refused(&desk, &call.env("HOME", &home(&desk)).run());
        }
    }
    assert!(!desk.has("out.csv"));
}

#[test]
fn the_file_of_the_secret_s_variable_is_no_output() {
    let (desk, server) = (desk(), kind_server());
    let outcome = desk
        .clear(&server, rows(2))
        .without_env("ZIM_SERVER_SECRET")
        .env("ZIM_SERVER_SECRET_FILE", "secret.txt")
        .arg("--overwrite")
        .flag("--outside", "./secret.txt")
        .run();
    assert_refused(&desk, &outcome);
    assert!(server.requests().is_empty());
}

#[test]
fn a_log_or_metrics_file_that_settings_come_from_is_refused() {
    let desk = desk();
    for (file, text) in FILES {
        for flag in ["--log-file", "--metrics"] {
            let outcome = desk
                .zim_batch(["clear", "rows.csv", "--report", "out.csv", flag, file])
                .env("HOME", &home(&desk))
                .run();
            outcome.assert_status(2).assert_says(&["already uses the file"]);
            assert_eq!(desk.read(file), text);
        }
    }
}
