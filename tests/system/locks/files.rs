//! Files of the quota that others remove, replace, lock or plant; and where they are.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::{CAP, lock_files, quota_files, run_of, wait_for_requests};
use crate::support::{APP_ID, Desk, kind_server, pace, passed_over, program};

#[test]
fn any_other_file_in_place_of_the_lock_file_is_an_error_that_is_always_said_and_stays_unchanged() {
    let (desk, server) = (Desk::new(), kind_server());
    let [lock, _, starts] = quota_files(&desk, &server);
    let paths = [lock, starts];
    let victim = desk.write("victim", "precious");
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    fs::set_permissions(&victim, fs::Permissions::from_mode(0o600)).unwrap();
    type Put<'a> = &'a dyn Fn(&Path);
    let cases: [(&str, Put); 5] = [
        ("FIFO", &|path| {
            let made = std::process::Command::new("mkfifo").arg(path).status();
            assert!(made.unwrap().success());
        }),
        ("directory", &|path| fs::create_dir(path).unwrap()),
        ("symbolic link", &|path| {
            std::os::unix::fs::symlink(&victim, path).unwrap();
        }),
        ("too large", &|path| {
            fs::File::create(path).unwrap().set_len(1_500_000_000).unwrap();
        }),
        ("socket", &|path| {
            std::os::unix::net::UnixListener::bind(path).unwrap();
        }),
    ];
    for (index, (what, put)) in cases.into_iter().enumerate() {
        let path = &paths[index % 2];
        put(path);
        for (number, flag) in ["-q", "--no-wait"].into_iter().enumerate() {
            let name = format!("run{index}{number}");
            let outcome = run_of(&desk, &server, &name, 2).arg(flag).run();
            outcome.assert_status(0).assert_says(&[what, "ZIM_LOCK_DIR"]);
            assert_eq!(
                outcome.stderr.matches("can't be used as a lock file").count(),
                1,
                "{outcome:?}"
            );
        }
        assert!(path.symlink_metadata().is_ok(), "{what} was removed");
        assert_eq!(
            (desk.read("victim").as_str(), mode(&victim)),
            ("precious", 0o600),
            "{what}"
        );
        fs::remove_file(path).or_else(|_| fs::remove_dir(path)).unwrap();
    }
}

#[test]
fn a_run_that_can_create_no_lock_file_warns_and_continues() {
    let (desk, server) = (Desk::new(), kind_server());
    // Not even root can create a file there.
    let outcome = run_of(&desk, &server, "a", 2).env("ZIM_LOCK_DIR", "/sys").run();
    outcome.assert_status(0).assert_says(&["/sys/zim-batch", "exceed"]);

    let outcome = run_of(&desk, &server, "b", 2)
        .flag("--lock-dir", "no-such-directory")
        .run();
    outcome
        .assert_status(2)
        .assert_says(&["no-such-directory", "--lock-dir"]);
    assert!(!desk.has("b.report.csv") && server.requests().len() == 2);
}

#[test]
fn a_file_that_another_program_keeps_locked_holds_a_run_no_longer_than_its_limits() {
    let (desk, server) = (Desk::new(), kind_server());
    let [.., starts] = quota_files(&desk, &server);
    let before = server.requests().len();
    let holder = fs::File::create(&starts).unwrap();
    holder.lock().unwrap();

    let outcome = run_of(&desk, &server, "a", 2).flag("--give-up-after", "1s").run();
    outcome
        .assert_status(5)
        .assert_says(&["on hold", "has locked this file", "--give-up-after", "--resume"])
        .summary()
        .assert_counts(&[("rows", 2), ("not_run", 2), ("requests", 0)]);
    assert_eq!(server.requests().len(), before);
    drop(holder);
    run_of(&desk, &server, "a", 2).arg("--resume").run().assert_status(0);
}

#[test]
fn a_name_that_another_program_has_written_is_shown_without_control_characters() {
    let (desk, server) = (Desk::new(), kind_server());
    let [lock, entry, _] = quota_files(&desk, &server);
    let holders = [&lock, &entry].map(|path| fs::File::create(path).unwrap());
    holders.iter().for_each(|holder| holder.lock().unwrap());
    let text = r#"{"host":"\u001b]0;owned\u0007","process":1,"name":"evil \u202e\u009b31m","rate":20,"since":0}"#;
    fs::write(&entry, text).unwrap();

    let refused = run_of(&desk, &server, "b", 2).arg("--no-wait").run();
    refused.assert_status(75).assert_says(&["evil"]);
    assert!(
        !refused
            .stderr
            .chars()
            .any(|c| c != '\n' && (c.is_control() || c == '\u{202e}')),
        "{refused:?}"
    );
    // Without the flag it warns, and sends.
    let outcome = run_of(&desk, &server, "c", 2).run();
    outcome.assert_status(0).assert_says(&["another program has locked it"]);
}

