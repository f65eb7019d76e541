//! What a life has besides, topic by topic. Each topic draws from a random stream of its own, so a new one leaves alone what
//! the others draw.

use fastrand::Rng;

use crate::life::{Event, Life, Millis, Stop, What, pick};

/// The streams.
const STOPS: u64 = 0x5709_0001;
const INVALID: u64 = 0x5709_0002;

/// Draws all topics of a life.
pub fn draw(life: &mut Life) {
    stops(life, &mut Rng::with_seed(life.seed ^ STOPS));
    let rng = &mut Rng::with_seed(life.seed ^ INVALID);
    for flags in life.jobs.iter_mut().flat_map(|job| &mut job.runs) {
        flags.ignore_invalid = rng.u8(0..3) == 0;
    }
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
