//! Metrics in the programs that read them: node_exporter, which is another user, and Prometheus with the documented alerts.

use std::fs::{self, Permissions};
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread;

use crate::support::{APP_ID, Desk, kind_server, program, rows};

/// node_exporter as the user `nobody`; it ends when this is dropped.
struct NodeExporter {
    child: Child,
    port: u16,
}

impl NodeExporter {
    fn start(program: &str, directory: &Path) -> NodeExporter {
        let port = TcpListener::bind("127.0.0.1:0").and_then(|free| free.local_addr());
        let port = port.expect("there is a free port").port();
        let mut child = Command::new("setpriv")
            .args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups", program])
            .args(["--collector.disable-defaults", "--collector.textfile"])
            .arg(format!("--collector.textfile.directory={}", directory.display()))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stderr(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut lines = BufReader::new(child.stderr.take().expect("it is piped")).lines();
        let listens = lines
            .by_ref()
            .map_while(Result::ok)
            .any(|line| line.contains("Listening"));
        assert!(listens, "node_exporter does not listen");
        thread::spawn(move || lines.count());
        NodeExporter { child, port }
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("it listens");
        write!(stream, "GET /metrics HTTP/1.0\r\n\r\n").expect("it reads");
        let mut answer = String::new();
        stream.read_to_string(&mut answer).expect("it answers");
        answer
    }
}

impl Drop for NodeExporter {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }
}

#[test]
fn node_exporter_serves_two_jobs_of_one_directory() {
    let Some(node_exporter) = program(&["prometheus-node-exporter", "node_exporter"]) else {
        return;
    };
    if program(&["setpriv"]).is_none() {
        return;
    }
    let (desk, server) = (Desk::new(), kind_server());
    let collector = tempfile::tempdir().unwrap();
    fs::set_permissions(collector.path(), Permissions::from_mode(0o755)).unwrap();
    for (report, file) in [("out.csv", "one.prom"), ("other.csv", "two.prom")] {
        let file = collector.path().join(file);
        let call = desk.clear(&server, rows(3)).flag("--report", report);
        let call = call.flag("--metrics", file.to_str().unwrap());
        call.started_by("umask 077; exec").run().assert_status(0);
    }
    let exporter = NodeExporter::start(node_exporter, collector.path());
    let served = exporter.scrape();
    for name in ["out", "other"] {
        let sample =
            format!("zim_batch_rows_total{{app_id=\"{APP_ID}\",command=\"clear\",name=\"{name}\",outcome=\"ok\"}} 3\n");
        assert!(served.contains(&sample), "{sample}: {served}");
    }
    assert!(served.contains("node_textfile_scrape_error 0\n"), "{served}");
}

/// The alert rules in the documentation.
fn documented_rules() -> String {
    let page = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/docs/monitoring.md"));
    let page = page.expect("there is such a page");
    let (_, rules) = page.split_once("```yaml\n").expect("the page has rules");
    rules.split("```").next().unwrap_or_default().to_owned()
}

/// What is true of a job for three days, and the alerts that fire then.
struct Case {
    running: u8,
    /// Of the last run.
    status: u8,
    on_hold: u8,
    /// Since when the metrics have not been written any more, in minutes before the end.
    silent: u32,
    fires: &'static [&'static str],
}

#[test]
fn each_documented_alert_fires_when_it_should_and_says_what_is_so() {
    let Some(promtool) = program(&["promtool"]) else { return };
    let case = |running, status, on_hold, silent, fires| Case {
        running,
        status,
        on_hold,
        silent,
        fires,
    };
    let cases = [
        case(0, 0, 0, 60, &[][..]),
        case(1, 0, 0, 0, &[]),
        case(1, 3, 0, 0, &[]),
        // The time is over; a person or systemd stopped it.
        case(0, 7, 0, 60, &[]),
        case(0, 130, 0, 60, &[]),
        case(0, 143, 0, 60, &[]),
        case(0, 3, 0, 60, &["ZimBatchFailed"]),
        case(0, 6, 0, 60, &["ZimBatchFailed"]),
        case(0, 0, 0, 27 * 60, &["ZimBatchDidNotRun"]),
        case(1, 0, 0, 10, &["ZimBatchGone"]),
        case(1, 0, 1, 0, &["ZimBatchOnHold"]),
        // A run that was killed on hold.
        case(1, 0, 1, 10, &["ZimBatchGone"]),
    ];
    let desk = Desk::new();
    desk.write("rules.yml", documented_rules());
    let alerts = ["ZimBatchFailed", "ZimBatchDidNotRun", "ZimBatchGone", "ZimBatchOnHold"];
    let tests: String = cases.iter().map(|case| test_of(case, &alerts)).collect();
    desk.write(
        "tests.yml",
        format!("rule_files: [rules.yml]\nevaluation_interval: 1m\ntests:\n{tests}"),
    );
    let tested = Command::new(promtool)
        .args(["test", "rules", "tests.yml"])
        .current_dir(desk.path("."))
        .output()
        .unwrap();
    assert!(
        tested.status.success(),
        "{}{}",
        String::from_utf8_lossy(&tested.stdout),
        String::from_utf8_lossy(&tested.stderr)
    );
}

/// The case as promtool reads it.
fn test_of(case: &Case, alerts: &[&str]) -> String {
    const MINUTES: u32 = 3 * 24 * 60;
    let Case {
        running,
        status,
        on_hold,
        silent,
        fires,
    } = case;
    let labels = "app_id=\"1\",command=\"clear\",name=\"nightly\",instance=\"host\"";
    let series = |name: &str, values: String| {
        format!("      - series: 'zim_batch_{name}{{{labels}}}'\n        values: '{values}'\n")
    };
    let constant = |name: &str, value: &u8| series(name, format!("{value}x{MINUTES}"));
    // promtool's time begins at 0.
    let updates = MINUTES - silent;
    let last_update = (updates * 60).to_string();
    let mut text = format!("  - interval: 1m\n    input_series:\n{}", constant("running", running));
    text += &constant("last_exit_status", status);
    text += &constant("on_hold", on_hold);
    text += &series(
        "last_update_time_seconds",
        format!("0+60x{updates} {last_update}x{silent}"),
    );
    text += "    alert_rule_test:\n";
    for alert in alerts {
        text += &format!("      - eval_time: {MINUTES}m\n        alertname: {alert}\n");
        if fires.contains(alert) {
            let summary = summary_of(alert, case);
            text += "        exp_alerts:\n          - exp_labels: {app_id: \"1\", command: clear, name: nightly, instance: host}\n";
            text += &format!("            exp_annotations: {{summary: \"{summary}\"}}\n");
        }
    }
    text
}

/// What the alert says of the case.
fn summary_of(alert: &str, case: &Case) -> String {
    let job = "nightly (clear, app 1)";
    match alert {
        "ZimBatchFailed" => format!("{job} ended with exit status {}", case.status),
        "ZimBatchDidNotRun" => format!("{job} has not run for 1d {}h 0m 0s", case.silent / 60 - 24),
        "ZimBatchGone" => format!(
            "{job} was killed, or its machine hangs; its metrics are {}m 0s old",
            case.silent
        ),
        _ => format!("{job} is on hold: ZIM, or what its runs share the limit through, can't be used"),
    }
}
