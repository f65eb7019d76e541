//! A quota that runs on many machines share through a real Redis: runs with lock directories of their own, as on machines
//! of their own.

mod faults;
mod steering;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::{Call, Desk, Request, Running, Server, kind_server, named_rows, pace, program};

pub const SECOND: Duration = Duration::from_secs(1);
const CAP: usize = 20;
const PASSWORD: &str = "s3cr%t-pass";

/// A Redis with a password, on a port and a socket of its own. It ends with this process too, however that ends: then the
/// standard input of the shell that started it is closed.
pub struct Redis {
    directory: tempfile::TempDir,
    pub port: u16,
    /// Further arguments.
    options: Vec<String>,
    process: Option<Child>,
}

impl Redis {
    /// `None` if it is not installed.
    pub fn start() -> Option<Redis> {
        Redis::with(&[])
    }

    pub fn with(options: &[&str]) -> Option<Redis> {
        program(&["redis-server"])?;
        let free = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
        let mut redis = Redis {
            directory: tempfile::tempdir().expect("a temporary directory can be made"),
            port: free.local_addr().expect("it is bound").port(),
            options: options.iter().map(ToString::to_string).collect(),
            process: None,
        };
        drop(free);
        redis.begin();
        Some(redis)
    }

    pub fn begin(&mut self) {
        let port = self.port.to_string();
        // A Sentinel needs a file for its settings.
        std::fs::write(self.directory.path().join("redis.conf"), "").expect("it can be written to");
        let process = Command::new("sh")
            .args(["-c", "redis-server redis.conf \"$@\" & read -r end; kill -9 $!; wait"])
            .args(["sh", "--bind", "127.0.0.1", "--port", &port, "--requirepass", PASSWORD])
            .args(["--unixsocket".as_ref(), self.socket().as_os_str()])
            .args(&self.options)
            .current_dir(self.directory.path())
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn();
        self.process = Some(process.expect("there is a shell"));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", self.port)).is_err() {
            assert!(begun.elapsed() < 90 * SECOND, "redis-server does not answer");
            thread::sleep(Duration::from_millis(10));
        }
    }

    /// Sends a command, as `redis-cli` does, and returns what it answers at once.
    pub fn command(&self, command: &str) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it is running");
        let text = format!("AUTH {PASSWORD}\r\n{command}\r\nPING\r\n");
        stream.write_all(text.as_bytes()).expect("it is running");
        let mut answer = Vec::new();
        while !answer.ends_with(b"+PONG\r\n") {
            let mut bytes = [0; 4096];
            let length = stream.read(&mut bytes).expect("it is running");
            assert!(length > 0, "{command}: {}", String::from_utf8_lossy(&answer));
            answer.extend(&bytes[..length]);
        }
        String::from_utf8_lossy(&answer).into_owned()
    }

    pub fn end(&mut self) {
        if let Some(mut process) = self.process.take() {
            drop(process.stdin.take());
            process.wait().expect("it was started here");
        }
    }

    fn socket(&self) -> PathBuf {
        self.directory.path().join("redis.sock")
    }

    /// The URL with the password, percent-encoded.
    pub fn url(&self) -> String {
        format!("redis://:s3cr%25t-pass@127.0.0.1:{}", self.port)
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.end();
    }
}

/// A run of `count` rows on a machine of its own.
pub fn run_of(desk: &Desk, server: &Server, quota: &str, user: &str, count: usize) -> Call {
    let file = format!("{user}.csv");
    desk.write(&file, named_rows((0..count).map(|number| format!("{user}-{number}"))));
    std::fs::create_dir_all(desk.path(&format!("{user}.locks"))).expect("the desk can be written to");
    desk.clear_with(&server.url(), &file)
        .flag("--report", &format!("{user}.report.csv"))
        .flag("--lock-dir", &format!("{user}.locks"))
        .env("ZIM_QUOTA", quota)
        .arg("--json")
}

pub fn wait_for_requests(running: &mut Running, server: &Server, count: usize) {
    running.wait_until("it is under way", || server.requests().len() >= count);
}

