//! Disks that fill up, fail or disappear: nothing more is sent, nothing that was written is lost.

use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use crate::support::below::Below;
use crate::support::{
    APP_ID, Answer, Desk, SECRET, Server, figures, kind_server, pace, passed_over, read_report, rows,
};

const SECOND: Duration = Duration::from_secs(1);
const MAX_IN_FLIGHT: &str = "16";

/// Errors of a file system that is full or gone: disk quota exceeded, stale file handle, input/output error.
const ERRORS: [(&str, i64); 3] = [("EDQUOT", 122), ("ESTALE", 116), ("EIO", 5)];

/// A small file system, unmounted when dropped.
struct Disk(PathBuf);

impl Disk {
    /// `None`, with a message, if nothing can be mounted.
    fn mount(directory: &Path, options: &str) -> Option<Self> {
        fs::create_dir_all(directory).expect("the desk can be written to");
        let mounted = Command::new("mount")
            .args(["-t", "tmpfs", "-o", options, "none"])
            .arg(directory)
            .status();
        if !mounted.is_ok_and(|status| status.success()) {
            passed_over("no small disk to be had without the right to mount");
            return None;
        }
        Some(Self(directory.to_owned()))
    }

    fn remount(&self, options: &str) {
        let status = Command::new("mount")
            .args(["-o", &format!("remount,{options}")])
            .arg(&self.0)
            .status();
        assert!(status.expect("`mount` was there").success(), "remount with {options}");
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        Command::new("umount").arg("-l").arg(&self.0).status().ok();
    }
}

/// Asserts that every record belongs to a row that was sent, and that at most `most` more rows were sent; returns how many.
#[track_caller]
fn assert_little_is_unrecorded(server: &Server, report: &Path, most: usize) -> usize {
    let whole = fs::read_to_string(report).expect("it was written");
    let (records, _torn) = whole.rsplit_once('\n').expect("there is a header");
    let recorded = records.lines().count() - 1;
    let sent = server.requests().len();
    assert!(recorded <= sent, "{recorded} records of {sent} rows that were sent");
    assert!(
        sent - recorded <= most,
        "{} rows were sent beyond the {recorded} recorded",
        sent - recorded
    );
    recorded
}

#[test]
fn a_report_on_a_disk_of_64_kib_stops_the_run_and_after_making_room_it_is_completed() {
    let (desk, server) = (Desk::new(), kind_server());
    let Some(disk) = Disk::mount(&desk.path("disk"), "size=64k") else {
        return;
    };
    let report = desk.path("disk/out.csv");
    let call = || {
        let call = desk.clear(&server, rows(1500)).flag("--report", "disk/out.csv");
        call.flag("--max-in-flight", MAX_IN_FLIGHT)
            .flag("--rate", "1000")
            .arg("--resume")
    };

    let outcome = call().run();
    outcome
        .assert_status(74)
        .assert_says(&["disk/out", "no space", "--resume"]);
    let recorded = assert_little_is_unrecorded(&server, &report, 40);
    assert!((300..1000).contains(&recorded), "{recorded} records in 64 KiB");
    let sent = server.requests().len();
    figures(&format!("64 KiB: {recorded} records, {sent} rows sent"));

    // Still full: almost no row is sent.
    call().run().assert_status(74);
    let sent_again = server.requests().len() - sent;
    assert!(sent_again <= 40, "{sent_again} rows sent to a full disk");

    disk.remount("size=4m");
    let before = server.requests().len();
    call().run().assert_status(0);
    let report = read_report(&report);
    let mut lines: Vec<_> = report.iter().map(|record| record.line).collect();
    lines.sort_unstable();
    assert_eq!(lines, (2..1502).collect::<Vec<_>>());
    assert!(desk.has("disk/out.outside.csv"));
    figures(&format!("after making room: {} more", server.requests().len() - before));
}

#[test]
fn an_outside_log_that_can_t_be_written_stops_the_run_too() {
    let server = Server::start(|_, _| Answer::Code(660_800_002, "no such conversation"));
    let desk = Desk::new();
    let Some(disk) = Disk::mount(&desk.path("disk"), "size=16k") else {
        return;
    };
    let call = || {
        let call = desk.clear(&server, rows(600)).flag("--outside", "disk/outside.csv");
        call.flag("--max-in-flight", MAX_IN_FLIGHT)
            .flag("--rate", "1000")
            .arg("--resume")
    };
    call().run().assert_status(74).assert_says(&["disk/outside.csv"]);
    assert_little_is_unrecorded(&server, &desk.path("out.csv"), 40);

    disk.remount("size=4m");
    call().run().assert_status(0);
    assert_eq!(desk.report_by_user().len(), 600);
    assert_eq!(read_report(&desk.path("disk/outside.csv")).len(), 600);
}

