//! What may exist at the paths of the report and the outside log, and what a run that never started leaves there.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::net::UnixListener;
use std::process::{Command, Stdio};

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::support::{APP_ID, Call, Desk, REPORT_HEADER, SECRET, kind_server, rows};

const MODES: [Option<&str>; 3] = [None, Some("--resume"), Some("--overwrite")];

fn in_mode(call: Call, mode: Option<&str>) -> Call {
    match mode {
        Some(flag) => call.arg(flag),
        None => call,
    }
}

/// The files in the desk's directory, with their sizes.
fn listing(desk: &Desk) -> Vec<(String, u64)> {
    let mut all: Vec<_> = fs::read_dir(desk.path(""))
        .expect("the desk can be read")
        .map(|entry| {
            let entry = entry.expect("the desk can be read");
            let len = entry.metadata().expect("nobody removes it").len();
            (entry.file_name().to_string_lossy().into_owned(), len)
        })
        .collect();
    all.sort();
    all
}

#[test]
fn an_impossible_report_or_outside_log_is_refused_and_nothing_is_written_beside_it() {
    let (desk, server) = (Desk::new(), kind_server());
    fs::create_dir(desk.path("directory")).unwrap();
    symlink("gone/out.csv", desk.path("link")).unwrap();
    let _socket = UnixListener::bind(desk.path("socket")).unwrap();
    let made = Command::new("mkfifo").arg(desk.path("pipe")).status();
    assert!(made.expect("there is mkfifo").success());
    desk.write("rows.csv", rows(2));
    let places = [
        ("-", "standard output"),
        ("/dev/null", "device"),
        ("/dev/full", "device"),
        ("/dev/zero", "device"),
        ("directory", "directory"),
        ("link", "gone/out.csv"),
        ("socket", "socket"),
        ("pipe", "pipe"),
    ];
    for ((place, says), mode) in places.into_iter().flat_map(|place| MODES.map(|mode| (place, mode))) {
        for flag in ["--report", "--outside"] {
            let before = listing(&desk);
            let outcome = in_mode(desk.clear(&server, rows(2)).flag(flag, place), mode).run();
            // A directory in place of the report is a report that can't be written.
            let expected = if place == "directory" && mode.is_some() { 74 } else { 2 };
            outcome.assert_status(expected).assert_says(&[place, says]);
            assert_eq!(listing(&desk), before, "{mode:?} {flag} {place}");
        }
    }
    assert!(!fs::exists("/dev/null.outside.csv").unwrap());
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn an_empty_file_is_not_protected_as_a_report() {
    let (desk, server) = (Desk::new(), kind_server());
    for mode in MODES {
        desk.write("out.csv", "");
        let _ = fs::remove_file(desk.path("out.outside.csv"));
        fs::set_permissions(desk.path("out.csv"), PermissionsExt::from_mode(0o640)).unwrap();
        let call = desk.clear(&server, rows(2));
        in_mode(call, mode).run().assert_status(0);
        assert_eq!(desk.report().len(), 2, "{mode:?}");
        assert_eq!(self::mode(&desk, "out.csv"), 0o640, "{mode:?}: it keeps its mode");
    }
}

fn mode(desk: &Desk, file: &str) -> u32 {
    fs::metadata(desk.path(file))
        .expect("there is this file")
        .permissions()
        .mode()
        & 0o777
}

#[test]
fn new_files_with_user_ids_can_be_read_only_by_their_owner_and_metrics_by_everyone() {
    for umask in ["000", "077"] {
        let (desk, server) = (Desk::new(), kind_server());
        let run = || {
            let call = desk.clear(&server, rows(1)).arg("--overwrite");
            let call = call.flag("--html", "out.html").flag("--metrics", "zim.prom");
            call.started_by(&format!("umask {umask}; exec")).run().assert_status(0);
            ["out.csv", "out.outside.csv", "out.html", "zim.prom"].map(|file| mode(&desk, file))
        };
        assert_eq!(run(), [0o600, 0o600, 0o600, 0o644], "umask {umask}");
        // An existing file keeps its mode.
        for file in ["out.html", "zim.prom"] {
            fs::set_permissions(desk.path(file), PermissionsExt::from_mode(0o640)).unwrap();
        }
        assert_eq!(run(), [0o600, 0o600, 0o640, 0o640], "umask {umask}");

        let events = desk.zim_batch(["simulate", "--events", "events.jsonl"]);
        let mut simulator = events.started_by(&format!("umask {umask}; exec")).spawn();
        simulator.wait_until("the simulator writes", || desk.has("events.jsonl"));
        assert_eq!(mode(&desk, "events.jsonl"), 0o600, "umask {umask}");
        simulator.signal("TERM");
        simulator.wait();
    }
}

#[test]
fn no_file_is_written_through_a_link_that_another_user_has_planted() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("precious", "precious\n");
    // Names that can be foreseen: the process ID is the shell's.
    let planting = "for name in zim.prom.$$.tmp .out.html.$$.tmp; do ln -s precious $name; done; exec";
    let call = desk.clear(&server, rows(1)).flag("--html", "out.html");
    let call = call.flag("--metrics", "zim.prom").started_by(planting);
    call.run().assert_status(0);
    assert_eq!(desk.read("precious"), "precious\n");
    for file in ["zim.prom", "out.html"] {
        assert!(desk.path(file).symlink_metadata().unwrap().is_file(), "{file}");
    }
}