#[test]
fn removing_the_files_during_a_run_never_lets_two_runs_exceed_the_cap_together() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut first = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut first, &server, 30);
    let files: Vec<PathBuf> = lock_files(&desk).iter().map(|name| desk.path(name)).collect();
    let starts = files
        .iter()
        .find(|path| path.extension().is_some_and(|ending| ending == "starts"))
        .unwrap();

    // It is created again, and a second run finds the starts of the first in it.
    fs::remove_file(starts).unwrap();
    first.wait_until("the file is created again", || starts.exists());
    run_of(&desk, &server, "b", 2).arg("--no-wait").run().assert_status(75);
    run_of(&desk, &server, "b", 10).run().assert_status(0);
    // A second run creates it before the first has noticed.
    fs::remove_file(starts).unwrap();
    run_of(&desk, &server, "c", 30).run().assert_status(0);

    first.signal("TERM");
    let first = first.wait();
    first.assert_status(143).assert_says(&["removed, replaced or changed"]);
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn a_directory_that_two_machines_share_is_refused_while_the_other_one_s_run_is_there() {
    let Some(unshare) = program(&["unshare"]) else { return };
    let (desk, server) = (Desk::new(), kind_server());
    desk.write("boot", "11111111-2222-3333-4444-555555555555\n");
    let script = format!(
        "{} -m sh -c 'mount --bind {} /proc/sys/kernel/random/boot_id && exec \"$0\" \"$@\"'",
        unshare,
        desk.path("boot").display()
    );
    let can_mount = Command::new("sh").args(["-c", &format!("{script} true")]).output();
    if !can_mount.expect("there is a shell").status.success() {
        passed_over("a file can't be mounted over another one here");
        return;
    }
    let mut first = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut first, &server, 5);
    let outcome = run_of(&desk, &server, "b", 5).started_by(&script).run();
    outcome
        .assert_status(2)
        .assert_says(&["a run on another machine", ".starts", "ZIM_QUOTA"]);
    let before = server.requests().len();
    first.wait_until("it keeps its pace", || server.requests().len() >= before + 20);
    first.signal("TERM");
    let first = first.wait();
    first.assert_status(143);
    assert!(!first.stderr.contains("removed, replaced or changed"), "{first:?}");
}

#[test]
fn a_file_that_is_truncated_again_and_again_holds_a_run_no_longer_than_its_limits() {
    let (desk, server) = (Desk::new(), kind_server());
    let mut run = run_of(&desk, &server, "a", 4000).flag("--give-up-after", "3s").spawn();
    wait_for_requests(&mut run, &server, 5);
    let starts = lock_files(&desk).into_iter().find(|name| name.ends_with(".starts"));
    let starts = desk.path(&starts.expect("it is there"));
    run.wait_until("it ends", || {
        let _ = fs::File::options()
            .write(true)
            .open(&starts)
            .and_then(|file| file.set_len(0));
        std::thread::sleep(std::time::Duration::from_millis(500));
        !starts.exists()
    });
    let outcome = run.wait();
    outcome
        .assert_status(5)
        .assert_says(&["again and again", "--give-up-after", "--resume"]);
    assert_eq!(outcome.stderr.matches("on hold").count(), 1, "{outcome:?}");
}