#[test]
fn the_outside_log_gets_no_row_that_is_not_in_the_report() {
    let server = Server::start(|_, _| Answer::Code(660_800_002, "no such conversation"));
    let desk = Desk::new();
    let Some(_disk) = Disk::mount(&desk.path("disk"), "size=16k") else {
        return;
    };
    let call = desk.clear(&server, rows(600)).flag("--report", "disk/out.csv");
    let call = call.flag("--outside", "outside.csv").flag("--rate", "1000");
    call.run().assert_status(74).assert_says(&["disk/out.csv"]);
    let lines = |path: &str| -> Vec<u64> {
        let records = read_report(&desk.path(path));
        records.into_iter().map(|record| record.line).collect()
    };
    assert_eq!(lines("outside.csv"), lines("disk/out.csv"));
}

#[test]
fn a_limit_on_the_size_of_files_stops_the_run_and_it_is_resumed() {
    for trap in ["trap '' XFSZ", ":"] {
        let (desk, server) = (Desk::new(), kind_server());
        desk.write("rows.csv", rows(400));
        let command = format!(
            "{trap}; ulimit -f 16; exec {} clear rows.csv --report out.csv --endpoint {} --rate 1000 --max-in-flight 16",
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
        let said = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(74), "`{trap}`: {} {said}", output.status);
        assert!(said.contains("--resume"), "`{trap}`: {said}");
        assert_little_is_unrecorded(&server, &desk.path("out.csv"), 40);

        desk.clear(&server, rows(400))
            .arg("--resume")
            .flag("--rate", "1000")
            .run()
            .assert_status(0);
        assert_eq!(desk.report_by_user().len(), 400);
    }
}

#[test]
fn a_disk_that_is_full_from_the_start_is_reported_before_anything_is_sent() {
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear(&server, rows(5)).flag("--report", "/dev/full");
    let call = call.flag("--outside", "outside.csv").arg("--overwrite");
    call.run().assert_status(74).assert_says(&["/dev/full"]);

    desk.clear(&server, rows(5))
        .flag("--report", "no/such/directory/out.csv")
        .run()
        .assert_status(74)
        .assert_says(&["no/such/directory/out.csv"]);
    assert_eq!(server.requests().len(), 0);
}

#[test]
fn a_write_that_fails_half_way_stops_the_run_and_leaves_no_torn_record() {
    let (Some(_), is_shortened) = (Below::new(), [true, false]) else {
        return;
    };
    for ((name, errno), is_shortened) in ERRORS.into_iter().flat_map(|error| is_shortened.map(|is| (error, is))) {
        let (desk, server) = (Desk::new(), kind_server());
        let below = Below::new().expect("it was there just now");
        let call = desk.clear(&server, rows(1000)).flag("--max-in-flight", MAX_IN_FLIGHT);
        let mut running = below.under(call).spawn();
        running.wait_until("some records are written", || server.count() >= 50);
        if !is_shortened {
            below.fail_truncates();
        }
        below.fail_writes(errno);
        let outcome = running.wait();

        outcome.assert_status(74).assert_says(&["out.csv", "--resume"]);
        let recorded = assert_little_is_unrecorded(&server, &desk.path("out.csv"), 40);
        assert!(recorded < 1000, "{name}: {recorded} records");
        let is_torn = !desk.read("out.csv").ends_with('\n');
        assert_eq!(
            is_torn, !is_shortened,
            "{name}: what was half written is taken back, if that is possible"
        );

        let call = desk.clear(&server, rows(1000)).arg("--resume");
        call.flag("--rate", "5000").run().assert_status(0);
        assert_eq!(desk.report_by_user().len(), 1000, "{name}");
    }
}

#[test]
fn a_sync_that_fails_stops_the_run() {
    let Some(below) = Below::new() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear(&server, rows(400)).flag("--rate", "40");
    let mut running = below.under(call).spawn();
    running.wait_until("the run is under way", || server.requests().len() >= 20);
    below.fail_syncs(5);
    let outcome = running.wait();

    outcome.assert_status(74).assert_says(&["out.csv", "--resume"]);
    assert!(
        server.requests().len() < 200,
        "{} rows were sent",
        server.requests().len()
    );
    desk.clear(&server, rows(400)).arg("--resume").run().assert_status(0);
    assert_eq!((desk.report_by_user().len(), desk.report().len()), (400, 400));
}

#[test]
fn records_are_on_the_disk_within_a_second_or_so() {
    let Some(below) = Below::new() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear(&server, rows(120)).flag("--rate", "40");
    let mut running = below.under(call).spawn();
    running.wait_until("the first rows are sent", || server.requests().len() >= 2);
    let of_folder = below.syncs().iter().filter(|sync| sync.starts_with("fsync ")).count();
    assert!(
        of_folder >= 1,
        "no sync of the folder before the first rows: {:?}",
        below.syncs()
    );
    let summary = running.wait().assert_status(0).summary();

    let syncs = below.syncs();
    let of_report = syncs.iter().filter(|sync| sync.ends_with("/out.csv")).count();
    let seconds = summary.0["elapsed_s"].as_f64().expect("a number");
    assert!(
        of_report >= 3 && (of_report as f64) < seconds + 6.0,
        "in {seconds} s: {syncs:?}"
    );
}