#[test]
fn the_report_can_t_be_the_file_that_stdout_is_redirected_to() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("rows.csv", rows(2));
    for report in ["out.csv", "/dev/stdout"] {
        let status = Command::new(env!("CARGO_BIN_EXE_zim-batch"))
            .args(["clear", "rows.csv", "--report", report, "--endpoint", &server.url()])
            .current_dir(desk.path(""))
            .env("ZIM_APP_ID", APP_ID.to_string())
            .env("ZIM_SERVER_SECRET", SECRET)
            .stdout(fs::File::create(desk.path("out.csv")).unwrap())
            .stderr(Stdio::null())
            .status();
        assert_eq!(status.unwrap().code(), Some(2), "{report}");
        assert_eq!(desk.read("out.csv"), "");
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn resuming_without_a_report_is_mentioned_once_with_its_name() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = || {
        desk.clear(&server, rows(2))
            .flag("--report", "mistyped.csv")
            .arg("--resume")
    };
    let outcome = call().run();
    outcome
        .assert_status(0)
        .assert_says(&["mistyped.csv: no report yet: starting from the first row"]);
    assert_eq!(outcome.stderr.matches("no report yet").count(), 1, "{}", outcome.stderr);
    assert!(
        !outcome.stderr.contains("WARN"),
        "each job that always resumes begins so: {}",
        outcome.stderr
    );
    assert!(!call().run().stderr.contains("no report yet"), "now there is one");
    fs::remove_file(desk.path("mistyped.csv")).unwrap();
    assert_eq!(call().arg("-q").run().stderr, "");
    let first = desk.clear(&server, rows(2)).run();
    assert!(!first.stderr.contains("no report yet"), "nobody asked to resume");
}

