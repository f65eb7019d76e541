//! A kill before each system call that changes a file, with `strace`: before the first one of its kind, the second one, and so
//! on, until the run is no longer killed. The run resumes after each.
//!
//! If a kind has many calls, some of them are chosen at random, always with the first and the last one;
//! `ZIM_TORTURE_SEED=N` repeats the choices.

use std::fs::OpenOptions;
use std::io::Write;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use fastrand::Rng;

use super::*;
use crate::support::world::Conv;
use crate::support::{figures, passed_over, program};
use crate::torture::number;

/// Kinds of calls, as strace names them; those with `?` don't exist on every machine.
const KINDS: [&str; 7] = [
    "openat",
    "write,pwrite64",
    "ftruncate",
    "fsync",
    "fdatasync",
    "?rename,renameat,renameat2",
    "?unlink,unlinkat",
];

/// Kinds that have many calls for other files, too.
const ONLY_OF_RUN: [&str; 2] = ["openat", "write,pwrite64"];

const RUN_LOG: &str = "out.runs.jsonl";
const MARK: &str = "out.list.since";
const FILES: [&str; 6] = [ROWS, LIST, REPORT, OUTSIDE, RUN_LOG, MARK];

/// The most kills of a kind.
const MOST: usize = 10;

/// What a run finds that is killed.
#[derive(Clone, Copy, Debug)]
enum Before {
    Nothing,
    /// A run that has cleared some rows, and then torn ends of all files.
    TornFiles,
    /// A finished run of the night before; since then there is a new conversation.
    LastNight,
}

#[test]
fn a_first_run_resumes_after_a_kill_before_any_change_of_a_file() {
    kill_before_each_change(Before::Nothing);
}

#[test]
fn a_resumed_run_resumes_after_a_kill_before_any_change_of_a_file() {
    kill_before_each_change(Before::TornFiles);
}

#[test]
fn the_next_night_resumes_after_a_kill_before_any_change_of_a_file() {
    kill_before_each_change(Before::LastNight);
}

