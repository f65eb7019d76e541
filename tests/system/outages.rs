//! Networks and services that fail for a while: every row is answered in the end, and few requests are sent in the
//! meantime.

use std::process::Command;
use std::thread;
use std::time::Duration;

use crate::support::below::Below;
use crate::support::proxy::{Mode, Proxy};
use crate::support::{APP_ID, Answer, Desk, Outcome, Running, SECRET, Server, figures, kind_server, pace, program};
use crate::support::{passed_over, read_report, rows};
use crate::tls::serve_once;

const SECOND: Duration = Duration::from_secs(1);

/// 80 rows at 20 per second, with a network that fails in this way and for this long from the 40th row on. Returns the
/// outcome, and how many requests did not reach the service.
fn wait_out(mode: Mode, outage: Duration) -> (Desk, Outcome, usize) {
    let (desk, server) = (Desk::new(), kind_server());
    let proxy = Proxy::start(&server.url());
    desk.write("rows.csv", rows(80));
    let mut running = desk
        .clear_with(&proxy.url(), "rows.csv")
        .flag("--report", "out.csv")
        .flag("--max-attempts", "3")
        .flag("--timeout", "2s")
        .arg("--json")
        .spawn();
    running.wait_until("the outage", || server.requests().len() >= 40);
    proxy.switch(mode);
    thread::sleep(outage);
    proxy.switch(Mode::Pass);
    let outcome = running.wait();

    let summary = outcome.assert_status(0).summary();
    summary.assert_counts(&[("rows", 80), ("ok", 80)]);
    assert_eq!(desk.report_by_user().len(), 80);
    let arrived = server.requests().len();
    assert_eq!(
        arrived, 80,
        "{mode:?}: rows were sent twice to a service that had answered"
    );
    server.assert_well_formed();
    // Refused connections arrive nowhere, so only the program can count them.
    let kept = (summary.count("requests") as usize - arrived).max(proxy.kept());
    (desk, outcome, kept)
}

/// Waits until the log file `run.log` says that the run is on hold.
fn wait_until_on_hold(running: &mut Running, desk: &Desk) {
    running.wait_until("it is on hold", || {
        desk.has("run.log") && desk.read("run.log").contains("on hold")
    });
}

#[track_caller]
fn assert_said_once(outcome: &Outcome, part: &str) {
    let lines = outcome.stderr.lines().filter(|line| line.contains(part)).count();
    assert_eq!(lines, 1, "lines with `{part}`: {}", outcome.stderr);
}

#[test]
fn an_outage_of_eight_seconds_fails_no_row_and_takes_few_requests() {
    thread::scope(|scope| {
        for mode in [Mode::Refuse, Mode::BadGateway, Mode::Reset, Mode::Silence] {
            scope.spawn(move || {
                let (_desk, outcome, kept) = wait_out(mode, 8 * SECOND);
                figures(&format!(
                    "{mode:?}: {kept} requests in an outage of 8 s, {:?} in all",
                    outcome.elapsed
                ));
                // Attempts that were under way when it began, and a probe now and then. Without a hold there would be 160.
                assert!(kept < 80, "{mode:?}: {kept} requests in an outage of 8 s");
                assert_said_once(&outcome, "on hold");
                assert_said_once(&outcome, "answers again");
            });
        }
    });
}

#[test]
fn a_slow_network_is_no_outage() {
    let (_desk, outcome, kept) = wait_out(Mode::Delay(SECOND / 2), 2 * SECOND);
    assert_eq!(kept, 0);
    assert!(!outcome.stderr.contains("on hold"), "{}", outcome.stderr);
}

#[test]
fn names_that_temporarily_can_t_be_resolved_fail_no_row() {
    let desk = Desk::new();
    let Some(below) = Below::new() else { return };
    let server = serve_once(&["zim.test"], |_| true);
    desk.write("cert.pem", &server.authority);
    desk.write("rows.csv", rows(100));
    let url = format!("https://zim.test:{}", server.address.port());
    let call = desk.clear_with(&url, "rows.csv").flag("--report", "out.csv");
    let call = call
        .flag("--ca-cert", "cert.pem")
        .flag("--rate", "40")
        .flag("--max-attempts", "3")
        .flag("--log-file", "run.log")
        .arg("--json");
    let mut running = below.under(call).spawn();
    running.wait_until("the names go", || server.answered() >= 40);

    below.lose_names(true);
    wait_until_on_hold(&mut running, &desk);
    below.lose_names(false);

    let outcome = running.wait();
    outcome.assert_status(0).summary().assert_counts(&[("ok", 100)]);
    assert_said_once(&outcome, "on hold");
    assert_eq!(server.answered(), 100);
}