#[test]
fn a_first_run_that_never_started_leaves_nothing_behind() {
    let (desk, server) = (Desk::new(), kind_server());
    let taken = an_outside_log_of_others(&desk);
    let packed = |text: &str| {
        let mut packed = GzEncoder::new(Vec::new(), Compression::fast());
        packed.write_all(text.as_bytes()).unwrap();
        packed.finish().unwrap()
    };
    let cut = packed(&rows(5000));
    let cut = &cut[..cut.len() - 100];
    // Rows that can be read only in part: detected before the first is sent, or after the report was opened.
    for mode in MODES {
        desk.write("cut.csv.gz", cut);
        let before = listing(&desk);
        let call = desk.clear_with(&server.url(), "cut.csv.gz").flag("--report", "out.csv");
        in_mode(call, mode).run().assert_status(4);
        assert_eq!(listing(&desk), before, "{mode:?}");
    }
    // A stream that fails after its header.
    let header_alone = [&packed("user,conv,type\n")[..], &packed(&rows(50))[..30]].concat();
    for mode in MODES {
        let before = listing(&desk);
        let call = desk.clear_with(&server.url(), "-").flag("--report", "out.csv");
        in_mode(call, mode).stdin(header_alone.clone()).run().assert_status(4);
        assert_eq!(listing(&desk), before, "{mode:?}");
    }
    // An outside log of another report.
    for mode in MODES {
        desk.write("rows.csv", rows(2));
        let before = listing(&desk);
        let call = desk.clear(&server, rows(2)).flag("--outside", "others.csv");
        in_mode(call, mode).run().assert_status(2);
        assert_eq!(
            (listing(&desk), desk.read("others.csv")),
            (before, taken.clone()),
            "{mode:?}"
        );
    }
    // A disk without space for the header. A file that was empty is empty again.
    for exists in [false, true] {
        if exists {
            desk.write("out.csv", "");
        }
        let before = listing(&desk);
        let command = format!(
            "ulimit -f 0; exec {} clear rows.csv --report out.csv --endpoint {}",
            env!("CARGO_BIN_EXE_zim-batch"),
            server.url()
        );
        let output = Command::new("sh")
            .args(["-c", &command])
            .current_dir(desk.path(""))
            .env("ZIM_APP_ID", APP_ID.to_string())
            .env("ZIM_SERVER_SECRET", SECRET)
            .output()
            .expect("there is a shell");
        assert_eq!(output.status.code(), Some(74), "{output:?}");
        assert_eq!(listing(&desk), before);
    }
    assert_eq!(server.requests().len(), 0);
}

/// Writes an outside log with a row of an unknown report.
fn an_outside_log_of_others(desk: &Desk) -> String {
    let log = format!("{REPORT_HEADER}\n2,u,c,0,outside,660800002,200,gone,1,1,3,2026-08-01T12:34:56.789Z\n");
    desk.write("others.csv", &log);
    log
}

#[test]
fn a_directory_is_no_input_whatever_would_be_named_after_it() {
    let desk = Desk::new();
    fs::create_dir(desk.path("users")).expect("the desk can be written to");
    for command in ["clear", "list", "check"] {
        for directory in [".", "users"] {
            let outcome = desk.zim_batch([command, directory]).run();
            outcome.assert_status(4).assert_says(&["is a directory"]);
        }
    }
}

#[test]
fn a_file_has_one_use_and_the_message_names_the_flag_that_chooses_another() {
    let desk = Desk::new();
    for name in ["rows.csv", "out.outside.csv"] {
        desk.write(name, rows(2));
    }
    let before = listing(&desk);
    for (words, says) in [
        (
            "clear rows.csv --report out.csv --log-file rows.csv",
            "--log-file rows.csv",
        ),
        (
            "clear rows.csv --report out.csv --log-file out.csv",
            "--log-file out.csv",
        ),
        (
            "clear rows.csv --report out.csv --log-file ./out.csv --dry-run",
            "--log-file",
        ),
        (
            "clear rows.csv --report a.csv --metrics m.prom --log-file m.prom",
            "--log-file m.prom",
        ),
        ("clear rows.csv --report out.csv --html ./rows.csv", "--html"),
        ("clear rows.csv --report rows.csv", "--report FILE"),
        ("clear out.outside.csv --report out.csv", "--outside FILE"),
        ("clear rows.csv --report out.csv --outside out.csv", "--outside FILE"),
        ("list rows.csv --rows rows.csv", "--rows FILE"),
        ("list rows.csv --rows new.csv --report new.csv", "--report FILE"),
        ("list rows.csv --explain rows.csv", "--explain"),
        ("check rows.csv --online --missing rows.csv", "--missing"),
        ("report rows.csv --html rows.csv", "--html"),
        ("simulate --conversations rows.csv --events rows.csv", "--events"),
    ] {
        let outcome = desk.zim_batch(words.split(' ')).run();
        outcome.assert_status(2).assert_says(&[says]);
        assert_eq!(listing(&desk), before, "{words}");
    }
}