#[test]
fn the_directory_of_a_group_is_used_where_it_exists_and_a_user_who_can_t_use_it_is_told_its_group() {
    let (Some(unshare), Some(setpriv)) = (program(&["unshare"]), program(&["setpriv"])) else {
        return;
    };
    let (desk, server) = (Desk::new(), kind_server());
    let script = |user: &str| {
        format!(
            "{unshare} -m sh -c 'mount -t tmpfs none /run && mkdir -m 2770 /run/zim-batch && chgrp games /run/zim-batch \
             && exec {user} \"$0\" \"$@\"'"
        )
    };
    let can_mount = Command::new("sh")
        .args(["-c", &format!("{} true", script(""))])
        .output();
    if !can_mount.expect("there is a shell").status.success() {
        passed_over("a directory can't be mounted over /run here");
        return;
    }
    let run = |user: &str, script: &str| {
        run_of(&desk, &server, user, 2)
            .without_env("ZIM_LOCK_DIR")
            .started_by(script)
    };
    // The directory is the only one that root finds locked by another program: so it is used.
    let locked = script("flock /run/zim-batch/zim-batch-APP-loopback-PORT.lock");
    let port = server.url().rsplit(':').next().expect("it has a port").to_owned();
    let locked = locked.replace("APP", &APP_ID.to_string()).replace("PORT", &port);
    let refused = run("a", &locked).arg("--no-wait").run();
    refused.assert_status(75);

    let nobody = script(&format!("{setpriv} --reuid nobody --regid nogroup --clear-groups"));
    fs::set_permissions(desk.path(""), fs::Permissions::from_mode(0o777)).expect("it is this user's");
    let refused = run("b", &nobody).run();
    refused.assert_status(2).assert_says(&[
        "/run/zim-batch",
        "its group, games",
        "usermod -aG games",
        "ZIM_LOCK_DIR",
    ]);
    // As in a container whose root is read-only: no group helps there.
    let read_only = script(r#"sh -c "mount -o remount,ro /run && exec \"\$0\" \"\$@\"""#);
    let refused = run("d", &read_only).run();
    refused.assert_status(2).assert_says(&[
        "Read-only file system",
        "mount a volume at /run/zim-batch",
        "ZIM_LOCK_DIR",
    ]);
    assert!(!refused.stderr.contains("usermod"), "{refused:?}");
    assert_eq!(server.count(), 0);
    let elsewhere = run("c", &nobody).flag("--lock-dir", "/tmp").run();
    elsewhere.assert_status(0);
}

#[test]
fn files_of_another_user_are_an_error_that_is_always_said_or_a_hold_that_is_bounded() {
    let Some(setpriv) = program(&["setpriv"]) else { return };
    if !rustix::process::geteuid().is_root() {
        passed_over("only root can be another user");
        return;
    }
    let (desk, server) = (Desk::new(), kind_server());
    let [_, _, starts] = quota_files(&desk, &server);
    // A directory like /tmp.
    fs::set_permissions(desk.path(""), fs::Permissions::from_mode(0o1777)).unwrap();
    let nobody = format!("exec {setpriv} --reuid nobody --regid nogroup --clear-groups");
    let plant = || {
        let _ = fs::remove_file(&starts);
        fs::write(&starts, "").unwrap();
        fs::set_permissions(&starts, fs::Permissions::from_mode(0o644)).unwrap();
    };

    plant();
    let outcome = run_of(&desk, &server, "a", 2).arg("-q").started_by(&nobody).run();
    outcome
        .assert_status(0)
        .assert_says(&["can't be written to", "ZIM_LOCK_DIR"]);
    fs::remove_file(&starts).unwrap();

    // During the run, while it seems that another one is there.
    let call = run_of(&desk, &server, "b", 4000).flag("--give-up-after", "2s");
    let mut run = call.started_by(&nobody).spawn();
    wait_for_requests(&mut run, &server, server.count() + 5);
    let lock = fs::File::open(starts.with_extension("lock")).unwrap();
    lock.lock_shared().unwrap();
    plant();
    let outcome = run.wait();
    outcome
        .assert_status(5)
        .assert_says(&["can't be written to", "--give-up-after"]);
    assert_eq!(outcome.stderr.matches("on hold").count(), 1, "{outcome:?}");
}

#[test]
fn a_link_that_another_user_makes_to_a_file_of_the_quota_does_not_switch_sharing_off() {
    let (desk, server) = (Desk::new(), kind_server());
    let [lock, _, starts] = quota_files(&desk, &server);
    let mut first = run_of(&desk, &server, "a", 4000).spawn();
    wait_for_requests(&mut first, &server, server.count() + 5);
    for (number, file) in [&lock, &starts].into_iter().enumerate() {
        fs::hard_link(file, desk.path(&format!("link{number}"))).unwrap();
    }
    let outcome = run_of(&desk, &server, "b", 40).run();
    outcome.assert_status(0);
    assert!(outcome.stdout.contains("\"runs\":2,"), "{outcome:?}");
    assert!(!outcome.stderr.contains("can't be used as a lock file"), "{outcome:?}");
    first.signal("TERM");
    first.wait().assert_status(143);
    pace::assert_within_cap(&server.arrivals(), CAP);
}
