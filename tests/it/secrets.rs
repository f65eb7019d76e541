//! The secret: where it is read from, what happens if it is wrong, and that it is never shown.

mod files;
mod typed;

use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::sync::Mutex;
use std::time::Duration;

use crate::support::{
    APP_ID, Answer, Call, Desk, Outcome, Request, SECRET, Server, can_be_another_user, code_body, kind_server,
    named_rows, rows,
};

const WRONG: &str = "0f0f0f0f1e1e1e1e2d2d2d2d3c3c3c3c";

#[test]
fn a_wrong_secret_costs_few_requests() {
    let (desk, server) = (Desk::new(), kind_server());

    let outcome = desk
        .clear(&server, rows(500))
        .without("--rate")
        .env("ZIM_SERVER_SECRET", WRONG)
        .run();

    outcome
        .assert_status(6)
        .assert_tells(&["100000005", "secret"])
        .assert_says(&["--resume"])
        .assert_names_the_app_id();
    assert!(
        (2..=10).contains(&server.requests().len()),
        "{} requests",
        server.requests().len()
    );
    outcome
        .summary()
        .assert_counts(&[("rows", 500), ("not_run", 500), ("failed", 0), ("ok", 0)]);
    assert_nothing_leaked(&desk, &outcome, &server.requests());

    let outcome = desk.clear(&server, rows(20)).arg("--resume").run();
    outcome.assert_status(0).summary().assert_counts(&[("ok", 20)]);
}

#[test]
fn a_correct_clock_is_not_blamed() {
    let server = kind_server();
    let outcome = Desk::new()
        .clear(&server, rows(3))
        .env("ZIM_SERVER_SECRET", WRONG)
        .run();
    outcome.assert_status(6);
    let said = format!("{}{}", outcome.stderr, outcome.summary().stopped());
    let is_blamed = ["hour", "behind", "ahead"].iter().any(|word| said.contains(word));
    assert!(!is_blamed, "{said}");
}

/// Neither the secret nor a signature nor a signed URL is in any output or file.
#[track_caller]
fn assert_nothing_leaked(desk: &Desk, outcome: &Outcome, requests: &[Request]) {
    assert_no_leak(desk, outcome, requests, false);
}

/// As above; if the server `echoes` the request, the harmless parts may be shown.
#[track_caller]
fn assert_no_leak(desk: &Desk, outcome: &Outcome, requests: &[Request], echoes: bool) {
    let mut texts = vec![
        ("stdout".to_owned(), outcome.stdout.clone()),
        ("stderr".to_owned(), outcome.stderr.clone()),
    ];
    let mut directories = vec![desk.path("")];
    while let Some(directory) = directories.pop() {
        for entry in std::fs::read_dir(directory).expect("the desk can be read").flatten() {
            if entry.path().is_dir() {
                directories.push(entry.path());
            } else if !entry.file_name().to_string_lossy().starts_with("secret") {
                let bytes = std::fs::read(entry.path()).expect("the desk can be read");
                texts.push((
                    entry.path().display().to_string(),
                    String::from_utf8_lossy(&bytes).into_owned(),
                ));
            }
        }
    }
    let mut forbidden = vec![SECRET.to_owned(), WRONG.to_owned()];
    forbidden.extend(
        requests
            .iter()
            .map(|request| request.text("Signature"))
            .filter(|text| !text.is_empty()),
    );
    if !echoes {
        forbidden.extend(["Signature=", "SignatureNonce", "FromUserId="].map(String::from));
    }
    for (place, text) in &texts {
        for word in &forbidden {
            assert!(!text.contains(word), "`{word}` is in {place}: {text}");
        }
    }
}