#[test]
fn no_row_waits_for_a_disk_that_is_slow() {
    let Some(below) = Below::new() else { return };
    below.slow_syncs(2000);
    let (desk, server) = (Desk::new(), kind_server());
    let call = desk.clear(&server, rows(120)).flag("--rate", "40");
    let started_at = Instant::now();
    below.under(call).run().assert_status(0);

    let of_report = below.syncs().iter().filter(|sync| sync.ends_with("/out.csv")).count();
    assert!(of_report >= 2, "{:?}", below.syncs());
    let delay = pace::delay(started_at, Instant::now());
    let longest = server.arrivals().windows(2).map(|two| two[1] - two[0]).max();
    assert!(
        longest < Some(3 * SECOND / 2 + 3 * delay),
        "a gap of {longest:?} between two rows, while a sync takes two seconds; delays of the machine: {delay:?}"
    );
}

#[test]
fn a_report_whose_directory_is_removed_stops_the_run() {
    for what in ["directory", "file"] {
        let (desk, server) = (Desk::new(), kind_server());
        fs::create_dir(desk.path("directory")).unwrap();
        let call = desk.clear(&server, rows(400)).flag("--report", "directory/out.csv");
        let mut running = call.flag("--rate", "40").spawn();
        running.wait_until("the run is under way", || server.requests().len() >= 20);
        match what {
            "directory" => fs::remove_dir_all(desk.path("directory")).unwrap(),
            _ => fs::remove_file(desk.path("directory/out.csv")).unwrap(),
        }
        let outcome = running.wait();

        outcome.assert_status(74).assert_says(&["directory/out.csv"]);
        let sent = server.requests().len();
        assert!(sent < 200, "{what}: {sent} rows were sent");
    }
}

#[test]
fn a_report_or_outside_log_that_another_program_changes_stops_the_run() {
    for (file, is_cut) in [
        ("out.csv", true),
        ("out.csv", false),
        ("out.outside.csv", true),
        ("out.outside.csv", false),
    ] {
        let server = Server::start(|_, _| Answer::Code(660_800_002, "no such conversation"));
        let desk = Desk::new();
        let mut running = desk.clear(&server, rows(400)).flag("--rate", "40").spawn();
        running.wait_until("the run is under way", || server.requests().len() >= 20);
        let open = fs::OpenOptions::new().append(true).open(desk.path(file)).unwrap();
        if is_cut {
            open.set_len(0).unwrap()
        } else {
            (&open).write_all(b"a line of somebody else's\n").unwrap()
        }
        let outcome = running.wait();

        outcome
            .assert_status(74)
            .assert_says(&[file, "another program", "--resume"]);
        let sent = server.requests().len();
        assert!(sent < 200, "{file}: {sent} rows were sent");
        assert!(outcome.summary().count("not_run") >= 400 - sent as u64, "{file}");
    }
}

#[test]
fn a_report_that_is_not_writable_is_reported_before_anything_is_sent() {
    let (desk, server) = (Desk::new(), kind_server());
    desk.clear(&server, rows(3)).run().assert_status(0);
    fs::create_dir(desk.path("directory")).unwrap();
    fs::copy(desk.path("out.csv"), desk.path("directory/out.csv")).unwrap();
    let before = desk.read("out.csv");
    // Root can write to read-only files, but not to a read-only file system.
    let disk = Disk::mount(&desk.path("disk"), "size=1m");
    if let Some(disk) = &disk {
        fs::copy(desk.path("out.csv"), desk.path("disk/out.csv")).unwrap();
        disk.remount("ro");
    }
    fs::set_permissions(desk.path("directory/out.csv"), PermissionsExt::from_mode(0o444)).unwrap();
    let is_root = fs::OpenOptions::new()
        .append(true)
        .open(desk.path("directory/out.csv"))
        .is_ok();
    for report in ["disk/out.csv", "directory/out.csv"] {
        if (report.starts_with("disk") && disk.is_none()) || (report.starts_with("directory") && is_root) {
            continue;
        }
        let call = desk.clear(&server, rows(6)).flag("--report", report);
        let outcome = call.arg("--resume").run();
        outcome.assert_status(74).assert_says(&[report, "--report"]);
        assert_eq!(desk.read(report), before);
    }
    assert_eq!(server.requests().len(), 3);

    fs::create_dir(desk.path("a-folder.csv")).unwrap();
    let call = desk
        .clear(&server, rows(3))
        .flag("--report", "a-folder.csv")
        .arg("--resume");
    call.run().assert_status(74).assert_says(&["a-folder.csv"]);
    assert_eq!(server.requests().len(), 3);
}
