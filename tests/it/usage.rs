//! Version, usage errors, `codes`, and what the environment and the system may say.

mod places;
mod shown;

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::time::Duration;

use crate::support::{APP_CODES, APP_ID, Answer, Desk, FATAL_CODES, LIMITED_CODES, ROW_CODES, SIGNATURE_CODES, Server};
use crate::support::{can_be_another_user, kind_server, rows};

#[test]
fn the_version_is_the_name_and_a_number() {
    let outcome = Desk::new().zim_batch(["--version"]).run();
    assert_eq!(
        (outcome.status, outcome.stdout),
        (0, format!("zim-batch {}\n", env!("CARGO_PKG_VERSION")))
    );
}

#[test]
fn unknown_commands_and_flags_are_usage_errors() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(1));
    for args in [
        &[][..],
        &["nonsense"],
        &["clear"],
        &["clear", "rows.csv", "--nonsense"],
        &["clear", "rows.csv", "--timeout", "10"],
        &["clear", "rows.csv", "--timeout", "soon"],
        &["clear", "rows.csv", "--timeout", "0s"],
        &["clear", "rows.csv", "--max-attempts", "0"],
        &["clear", "rows.csv", "--max-in-flight", "0"],
        &["clear", "rows.csv", "--region", "moon"],
        &["clear", "rows.csv", "--only", "everything"],
        &[
            "clear",
            "rows.csv",
            "--region",
            "fra",
            "--endpoint",
            "https://zim-api.zego.im",
        ],
        &["clear", "rows.csv", "--resume", "--overwrite"],
        &["clear", "rows.csv", "--columns", "name=a"],
        &["clear", "rows.csv", "--encoding", "no-such-encoding"],
        &["codes", "many"],
        &["completions", "no-such-shell"],
    ] {
        let outcome = desk
            .zim_batch(args)
            .env("ZIM_APP_ID", "1")
            .env("ZIM_SERVER_SECRET", "unused")
            .run();
        assert_eq!(outcome.status, 2, "{args:?}: {outcome:?}");
        assert!(
            !outcome.stderr.is_empty() && outcome.stdout.is_empty(),
            "{args:?}: {outcome:?}"
        );
    }
    assert!(!desk.has("rows.report.csv"));
}

#[test]
fn a_flag_of_a_command_before_the_command_is_told_where_it_belongs() {
    for flag in ["--profile", "--rate=3"] {
        let outcome = Desk::new().zim_batch([flag, "night", "config"]).run();
        let flag = flag.split('=').next().unwrap_or(flag);
        let tip = format!("after the command: zim-batch config {flag}");
        outcome.assert_status(2).assert_says(&[&tip]);
        assert!(!outcome.stderr.contains("--log-file"), "{outcome:?}");
    }
}

#[test]
fn a_report_whose_name_says_that_it_is_compressed_is_refused() {
    let (desk, server) = (Desk::new(), kind_server());
    for name in ["out.csv.gz", "out.csv.zst"] {
        for flag in ["--report", "--outside"] {
            let outcome = desk.clear(&server, rows(1)).flag(flag, name).run();
            outcome.assert_status(2).assert_says(&[name, "plain CSV", flag]);
        }
    }
    assert!(server.requests().is_empty());
}

#[test]
fn an_invalid_rate_is_a_usage_error() {
    let (desk, server) = (Desk::new(), kind_server());
    for rate in ["0", "-1", "NaN", "inf", "fast", ""] {
        let outcome = desk
            .clear(&server, rows(2))
            .without("--rate")
            .arg(&format!("--rate={rate}"))
            .run();
        outcome.assert_status(2).assert_says(&["--rate"]);
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn plain_http_is_refused_except_to_loopback() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(1));
    for endpoint in [
        "http://zim-api.zego.im",
        "http://10.0.0.1:80",
        "http://127.0.0.1.example.com",
        "ftp://127.0.0.1",
        "nonsense",
        "https://",
    ] {
        let outcome = desk.clear_with(endpoint, "rows.csv").run();
        outcome.assert_status(2);
        let by_env = desk
            .clear_with(endpoint, "rows.csv")
            .without("--endpoint")
            .env("ZIM_ENDPOINT", endpoint)
            .run();
        by_env.assert_status(2);
        assert!(!desk.has("rows.report.csv"));
    }
    desk.clear_with("http://zim-api.zego.im", "rows.csv")
        .run()
        .assert_says(&["https", "loopback"]);
}

