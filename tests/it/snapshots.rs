//! What the program prints, word by word: help, tables, JSON and messages.
//!
//! After a change that is meant: `INSTA_UPDATE=always cargo test --test it snapshots`, and read the difference.

use insta::{Settings, assert_snapshot};
use serde_json::Value;

use crate::support::{
    Call, Desk, Outcome, REPORT_HEADER, SECRET, as_the_user_says, kind_server, list, named_rows, rows,
};
use crate::support::{Server, world::World};

/// Rows of every kind but good ones.
const BAD: &str = "user,conv,type\nu1,c1,0\n,c2,0\nu3,c3,7\nu1,c1,peer\né5,c5,0\nu6,\"c\n6\",0\nu8,c8\n";

/// What differs from run to run is replaced by its name in brackets.
fn stable() -> Settings {
    let mut settings = Settings::clone_current();
    settings.set_prepend_module_to_snapshot(false);
    settings.set_omit_expression(true);
    for (found, shown) in [
        (r"127\.0\.0\.1:\d+", "127.0.0.1:[port]"),
        (r"\d{4}-\d\d-\d\dT[\d:.]+Z +(INFO|WARN|ERROR)", "[time] $1"),
        (r"/\S+/zim-batch ", "[path]/zim-batch "),
        (
            r"requests +\d+  in [\d.]+ s(: [\d.]+/s( from the first to the last)?, peak \d+ in one second)?",
            "requests [count, time and rate]",
        ),
        (r"latency +[\d.]+ ms  median; .*", "latency [times]"),
        (r"zim-batch \d+\.\d+\.\d+", "zim-batch [version]"),
    ] {
        settings.add_filter(found, shown);
    }
    settings
}

#[track_caller]
fn assert_stable(name: &str, text: &str) {
    stable().bind(|| assert_snapshot!(name, text));
}

/// JSON with the values of these keys replaced.
#[track_caller]
fn assert_json(name: &str, outcome: &Outcome, unstable: &[&str]) {
    let mut found: Value = serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{error}: {outcome:?}"));
    for key in unstable {
        let value = &mut found[key];
        assert!(!value.is_null(), "{name} lacks {key}");
        *value = format!("[{key}]").into();
    }
    let text = serde_json::to_string_pretty(&found).expect("it was JSON");
    assert_stable(name, &text);
}

/// The command, its exit status and all of its output.
fn told(desk: &Desk, args: &[&str], prepare: impl FnOnce(Call) -> Call) -> String {
    let outcome = prepare(desk.zim_batch(args)).run();
    let Outcome {
        status, stdout, stderr, ..
    } = outcome;
    format!("$ zim-batch {}\n{stderr}{stdout}exit status {status}\n", args.join(" "))
}

#[test]
fn help_of_the_program_and_of_each_command() {
    let desk = Desk::new();
    let help = |args: &[&str]| {
        let outcome = desk.zim_batch(args).env("COLUMNS", "100").run();
        outcome.assert_status(0).stdout.clone()
    };
    let overview = help(&["--help"]);
    assert_stable("help", &overview);
    let (_, commands) = overview.split_once("Commands:\n").expect("it lists the commands");
    let commands = commands.lines().take_while(|line| !line.is_empty());
    let commands: Vec<_> = commands.filter_map(|line| line.split_whitespace().next()).collect();
    assert!(commands.len() > 8, "{overview}");
    for command in commands.into_iter().filter(|command| *command != "help") {
        let help = help(&[command, "--help"]);
        let (_, examples) = help
            .split_once("xamples")
            .unwrap_or_else(|| panic!("no examples: {help}"));
        assert!(
            examples.contains(&format!("zim-batch {command}")),
            "{command}: {examples}"
        );
        assert_stable(&format!("help_{command}"), &help);
    }
}

#[test]
fn codes_all_and_some() {
    let desk = Desk::new();
    assert_stable("codes", &told(&desk, &["codes"], |call| call));
    assert_stable(
        "codes_some",
        &told(&desk, &["codes", "660800002", "7", "424242"], |call| call),
    );
}

/// Clears one row of each outcome.
fn clear_one_of_each(desk: &Desk, prepare: impl FnOnce(Call) -> Call) -> Outcome {
    let server = Server::start(as_the_user_says);
    desk.write("rows.csv", named_rows(["a", "code660800002", "code660500002", "", "a"]));
    let call = desk.clear_with(&server.url(), "rows.csv").flag("--report", "out.csv");
    let outcome = prepare(call.flag("--rate", "100").arg("--dedupe")).run();
    outcome.assert_status(3);
    outcome
}

