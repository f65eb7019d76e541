//! The real program, stopped at random moments, with damaged files, then resumed: no row is lost or recorded twice.
//!
//! Each round has some thousand rows of all kinds and a service with faults. A run is ended by SIGKILL, SIGTERM, SIGINT
//! or two of them; then the report loses a part of its end, and the outside log is cut, removed or overwritten. This
//! repeats until a run finishes. After every run and at the end, the report is compared with the service's own log.
//!
//! By default there is one round of 3000 rows. `ZIM_TORTURE_KILLS=500 cargo test --release --test system torture --
//! --nocapture` repeats rounds until this many runs were ended; `ZIM_TORTURE_SEED=N` repeats the choices of a round.

mod files;
mod input;
mod world;

use std::collections::{BTreeMap, BTreeSet};
use std::thread;
use std::time::{Duration, Instant};

use crate::support::figures;
use crate::support::{Desk, Outcome, read_report};
use fastrand::Rng;
use input::Input;
use world::World;

const ROWS: usize = 3000;
/// Slow enough that a run is ended many times before it finishes.
const RATE: &str = "400";
/// Fast enough that requests are limited by `--max-in-flight` only.
const UNCAPPED: &str = "1000000";
const MAX_IN_FLIGHT: usize = 32;

/// How a run is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End {
    Kill,
    Terminate,
    Interrupt,
    /// SIGTERM twice.
    Twice,
    /// The run finishes undisturbed.
    None,
}

/// The counts of a round.
#[derive(Debug, Default)]
struct Figures {
    runs: usize,
    /// Runs that were ended immediately.
    kills: usize,
    /// Runs that finished what was in flight.
    drains: usize,
    /// Reports that ended within a record when they were resumed.
    torn: usize,
    requests: usize,
    /// Rows with a final answer that had no record after their run was ended immediately.
    in_flight: usize,
    /// Records that were torn away.
    cut: usize,
    /// Rows with more than one final answer.
    twice: usize,
}

