//! Secret, signatures and signed URLs are in no output, whatever a server sends back.

use std::fs;
use std::thread;

use crate::support::list::{list, with_app};
use crate::support::{Answer, Call, Desk, Options, Request, SECRET, Server};

/// Sends a signed URL and a signature back with each of these codes in turn, and fails in other ways.
fn echo(request: &Request, n: usize) -> Answer {
    let said = format!("see {} and {} of {SECRET}", request.target, request.text("Signature"));
    let body =
        |code: i64| serde_json::json!({"Code": code, "Message": said, "RequestId": said, "Next": said, "List": [said]});
    match (request.user().as_str(), n % 4) {
        ("fatal", _) => Answer::Json(body(100_000_005).to_string()),
        ("app", _) => Answer::Json(body(100_000_017).to_string()),
        ("url", _) => Answer::Redirect(format!("http://127.0.0.1:1{}", request.target)),
        (_, 0) => Answer::Raw {
            status: 502,
            headers: vec![("X-Echo", said.clone())],
            body: said,
        },
        (_, 1) => Answer::Json(body(660_800_053).to_string()),
        (_, 2) => Answer::Json(body(0).to_string()),
        _ => Answer::Json(body(660_000_002).to_string()),
    }
}

/// Runs the call, and searches its output and all files that it wrote.
#[track_caller]
fn assert_keeps_quiet(desk: &Desk, server: &Server, call: Call) {
    let outcome = call.arg("-vv").flag("--log-file", "log.txt").run();
    let mut texts = vec![outcome.stdout.clone(), outcome.stderr.clone()];
    let files = fs::read_dir(desk.path(""))
        .expect("it is there")
        .flatten()
        .map(|file| file.path());
    texts.extend(
        files
            .filter_map(|file| fs::read(file).ok())
            .map(|bytes| String::from_utf8_lossy(&bytes).into_owned()),
    );
    let all = texts.concat();
    assert!(server.count() > 0, "nothing was sent: {outcome:?}");
    // The server echoes the rest of the URL, which is harmless without the signature.
    let signatures = server.requests().into_iter().map(|request| request.text("Signature"));
    for word in signatures.chain([SECRET.to_owned()]) {
        assert!(
            !all.contains(&word),
            "`{word}` is in the output, {}: {all}",
            outcome.status
        );
    }
    assert!(outcome.status > 0, "{outcome:?}");
}

#[test]
fn a_list_keeps_its_secrets() {
    for users in ["user\na\nb\nc\n", "user\nfatal\n", "user\napp\n", "user\nurl\n"] {
        for rows in ["rows.csv", "-"] {
            let (desk, server) = (Desk::new(), Server::start(echo));
            desk.write("users.csv", users);
            let call = match rows {
                "-" => crate::support::list::list_with(&desk, &server.url(), "users.csv").flag("--rows", "-"),
                _ => list(&desk, &server, users),
            };
            assert_keeps_quiet(
                &desk,
                &server,
                call.flag("--max-attempts", "2").flag("--give-up-after", "1s"),
            );
        }
    }
    let options = Options {
        takes_any_signature: true,
        ..Options::default()
    };
    let (desk, server) = (Desk::new(), Server::with(options, |_, _| Answer::Close));
    let call = list(&desk, &server, "a\n")
        .flag("--give-up-after", "1s")
        .flag("--max-attempts", "2");
    assert_keeps_quiet(&desk, &server, call);
}

#[test]
fn a_check_keeps_its_secrets() {
    thread::scope(|scope| {
        for begin in 0..4 {
            scope.spawn(move || {
                let (desk, server) = (Desk::new(), Server::start(move |request, n| echo(request, n + begin)));
                desk.write("rows.csv", "a,c,0\n");
                let call = desk.zim_batch(["check", "rows.csv", "--online", "--endpoint", &server.url(), "--json"]);
                assert_keeps_quiet(&desk, &server, with_app(call).flag("--give-up-after", "1s"));
            });
        }
    });
}
