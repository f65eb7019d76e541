//! What a life has besides, topic by topic. Each topic draws from a random stream of its own, so a new one leaves alone what
//! the others draw.

use fastrand::Rng;

use crate::clock::{Entries, SUMMER, local_minute};
use crate::input;
use crate::life::{Event, Feed, FeedKind, JobPlan, Life, Line, Listing, Millis, Stop, What, pick};

/// The streams.
const STOPS: u64 = 0x5709_0001;
const INVALID: u64 = 0x5709_0002;
const FEEDS: u64 = 0x5709_0003;
const LISTS: u64 = 0x5709_0004;
const CLOCKS: u64 = 0x5709_0005;
const WRONG: u64 = 0x5709_0006;

/// Draws all topics of a life.
pub fn draw(life: &mut Life) {
    stops(life, &mut Rng::with_seed(life.seed ^ STOPS));
    let rng = &mut Rng::with_seed(life.seed ^ INVALID);
    for flags in life.jobs.iter_mut().flat_map(|job| &mut job.runs) {
        flags.ignore_invalid = rng.u8(0..3) == 0;
    }
    let rng = &mut Rng::with_seed(life.seed ^ FEEDS);
    life.jobs.iter_mut().for_each(|job| feed(job, rng));
    let rng = &mut Rng::with_seed(life.seed ^ LISTS);
    for job in &mut life.jobs {
        let listing = Listing {
            newest: pick(rng, &[None, None, Some(0), Some(2), Some(700)]),
            conv_type: pick(rng, &[None, None, Some('0'), Some('2')]),
        };
        job.listing = (rng.u8(0..4) == 0 && job.users.is_some()).then_some(listing);
    }
    clocks(life, &mut Rng::with_seed(life.seed ^ CLOCKS));
    let rng = &mut Rng::with_seed(life.seed ^ WRONG);
    if rng.u8(0..12) == 0 {
        wrong_columns(life, rng);
    }
}

/// As if the columns of the rows were the wrong ones: all are rejected alike.
fn wrong_columns(life: &mut Life, rng: &mut Rng) {
    life.world.fates.outside = 0;
    life.world.fates.rejected = pick(rng, &[1000, 1000, 950]);
    life.world.fates.alike = true;
    let users = pick(rng, &[7, 1000, 1000]);
    for job in life.jobs.iter_mut().filter(|job| job.users.is_none()) {
        let row = |nth: usize| Line::Item([format!("w{}", nth % users), format!("c{nth}"), "0".to_owned()]);
        job.input = (0..rng.usize(30..90)).map(row).collect();
        job.runs[0].max_in_flight = pick(rng, &[1, 4]);
        (job.runs[0].limit, job.runs[0].max_failures) = (None, None);
    }
}

/// The clock on the wall, what happens to it, and what goes by it.
fn clocks(life: &mut Life, rng: &mut Rng) {
    // Shortly before a change of the zone's offset, before midnight, and before another minute.
    let begins = [SUMMER[0], SUMMER[1], 1_781_128_800, 1_768_478_400];
    life.wall_begins = pick(rng, &begins) - rng.u64(1..40);
    let minute = local_minute(life.wall_begins);
    for flags in life.jobs.iter_mut().flat_map(|job| &mut job.runs) {
        let timetable = timetable(minute, rng);
        let until = rng.u64(5..200);
        if rng.u8(0..6) == 0 {
            flags.rate = timetable.iter().map(|(_, rate)| *rate).fold(0.0, f64::max);
            flags.timetable = Some(timetable);
        }
        flags.until_s = (rng.u8(0..8) == 0).then_some(until);
    }
    if rng.u8(0..4) > 0 {
        return;
    }
    for _ in 0..rng.usize(1..4) {
        let seconds = pick(rng, &[-3600, -30, -1, 2, 30, 600, 3600]);
        let sleep = pick(rng, &[500, 30_000, 7_200_000]);
        let what = pick(rng, &[What::SetClock(seconds * 1000), What::Sleep(sleep)]);
        let at = rng.u64(0..120_000) / pick(rng, &[1, 8]);
        life.events.push(Event { at, what });
    }
    life.events.sort_by_key(|event| event.at);
}

/// Three minutes around this one with a rate each. What comes last is no pause, so that each pause ends within ten minutes, or an hour later where the
/// clock goes back.
fn timetable(minute: u64, rng: &mut Rng) -> Entries {
    let mut minutes = [0, 31, 32, 33, 34, 36, 40];
    rng.shuffle(&mut minutes);
    minutes[..3].sort_unstable();
    let mut rates = [0.0, 2.5, 5.0, 20.0, 50.0];
    rng.shuffle(&mut rates);
    if rates[2] == 0.0 {
        rates.swap(2, 3);
    }
    let entry = |nth: usize| ((minute + 1440 + minutes[nth] - 30) % 1440, rates[nth]);
    let mut entries = [entry(0), entry(1), entry(2)];
    entries.sort_unstable_by_key(|(minute, _)| *minute);
    entries
}

/// Rows from standard input, an iterator or a stream.
fn feed(job: &mut JobPlan, rng: &mut Rng) {
    let kinds = [
        FeedKind::Pipe,
        FeedKind::Pipe,
        FeedKind::Reader,
        FeedKind::Iterator,
        FeedKind::Panics,
        FeedKind::Stream,
    ];
    let is_fed = rng.u8(0..4) == 0;
    let feed = Feed {
        kind: pick(rng, &kinds),
        portion: pick(rng, &[1, 3, 40, 1000]),
        pause: pick(rng, &[0, 20, 700, 20_000]),
        breaks: (0..2)
            .map(|_| rng.bool().then(|| rng.usize(0..80) / pick(rng, &[1, 8])))
            .collect(),
    };
    if !is_fed || job.users.is_some() {
        return;
    }
    if feed.kind.is_of_program() {
        input::mend(&mut job.input);
    }
    job.feed = Some(feed);
}

/// How runs are stopped: by the embedding program, by a signal, or by two.
fn stops(life: &mut Life, rng: &mut Rng) {
    for Event { what, .. } in &mut life.events {
        if let What::Stop(_, stop) = what {
            let signal = pick(rng, &[1, 2, 15]);
            let after: Millis = pick(rng, &[0, 20, 300, 4000]);
            *stop = pick(rng, &[Stop::Cancel, Stop::Signal(signal), Stop::Twice(signal, after)]);
        }
    }
}