#[test]
fn every_row_is_recorded_once_however_runs_end_and_files_are_torn() {
    let seed = number("ZIM_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    let kills = number("ZIM_TORTURE_KILLS").unwrap_or(25);
    let mut ended = 0;
    for round in 0.. {
        let seed = seed + round;
        figures(&format!("round {round}: ZIM_TORTURE_SEED={seed}"));
        let started_at = Instant::now();
        let round = play(seed, RATE);
        figures(&format!("{ROWS} rows, {round:?}, in {:?}", started_at.elapsed()));
        ended += round.kills + round.drains;
        if ended as u64 >= kills {
            break;
        }
    }
}

#[test]
fn a_fast_run_records_every_row_once_too() {
    let seed = number("ZIM_TORTURE_SEED").unwrap_or_else(|| fastrand::u64(..1 << 32));
    figures(&format!("uncapped: ZIM_TORTURE_SEED={seed}"));
    let started_at = Instant::now();
    let round = play(seed, UNCAPPED);
    figures(&format!("{ROWS} rows, {round:?}, in {:?}", started_at.elapsed()));
}

/// A number from the environment.
pub fn number(name: &str) -> Option<u64> {
    let text = std::env::var(name).ok()?;
    Some(
        text.parse()
            .unwrap_or_else(|_| panic!("{name} is a number, not `{text}`")),
    )
}

/// One round, from no report to a finished one.
fn play(seed: u64, rate: &str) -> Figures {
    let mut rng = Rng::with_seed(seed);
    let input = input::random(ROWS, &mut rng);
    let world = World::start(&input.rows, &mut rng);
    let desk = Desk::new();
    desk.write("rows.csv", &input.text);
    let report = desk.path("out.csv");
    let mut figures = Figures::default();
    loop {
        let before = files::recorded(&report);
        figures.torn += usize::from(files::is_torn(&report));
        figures.runs += 1;
        let (end, outcome) = run_once(&desk, &world, &input, (figures.runs, rate), &mut rng);
        let after = files::recorded(&report);
        check_run(&world, figures.runs, (&before, &after), end, &outcome, &mut figures);
        if end == End::None || [0, 3].contains(&outcome.status) {
            assert!(!files::is_torn(&report), "a finished report is torn");
            break;
        }
        files::maul_report(&report, &mut rng);
        files::maul_outside(&desk.path("out.outside.csv"), &report, &mut rng);
        let kept = files::recorded(&report);
        figures.cut += after.len() - kept.len();
    }
    figures.requests = world.sent();
    check_end(&desk, &world, &input, &mut figures);
    figures
}

/// A run with `--resume`, of the file or of standard input, ended somehow.
fn run_once(desk: &Desk, world: &World, input: &Input, (run, rate): (usize, &str), rng: &mut Rng) -> (End, Outcome) {
    // Only a run with few rows left may finish, so that many runs are ended.
    let are_few_left = files::recorded(&desk.path("out.csv")).len() + 400 > input.rows.len();
    let end = match rng.u8(..10) {
        5 => End::Terminate,
        6 | 7 if crate::support::signals::is_ignored("INT") => End::Terminate,
        6 | 7 => End::Interrupt,
        8 => End::Twice,
        9 if are_few_left => End::None,
        _ => End::Kill,
    };
    let from_stdin = rng.bool();
    let call = desk
        .clear_with(&world.server.url(), if from_stdin { "-" } else { "rows.csv" })
        .flag("--report", "out.csv")
        .flag("--rate", rate)
        .flag("--max-in-flight", &MAX_IN_FLIGHT.to_string())
        .arg("--resume")
        .arg("--json");
    let call = if from_stdin {
        call.stdin(input.text.as_bytes())
    } else {
        call
    };
    world.begin_run(run);
    let mut running = call.spawn();
    if end == End::None {
        return (end, running.wait());
    }
    // After some time, perhaps while it starts; or after some requests, however long they take.
    let until = Instant::now() + Duration::from_millis(rng.u64(5..800));
    let (is_by_time, sent) = (rng.u8(..4) == 0, world.sent() + rng.usize(1..200));
    let is_due = || {
        if is_by_time {
            Instant::now() >= until
        } else {
            world.sent() >= sent
        }
    };
    while !is_due() && running.is_running() {
        thread::sleep(Duration::from_millis(1));
    }
    let signals: &[&str] = match end {
        End::Kill => &["KILL"],
        End::Terminate => &["TERM"],
        End::Interrupt => &["INT"],
        End::Twice => &["TERM", "INT"],
        End::None => unreachable!("it was left alone"),
    };
    for signal in signals {
        if running.is_running() {
            running.signal(signal);
        }
        thread::sleep(Duration::from_millis(rng.u64(..10)));
    }
    let outcome = running.wait();
    thread::sleep(Duration::from_millis(20)); // the server has seen the connections close
    (end, outcome)
}

type Recorded = BTreeMap<u64, Option<String>>;

/// Checks what must be true after each run, however it ended.
fn check_run(
    world: &World,
    run: usize,
    (before, after): (&Recorded, &Recorded),
    end: End,
    outcome: &Outcome,
    figures: &mut Figures,
) {
    let context = || format!("run {run}, {end:?}: {}", outcome.stderr);
    for line in world.lines_sent(run) {
        assert!(
            !before.contains_key(&line),
            "line {line} was done and is sent again in {}",
            context()
        );
    }
    for (line, outcome) in before {
        assert_eq!(
            after.get(line),
            Some(outcome),
            "line {line} was on record before {}",
            context()
        );
    }
    let answered = world.last_answers(Some(run));
    for (line, recorded) in after.iter().filter(|(line, _)| !before.contains_key(line)) {
        let recorded = recorded.as_deref().unwrap_or("two records");
        let expected = answered.get(line).copied().unwrap_or("invalid");
        assert_eq!(recorded, expected, "line {line} after {}", context());
    }
    let lost = answered.keys().filter(|line| !after.contains_key(line)).count();
    let is_at_once = match (end, outcome.status) {
        (_, -9) => true,
        // It is undefined which of two simultaneous signals is seen first.
        (End::Twice, 143 | 130) => true,
        // Nothing is sent before the program handles signals.
        (_, -15 | -2 | 143 | 130 | 0 | 3) => false,
        _ => panic!("exit status {} in {}", outcome.status, context()),
    };
    figures.kills += usize::from(is_at_once);
    figures.drains += usize::from([143, 130].contains(&outcome.status) && !is_at_once);
    figures.in_flight += lost;
    let allowed = if is_at_once { MAX_IN_FLIGHT } else { 0 };
    assert!(
        lost <= allowed,
        "{lost} answered rows have no record after {}",
        context()
    );
    // A second signal may come while the summary is about to be printed.
    if outcome.status >= 0 && !(end == End::Twice && outcome.stdout.is_empty()) {
        // A stop may come before all of them were found.
        let already_done = outcome.summary().count("already_done");
        assert!(already_done <= before.len() as u64, "{}", context());
    }
}

/// Checks what must be true at the end.
fn check_end(desk: &Desk, world: &World, input: &Input, figures: &mut Figures) {
    let report = desk.report();
    assert_eq!(report.len(), input.rows.len(), "records in the report");
    let by_line: BTreeMap<_, _> = report.iter().map(|record| (record.line, record)).collect();
    let answers = world.last_answers(None);
    for row in &input.rows {
        let record = by_line
            .get(&row.line)
            .unwrap_or_else(|| panic!("line {} has no record", row.line));
        let Some(key) = &row.key else {
            assert_eq!((record.outcome.as_str(), record.attempts), ("invalid", 0), "{record:?}");
            continue;
        };
        let recorded = [&record.user, &record.conv, &record.kind].map(|field| field.as_bytes().to_vec());
        assert_eq!(
            (&recorded, record.outcome.as_str()),
            (key, answers[&row.line]),
            "{record:?}"
        );
        record.assert_is_finished();
    }
    let outside = read_report(&desk.path("out.outside.csv"));
    let lines = |outcome| report.iter().filter(move |r| r.outcome == outcome).map(|r| r.line);
    let logged: BTreeSet<_> = outside.iter().map(|record| record.line).collect();
    assert_eq!(logged, lines("outside").collect(), "the outside log");
    assert_eq!(outside.len(), logged.len(), "an outside row is logged twice");

    let mut times = BTreeMap::<u64, usize>::new();
    for answered in world.answered() {
        *times.entry(answered.line).or_default() += 1;
    }
    figures.twice = times.values().map(|times| times - 1).sum();
    assert!(
        figures.twice <= figures.kills * MAX_IN_FLIGHT + figures.cut,
        "more rows were sent again than may be in flight at a kill: {figures:?}"
    );
    world.server.assert_well_formed();

    let (before, sent) = (desk.read("out.csv"), world.sent());
    let again = desk
        .clear_with(&world.server.url(), "rows.csv")
        .flag("--report", "out.csv")
        .arg("--resume")
        .arg("--json")
        .run();
    let counts = [("already_done", input.rows.len() as u64), ("requests", 0)];
    again.assert_status(3).summary().assert_counts(&counts);
    assert_eq!(
        (desk.read("out.csv"), world.sent()),
        (before, sent),
        "a resume after the end"
    );
}