#[test]
fn the_endpoint_can_come_from_the_environment() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk
        .clear(&server, rows(2))
        .without("--endpoint")
        .env("ZIM_ENDPOINT", &server.url());
    call.run().assert_status(0);
    server.assert_well_formed();
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_variable_that_is_not_text_is_refused_by_its_name() {
    let (desk, server) = (Desk::new(), kind_server());
    for name in [
        "ZIM_APP_ID",
        "ZIM_SERVER_SECRET",
        "ZIM_ENDPOINT",
        "ZIM_SERVER_SECRET_FILE",
    ] {
        let value = OsStr::from_bytes(b"http://127.0.0.1\xff");
        let call = desk
            .clear(&server, rows(2))
            .without("--endpoint")
            .flag("--timeout", "1s");
        let outcome = call.env_os(name, value).flag("--give-up-after", "1s").run();
        outcome.assert_status(2).assert_says(&[name]);
    }
    assert!(!desk.has("out.csv") && server.requests().is_empty());
}

#[test]
fn a_region_beside_an_endpoint_in_the_environment_is_refused() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear(&server, rows(2)).without("--endpoint");
    let call = call.flag("--region", "fra").env("ZIM_ENDPOINT", &server.url());
    let outcome = call.flag("--give-up-after", "1s").run();
    outcome.assert_status(2).assert_says(&["--region", "ZIM_ENDPOINT"]);
    assert!(!desk.has("out.csv"));
}

#[test]
fn app_and_endpoint_are_printed_at_the_start_unless_quiet() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = || desk.clear(&server, rows(2)).arg("--overwrite");
    let app = APP_ID.to_string();

    let outcome = call().run();
    outcome.assert_status(0).assert_says(&[&server.url(), &app]);
    assert_eq!(call().arg("-q").run().stderr, "");
    let logged = call().flag("--log-format", "json").run().stderr;
    let says_it = |line: &str| {
        let object: serde_json::Value = serde_json::from_str(line).expect("a log line is JSON");
        let message = object["message"].as_str().unwrap_or_default();
        message.contains(&server.url()) && message.contains(&app)
    };
    assert!(logged.lines().any(says_it), "{logged}");
}

#[test]
fn a_rate_above_zego_s_default_is_warned_about_except_on_loopback() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("rows.csv", rows(1));
    let says_so = |endpoint: &str, rate: &str, more: &str| {
        let call = desk
            .clear_with(endpoint, "rows.csv")
            .flag("--rate", rate)
            .arg("--overwrite");
        let call = call
            .flag("--report", "out.csv")
            .flag("--give-up-after", "300ms")
            .arg(more);
        call.run().stderr.contains("ZEGO's default limit is 20")
    };
    let elsewhere = "https://zim.invalid";
    assert!(says_so(elsewhere, "20.5", "-v"));
    assert!(!says_so(elsewhere, "20", "-v"));
    assert!(!says_so(elsewhere, "40", "-q"));
    assert!(!says_so(&server.url(), "200", "-v"));
    let simulated = desk
        .zim_batch(["clear", "rows.csv", "--simulate", "--rate", "200"])
        .run();
    assert!(!simulated.stderr.contains("limit"), "{simulated:?}");
}

#[test]
fn with_json_an_error_is_one_object_on_stdout_too() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("rows.csv", rows(1));
    desk.write("bad.csv", "a,b\n1,2\n");
    for (args, status, says) in [
        (&["clear", "no-such-file.csv", "--json"][..], 4, "no-such-file.csv"),
        (&["clear", "bad.csv", "--json", "--report", "out.csv"], 4, "--columns"),
        (&["clear", "rows.csv", "--json", "--region", "fra"], 2, "ZIM_ENDPOINT"),
        (&["clear", "--json"], 2, "<ROWS|--users <USERS>>"),
        (&["clear", "rows.csv", "--json", "--nonsense"], 2, "--nonsense"),
        (&["clear", "rows.csv", "--rate", "fast", "--json"], 2, "--rate"),
        (&["check", "no-such-file.csv", "--json"], 4, "no-such-file.csv"),
        (&["check", "--json", "rows.csv", "--rate", "-1"], 2, "--rate"),
        (&["codes", "--json", "many"], 2, "many"),
    ] {
        let call = desk.zim_batch(args).env("ZIM_APP_ID", "1");
        let call = call
            .env("ZIM_SERVER_SECRET", "unused")
            .env("ZIM_ENDPOINT", &server.url());
        let outcome = call.run();
        outcome.assert_status(status).assert_says(&[says]);
        let object: serde_json::Value =
            serde_json::from_str(&outcome.stdout).unwrap_or_else(|error| panic!("{args:?}: {error}: {outcome:?}"));
        assert_eq!(object["exit"], status, "{args:?}");
        let error = object["error"].as_str().unwrap_or_default();
        assert!(error.contains(says) && !error.contains("Usage:"), "{args:?}: {object}");
    }
    let help = desk.zim_batch(["clear", "--json", "--help"]).run();
    assert!(help.status == 0 && help.stdout.contains("Usage:"), "{help:?}");
    let a_file = desk.zim_batch(["clear", "--endpoint", &server.url(), "--", "--json"]);
    let after_the_options = a_file.env("ZIM_APP_ID", "1").env("ZIM_SERVER_SECRET", "unused").run();
    assert_eq!((after_the_options.status, after_the_options.stdout.as_str()), (4, ""));
    assert!(server.requests().is_empty());
}

