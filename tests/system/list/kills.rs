//! A list that is killed again and again and resumed: every conversation once, every user with one record.
//!
//! By default there are 25 kills; `ZIM_TORTURE_KILLS=100` makes it more, and `ZIM_TORTURE_SEED=N` repeats the choices.

use std::collections::BTreeMap;
use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use fastrand::Rng;

use crate::support::list::{assert_together, list, records, rows, sorted};
use crate::support::world::World;
use crate::support::{Answer, Desk, LIST_HEADER, Server};
use crate::torture::number;

const USERS: usize = 200;

#[test]
fn every_conversation_is_listed_once_however_often_a_list_is_killed() {
    let seed = number("ZIM_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let least = number("ZIM_TORTURE_KILLS").unwrap_or(25) as usize;
    let mut rng = Rng::with_seed(seed);
    let count = |rng: &mut Rng| match rng.u8(..10) {
        0 => 0,
        1 => rng.usize(400..=1000),
        _ => rng.usize(1..60),
    };
    let world = World::of((0..USERS).map(|number| (format!("user \"{number}\","), count(&mut rng))));
    let served = world.clone();
    let server = Server::start(move |request, _| {
        let pause = Duration::from_millis(fastrand::u64(..30));
        Answer::After(pause, Box::new(served.answer(request)))
    });
    let users: String = (0..USERS)
        .map(|number| format!("\"user \"\"{number}\"\",\"\n"))
        .collect();
    let (mut kills, mut lists) = (0, 0);
    while kills < least {
        let desk = Desk::new();
        kills += until_it_ends(&desk, &server, &users, &mut rng, seed);
        lists += 1;
        let written = rows(&desk);
        assert_together(&written);
        let records = records(&desk);
        assert_eq!(records.len(), USERS, "seed {seed}");
        let mut counts = BTreeMap::<&str, usize>::new();
        for row in &written {
            *counts.entry(&row[0]).or_default() += 1;
        }
        for record in records.values() {
            let rows = counts.get(record.user.as_str()).copied().unwrap_or_default();
            assert_eq!(
                (record.outcome.as_str(), record.conversations),
                ("ok", rows),
                "seed {seed}: {record:?}"
            );
        }
        assert_eq!(sorted(written), world.all_rows(), "seed {seed}");
    }
    crate::support::figures(&format!(
        "{kills} kills of {lists} lists, {} requests, seed {seed}",
        server.count()
    ));
    server.assert_well_formed();
}

/// Kills and resumes until a run has finished. Returns how many were killed.
fn until_it_ends(desk: &Desk, server: &Server, users: &str, rng: &mut Rng, seed: u64) -> usize {
    for kills in 0.. {
        let done = users_on_record(desk);
        let before = server.count();
        let mut running = list(desk, server, format!("user\n{users}"))
            .flag("--rate", "1000000")
            .flag("--max-in-flight", "8")
            .arg("--resume")
            .spawn();
        // After some time, perhaps while it starts; or after some requests, however long they take.
        let until = Instant::now() + Duration::from_millis(rng.u64(5..180));
        let (is_by_time, count) = (rng.u8(..4) == 0, before + rng.usize(1..80));
        let is_due = || {
            if is_by_time {
                Instant::now() >= until
            } else {
                server.count() >= count
            }
        };
        while !is_due() && running.is_running() {
            thread::sleep(Duration::from_millis(1));
        }
        if running.is_running() {
            running.signal("KILL");
        }
        let outcome = running.wait();
        for request in server.requests_after(before) {
            let user = request.user();
            assert!(
                !done.contains(&user),
                "{user} was done and is listed again, seed {seed}"
            );
        }
        if outcome.status != -9 {
            outcome
                .assert_status(0)
                .summary()
                .assert_counts(&[("rows", USERS as u64), ("not_run", 0)]);
            return kills;
        }
        thread::sleep(Duration::from_millis(5)); // the server has seen the connections close
    }
    unreachable!("it ends some time")
}

/// The users with a complete record.
fn users_on_record(desk: &Desk) -> Vec<String> {
    let text = fs::read_to_string(desk.path("rows.list.csv")).unwrap_or_default();
    let whole = text.rfind('\n').map_or("", |end| &text[..=end]);
    if whole.is_empty() {
        return Vec::new();
    }
    assert_eq!(whole.lines().next(), Some(LIST_HEADER));
    let mut reader = csv::Reader::from_reader(whole.as_bytes());
    reader
        .records()
        .map(|record| record.expect("it is whole")[1].to_owned())
        .collect()
}