fn in_every_way(request: &Request, n: usize) -> Answer {
    let raw = |status: u16, name: &'static str, value: &str| Answer::Raw {
        status,
        headers: vec![(name, value.to_owned())],
        body: "<html>".into(),
    };
    match request.user().as_str() {
        "busy" => Answer::Code(1, "server busy"),
        "rejected" => Answer::Code(2, "input parameter error"),
        "outside" => Answer::Code(660_800_002, "no such conversation"),
        "unknown" => Answer::Code(777, "what?"),
        "limited" if n < 3 => Answer::Code(7, "too fast"),
        "resign" if n == 1 => Answer::Code(100_000_005, "signature error"),
        "setup" if n == 1 => Answer::Code(100_000_010, "no ServerSecret"),
        "reset" => Answer::Reset,
        "close" => Answer::Close,
        "truncate" => Answer::Truncate,
        "half" => Answer::HalfJson,
        "hang" => Answer::Hang(Duration::from_secs(20)),
        "redirect" => Answer::Redirect(format!("http://127.0.0.1:1{}", request.target)),
        "bad-redirect" => raw(302, "Location", &format!("http://[{}", request.target)),
        "429" if n == 1 => raw(429, "Retry-After", "1"),
        "503" => raw(503, "Retry-After", "1"),
        "404" => raw(404, "X-Not", "found"),
        _ => Answer::Code(0, "success"),
    }
}

#[test]
fn failures_of_every_kind_leak_nothing_at_the_highest_log_level() {
    let users = [
        "busy",
        "rejected",
        "outside",
        "unknown",
        "limited",
        "resign",
        "setup",
        "reset",
        "close",
        "truncate",
        "half",
        "hang",
        "redirect",
        "bad-redirect",
        "429",
        "503",
        "404",
    ];
    let fail = |format: &str, last: &'static str| {
        let server = Server::start(move |request, n| match (request.user().as_str(), last) {
            ("last", "code") => Answer::Code(3, "authentication failed"),
            _ => in_every_way(request, n),
        });
        let rows = named_rows(
            users
                .into_iter()
                .flat_map(|user| [user.to_owned(), format!("{user}-ok")])
                .chain(["last".into()]),
        );
        let desk = Desk::new();
        let call = desk
            .clear(&server, rows + ",c,0\n")
            .arg("-vv")
            .flag("--log-format", format);

        let outcome = call.flag("--max-attempts", "2").flag("--timeout", "1s").run();

        outcome.assert_status(if last == "code" { 6 } else { 3 });
        assert!(
            outcome.stderr.lines().count() > 20,
            "-vv says too little to show anything: {}",
            outcome.stderr
        );
        assert!(server.requests().len() > users.len() * 2);
        assert_nothing_leaked(&desk, &outcome, &server.requests());
    };
    std::thread::scope(|scope| {
        for (format, last) in [("text", "code"), ("text", "end"), ("json", "code"), ("json", "end")] {
            scope.spawn(move || fail(format, last));
        }
    });
}

#[test]
fn a_connection_that_fails_leaks_nothing() {
    let gone = kind_server().url(); // nobody listens there any more
    let tls_to_plain = kind_server().url().replace("http:", "https:");
    let plain_server = kind_server();
    let spoken_to_in_tls = plain_server.url().replace("http:", "https:");
    let fail = |endpoint: &str| {
        let desk = Desk::new();
        desk.write("rows.csv", rows(3));
        let call = desk
            .clear_with(endpoint, "rows.csv")
            .arg("-vv")
            .flag("--report", "out.csv");

        let outcome = call
            .flag("--give-up-after", "2s")
            .flag("--timeout", "1s")
            .flag("--max-attempts", "2")
            .run();

        assert!([3, 5].contains(&outcome.status), "{outcome:?}");
        assert_nothing_leaked(&desk, &outcome, &[]);
    };
    std::thread::scope(|scope| {
        for endpoint in [
            gone.as_str(),
            &tls_to_plain,
            &spoken_to_in_tls,
            "https://no-such-host.invalid",
        ] {
            scope.spawn(move || fail(endpoint));
        }
    });
}