#[test]
fn a_low_limit_of_open_files_limits_requests_in_flight_and_costs_no_row() {
    let desk = Desk::new();
    let server = Server::start(|_, _| Answer::After(Duration::from_secs(1), Box::new(Answer::Code(0, "success"))));
    let outcome = desk.clear(&server, rows(12)).started_by("ulimit -n 24; exec").run();
    outcome
        .assert_status(0)
        .assert_says(&["ulimit -n"])
        .summary()
        .assert_counts(&[("ok", 12), ("requests", 12)]);

    let too_few = desk.clear(&server, rows(1)).flag("--report", "other.csv");
    let too_few = too_few.started_by("ulimit -n 16; exec").run();
    too_few.assert_status(2).assert_says(&["ulimit -n"]);
    assert!(!desk.has("other.csv"));

    let raised = desk.clear(&server, rows(12)).arg("--overwrite");
    let raised = raised.started_by("ulimit -S -n 24; exec").run();
    raised.assert_status(0);
    assert!(!raised.stderr.contains("ulimit"), "{raised:?}");
}

#[test]
fn a_run_that_can_t_start_threads_says_so_and_sends_nothing() {
    let (desk, server) = (Desk::new(), kind_server());
    std::fs::set_permissions(desk.path(""), std::fs::Permissions::from_mode(0o777)).unwrap();
    // The limit does not apply to root, and counts all of the user's processes.
    if !can_be_another_user() {
        return;
    }
    for threads in 1..=3 {
        let outcome = desk
            .clear(&server, rows(2))
            .started_by(&format!(
                "exec prlimit --nproc={threads} setpriv --reuid=54321 --clear-groups"
            ))
            .run();
        outcome.assert_status(1).assert_says(&["thread", "ulimit -u"]);
        assert!(!outcome.stderr.contains("panicked"), "{outcome:?}");
    }
    assert!(!desk.has("out.csv") && server.requests().is_empty());
}

#[test]
fn codes_names_the_documented_codes_and_no_others() {
    let all = Desk::new().zim_batch(["codes", "--json"]).run();
    let all: Vec<serde_json::Value> = serde_json::from_str(&all.assert_status(0).stdout).expect("it is JSON");
    let named: BTreeSet<i64> = all.iter().filter_map(|code| code["code"].as_i64()).collect();
    let known = ROW_CODES.iter().filter(|(_, class)| *class != "unknown");
    let tables = [FATAL_CODES, LIMITED_CODES, SIGNATURE_CODES, APP_CODES].concat();
    let documented: BTreeSet<i64> = known.map(|(code, _)| *code).chain(tables).collect();
    assert_eq!(named, documented);
}

#[test]
fn completions_and_man_page_are_printed() {
    let desk = Desk::new();
    for shell in ["bash", "zsh", "fish"] {
        let outcome = desk.zim_batch(["completions", shell]).run();
        outcome.assert_status(0);
        assert!(outcome.stdout.contains("zim-batch"), "{shell}");
    }
    let man = desk.zim_batch(["man"]).run();
    man.assert_status(0);
    for part in [
        ".TH",
        "zim",
        ".SH COMMANDS",
        ".SH EXAMPLES",
        ".SH EXIT STATUS",
        ".SH ZIM-BATCH CONFIG",
    ] {
        assert!(man.stdout.contains(part), "{part}: {}", man.stdout);
    }
    // There is one page.
    for part in ["(1)", ".SH EXTRA", "<subcommands>"] {
        assert!(!man.stdout.contains(part), "{part}: {}", man.stdout);
    }
}

