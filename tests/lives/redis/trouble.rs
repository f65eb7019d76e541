//! What can go wrong with the server, and with what it keeps.

use std::time::Duration;

use fastrand::Rng;

use super::data::{Answer, Data};
use super::{LIMIT, RUNS, Redis, STARTS};
use crate::life::{Event, Millis, QuotaState, What};

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    /// Connections are refused, and those that are open are closed.
    Refused,
    /// Nothing is answered.
    Silent,
    /// Connections that are open are closed.
    Closed,
    /// It has become a replica.
    ReadOnly,
    /// It has no memory left.
    Full,
    /// It reads its data.
    Loading,
    /// It is stopped, and has no data when it is back, or what it had saved.
    Restarted {
        has_saved: bool,
    },
    /// Its clock is set forward or back by so many milliseconds.
    Clock(i64),
    /// Answers take so many milliseconds more.
    Slow(u64),
    /// Another program removes what it keeps.
    Deleted(Kept),
    /// Another program writes something else in its place, of another type, or a text that can't be right: which, by this
    /// number.
    OtherType(Kept),
    Nonsense(Kept, u8),
}

/// What the runs keep on the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kept {
    Starts,
    Runs,
    Limit,
}

impl Kept {
    fn key(self) -> &'static str {
        match self {
            Kept::Starts => STARTS,
            Kept::Runs => RUNS,
            Kept::Limit => LIMIT,
        }
    }
}

impl From<QuotaState> for Trouble {
    fn from(state: QuotaState) -> Trouble {
        match state {
            QuotaState::Away => Trouble::Refused,
            QuotaState::ReadOnly => Trouble::ReadOnly,
            QuotaState::Restarted => Trouble::Restarted { has_saved: false },
        }
    }
}

impl Trouble {
    /// Whether nobody can reserve a start meanwhile.
    pub fn is_outage(self) -> bool {
        match self {
            Trouble::OtherType(kept) => kept != Kept::Limit,
            Trouble::Closed | Trouble::Clock(_) | Trouble::Slow(_) | Trouble::Deleted(_) | Trouble::Nonsense(..) => {
                false
            }
            _ => true,
        }
    }

    /// Whether starts that the server knew are lost or seem older than they are, and no run may notice; answers take so long.
    pub fn loses_starts(self, round_trip: Duration) -> bool {
        match self {
            // Starts are later than the server counts, until each run has noticed.
            Trouble::Slow(_) => true,
            // By less than answers can make it seem.
            Trouble::Clock(by) => by > 0 && by as u128 <= 2 * round_trip.as_millis() + 15,
            Trouble::Deleted(kept) | Trouble::OtherType(kept) | Trouble::Nonsense(kept, _) => kept == Kept::Starts,
            Trouble::Restarted { has_saved } => has_saved,
            _ => false,
        }
    }

    /// Whether a run that begins is told that waiting does not help.
    pub fn is_lasting(self) -> bool {
        matches!(self, Trouble::ReadOnly | Trouble::OtherType(_))
    }
}

/// The troubles in the life of this seed: drawn from a stream of their own.
pub fn events(seed: u64, span: Millis) -> Vec<Event> {
    let rng = &mut Rng::with_seed(seed ^ 0x7265_6469_735f_6c69);
    let mut event = |_| {
        let trouble = trouble(rng);
        let lasts = [1, 500, 5000, 30_000, 200_000][rng.usize(0..5)];
        let at = rng.u64(0..span) / [1, 8, 64][rng.usize(0..3)];
        Event {
            at,
            what: What::Redis(trouble, lasts),
        }
    };
    let count = [0, 1, 2, 4, 8][seed as usize / 3 % 5];
    (0..count).map(&mut event).collect()
}

fn trouble(rng: &mut Rng) -> Trouble {
    let kept = [Kept::Starts, Kept::Runs, Kept::Limit][rng.usize(0..3)];
    match rng.u8(0..16) {
        0 => Trouble::Refused,
        1 => Trouble::Silent,
        2 => Trouble::Closed,
        3 => Trouble::ReadOnly,
        4 => Trouble::Full,
        5 => Trouble::Loading,
        6 => Trouble::Restarted { has_saved: false },
        7 => Trouble::Restarted { has_saved: true },
        8..11 => {
            let most = [700, 3000, 60_000, 3_600_000][rng.usize(0..4)];
            Trouble::Clock(rng.i64(-most..=most))
        }
        11 => Trouble::Slow([20, 80, 180][rng.usize(0..3)]),
        12 => Trouble::Deleted(kept),
        13 => Trouble::OtherType(kept),
        _ => Trouble::Nonsense(kept, rng.u8(..)),
    }
}