#[test]
fn the_end_of_a_run_for_people_and_as_json() {
    let outcome = clear_one_of_each(&Desk::new(), |call| call);
    assert_stable("clear", &format!("{}{}", outcome.stderr, outcome.stdout));
    let outcome = clear_one_of_each(&Desk::new(), |call| call.arg("--json"));
    assert_json("clear_json", &outcome, &["elapsed_s", "latency_ms", "peak_1s", "rate"]);
}

#[test]
fn the_end_of_a_simulated_run() {
    let desk = Desk::new();
    desk.write("rows.csv", "user,conv,type\nu,,0\n");
    let args = ["clear", "rows.csv", "--simulate", "--report", "out.csv"];
    assert_stable("clear_simulated", &told(&desk, &args, |call| call));
}

#[test]
fn a_list_for_people_and_as_json() {
    let world = World::of([("ann", 3), ("ben", 0)]);
    let server = world.serve();
    let call = |desk: &Desk| list::list(desk, &server, "user\nann\nben\nnobody\n,\nann\n");
    let desk = Desk::new();
    let for_people = call(&desk).run(); // writes the users
    drop(for_people);
    let outcome = list::list_with(&desk, &server.url(), "users.csv")
        .arg("--overwrite")
        .run();
    assert_stable("list", &format!("{}{}", outcome.stderr, outcome.stdout));
    let outcome = call(&Desk::new()).run();
    assert_json("list_json", &outcome, &["elapsed_s", "latency_ms", "peak_1s", "rate"]);
}

#[test]
fn a_check_of_good_and_of_bad_rows() {
    let desk = Desk::new();
    desk.write("good.csv", rows(6000));
    desk.write("my bad rows.csv", BAD);
    assert_stable("check_good", &told(&desk, &["check", "good.csv"], |call| call));
    assert_stable("check_bad", &told(&desk, &["check", "my bad rows.csv"], |call| call));
    let outcome = desk.zim_batch(["check", "my bad rows.csv", "--json"]).run();
    assert_json("check_json", &outcome, &[]);
}

#[test]
fn a_report_for_people_and_as_json() {
    let desk = Desk::new();
    let records = "2,u1,c1,0,ok,0,200,success,1,1,40,2026-11-25T01:00:00.000Z\n\
        3,u2,c2,2,outside,660800002,200,no such conversation,2,1,50,2026-11-25T01:00:00.050Z\n\
        4,u3,c3,0,failed,660500002,200,not registered,3,1,60,2026-11-25T01:00:00.100Z\n\
        5,u3,c4,0,failed,,503,HTTP 503,,6,70,2026-11-25T01:05:00.000Z\n\
        6,,c5,0,invalid,,,user is empty,,0,,2026-11-25T01:05:00.000Z\n";
    desk.write("out.csv", format!("{REPORT_HEADER}\n{records}"));
    let in_utc = |call: Call| call.env("TZ", "UTC");
    assert_stable("report", &told(&desk, &["report", "out.csv"], in_utc));
    let outcome = desk.zim_batch(["report", "out.csv", "--json"]).run();
    assert_json("report_json", &outcome, &[]);
}

#[test]
fn usage_errors() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(1));
    let all: Vec<String> = [
        &["clear"][..],
        &["nonsense"],
        &["clear", "rows.csv", "--nonsense"],
        &["clear", "rows.csv", "--rate", "fast"],
        &["clear", "rows.csv", "--rate", "0"],
        &["clear", "rows.csv", "--timeout", "10"],
        &["clear", "rows.csv", "--region", "moon"],
        &["clear", "rows.csv", "--only", "fail"],
        &["clear", "rows.csv", "--columns", "user"],
        &["clear", "rows.csv", "--encoding", "klingon"],
        &["clear", "rows.csv", "--resume", "--overwrite"],
        &["clear", "rows.csv", "--secret-file", "no-such-file", "--app-id", "1"],
        &["clear", "rows.csv", "--endpoint", "http://zim-api.zego.im"],
        &["clear", "rows.csv", "--endpoint", "nonsense"],
        &["clear", "-"],
        &["check", "rows.csv", "--region", "fra"],
        &["codes", "many"],
    ]
    .into_iter()
    .map(|args| {
        told(&desk, args, |call| {
            call.env("ZIM_APP_ID", "1").env("ZIM_SERVER_SECRET", SECRET)
        })
    })
    .collect();
    let without_credentials = told(&desk, &["clear", "rows.csv"], |call| call);
    assert_stable("usage_errors", &(all.join("\n") + "\n" + &without_credentials));
}