#[test]
fn runs_on_several_machines_share_the_quota() {
    let Some(redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let socket = format!("redis+unix://{}?pass=s3cr%25t-pass", redis.socket().display());
    let runs = [("a", redis.url()), ("b", redis.url()), ("c", socket)];
    let mut runs = runs.map(|(user, url)| run_of(&desk, &server, &url, user, 400).spawn());
    let count_of = |requests: &[Request], user: &str| {
        let mine = requests.iter().filter(|request| request.user().starts_with(user));
        mine.count()
    };
    // On a busy machine one may begin seconds after the others.
    for (run, user) in runs.iter_mut().zip(["a-", "b-", "c-"]) {
        run.wait_until("all are under way", || count_of(&server.requests(), user) > 0);
    }
    let before = server.requests().len();
    runs[0].wait_until("all have had their share", || server.requests().len() >= before + 90);
    let together = server.requests().split_off(before);
    for user in ["a-", "b-", "c-"] {
        let share = count_of(&together, user) as f64 / together.len() as f64;
        assert!(share >= 0.15, "{user} has a share of {share:.2}");
    }
    for run in &runs {
        run.signal("TERM");
    }
    for run in runs {
        let outcome = run.wait();
        outcome.assert_status(143);
        assert!(outcome.stdout.contains("\"runs\":3,"), "{outcome:?}");
    }
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn a_server_that_is_gone_for_a_while_holds_the_run_and_nothing_is_sent_meanwhile() {
    let Some(mut redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let call = run_of(&desk, &server, &redis.url(), "a", 100);
    let mut run = call.flag("--log-file", "run.log").spawn();
    wait_for_requests(&mut run, &server, 30);
    redis.end();
    run.wait_until("it is on hold", || {
        desk.has("run.log") && desk.read("run.log").contains("on hold")
    });
    let before = server.count();
    thread::sleep(2 * SECOND);
    let meanwhile = server.count() - before;
    // What had been reserved before may still be under way.
    assert!(meanwhile <= 3, "{meanwhile} requests were sent without the server");
    redis.begin();
    let outcome = run.wait();
    outcome
        .assert_status(0)
        .assert_says(&["on hold", "quota server redis://127.0.0.1", "the run continues"])
        .summary()
        .assert_counts(&[("ok", 100)]);
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn a_server_that_is_never_there_ends_the_run_after_its_limit() {
    let (desk, server) = (Desk::new(), kind_server());
    let outcome = run_of(&desk, &server, "redis://:s3cr%25t-pass@127.0.0.1:1", "a", 2)
        .flag("--give-up-after", "1s")
        .run();
    outcome
        .assert_status(5)
        .assert_says(&["redis://127.0.0.1:1", "--give-up-after", "--resume"])
        .summary()
        .assert_counts(&[("not_run", 2), ("requests", 0)]);
}

#[test]
fn a_refused_password_and_a_wrong_url_are_said_before_anything_begins_and_shown_nowhere() {
    let Some(redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let port = redis.port;
    for (url, says) in [
        (
            format!("redis://:wr0ng@127.0.0.1:{port}"),
            "refuses the user or the password",
        ),
        (
            format!("redis://user:wr0ng@127.0.0.1:{port}"),
            "refuses the user or the password",
        ),
        (format!("redis://127.0.0.1:{port}"), "refuses the user or the password"),
        ("http://:wr0ng@127.0.0.1".into(), "redis://host"),
        ("wr0ng".into(), "redis://host"),
        ("redis://:wr0ng@".into(), "redis://host"),
    ] {
        for how in ["variable", "flag"] {
            let call = run_of(&desk, &server, &url, "a", 2).arg("-vv");
            let call = match how {
                "flag" => call.without_env("ZIM_QUOTA").flag("--quota", &url),
                _ => call,
            };
            let outcome = call.run();
            let origin = if how == "flag" { "--quota" } else { "ZIM_QUOTA" };
            outcome.assert_status(2).assert_says(&[says, origin]);
            assert!(
                !format!("{}{}", outcome.stdout, outcome.stderr).contains("wr0ng"),
                "{outcome:?}"
            );
            assert!(!desk.has("a.report.csv"), "{url}");
        }
    }
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_password_is_in_no_output_of_a_run_that_is_stopped() {
    let Some(mut redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let call = run_of(&desk, &server, "", "a", 100).without_env("ZIM_QUOTA").arg("-vv");
    let mut run = call.flag("--quota", &redis.url()).spawn();
    wait_for_requests(&mut run, &server, 5);
    redis.end();
    thread::sleep(SECOND);
    run.signal("TERM");
    let outcome = run.wait();
    outcome.assert_status(143).assert_says(&["set ZIM_QUOTA", "--resume"]);
    let report = desk.read("a.report.csv");
    for secret in ["s3cr", "s3cr%25t"] {
        for output in [&outcome.stdout, &outcome.stderr, &report] {
            assert!(!output.contains(secret), "{outcome:?}");
        }
    }
    redis.begin();
    let rest = run_of(&desk, &server, &redis.url(), "a", 100).arg("--resume").run();
    rest.assert_status(0);
}