impl Redis {
    pub fn begin(&self, trouble: Trouble) {
        match trouble {
            Trouble::Refused => self.close_connections(),
            Trouble::Closed => self.close_connections(),
            Trouble::Restarted { has_saved } => {
                self.close_connections();
                let state = &mut *self.state();
                state.scripts.forget();
                // What another program has written is gone too.
                state
                    .troubles
                    .retain(|trouble| !matches!(trouble, Trouble::OtherType(_)));
                self.data().keys = if has_saved {
                    state.saved.clone()
                } else {
                    Default::default()
                };
            }
            Trouble::Clock(by) => self.data().ahead += by * 1000,
            Trouble::Deleted(kept) => {
                self.command(&["DEL", kept.key()]);
                self.state()
                    .troubles
                    .retain(|trouble| *trouble != Trouble::OtherType(kept));
            }
            Trouble::OtherType(kept) => {
                self.command(&["DEL", kept.key()]);
                self.command(&["LPUSH", kept.key(), "x"]);
            }
            Trouble::Nonsense(kept, number) => self.write_nonsense(kept, number),
            _ => {}
        }
        self.state().troubles.push(trouble);
        self.take_effect();
    }

    pub fn end(&self, trouble: Trouble) {
        self.state().end(trouble);
        if let Trouble::OtherType(kept) = trouble
            && !self.state().has(|other| other == trouble)
            && self.command(&["TYPE", kept.key()]) == Answer::Status("list")
        {
            self.command(&["DEL", kept.key()]);
        }
        self.take_effect();
    }

    /// What the troubles mean for commands.
    fn take_effect(&self) {
        let state = self.state();
        let data = &mut *self.data();
        data.is_read_only = state.has(|trouble| trouble == Trouble::ReadOnly);
        data.is_full = state.has(|trouble| trouble == Trouble::Full);
    }

    /// Another program's command, which is carried out in any state.
    fn command(&self, words: &[&str]) -> Answer {
        let data = &mut *self.data();
        let state = (data.is_read_only, data.is_full);
        (data.is_read_only, data.is_full) = (false, false);
        let words: Vec<Vec<u8>> = words.iter().map(|word| word.as_bytes().to_vec()).collect();
        let answer = data.call(&words);
        (data.is_read_only, data.is_full) = state;
        answer
    }

    fn write_nonsense(&self, kept: Kept, number: u8) {
        let now = self.data().now();
        let later = now + [1_500_000, 1_900_000, 5_000_000, 3_600_000_000][usize::from(number) % 4];
        let text = match (kept, number / 4 % 4) {
            (Kept::Starts, 0) => format!("hold {now}\n{later} {later} 1 20 a\nend\n"),
            (Kept::Starts, 1) => format!("hold {later}\nend\n"),
            (Kept::Starts, 2) => format!("{now} {now} 4000000000 20 a\n{now} {now} 1 1e300 b\n{now} {now} 1 nan c\n"),
            (Kept::Starts, _) => "\0garbage\u{7f}\n 1 2 3".to_owned(),
            (Kept::Runs, 0) => format!("{later} {{}}"),
            (Kept::Runs, 1) => "1e300 {}".to_owned(),
            (Kept::Runs, 2) => format!("{now} garbage"),
            (Kept::Runs, _) => String::new(),
            (Kept::Limit, 0) => "{\"limit\":-1}".to_owned(),
            (Kept::Limit, 1) => "5".to_owned(),
            (Kept::Limit, _) => "\u{7f}garbage".to_owned(),
        };
        match kept {
            Kept::Runs => self.command(&["HSET", RUNS, "f00", &text]),
            _ => {
                self.state()
                    .troubles
                    .retain(|trouble| *trouble != Trouble::OtherType(kept));
                self.command(&["SET", kept.key(), &text, "PX", "60000"])
            }
        };
    }

    /// An operator sets the limit of all runs, or ends it. `lasts`: then it ends by itself.
    pub fn set_limit(&self, limit: Option<f64>, lasts: Option<Duration>) {
        let Some(limit) = limit else {
            self.command(&["SET", LIMIT, "off", "PX", "1"]);
            return;
        };
        let until = |lasts: Duration| self.data().now() / 1000 + lasts.as_millis() as u64;
        let text = match lasts.map(until) {
            Some(until) => format!("{{\"limit\":{limit},\"until\":{until},\"by\":\"an operator\"}}"),
            None => format!("{{\"limit\":{limit}}}"),
        };
        let expires = lasts.unwrap_or(Duration::from_secs(24 * 3600)).as_millis().to_string();
        self.command(&["SET", LIMIT, &text, "PX", &expires]);
    }

    /// The limit that an operator has set, as long as it is there.
    pub fn limit(&self) -> Option<f64> {
        let Answer::Bulk(text) = self.command(&["GET", LIMIT]) else {
            return None;
        };
        let entry: serde_json::Value = serde_json::from_slice(&text).ok()?;
        entry["limit"].as_f64().filter(|limit| *limit >= 0.0)
    }

    /// The names of the runs that are there, by their entries.
    pub fn present(&self) -> Vec<String> {
        let data = &mut *self.data();
        data.expire();
        let now = data.now();
        let entries = data.hash(RUNS.as_bytes()).unwrap_or_default();
        let name = |[_, text]: &[Vec<u8>; 2]| {
            let (renewed, entry) = std::str::from_utf8(text).ok()?.split_once(' ')?;
            let is_present = renewed.parse::<u64>().ok()?.abs_diff(now) < Data::PRESENT_FOR;
            let entry: serde_json::Value = serde_json::from_str(entry).ok()?;
            is_present.then(|| entry["name"].as_str().map(ToOwned::to_owned))?
        };
        entries.iter().filter_map(name).collect()
    }
}