#[test]
fn a_server_that_echoes_the_url_of_another_request_leaks_nothing() {
    let earlier = Mutex::new(String::new());
    let server = Server::start(move |request, _| {
        let earlier = std::mem::replace(&mut *earlier.lock().expect("nobody panics"), request.target.clone());
        let encoded: String = earlier.bytes().map(|byte| format!("%{byte:02x}")).collect();
        let signature = earlier.rsplit("Signature=").next().unwrap_or_default();
        let text = match request.user().as_str() {
            "signature" => format!("is {signature} known?"),
            "encoded" => format!("bad request: {encoded}"),
            "cut" => format!("bad request: {}", &earlier[..earlier.len().saturating_sub(9)]),
            _ => format!("bad request: {earlier}"),
        };
        Answer::Json(serde_json::json!({"Code": 2, "Message": text, "RequestId": signature}).to_string())
    });
    let desk = Desk::new();
    let users = ["a", "url", "signature", "encoded", "cut", "b"];

    let outcome = desk.clear(&server, named_rows(users)).arg("-vv").run();

    outcome.assert_status(3);
    assert_no_leak(&desk, &outcome, &server.requests(), true);
    let requests = server.requests();
    for part in requests
        .iter()
        .map(|request| request.text("Signature"))
        .map(|text| text[..20].to_owned())
    {
        let encoded: String = part.bytes().map(|byte| format!("%{byte:02x}")).collect();
        for text in [&part, &encoded] {
            assert!(
                !desk.read("out.csv").contains(text),
                "{text} is in {}",
                desk.read("out.csv")
            );
        }
    }
}