#[test]
fn a_run_gives_up_on_a_long_outage_and_resumes_with_the_printed_command() {
    let (desk, server) = (Desk::new(), kind_server());
    let proxy = Proxy::start(&server.url());
    desk.write("rows.csv", rows(120));
    let call = desk.clear_with(&proxy.url(), "rows.csv").flag("--report", "out.csv");
    let call = call.flag("--rate", "40").flag("--give-up-after", "2s").arg("--json");
    let mut running = call.spawn();
    running.wait_until("the outage", || server.requests().len() >= 40);
    proxy.switch(Mode::BadGateway);
    let outcome = running.wait();

    outcome.assert_status(5).assert_says(&["--give-up-after", "502"]);
    let summary = outcome.summary();
    assert_eq!(summary.count("ok") + summary.count("not_run"), 120, "{summary:?}");
    assert!(
        summary.0["stopped"]
            .as_str()
            .is_some_and(|why| why.contains("unreachable")),
        "{summary:?}"
    );

    proxy.switch(Mode::Pass);
    let command = outcome
        .stderr
        .lines()
        .find_map(|line| line.split_once("to resume this run: "));
    let (_, command) = command.unwrap_or_else(|| panic!("no command that resumes: {}", outcome.stderr));
    let resumed = Command::new("sh")
        .args(["-c", command])
        .current_dir(desk.path(""))
        .env("ZIM_APP_ID", APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", SECRET)
        .status();
    assert!(resumed.expect("there is a shell").success());
    assert_eq!(desk.report_by_user().len(), 120);
    assert_eq!(
        server.requests().len(),
        120,
        "a row that had been answered was sent again"
    );
}

#[test]
fn an_outage_during_the_last_rows_fails_none_of_them() {
    // When only five rows are left, they are too few to recognize it by their number.
    let (desk, server) = (Desk::new(), kind_server());
    let proxy = Proxy::start(&server.url());
    desk.write("rows.csv", rows(45));
    let call = desk.clear_with(&proxy.url(), "rows.csv").flag("--report", "out.csv");
    let mut running = call.flag("--max-attempts", "2").spawn();
    running.wait_until("the outage", || server.requests().len() >= 40);
    proxy.switch(Mode::Refuse);
    thread::sleep(3 * SECOND / 2);
    proxy.switch(Mode::Pass);
    running.wait();
    let failed: Vec<_> = desk.report().into_iter().filter(|r| r.outcome != "ok").collect();
    assert!(failed.is_empty(), "{failed:?}");
    assert_eq!(desk.report().len(), 45);
}

#[test]
fn a_computer_that_sleeps_fails_no_row_and_wakes_without_a_burst() {
    // Requests are in flight when the process is stopped.
    let slow = |_: &_, _| Answer::After(SECOND / 4, Box::new(Answer::Code(0, "success")));
    let (desk, server) = (Desk::new(), Server::start(slow));
    let call = desk.clear(&server, rows(90)).without("--rate");
    let mut running = call.flag("--timeout", "2s").flag("--max-attempts", "2").spawn();
    running.wait_until("the run is under way", || server.requests().len() >= 30);

    running.signal("STOP");
    thread::sleep(3 * SECOND);
    let asleep = server.requests().len();
    running.signal("CONT");
    let outcome = running.wait();

    outcome.assert_status(0).summary().assert_counts(&[("ok", 90)]);
    let arrivals = server.arrivals();
    // 20 in a second, and one that had started when the process was stopped and was sent when it continued.
    pace::assert_within_cap(&arrivals, 21);
    assert!(arrivals.len() >= asleep + 9, "{asleep} requests before it slept");
    pace::assert_spread(&arrivals[asleep..asleep + 9], 9, Duration::from_millis(330));
    assert!(arrivals.len() <= 90 + 10, "{} requests for 90 rows", arrivals.len());
}

#[test]
fn a_run_on_hold_can_be_stopped_at_any_time() {
    let hold = |is_signal: bool, status: i32| {
        let (desk, server) = (Desk::new(), kind_server());
        let proxy = Proxy::start(&server.url());
        let call = desk.clear(&server, rows(60)).flag("--endpoint", &proxy.url());
        let call = call.flag("--rate", "40").flag("--log-file", "run.log");
        let mut running = call.flag("--max-duration", if is_signal { "1h" } else { "3s" }).spawn();
        running.wait_until("the outage", || server.requests().len() >= 20);
        proxy.switch(Mode::Refuse);
        if is_signal {
            wait_until_on_hold(&mut running, &desk);
            running.signal("TERM");
        }
        let outcome = running.wait();

        outcome.assert_status(status).assert_says(&["on hold", "--resume"]);
        let summary = outcome.summary();
        summary.assert_counts(&[("ok", desk.report().len() as u64), ("failed", 0)]);
        proxy.switch(Mode::Pass);
        desk.clear(&server, rows(60)).arg("--resume").run().assert_status(0);
        assert_eq!((desk.report_by_user().len(), server.requests().len()), (60, 60));
    };
    thread::scope(|scope| {
        scope.spawn(|| hold(true, 143));
        scope.spawn(|| hold(false, 7));
    });
}

#[test]
fn the_bar_says_that_the_run_is_on_hold() {
    let Some(script) = program(&["script"]) else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let proxy = Proxy::start(&server.url());
    proxy.switch(Mode::BadGateway);
    desk.write("rows.csv", rows(60));
    let command = format!(
        "{} clear rows.csv --report out.csv --endpoint {} --rate 40",
        env!("CARGO_BIN_EXE_zim-batch"),
        proxy.url()
    );
    let mut running = Command::new(script)
        .args(["-qefc", &command, "typescript"])
        .current_dir(desk.path(""))
        .env("ZIM_APP_ID", APP_ID.to_string())
        .env("ZIM_SERVER_SECRET", SECRET)
        .env("TERM", "xterm")
        .stdin(std::process::Stdio::null())
        .stdout(std::process::Stdio::null())
        .spawn()
        .expect("it was there just now");
    while !desk.has("typescript") || !desk.read("typescript").contains("on hold") {
        assert!(
            running.try_wait().expect("it is our child").is_none(),
            "it ended before the hold"
        );
        thread::sleep(Duration::from_millis(20));
    }
    proxy.switch(Mode::Pass);
    assert!(running.wait().expect("it is our child").success());

    let screen = desk.read("typescript").to_lowercase();
    assert!(screen.contains("on hold") && screen.contains("http 502"), "{screen}");
    let last = screen.rfind("on hold").expect("it was there");
    assert!(
        screen[last..].contains("/s"),
        "the bar did not go on after the hold: {screen}"
    );
    assert_eq!(read_report(&desk.path("out.csv")).len(), 60);
}

/// In a network of its own, where packets with a request get lost for seven seconds; `$1` is the program. The directory
/// has `rows.csv`.
const HOLE: &str = r#"
set -e
ip link set lo up
"$1" simulate --port 18080 > simulated.json &
simulator=$!
sleep 1
"$1" clear rows.csv --report out.csv --timeout 2s --json --progress none > summary.json &
run=$!
sleep 2
iptables -A INPUT -p tcp --dport 18080 -m length --length 200:65535 -j DROP
sleep 7
iptables -F INPUT
wait $run
kill $simulator
wait $simulator
"#;

#[test]
fn requests_that_have_timed_out_are_not_delivered_when_the_path_works_again() {
    let in_own_network = |script: &str| {
        let mut command = Command::new("unshare");
        command.args(["-rn", "sh", "-c", script, "sh"]);
        command
    };
    let rule = "iptables -A INPUT -p tcp --dport 18080 -m length --length 200:65535 -j DROP && ip link";
    if !in_own_network(rule).output().is_ok_and(|tried| tried.status.success()) {
        passed_over(
            "no path that loses requests without unshare, ip, iptables and the right to a network of one's own",
        );
        return;
    }
    let desk = Desk::new();
    desk.write("rows.csv", rows(200));
    let output = in_own_network(HOLE)
        .arg(env!("CARGO_BIN_EXE_zim-batch"))
        .current_dir(desk.path("."))
        .env("ZIM_APP_ID", "12345")
        .env("ZIM_SERVER_SECRET", "9193cc662a4c0ec135ec71fb57194b38")
        .env("ZIM_ENDPOINT", "http://127.0.0.1:18080")
        .env("ZIM_LOCK_DIR", desk.path("."))
        .output()
        .expect("it was there just now");
    let json = |name: &str| serde_json::from_str::<serde_json::Value>(&desk.read(name)).expect("it is JSON");
    let (summary, simulated) = (json("summary.json"), json("simulated.json"));
    assert!(output.status.success(), "{summary} {output:?}");
    assert_eq!(
        (&summary["ok"], &summary["exit"]),
        (&200.into(), &0.into()),
        "{summary}"
    );
    assert_eq!(simulated["cleared"], 200, "rows were cleared twice: {simulated}");
    figures(&format!("a path that lost requests for 7 s: {simulated}"));
}
