//! The secret, typed where something else belongs.

use crate::support::{Desk, SECRET, rows};

#[test]
fn a_secret_in_place_of_an_argument_is_in_no_message() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(1));
    for args in [
        &[SECRET][..],
        &["clear", SECRET],
        &["clear", "rows.csv", SECRET],
        &["clear", "rows.csv", "--rate", SECRET],
        &["clear", "rows.csv", "--region", SECRET],
        &["clear", "rows.csv", "--endpoint", SECRET],
        &["clear", "rows.csv", "--app-id", SECRET],
        &["clear", "rows.csv", "--profile", SECRET],
        &["clear", "rows.csv", "--lock-dir", SECRET],
        &["clear", "rows.csv", "--timeout", SECRET],
        &["clear", "rows.csv", "--max-attempts", SECRET],
        &["clear", "rows.csv", "--only", SECRET],
        &["clear", "rows.csv", "--columns", SECRET],
        &["clear", "rows.csv", "--delimiter", SECRET],
        &["clear", "rows.csv", "--progress", SECRET],
        &["list", "rows.csv", "--since", SECRET],
        &["list", SECRET],
        &["clear", "--users", SECRET, "--report", "out.csv"],
        &["clear", "--users", "rows.csv", "--report", "out.csv", "--rows", SECRET],
        &["check", SECRET],
        &["report", SECRET],
        &["report", "out.csv", "--rows", SECRET],
        &["codes", SECRET],
        &["completions", SECRET],
        &["clear", "rows.csv", "--report", SECRET],
        &["clear", "rows.csv", "--outside", SECRET],
        &["clear", "rows.csv", "--html", SECRET],
        &["clear", "rows.csv", "--metrics", SECRET],
        &["clear", "rows.csv", "--log-file", SECRET],
        &["clear", "rows.csv", "--name", SECRET],
        &["clear", "rows.csv", "--ca-cert", SECRET],
        &["clear", "rows.csv", "--quota", SECRET],
        &["clear", "rows.csv", "--quota", &format!("redis://{SECRET}")],
        &["clear", "rows.csv", "--quota", &format!("redis://127.0.0.1:1/{SECRET}")],
        &["clear", "rows.csv", "--endpoint", &format!("https://{SECRET}")],
        &[
            "clear",
            "rows.csv",
            "--endpoint",
            &format!("http://127.0.0.1:1/{SECRET}"),
        ],
        &["clear", "rows.csv", "--columns", &format!("conv=c,user={SECRET}")],
        &["clear", "rows.csv", "--types", &format!("peer=0,{SECRET}=2")],
        &["config", "--quota", &format!("redis://{SECRET}")],
        &["config", "--endpoint", &format!("https://{SECRET}")],
        &[
            "report",
            "out.csv",
            "--rows",
            "rows.csv",
            "--columns",
            &format!("user={SECRET}"),
        ],
        &["check", "rows.csv", "--online", "--missing", SECRET],
        &["list", "rows.csv", "--rows", SECRET],
        &["list", "rows.csv", "--explain", SECRET],
        &["simulate", "--events", SECRET],
        &["simulate", "--conversations", SECRET],
        &["simulate", "--secret-file", SECRET],
        &["simulate", "--outage", SECRET],
    ] {
        let call = desk.zim_batch(args).arg("--json").env("ZIM_APP_ID", "1");
        let outcome = call.env("ZIM_SERVER_SECRET", SECRET).run();
        assert!([2, 4].contains(&outcome.status), "{args:?}: {outcome:?}");
        let said = format!("{}{}", outcome.stdout, outcome.stderr);
        assert!(
            !said.contains(&SECRET[..6]) && !said.contains(&SECRET[26..]),
            "{args:?}: {said}"
        );
        assert!(!outcome.stderr.is_empty(), "{args:?}");
        assert!(!desk.has(SECRET), "{args:?}");
    }
    // A secret in a variable, too.
    for (variable, value) in [
        ("ZIM_QUOTA", format!("redis://{SECRET}")),
        ("ZIM_QUOTA", format!("redis://{SECRET}@127.0.0.1:1")),
        ("ZIM_ENDPOINT", format!("https://{SECRET}")),
        ("ZIM_LOCK_DIR", SECRET.to_owned()),
        ("ZIM_PROFILE", SECRET.to_owned()),
    ] {
        for args in [&["config"][..], &["clear", "rows.csv", "--give-up-after", "1s"]] {
            let call = desk
                .zim_batch(args)
                .env("ZIM_APP_ID", "1")
                .env("ZIM_SERVER_SECRET", SECRET);
            let call = call.flag("--endpoint", "http://127.0.0.1:1").env(variable, &value);
            let outcome = call.run();
            let said = format!("{}{}", outcome.stdout, outcome.stderr);
            assert!(!said.contains(&SECRET[..6]), "{args:?} {variable}={value}: {said}");
        }
    }
}