#[test]
fn a_server_that_echoes_the_url_leaks_nothing() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "html" => Answer::Raw {
            status: 404,
            headers: vec![],
            body: format!("no {} here", request.target),
        },
        "message" => Answer::Json(code_body(2, &format!("bad request: {}", request.target))),
        "id" => Answer::Json(format!(
            r#"{{"Code":2,"Message":"","RequestId":"{}"}}"#,
            request.text("Signature")
        )),
        "broken" => Answer::Json(format!(r#"{{"Code":0,"Message":"{}"#, request.target)),
        "code" => Answer::Json(format!(r#"{{"Code":"{}"}}"#, request.target)),
        "header" => Answer::Raw {
            status: 429,
            headers: vec![
                ("Retry-After", request.target.clone()),
                ("Date", request.target.clone()),
            ],
            body: code_body(2, "no"),
        },
        _ => Answer::Code(0, "success"),
    });
    let desk = Desk::new();
    let call = desk.clear(
        &server,
        named_rows(["a", "html", "message", "b", "id", "broken", "c", "code", "header", "d"]),
    );

    let outcome = call.arg("-vv").flag("--max-attempts", "1").run();

    outcome.assert_status(3);
    assert_eq!(desk.report().len(), 10);
    assert_no_leak(&desk, &outcome, &server.requests(), true);
}

#[test]
fn a_secret_file_may_end_in_a_newline() {
    for ending in ["", "\n", "\r\n"] {
        let (desk, server) = (Desk::new(), kind_server());
        let file = desk.write("secret.txt", format!("{SECRET}{ending}"));
        let file = file.to_str().unwrap();
        let call = || {
            desk.clear(&server, rows(2))
                .without_env("ZIM_SERVER_SECRET")
                .arg("--overwrite")
        };

        call().flag("--secret-file", file).run().assert_status(0);
        call().env("ZIM_SERVER_SECRET_FILE", file).run().assert_status(0);

        assert_eq!(server.requests().len(), 4);
        server.assert_well_formed();
    }
}

#[test]
fn a_secret_with_a_byte_order_mark_works() {
    let (desk, server) = (Desk::new(), kind_server());
    let marked = format!("\u{feff}{SECRET}\r\n");
    desk.write("secret.txt", &marked);
    let call = || desk.clear(&server, rows(2)).arg("--overwrite");

    call().env("ZIM_SERVER_SECRET", &marked).run().assert_status(0);
    let call = call().without_env("ZIM_SERVER_SECRET");
    call.flag("--secret-file", "secret.txt").run().assert_status(0);

    assert_eq!(server.requests().len(), 4);
    server.assert_well_formed();
}

#[test]
fn text_that_is_no_secret_is_refused_before_anything_is_sent_and_never_shown() {
    let (desk, server) = (Desk::new(), kind_server());
    let utf16: Vec<u8> = "\u{feff}"
        .chars()
        .chain(SECRET.chars())
        .flat_map(|c| (c as u16).to_le_bytes())
        .collect();
    for (bytes, says) in [
        (format!("\"{SECRET}\"\n").into_bytes(), "quotation marks"),
        (format!("ZIM_SERVER_SECRET={SECRET}\n").into_bytes(), "a name"),
        (format!("{SECRET}\u{200b}").into_bytes(), "U+200B"),
        (format!("{SECRET}\n{WRONG}\n").into_bytes(), "several lines"),
        (utf16, "UTF-16"),
    ] {
        desk.write("secret.txt", &bytes);
        let call = || desk.clear(&server, rows(2)).without_env("ZIM_SERVER_SECRET");
        let by_file = call().flag("--secret-file", "secret.txt").run();
        by_file.assert_status(2).assert_says(&["secret.txt", says]);
        assert_nothing_leaked(&desk, &by_file, &[]);
        if !bytes.contains(&0) {
            let by_variable = call().env_os("ZIM_SERVER_SECRET", OsStr::from_bytes(&bytes)).run();
            by_variable.assert_status(2).assert_says(&["ZIM_SERVER_SECRET", says]);
            assert_nothing_leaked(&desk, &by_variable, &[]);
        }
    }
    assert!(!desk.has("out.csv") && server.requests().is_empty());
}

#[test]
fn a_variable_that_is_set_but_empty_counts_as_not_set() {
    let (desk, server) = (Desk::new(), kind_server());
    let names = [
        "ZIM_APP_ID",
        "ZIM_SERVER_SECRET",
        "ZIM_SERVER_SECRET_FILE",
        "ZIM_ENDPOINT",
        "ZIM_LOCK_DIR",
    ];
    let with_empty = |call: Call, names: &[&str]| names.iter().fold(call, |call, name| call.env(name, ""));
    let call = || desk.clear(&server, rows(2)).arg("--overwrite");

    with_empty(call(), &names[2..4]).run().assert_status(0);
    desk.write("secret.txt", SECRET);
    let by_flags = with_empty(call(), &names[..4])
        .flag("--app-id", &APP_ID.to_string())
        .flag("--secret-file", "secret.txt");
    by_flags.run().assert_status(0);
    let simulated = desk.zim_batch(["clear", "rows.csv", "--simulate", "--report", "simulated.csv"]);
    with_empty(simulated, &names).run().assert_status(0);
    let missing = with_empty(call(), &names[..4]).run();
    missing
        .assert_status(2)
        .assert_says(&["credentials are missing", "ZIM_APP_ID"]);
}

#[test]
fn two_different_secrets_are_refused_and_the_flag_takes_precedence() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = |name: &str, secret: &str| {
        desk.write(name, secret);
        desk.clear(&server, rows(2)).arg("--overwrite")
    };
    let file = "ZIM_SERVER_SECRET_FILE";

    let differ = call("secret.txt", WRONG).env(file, "secret.txt").run();
    differ.assert_status(2).assert_says(&["ZIM_SERVER_SECRET and", file]);
    assert_nothing_leaked(&desk, &differ, &[]);
    assert!(!desk.has("out.csv") && server.requests().is_empty());

    let same = format!("{SECRET}\n");
    call("secret.txt", &same).env(file, "secret.txt").run().assert_status(0);
    let typed = call("secret.txt", SECRET)
        .flag("--secret-file", "secret.txt")
        .env("ZIM_SERVER_SECRET", WRONG)
        .env(file, "no-such-file")
        .run();
    typed
        .assert_status(0)
        .assert_says(&["ZIM_SERVER_SECRET", "is not used"]);
    assert_nothing_leaked(&desk, &typed, &[]);
}

#[test]
fn a_secret_file_that_others_can_read_is_warned_about() {
    let (desk, server) = (Desk::new(), kind_server());
    let path = desk.write("secret.txt", SECRET);
    let call = |mode| {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        desk.clear(&server, rows(1))
            .arg("--overwrite")
            .without_env("ZIM_SERVER_SECRET")
            .env("ZIM_SERVER_SECRET_FILE", "secret.txt")
    };
    let is_warned = |mode| call(mode).run().stderr.contains("chmod");
    // A group of this process may read it, as in a container; but not another one.
    assert!(!is_warned(0o640) && !is_warned(0o440));
    if can_be_another_user() {
        std::os::unix::fs::chown(&path, None, Some(54321)).unwrap();
        assert!(is_warned(0o640));
    }
    for mode in [0o644, 0o604] {
        let outcome = call(mode).run();
        outcome.assert_status(0).assert_says(&["chmod 600 secret.txt"]);
        assert_eq!(call(mode).arg("-q").run().stderr, "");
    }
    for mode in [0o600, 0o400] {
        assert!(!call(mode).run().stderr.contains("chmod"), "{mode:o}");
    }
}

