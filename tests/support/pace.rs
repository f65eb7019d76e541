//! The pace of requests as a server sees it, judged so that a busy machine can't fail a test.
//!
//! Between a start and its arrival lie two threads that may have to wait for a processor, so requests may arrive closer
//! together than they started. A thread that only sleeps measures how late this machine wakes its threads up; what that
//! explains is no fault of the program. On a quiet machine nothing is allowed but a few milliseconds. Tests in paused
//! time show the exact pace.

use std::sync::{Mutex, Once};
use std::thread;
use std::time::{Duration, Instant};

const SECOND: Duration = Duration::from_secs(1);

/// What a request's way may take on a quiet machine.
const ON_THE_WAY: Duration = Duration::from_millis(30);

/// A sleep that is late by less than this is not noted.
const WORTH_NOTING: Duration = Duration::from_micros(500);

/// When sleeps ended late, and by how much.
static LATE: Mutex<Vec<(Instant, Duration)>> = Mutex::new(Vec::new());

/// Starts to measure, once in each process. Servers do it when they start.
pub fn watch() {
    static STARTED: Once = Once::new();
    const NAP: Duration = Duration::from_millis(2);
    STARTED.call_once(|| {
        thread::spawn(|| {
            loop {
                let started_at = Instant::now();
                thread::sleep(NAP);
                let late = started_at.elapsed().saturating_sub(NAP);
                if late > WORTH_NOTING {
                    let mut all = LATE.lock().expect("nobody panics with it");
                    all.push((Instant::now(), late));
                }
            }
        });
    });
}

/// How late the latest of the sleeps was that ended in this time or soon after it.
pub fn delay(from: Instant, to: Instant) -> Duration {
    let all = LATE.lock().expect("nobody panics with it");
    let meanwhile = all.iter().rev().take_while(|(at, _)| *at >= from);
    let meanwhile = meanwhile.filter(|(at, late)| *at - *late <= to + ON_THE_WAY);
    meanwhile.map(|(_, late)| *late).max().unwrap_or_default()
}

/// Panics if `count` arrivals in a row took less than `at_least`, unless delays of the machine explain it.
#[track_caller]
pub fn assert_spread(arrivals: &[Instant], count: usize, at_least: Duration) {
    for (index, some) in arrivals.windows(count).enumerate() {
        let (first, last) = (some[0], some[count - 1]);
        let took = last - first;
        if took + ON_THE_WAY < at_least {
            let delay = delay(first - SECOND, last);
            assert!(
                took + ON_THE_WAY + 3 * delay >= at_least,
                "{count} arrivals from {index} on took {took:?}; delays of the machine: {delay:?}"
            );
        }
    }
}

/// Panics if more than `cap` requests arrived within any one second, unless delays of the machine explain it.
#[track_caller]
pub fn assert_within_cap(arrivals: &[Instant], cap: usize) {
    assert_spread(arrivals, cap + 1, SECOND);
}