fn kill_before_each_change(before: Before) {
    if !can_trace() {
        return;
    }
    let seed = number("ZIM_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    figures(&format!("{before:?}: ZIM_TORTURE_SEED={seed}"));
    let started_at = Instant::now();
    let mut rng = Rng::with_seed(seed);
    let scene = Scene::new(before);
    for kind in KINDS {
        let calls = scene.calls(kind);
        let (mut chosen, mut kills) = (choice(calls, &mut rng), 0);
        while let Some(nth) = chosen.pop() {
            let was_killed = scene.kill(kind, nth);
            kills += usize::from(was_killed);
            // There may be more calls than last time.
            if was_killed && chosen.is_empty() {
                chosen.push(nth + 1);
            }
        }
        figures(&format!("{kind}: {calls} calls, {kills} kills"));
    }
    scene.task.server.assert_well_formed();
    figures(&format!("{:?}", started_at.elapsed()));
}

/// Whether strace is here and may be used. If not, it is told that the test is passed over.
fn can_trace() -> bool {
    let Some(strace) = program(&["strace"]) else {
        return false;
    };
    let mut trace = Command::new(strace);
    let trace = trace.args(["-f", "-e", "trace=none", "true"]).stderr(Stdio::null());
    let can = trace.status().is_ok_and(|status| status.success());
    if !can {
        passed_over("strace may not trace here");
    }
    can
}

/// A task, and the files that each run finds.
struct Scene {
    task: Task,
    desk: Desk,
    /// What is new since last night. Then all calls are those of every night.
    new: Option<Key>,
}

impl Scene {
    fn new(before: Before) -> Scene {
        let world = World::of([("ann", 3), ("ben", 2), ("cyd", 0), ("dan", 3)]);
        let task = Task::new(world);
        let mut scene = Scene {
            task,
            desk: Desk::new(),
            new: None,
        };
        match before {
            Before::Nothing => {}
            Before::TornFiles => {
                scene.call(&scene.desk).flag("--limit", "3").run().assert_status(0);
                for (name, torn) in [(ROWS, "cyd,\"#"), (LIST, "4,cy"), (REPORT, "9,d"), (OUTSIDE, "9,dan,x")] {
                    let file = OpenOptions::new().append(true).open(scene.desk.path(name));
                    let mut file = file.expect("the run has written it");
                    file.write_all(torn.as_bytes()).expect("it is ours");
                }
            }
            Before::LastNight => {
                scene.new = Some(["ben", "new", "0"].map(str::to_owned));
                scene.call(&scene.desk).run().assert_status(0);
                scene.task = Task::new(with_new_conv(&scene.task.world));
            }
        }
        scene
    }

    fn call(&self, desk: &Desk) -> Call {
        let call = self.task.call(desk).flag("--max-in-flight", "3");
        match &self.new {
            Some(_) => call.flag("--since", "last"),
            None => call,
        }
    }

    /// A call that strace starts.
    fn traced(&self, desk: &Desk, kind: &str, more: &str) -> Call {
        let mut words = format!("exec strace -f -qq -o strace.txt -e trace={kind} {more}");
        if ONLY_OF_RUN.contains(&kind) {
            for name in FILES {
                // As the program names it, and as the kernel names what is open.
                words += &format!(" -P {name} -P {}", desk.path(name).display());
            }
        }
        self.call(desk).started_by(&words)
    }

    /// A copy of what each run finds.
    fn copy(&self) -> Desk {
        let desk = Desk::new();
        for name in FILES.iter().filter(|name| self.desk.has(name)) {
            desk.write(name, self.desk.read(name));
        }
        desk
    }

    /// How many calls of this kind one thread makes: strace counts for each of them alone, and for each call.
    fn calls(&self, kind: &str) -> usize {
        let desk = self.copy();
        self.traced(&desk, kind, "").run().assert_status(0);
        let text = desk.read("strace.txt");
        let mut counts = BTreeMap::<(&str, &str), usize>::new();
        for line in text.lines().filter(|line| !line.contains("resumed>")) {
            if let Some((process, call)) = line.split_once(' ')
                && let Some((name, _)) = call.trim_start().split_once('(')
            {
                *counts.entry((process, name)).or_default() += 1;
            }
        }
        counts.into_values().max().unwrap_or_default()
    }

    /// Kills a run before the `nth` of these calls, resumes it and checks what there is then. Returns whether there was such a
    /// call.
    fn kill(&self, kind: &str, nth: usize) -> bool {
        figures(&format!("{kind}, number {nth}"));
        let desk = self.copy();
        let found = Kept::of(&desk, &BTreeSet::new());
        let begin = self.task.server.count();
        let inject = format!("-e inject={kind}:signal=KILL:when={nth}");
        let outcome = self.traced(&desk, kind, &inject).run();
        let was_killed = outcome.status == -9;
        if !was_killed {
            outcome.assert_status(0);
        }
        thread::sleep(Duration::from_millis(5)); // the server has seen the connections close
        let requests = self.task.server.requests_after(begin);
        let sent: BTreeSet<Key> = rows_of(&requests).collect();
        if kind == "fdatasync" && nth <= 2 {
            // They are those of the rows file and of the list report, which an earlier run may have left in memory.
            assert!(
                sent.is_empty(),
                "{sent:?} were sent before they and their users were on the disk"
            );
        }
        let resumed = self.call(&desk);
        if let Some(new) = &self.new {
            // If the killed run has done everything, another one begins.
            resumed.run().assert_status(0);
            check_report(&desk);
            let requests = self.task.server.requests_after(begin);
            assert!(rows_of(&requests).any(|row| row == *new), "what is new is not cleared");
            assert!(
                read_rows(&desk.read(ROWS)).iter().any(|row| row[..3] == *new),
                "what is new is no row"
            );
        } else {
            let left = Kept::of(&desk, &sent);
            left.check(&found, &requests);
            let before = self.task.server.count();
            let outcome = resumed.run();
            let requests = self.task.server.requests_after(before);
            let sent = sent.into_iter().chain(rows_of(&requests)).collect();
            Kept::of(&desk, &sent).check(&left, &requests);
            self.task.check_end(&desk, &left, &outcome);
        }
        was_killed
    }
}

/// The world with a conversation that was updated now.
fn with_new_conv(world: &World) -> World {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is past 1970");
    let new = Conv {
        id: "new".into(),
        kind: 0,
        at: now.as_millis() as u64,
    };
    let convs = world.convs("ben").iter().cloned().chain([new]).collect();
    world.clone().with("ben", convs)
}

/// Which of so many calls are killed, the last one first in the list.
fn choice(calls: usize, rng: &mut Rng) -> Vec<usize> {
    let last = calls.max(1);
    let mut between: Vec<usize> = (2..last).collect();
    rng.shuffle(&mut between);
    between.truncate(MOST.saturating_sub(2));
    let mut chosen: Vec<usize> = between.into_iter().chain([1, last]).collect();
    chosen.sort_unstable_by(|one, other| other.cmp(one));
    chosen.dedup();
    chosen
}