#[test]
fn an_aborted_run_leaves_no_core_dump() {
    let desk = Desk::new();
    let server = Server::start(|_, _| Answer::Hang(Duration::from_secs(20)));
    let mut running = desk
        .clear(&server, rows(5))
        .started_by("ulimit -c unlimited || exit 99; exec")
        .spawn();
    running.wait_until("a request is in flight", || !server.requests().is_empty());
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", running.id())).unwrap_or_default();
    let core = limits.lines().find(|line| line.starts_with("Max core file size"));
    if let Some(core) = core {
        assert_eq!(
            core.split_whitespace().skip(4).take(2).collect::<Vec<_>>(),
            ["0", "0"],
            "{core}"
        );
    }
    running.signal("QUIT");
    assert_eq!(running.wait().status, -3);
    let names = std::fs::read_dir(desk.path("")).unwrap().flatten();
    let dumps: Vec<_> = names
        .map(|entry| entry.file_name())
        .filter(|name| name.to_string_lossy().starts_with("core"))
        .collect();
    assert!(dumps.is_empty(), "{dumps:?}");
}

#[test]
fn a_secret_file_that_is_missing_or_empty_is_a_configuration_error() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("empty-secret", "\n");
    for file in ["no-such-file", "empty-secret"] {
        let call = desk
            .clear(&server, rows(2))
            .without_env("ZIM_SERVER_SECRET")
            .flag("--secret-file", file);
        call.run().assert_status(2).assert_says(&[file]);
    }
    assert!(!desk.has("out.csv") && server.requests().is_empty());
}

#[test]
fn missing_credentials_are_named_together() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = || desk.clear(&server, rows(2));
    let (app, secret) = ("ZIM_APP_ID", "ZIM_SERVER_SECRET");

    call()
        .without_env(app)
        .without_env(secret)
        .run()
        .assert_status(2)
        .assert_says(&[app, secret]);
    for (missing, present) in [(app, secret), (secret, app)] {
        let outcome = call().without_env(missing).run();
        outcome.assert_status(2).assert_says(&[missing]);
        assert!(!outcome.stderr.contains(present), "{}", outcome.stderr);
    }
    call().env(secret, "").run().assert_status(2).assert_says(&[secret]);
    call().env(app, "4294967296").run().assert_status(2);
    call().env(app, "many").run().assert_status(2);

    assert!(!desk.has("out.csv") && server.requests().is_empty());
    call()
        .without_env(app)
        .flag("--app-id", &APP_ID.to_string())
        .run()
        .assert_status(0);
}

#[test]
fn no_flag_takes_the_secret_and_no_help_shows_it() {
    let (desk, server) = (Desk::new(), kind_server());
    for flag in ["--secret", "--server-secret", "--app-secret"] {
        for arg in [format!("{flag}={WRONG}"), flag.to_owned()] {
            let call = desk.clear(&server, rows(2)).arg(&arg);
            let outcome = if arg == flag { call.arg(WRONG).run() } else { call.run() };
            outcome.assert_status(2);
            assert_nothing_leaked(&desk, &outcome, &[]);
        }
    }
    for args in [
        &["clear", "--help"][..],
        &["check", "--help"],
        &["--help"],
        &["clear", "-h"],
        &["man"],
        &["clear"],
    ] {
        let outcome = desk
            .zim_batch(args)
            .env("ZIM_SERVER_SECRET", SECRET)
            .env("ZIM_APP_ID", "1")
            .run();
        assert!(
            !format!("{}{}", outcome.stdout, outcome.stderr).contains(SECRET),
            "{args:?}: {outcome:?}"
        );
    }
    assert!(server.requests().is_empty());
}
