//! A life as data, drawn from a seed: what there is to do, what the world is like, and what happens meanwhile. It is made
//! of lists, so that it can be cut down.

use fastrand::Rng;

use crate::clock::Entries;
use crate::redis;

/// Milliseconds of simulated time since the life began.
pub type Millis = u64;

#[derive(Debug, Clone)]
pub struct Life {
    pub seed: u64,
    pub world: WorldPlan,
    /// What the clock on the wall shows when it begins, in seconds since 1970.
    pub wall_begins: u64,
    /// Runs share the quota of a machine, in files; else through a Redis.
    pub has_machine_quota: bool,
    /// One job is one report with its input; all of them belong to one app.
    pub jobs: Vec<JobPlan>,
    /// In the order of their times.
    pub events: Vec<Event>,
}

/// What ZIM and the network are like when there is no trouble.
#[derive(Debug, Clone)]
pub struct WorldPlan {
    pub seed: u64,
    pub connect_ms: u64,
    pub latency_ms: u64,
    pub jitter_ms: u64,
    pub limiter: Limiter,
    pub refusal: Refusal,
    /// Seconds that the server's clock is ahead.
    pub skew: i64,
    /// Of a thousand conversations, how many have each fate. The others can be cleared.
    pub fates: Fates,
    /// Messages repeat the URL of the request, with its signature.
    pub echoes: bool,
}

#[derive(Debug, Clone, Copy)]
pub struct Fates {
    pub outside: u64,
    pub rejected: u64,
    /// With the same code.
    pub alike: bool,
    pub flaky: u64,
    pub transient: u64,
    pub unknown: u64,
    pub page: u64,
}

#[derive(Debug, Clone, Copy)]
pub enum Limiter {
    None,
    /// At most so many in any second.
    Sliding(u32),
    /// At most so many in each second of the clock.
    Fixed(u32),
    /// So many per second, and so many at once.
    Gcra(u32, u32),
}

/// What is answered to what is too much.
#[derive(Debug, Clone, Copy)]
pub enum Refusal {
    Code(i64),
    /// With `Retry-After`, in seconds.
    Http(u16, Option<u64>),
}

#[derive(Debug, Clone)]
pub struct JobPlan {
    pub begins: Millis,
    /// Between the end of a run and the next one.
    pub rest: Millis,
    pub dialect: Dialect,
    pub input: Vec<Line>,
    /// The conversations of each user, for lines that are users. `None`: lines are rows.
    pub users: Option<Vec<(String, u32)>>,
    /// What is listed of the users, which is not cleared then.
    pub listing: Option<Listing>,
    /// Where its rows come from; `None`: from its file.
    pub feed: Option<Feed>,
    /// The settings of its runs, in order. Those after the last one have generous settings and no limits.
    pub runs: Vec<Flags>,
}

/// What `list` is to list.
#[derive(Debug, Clone, Copy)]
pub struct Listing {
    /// Only those since the time of this conversation.
    pub newest: Option<u64>,
    /// Only this type: 0 or 2.
    pub conv_type: Option<char>,
}

impl JobPlan {
    /// Users are listed, and what is listed is cleared.
    pub fn clears_users(&self) -> bool {
        self.users.is_some() && self.listing.is_none()
    }
}

/// A source of rows that is no file.
#[derive(Debug, Clone)]
pub struct Feed {
    pub kind: FeedKind,
    /// So many rows come at once, and then none for so long.
    pub portion: usize,
    pub pause: Millis,
    /// After how many new rows it breaks off, in each of the first runs.
    pub breaks: Vec<Option<usize>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum FeedKind {
    /// Standard input: a pipe. It ends within a row if it breaks off.
    Pipe,
    /// A reader, which fails.
    Reader,
    /// An iterator of a program that embeds the library, which returns an error.
    Iterator,
    /// The same, and it panics.
    Panics,
    /// A stream.
    Stream,
}

impl FeedKind {
    /// The rows come from a program, without lines and without mistakes.
    pub fn is_of_program(self) -> bool {
        !matches!(self, FeedKind::Pipe | FeedKind::Reader)
    }
}

#[derive(Debug, Clone, Copy)]
pub struct Dialect {
    pub delimiter: char,
    pub crlf: bool,
    pub bom: bool,
    pub quotes: bool,
    pub chinese: bool,
}

#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Line {
    /// A row, or a user.
    Item([String; 3]),
    /// Not valid; it becomes this item when it is mended.
    Invalid(Fault, [String; 3]),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    NoUser,
    LongUser,
    NoConv,
    BadType,
}

