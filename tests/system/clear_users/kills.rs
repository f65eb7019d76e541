//! Kills at random moments; in between, the files lose a part of their ends, as in a power cut.
//!
//! By default there are 15 kills; `ZIM_TORTURE_KILLS=100` makes it more, and `ZIM_TORTURE_SEED=N` repeats the choices.

use std::fs::OpenOptions;
use std::io::Write;
use std::thread;
use std::time::Instant;

use fastrand::Rng;

use super::*;
use crate::support::figures;
use crate::support::world::{Conv, FIRST};
use crate::torture::number;

const USERS: usize = 40;

#[test]
fn every_conversation_is_recorded_once_however_often_a_run_is_killed_and_its_files_are_torn() {
    let seed = number("ZIM_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let least = number("ZIM_TORTURE_KILLS").unwrap_or(15) as usize;
    figures(&format!("ZIM_TORTURE_SEED={seed}"));
    let mut rng = Rng::with_seed(seed);
    let count = |rng: &mut Rng| match rng.u8(..10) {
        0 => 0,
        1 => rng.usize(50..=120),
        _ => rng.usize(1..15),
    };
    let world = World::of((0..USERS).map(|number| (format!("user \"{number}\","), count(&mut rng))));
    let two_lines = (0..9).map(|number| Conv {
        id: format!("#two\nlines-{number}"),
        kind: 2,
        at: FIRST,
    });
    let world = world
        .with("two\nlines", two_lines.collect())
        .with("two pages", World::of([("u", 600)]).convs("u").to_vec());
    let task = Task::new(world, Duration::from_millis(10), true);
    let (mut figures_of_all, mut rounds) = (Figures::default(), 0);
    while figures_of_all.kills < least {
        until_it_ends(&task, &mut rng, &mut figures_of_all);
        rounds += 1;
    }
    task.server.assert_well_formed();
    figures(&format!(
        "{figures_of_all:?} in {rounds} rounds of {} rows, {} requests",
        task.world.all_rows().len(),
        task.server.count()
    ));
}

#[derive(Debug, Default)]
struct Figures {
    kills: usize,
    /// Power cuts after a kill, and how many bytes they took from rows file, list report, report and outside log.
    power_cuts: usize,
    bytes: [u64; 4],
}

/// Kills and resumes until a run has finished.
fn until_it_ends(task: &Task, rng: &mut Rng, figures: &mut Figures) {
    let desk = Desk::new();
    let (mut kept, mut sent) = (Kept::default(), BTreeSet::new());
    loop {
        let before = task.server.count();
        let mut running = task.call(&desk).spawn();
        // After some time, perhaps while it starts; or after some requests, however long they take.
        let until = Instant::now() + Duration::from_millis(rng.u64(5..300));
        let (is_by_time, count) = (rng.u8(..4) == 0, before + rng.usize(1..160));
        let is_due = || {
            if is_by_time {
                Instant::now() >= until
            } else {
                task.server.count() >= count
            }
        };
        while !is_due() && running.is_running() {
            thread::sleep(Duration::from_millis(1));
        }
        if running.is_running() {
            running.signal("KILL");
        }
        let outcome = running.wait();
        thread::sleep(Duration::from_millis(15)); // the server has seen the connections close
        let requests = task.server.requests_after(before);
        sent.extend(rows_of(&requests));
        let left = Kept::of(&desk, &sent);
        left.check(&kept, &requests);
        if outcome.status != -9 {
            return task.check_end(&desk, &kept, &outcome);
        }
        figures.kills += 1;
        kept = left;
        if rng.bool() {
            cut_power(&desk, &kept, rng, figures);
            kept = Kept::of(&desk, &sent);
        }
    }
}

/// Each file loses a part of its end, or has zeros there, but none of what was on the disk before a row was sent.
fn cut_power(desk: &Desk, kept: &Kept, rng: &mut Rng, figures: &mut Figures) {
    figures.power_cuts += 1;
    let least = [kept.rows.len(), kept.list.len(), 0, 0];
    for (index, name) in [ROWS, LIST, REPORT, OUTSIDE].into_iter().enumerate() {
        let Ok(file) = OpenOptions::new().append(true).open(desk.path(name)) else {
            continue;
        };
        let len = file.metadata().expect("it is ours").len();
        if rng.u8(..3) > 0 {
            let cut = rng.u64(..400).min(len - least[index] as u64);
            file.set_len(len - cut).expect("it is ours");
            figures.bytes[index] += cut;
        }
        if rng.u8(..6) == 0 {
            (&file).write_all(&vec![0; rng.usize(1..600)]).expect("it is ours");
        }
    }
    // A log whose report has no outside row may be another's, so it is to be moved away.
    let report = whole_records(&fs::read(desk.path(REPORT)).unwrap_or_default());
    if !report.iter().any(|record| record.fields[4] == "outside") {
        fs::remove_file(desk.path(OUTSIDE)).ok();
    }
}