#[test]
fn messages_about_input_and_reports() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(3)).run().assert_status(0);
    desk.write("empty.csv", "");
    desk.write("other.csv", "who,conv,type\na,b,0\n");
    desk.write("plain.csv", "a,b,1\n");
    desk.write("two.csv", "user,conv\na,b\n");
    desk.write("book.csv", b"PK\x03\x04\x14\0\x06\0\x08\0xl/workbook");
    desk.write("changed.csv", rows(3).replace("u2,", "x,"));
    desk.write("shorter.csv", rows(2));
    let all: Vec<String> = [
        &["clear", "no-such-file.csv"][..],
        &["clear", "empty.csv"],
        &["clear", "other.csv"],
        &["clear", "plain.csv"],
        &["clear", "two.csv"],
        &["clear", "book.csv"],
        &["check", "other.csv", "--columns", "user=name"],
        &["clear", "rows.csv", "--report", "out.csv"],
        &["clear", "changed.csv", "--report", "out.csv", "--resume"],
        &["clear", "shorter.csv", "--report", "out.csv", "--resume"],
        &["clear", "rows.csv", "--report", "other.csv", "--resume"],
        &["clear", "rows.csv", "--report", "out.csv", "--resume", "--simulate"],
        &["clear", "rows.csv", "--report", "rows.csv", "--overwrite"],
        &["clear", "rows.csv", "--report", "no/such/directory/new.csv"],
        &["clear", "out.csv", "--report", "new.csv"],
        &["report", "rows.csv"],
        &["report", "no-such-file.csv"],
        &["list", "rows.csv", "--rows", "rows.csv"],
    ]
    .into_iter()
    .map(|args| {
        told(&desk, args, |call| {
            list::with_app(call).env("ZIM_ENDPOINT", &server.url())
        })
    })
    .collect();
    assert_stable("input_and_reports", &all.join("\n"));
}

#[test]
fn messages_of_runs_that_stop() {
    let stop = |answer: &'static str, flags: &[&str]| {
        let server = Server::start(as_the_user_says);
        let desk = Desk::new();
        // Different users, who all ask for the same answer: `code3`, `code03`, `code+3`, …
        let user = |number: usize| {
            let sign = if number < 13 { "" } else { "+" };
            answer.replacen("code", &format!("code{sign}{}", "0".repeat(number % 13)), 1)
        };
        desk.write("rows.csv", named_rows((0..25).map(user)));
        let args = [&["clear", "rows.csv", "--max-in-flight", "1", "--rate", "100"], flags].concat();
        told(&desk, &args, |call| {
            list::with_app(call).env("ZIM_ENDPOINT", &server.url())
        })
    };
    let wrong_secret = {
        let (desk, server) = (Desk::new(), kind_server());
        desk.write("rows.csv", rows(2));
        let args = ["clear", "rows.csv", "--max-in-flight", "1"];
        told(&desk, &args, |call| {
            let wrong = SECRET.chars().rev().collect::<String>();
            let call = list::with_app(call).env("ZIM_ENDPOINT", &server.url());
            call.env("ZIM_SERVER_SECRET", &wrong)
        })
    };
    let all = [
        wrong_secret,
        stop("code3", &[]),
        stop("code660500002", &[]),
        stop("code660500002", &["--max-failures", "2"]),
        stop("http502", &["--give-up-after", "2s"]),
    ];
    assert_stable("stops", &all.join("\n"));
}

#[test]
fn the_settings_in_force_for_people_and_as_json() {
    let desk = Desk::new();
    std::fs::create_dir_all(desk.path("zim-batch")).expect("the desk can be written to");
    desk.write("secret", SECRET);
    desk.write(
        "zim-batch/config.toml",
        "[profiles.night]\napp_id = 7\nsecret_file = \"../secret\"\nregion = \"fra\"\nquota = \"redis://:p4ss@cache\"\n",
    );
    let home = desk.path("").to_string_lossy().into_owned();
    let shown = |args: &[&str]| {
        let text = told(&desk, args, |call| {
            call.env("XDG_CONFIG_HOME", &home).without_env("ZIM_LOCK_DIR")
        });
        // The widths of the columns depend on the path.
        let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
        let lines: Vec<String> = text.replace(&home, "[home]/").lines().map(words).collect();
        lines.join("\n").replace("[home]//", "[home]/")
    };
    assert_stable("config", &shown(&["config", "--profile", "night", "--rate", "5"]));
    assert_stable(
        "config_json",
        &shown(&["config", "--profile", "night", "--rate", "5", "--json"]),
    );
    assert_stable("config_wrong", &shown(&["config", "--app-id", "seven"]));
}