#[derive(Debug, Clone, Copy)]
pub struct Flags {
    pub rate: f64,
    pub max_in_flight: usize,
    pub max_attempts: u32,
    pub timeout_ms: u64,
    pub dedupe: bool,
    pub limit: Option<u64>,
    pub give_up_after_s: u64,
    pub max_duration_s: Option<u64>,
    pub max_failures: Option<u64>,
    /// Invalid rows still count as success.
    pub ignore_invalid: bool,
    /// By the clock; `rate` is the highest one then.
    pub timetable: Option<Entries>,
    /// It ends when the clock shows so many seconds more than at its beginning.
    pub until_s: Option<u64>,
}

impl Flags {
    /// What a job gets in the end.
    pub const LAST: Flags = Flags {
        rate: 20.0,
        max_in_flight: 64,
        max_attempts: 6,
        timeout_ms: 10_000,
        dedupe: false,
        limit: None,
        give_up_after_s: 1800,
        max_duration_s: None,
        max_failures: None,
        ignore_invalid: false,
        timetable: None,
        until_s: None,
    };
}

#[derive(Debug, Clone)]
pub struct Event {
    pub at: Millis,
    pub what: What,
}

#[derive(Debug, Clone)]
pub enum What {
    /// An operator limits all runs together for so long; 0 is a pause.
    Limit(f64, Millis),
    /// The quota can't be used for so long; or it has forgotten all starts.
    Quota(QuotaState, Millis),
    /// The Redis through which runs share the quota is not as it should be, for so long.
    Redis(redis::Trouble, Millis),
    /// For so long.
    Trouble(Trouble, Millis),
    Stop(usize, Stop),
    Kill(usize, Kill),
    /// What was not synced is lost: any part of it, by this number.
    PowerCut(usize, u64),
    Append(usize, Vec<Line>),
    /// Invalid rows are corrected before the next run.
    Mend(usize),
    /// The next sync fails.
    SyncFails(usize),
    /// The disk takes only so many bytes more, until the run has ended.
    DiskFull(usize, u64),
    /// Somebody looks at the report.
    Look(usize),
    /// The machine does nothing for so long.
    Stall(Millis),
    /// Somebody sets the clock, forward or back.
    SetClock(i64),
    /// The machine sleeps: timers stand still.
    Sleep(Millis),
}

/// Who stops a run, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Stop {
    /// The program that embeds the library.
    Cancel,
    Signal(i32),
    /// A second one so long after the first.
    Twice(i32, Millis),
}

