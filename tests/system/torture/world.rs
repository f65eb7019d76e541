//! A service with faults, and its own log of the requests of each run.

use std::collections::{BTreeMap, HashMap};
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use fastrand::Rng;

use super::input::Row;
use crate::support::{Answer, Request, Server};

/// The answers to a row.
#[derive(Clone, Copy, Debug)]
enum Fate {
    Ok,
    Outside,
    Rejected,
    /// A transient code this many times, then success.
    Busy(usize),
    /// A reset this many times, then success.
    Reset(usize),
    /// Success after this many milliseconds.
    Slow(u64),
    /// Alternates between outside and success: shows if a report keeps the wrong one of two answers.
    Fickle,
}

/// A request with a final answer, and the answer.
#[derive(Clone, Copy, Debug)]
pub struct Answered {
    pub line: u64,
    pub run: usize,
    pub outcome: &'static str,
}

#[derive(Default)]
struct Log {
    answered: Vec<Answered>,
    /// Every request: its line and its run.
    sent: Vec<(u64, usize)>,
}

/// The service.
pub struct World {
    pub server: Server,
    run: Arc<AtomicUsize>,
    log: Arc<Mutex<Log>>,
}

impl World {
    pub fn start(rows: &[Row], rng: &mut Rng) -> Self {
        let mut fate = || match rng.u8(..100) {
            0..8 => Fate::Outside,
            8..11 => Fate::Rejected,
            11..14 => Fate::Busy(rng.usize(1..=2)),
            14..16 => Fate::Reset(rng.usize(1..=2)),
            16..26 => Fate::Slow(rng.u64(10..300)),
            26..30 => Fate::Fickle,
            _ => Fate::Ok,
        };
        let fates: HashMap<_, _> = rows
            .iter()
            .filter_map(|row| Some((row.key.clone()?, (row.line, fate()))))
            .collect();
        let run = Arc::new(AtomicUsize::new(0));
        let log = Arc::new(Mutex::new(Log::default()));
        let (of_world, in_world) = (Arc::clone(&run), Arc::clone(&log));
        let server = Server::start(move |request, n| {
            let run = run.load(SeqCst);
            let (line, fate) = *fates.get(&request.row()).unwrap_or_else(|| unknown(request));
            let (answer, outcome) = answer(fate, n);
            let mut log = log.lock().expect("nobody panics while holding it");
            log.sent.push((line, run));
            log.answered
                .extend(outcome.map(|outcome| Answered { line, run, outcome }));
            answer
        });
        Self {
            server,
            run: of_world,
            log: in_world,
        }
    }

    /// Following requests belong to this run.
    pub fn begin_run(&self, run: usize) {
        self.run.store(run, SeqCst);
    }

    /// The lines that were sent in this run, answered or not.
    pub fn lines_sent(&self, run: usize) -> Vec<u64> {
        let log = self.log.lock().expect("nobody panics while holding it");
        let of_run = log.sent.iter().filter(|(_, in_run)| *in_run == run);
        of_run.map(|(line, _)| *line).collect()
    }

    /// All requests so far.
    pub fn sent(&self) -> usize {
        self.log.lock().expect("nobody panics while holding it").sent.len()
    }

    /// The final answers, in order.
    pub fn answered(&self) -> Vec<Answered> {
        self.log
            .lock()
            .expect("nobody panics while holding it")
            .answered
            .clone()
    }

    /// The last final answer to each line, in this run or (`None`) in any run.
    pub fn last_answers(&self, run: Option<usize>) -> BTreeMap<u64, &'static str> {
        let in_run = |answered: &Answered| run.is_none_or(|run| answered.run == run);
        let answered = self.answered().into_iter().filter(in_run);
        answered.map(|answered| (answered.line, answered.outcome)).collect()
    }
}

fn unknown(request: &Request) -> ! {
    panic!("no row of the input was sent: {:?}", request.row())
}

fn answer(fate: Fate, n: usize) -> (Answer, Option<&'static str>) {
    let ok = (Answer::Code(0, "success"), Some("ok"));
    let outside = (Answer::Code(660_800_002, "no, \"such\" conversation"), Some("outside"));
    match fate {
        Fate::Busy(times) if n <= times => (Answer::Code(1, "server busy"), None),
        Fate::Reset(times) if n <= times => (Answer::Reset, None),
        Fate::Ok | Fate::Busy(_) | Fate::Reset(_) => ok,
        Fate::Slow(milliseconds) => (Answer::After(Duration::from_millis(milliseconds), Box::new(ok.0)), ok.1),
        Fate::Rejected => (Answer::Code(660_600_001, "no such\ngroup"), Some("failed")),
        Fate::Fickle if n.is_multiple_of(2) => ok,
        Fate::Outside | Fate::Fickle => outside,
    }
}