#[test]
fn simulate_needs_no_credentials() {
    let desk = Desk::new();
    desk.write("rows.csv", rows(5));

    let outcome = desk
        .zim_batch(["clear", "rows.csv", "--simulate", "--json", "--report", "out.csv"])
        .run();

    assert!([0, 3].contains(&outcome.status), "{outcome:?}");
    outcome
        .summary()
        .assert_counts(&[("rows", 5), ("not_run", 0), ("invalid", 0)]);
    assert_eq!(desk.report().len(), 5);
}

#[test]
fn the_json_summary_has_every_key_and_stdout_nothing_else() {
    let (desk, server) = (Desk::new(), kind_server());

    let outcome = desk.clear(&server, rows(10)).arg("-vv").run();

    outcome.assert_status(0);
    let summary = outcome.summary();
    let keys: std::collections::BTreeSet<_> = summary.0.as_object().unwrap().keys().map(String::as_str).collect();
    let expected = "rows ok outside failed invalid skipped already_done not_run requests retries limited elapsed_s rate peak_1s \
        latency_ms codes report outside_log stopped exit";
    for key in expected.split_whitespace() {
        assert!(keys.contains(key), "no `{key}` in {summary:?}");
    }
    summary.assert_counts(&[
        ("rows", 10),
        ("ok", 10),
        ("requests", 10),
        ("retries", 0),
        ("peak_1s", 10),
        ("exit", 0),
    ]);
    assert!(summary.0["stopped"].is_null() && summary.0["elapsed_s"].is_number() && summary.0["rate"].is_number());
    assert_eq!(summary.0["codes"], serde_json::json!({"0": 10}));
    for key in ["p50", "p90", "p99", "max"] {
        assert!(
            summary.0["latency_ms"][key]
                .as_f64()
                .is_some_and(|latency| latency >= 0.0),
            "{summary:?}"
        );
    }
}

#[test]
fn results_go_to_stdout_and_everything_else_to_stderr() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = || desk.clear(&server, rows(3)).arg("--overwrite").without("--rate");

    let loud = call().arg("-vv").flag("--log-format", "json").run();
    let logged = loud.stderr.lines().filter(|line| line.starts_with('{'));
    let objects = logged.map(|line| serde_json::from_str::<serde_json::Value>(line).expect("a log line is JSON"));
    assert!(objects.count() >= 3, "{}", loud.stderr);

    let quiet = call().arg("-q").run();
    assert_eq!((quiet.status, quiet.stderr.as_str()), (0, ""));

    let mut for_people = desk
        .clear_with(&server.url(), "rows.csv")
        .flag("--report", "out.csv")
        .arg("--overwrite")
        .run();
    for_people.stdout.make_ascii_lowercase();
    assert!(
        for_people.stdout.contains("ok") && for_people.stdout.contains('3'),
        "{for_people:?}"
    );
    assert!(
        !for_people.stderr.contains('\r'),
        "no bar without a terminal: {for_people:?}"
    );
}

#[test]
fn help_fits_in_80_columns_and_its_examples_are_not_wrapped() {
    let desk = Desk::new();
    for command in [
        "clear",
        "list",
        "check",
        "report",
        "simulate",
        "quota",
        "codes",
        "completions",
        "man",
    ] {
        let help = desk.zim_batch([command, "--help"]).env("COLUMNS", "80").run().stdout;
        let (_, examples) = help.split_once("xamples").unwrap();
        for line in examples.lines() {
            assert!(line.chars().count() <= 80, "{command}: {line}");
            assert!(
                line.starts_with(' ') || !line.contains("--") || line.contains('.'),
                "{command}: a broken example: {line}"
            );
        }
    }
    let simulate = desk.zim_batch(["simulate", "--help"]).run().stdout;
    let heading_of = |flag: &str| {
        let before = &simulate[..simulate.find(flag).unwrap()];
        before
            .lines()
            .rfind(|line| line.ends_with(':') && !line.starts_with(' '))
            .unwrap()
            .to_owned()
    };
    assert_ne!(heading_of("--quiet"), heading_of("--port"));
    assert_ne!(heading_of("--error-rate"), heading_of("--port"));
    assert_eq!(heading_of("--quiet"), heading_of("--log-file"));
}