#[derive(Debug, Clone, Copy)]
pub enum Kill {
    /// Between two steps of the run.
    Now,
    /// While it writes: which of its files is cut where, by this number.
    WhileWriting(u64),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum QuotaState {
    Away,
    ReadOnly,
    Restarted,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Trouble {
    Refused,
    Silent,
    Resets,
    BadGateway,
    Portal,
    Busy,
    Slow,
    Signature,
    App,
    Fatal,
}

const IDS: [&str; 12] = [
    "u",
    "alice-",
    "#g",
    "a b ",
    "a,b",
    "quote\"",
    "用户",
    "x&y=",
    "+86",
    "%41",
    "é'",
    "two\nlines",
];

impl What {
    /// The job that it happens to.
    pub fn job(&mut self) -> Option<&mut usize> {
        match self {
            What::Stop(job, _)
            | What::Kill(job, _)
            | What::PowerCut(job, _)
            | What::Append(job, _)
            | What::Mend(job)
            | What::SyncFails(job)
            | What::DiskFull(job, _)
            | What::Look(job) => Some(job),
            _ => None,
        }
    }
}

impl Life {
    pub fn of(seed: u64) -> Life {
        let mut rng = Rng::with_seed(seed);
        let rng = &mut rng;
        let jobs: Vec<JobPlan> = (0..pick(rng, &[1, 1, 1, 2, 2, 3, 4]))
            .map(|nth| job(rng, nth))
            .collect();
        let world = world(rng);
        let mut events = Vec::new();
        let span = pick(rng, &[20_000, 60_000, 300_000]);
        for _ in 0..pick(rng, &[0, 1, 3, 8, 16]) {
            let what = what(rng, &jobs);
            let at = rng.u64(0..span) / pick(rng, &[1, 8, 64]);
            events.push(Event { at, what });
        }
        let has_machine_quota = seed % 3 == 2;
        if !has_machine_quota {
            events.extend(redis::events(seed, span));
        }
        events.sort_by_key(|event: &Event| event.at);
        let mut life = Life {
            seed,
            world,
            wall_begins: 0,
            has_machine_quota,
            jobs,
            events,
        };
        crate::topics::draw(&mut life);
        if seed % 16 == 15 {
            crate::shares::make_busy(&mut life);
        }
        life
    }

    /// How long all requests take one after the other, if each row needs some.
    pub fn work(&self) -> Millis {
        let conversations = self.jobs.iter().flat_map(|job| job.users.iter().flatten());
        let listed: u64 = conversations.map(|(_, size)| u64::from(*size)).sum();
        let rows = listed + self.jobs.iter().map(|job| job.input.len() as u64).sum::<u64>();
        4 * rows * (self.world.connect_ms + self.world.latency_ms + self.world.jitter_ms)
    }

    /// Whether an ID has a line end in it.
    pub fn has_line_ends(&self) -> bool {
        let has = |line: &Line| {
            let (Line::Item(item) | Line::Invalid(_, item)) = line;
            item.iter().any(|field| field.contains('\n'))
        };
        let appended = self.events.iter().filter_map(|event| match &event.what {
            What::Append(_, lines) => Some(lines),
            _ => None,
        });
        self.jobs
            .iter()
            .map(|job| &job.input)
            .chain(appended)
            .flatten()
            .any(has)
    }

    /// When the world is calm for good.
    pub fn calm_at(&self) -> Millis {
        let ends = self.events.iter().map(|event| match event.what {
            What::Limit(_, lasts)
            | What::Quota(_, lasts)
            | What::Redis(_, lasts)
            | What::Trouble(_, lasts)
            | What::Stall(lasts) => event.at + lasts,
            _ => event.at,
        });
        let begins = self.jobs.iter().map(|job| job.begins);
        let has_timetable = self
            .jobs
            .iter()
            .flat_map(|job| &job.runs)
            .any(|run| run.timetable.is_some());
        let pauses = if has_timetable { 7_200_000 } else { 0 };
        ends.chain(begins).max().unwrap_or(0) + pauses
    }
}

pub fn pick<T: Clone>(rng: &mut Rng, of: &[T]) -> T {
    of[rng.usize(0..of.len())].clone()
}

fn world(rng: &mut Rng) -> WorldPlan {
    let limiter = match rng.u8(0..8) {
        0 => Limiter::Sliding(20),
        1 => Limiter::Sliding(10),
        2 => Limiter::Fixed(10),
        3 => Limiter::Gcra(10, 1),
        4 => Limiter::Gcra(10, 10),
        _ => Limiter::None,
    };
    let mut fate = |most: u64| if rng.bool() { 0 } else { rng.u64(0..=most) };
    let fates = Fates {
        outside: fate(300),
        rejected: fate(100),
        alike: false,
        flaky: fate(300),
        transient: fate(60),
        unknown: fate(60),
        page: fate(30),
    };
    WorldPlan {
        seed: rng.u64(..),
        connect_ms: pick(rng, &[0, 5, 100, 900]),
        latency_ms: pick(rng, &[1, 30, 30, 200, 2000]),
        jitter_ms: pick(rng, &[0, 20, 500, 4000]),
        limiter,
        refusal: match rng.u8(0..6) {
            0 => Refusal::Code(7),
            1 => Refusal::Code(660_300_005),
            2 => Refusal::Http(429, None),
            3 => Refusal::Http(429, Some(rng.u64(1..20))),
            4 => Refusal::Http(503, None),
            _ => Refusal::Http(503, Some(rng.u64(1..5))),
        },
        skew: pick(rng, &[0, 0, 0, 45, -90, 3000]),
        fates,
        echoes: rng.u8(0..3) == 0,
    }
}

fn id(rng: &mut Rng, among: u64) -> String {
    let prefix = if rng.bool() { "u" } else { pick(rng, &IDS) };
    format!("{prefix}{}", rng.u64(0..among))
}

fn item(rng: &mut Rng, among: u64) -> [String; 3] {
    let conv_type = pick(rng, &["0", "0", "peer", "单聊", "2", "Group"]);
    [id(rng, among), id(rng, among), conv_type.to_owned()]
}

fn line(rng: &mut Rng, among: u64, invalid: u64) -> Line {
    let item = item(rng, among);
    if rng.u64(0..100) >= invalid {
        return Line::Item(item);
    }
    // A correction must not move the lines after it.
    let item = item.map(|field| field.replace('\n', " "));
    let faults = [Fault::NoUser, Fault::LongUser, Fault::NoConv, Fault::BadType];
    Line::Invalid(pick(rng, &faults), item)
}

fn job(rng: &mut Rng, nth: u64) -> JobPlan {
    let size = match rng.u8(0..8) {
        0 => 0,
        1 => 1,
        2 | 3 => rng.usize(0..20),
        7 => rng.usize(0..400),
        _ => rng.usize(0..120),
    };
    let among = pick(rng, &[3, 30, 1_000_000]);
    let invalid = pick(rng, &[0, 0, 5, 30]);
    let is_users = rng.u8(0..3) == 0;
    let size = if is_users { size.min(40) } else { size };
    let input: Vec<Line> = (0..size)
        .map(|_| match line(rng, among, invalid) {
            // Conversation and type of a user are ignored.
            Line::Invalid(Fault::NoConv | Fault::BadType, item) if is_users => Line::Invalid(Fault::NoUser, item),
            line => line,
        })
        .collect();
    let users = is_users.then(|| {
        let most = pick(rng, &[3, 3, 30, 1300]);
        let mut budget = 1500_u32;
        let conversations = input.iter().map(|line| {
            let (Line::Item([user, ..]) | Line::Invalid(_, [user, ..])) = line;
            let size = if rng.u8(0..8) == 0 {
                0
            } else {
                rng.u32(0..=most).min(budget)
            };
            budget -= size;
            (user.clone(), size)
        });
        conversations.collect()
    });
    let runs = (0..pick(rng, &[1, 1, 2, 3, 4])).map(|_| flags(rng)).collect();
    JobPlan {
        begins: if nth == 0 {
            0
        } else {
            rng.u64(0..20_000) / pick(rng, &[1, 10])
        },
        rest: pick(rng, &[0, 1000, 60_000]),
        dialect: Dialect {
            delimiter: pick(rng, &[',', ',', ';', '\t']),
            crlf: rng.u8(0..4) == 0,
            bom: rng.u8(0..4) == 0,
            quotes: rng.u8(0..4) == 0,
            chinese: rng.u8(0..4) == 0,
        },
        input,
        users,
        listing: None,
        feed: None,
        runs,
    }
}

fn flags(rng: &mut Rng) -> Flags {
    let mut maybe = |range: std::ops::Range<u64>| (rng.u8(0..5) == 0).then(|| rng.u64(range));
    let (limit, max_duration_s, max_failures) = (maybe(1..60), maybe(1..40), maybe(1..6));
    Flags {
        rate: pick(rng, &[20.0, 20.0, 20.0, 5.0, 2.5, 12.0, 50.0, 300.0]),
        max_in_flight: pick(rng, &[64, 64, 1, 4, 200]),
        max_attempts: pick(rng, &[6, 6, 6, 1, 2, 3]),
        timeout_ms: pick(rng, &[10_000, 10_000, 2000, 30_000]),
        dedupe: rng.u8(0..3) == 0,
        limit,
        give_up_after_s: pick(rng, &[1800, 1800, 60, 10]),
        max_duration_s,
        max_failures,
        ignore_invalid: false,
        timetable: None,
        until_s: None,
    }
}

fn what(rng: &mut Rng, jobs: &[JobPlan]) -> What {
    let job = rng.usize(0..jobs.len());
    let lasts = pick(rng, &[500, 5000, 30_000, 200_000]);
    match rng.u8(0..24) {
        0 | 1 => What::Limit(pick(rng, &[5.0, 1.0, 3.5, 15.0, 40.0]), lasts),
        2 => What::Limit(0.0, lasts),
        3 => What::Quota(QuotaState::Away, lasts),
        4 => What::Quota(pick(rng, &[QuotaState::ReadOnly, QuotaState::Restarted]), lasts),
        5 | 6 => What::Stop(job, Stop::Cancel),
        7 | 8 => What::Kill(job, Kill::Now),
        9 | 10 => What::Kill(job, Kill::WhileWriting(rng.u64(..))),
        11 | 12 | 19 => What::PowerCut(job, rng.u64(..)),
        13 => {
            let among = pick(rng, &[3, 1_000_000]);
            let is_users = jobs[job].users.is_some();
            let line = |rng: &mut Rng| {
                Line::Item(if is_users {
                    [id(rng, 40), "c".into(), "0".into()]
                } else {
                    item(rng, among)
                })
            };
            What::Append(job, (0..rng.usize(1..10)).map(|_| line(rng)).collect())
        }
        14 => What::Mend(job),
        15 => What::SyncFails(job),
        16 | 20 => What::DiskFull(job, rng.u64(0..600)),
        17 => What::Look(job),
        18 => What::Stall(pick(rng, &[30, 500, 3000, 60_000])),
        _ => {
            let troubles = [
                Trouble::Refused,
                Trouble::Silent,
                Trouble::Resets,
                Trouble::BadGateway,
                Trouble::Portal,
                Trouble::Busy,
                Trouble::Slow,
                Trouble::Signature,
                Trouble::App,
                Trouble::Fatal,
            ];
            let lasts = pick(rng, &[300, 3000, 20_000, 120_000, 120_000, 2_400_000]);
            What::Trouble(pick(rng, &troubles), lasts)
        }
    }
}
