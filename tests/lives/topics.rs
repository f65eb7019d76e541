//! What a life has besides, topic by topic. Each topic draws from a random stream of its own, so a new one leaves alone what
//! the others draw.

use fastrand::Rng;

use crate::input;
use crate::life::{Event, Feed, FeedKind, JobPlan, Life, Listing, Millis, Stop, What, pick};

/// The streams.
const STOPS: u64 = 0x5709_0001;
const INVALID: u64 = 0x5709_0002;
const FEEDS: u64 = 0x5709_0003;
const LISTS: u64 = 0x5709_0004;

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
