//! ZIM and the network, in simulated time: answers by its own rules, and remembers what it was asked and what it did.

use std::collections::{HashMap, HashSet};
use std::fmt;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use fastrand::Rng;
use md5::{Digest, Md5};
use tokio::time::{Instant, sleep};
use zim_batch::client::{InProcess, InProcessAnswer, InProcessFuture};

use crate::life::{Life, Millis, Refusal, Trouble, WorldPlan};
use crate::limits::Counted;

pub const APP_ID: u32 = 12345;
pub const SECRET: &str = "9193cc662a4c0ec135ec71fb57194b38";

/// When the newest conversation of each user was updated, and how long before it the next one, in milliseconds.
pub const NEWEST: u64 = 1_615_186_943_007;
pub const UPDATED_EVERY: u64 = 60_000;

/// A conversation: user, conversation, type.
pub type Key = [String; 3];

/// A run: the job, and which of its runs.
pub type RunId = (usize, usize);

const REJECTED: [i64; 4] = [2, 51_102, 660_500_002, 660_600_024];
pub const TRANSIENT: [i64; 4] = [1, 105_001, 660_000_001, 660_800_053];
const OUTSIDE: i64 = 660_800_002;
const NO_SUCH_USER: i64 = 660_500_002;
const UNKNOWN: i64 = 424_242;

/// A request, as the server saw it. Times are since the life began.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Duration,
    pub run: RunId,
    pub asked: Asked,
    /// When the answer was complete, and what it was; `None`: there was none.
    pub answered: Option<(Duration, Said)>,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Asked {
    Clear(Key),
    /// A page of a user, from there.
    List(String, usize),
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Said {
    pub http: u16,
    pub code: Option<i64>,
    pub retry_after: Option<u64>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fate {
    Ok,
    Outside,
    Rejected(i64),
    /// The first so many requests fail.
    Flaky(i64, u32),
    Transient(i64),
    Unknown,
    /// Always a page, with this status.
    Page(u16),
}

pub struct World {
    plan: WorldPlan,
    rng: Rng,
    epoch: Instant,
    /// What is wrong until when.
    troubles: Vec<(Trouble, Instant)>,
    users: HashMap<String, u32>,
    counted: Counted,
    tries: HashMap<Key, u32>,
    pub cleared: HashSet<Key>,
    pub requests: Vec<Sent>,
    /// When connections were refused.
    pub refused: Vec<(RunId, Duration)>,
    pub signatures: HashSet<String>,
    nonces: HashSet<String>,
    /// Runs that were killed: nothing comes from them any more.
    pub dead: HashSet<RunId>,
    /// What was wrong with requests.
    pub wrong: Vec<String>,
    /// Rows that were sent before they were on the disk.
    pub sent_early: Vec<String>,
}

/// The server, for one run.
pub struct Server {
    pub world: Arc<Mutex<World>>,
    pub run: RunId,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Server {:?}", self.run)
    }
}

/// What the server is going to do.
struct Plan {
    request: usize,
    /// When it takes effect, and then when the answer is complete; `None`: never.
    effect_in: Duration,
    answer_in: Option<Duration>,
    clears: Option<Key>,
    answer: Option<(Said, Vec<u8>)>,
    date: String,
}

impl World {
    pub fn new(life: &Life) -> World {
        let mut users = HashMap::new();
        for (user, size) in life.jobs.iter().filter_map(|job| job.users.as_ref()).flatten() {
            users.entry(user.clone()).or_insert(*size);
        }
        World {
            rng: Rng::with_seed(life.world.seed),
            plan: life.world.clone(),
            epoch: Instant::now(),
            troubles: Vec::new(),
            users,
            counted: Counted::default(),
            tries: HashMap::new(),
            cleared: HashSet::new(),
            requests: Vec::new(),
            refused: Vec::new(),
            signatures: HashSet::new(),
            nonces: HashSet::new(),
            dead: HashSet::new(),
            wrong: Vec::new(),
            sent_early: Vec::new(),
        }
    }

    /// When the life began.
    pub fn epoch(&self) -> Instant {
        self.epoch
    }

    pub fn now(&self) -> Duration {
        self.epoch.elapsed()
    }

    pub fn trouble(&mut self, trouble: Trouble, lasts: Millis) {
        self.troubles
            .push((trouble, Instant::now() + Duration::from_millis(lasts)));
    }

    fn troubled(&self) -> Option<Trouble> {
        let now = Instant::now();
        let current = self.troubles.iter().rfind(|(_, until)| *until > now);
        current.map(|(trouble, _)| *trouble)
    }

    /// The conversations of a user, if there is such a user.
    pub fn conversations(&self, user: &str) -> Option<Vec<[String; 2]>> {
        let size = self.users.get(user)?;
        // Older ones than the newest 1000 are out of reach.
        let conversation = |nth: u32| {
            [
                format!("c{nth}"),
                if nth.is_multiple_of(3) { "2" } else { "0" }.to_owned(),
            ]
        };
        Some((0..(*size).min(1000)).map(conversation).collect())
    }

    pub fn fate(&self, key: &Key) -> Fate {
        let mut hash = self.plan.seed ^ 0xcbf2_9ce4_8422_2325;
        for byte in key.iter().flat_map(|field| field.bytes().chain([0])) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
        let (mut place, more) = ((hash >> 20) % 1000, hash >> 40);
        let of = |codes: [i64; 4]| codes[more as usize % 4];
        let fates = self.plan.fates;
        for (share, fate) in [
            (fates.outside, Fate::Outside),
            (
                fates.rejected,
                Fate::Rejected(if fates.alike { REJECTED[0] } else { of(REJECTED) }),
            ),
            (fates.flaky, Fate::Flaky(of(TRANSIENT), 1 + more as u32 % 7)),
            (fates.transient, Fate::Transient(of(TRANSIENT))),
            (fates.unknown, Fate::Unknown),
            (fates.page, Fate::Page([403, 404, 503, 500][more as usize % 4])),
        ] {
            if place < share {
                return fate;
            }
            place -= share;
        }
        Fate::Ok
    }

    /// Reads a request, and decides what happens. `None`: the run is dead.
    fn take(&mut self, run: RunId, url: &str, body: &[u8]) -> Option<Plan> {
        if self.dead.contains(&run) {
            return None;
        }
        let asked = match self.read(url, body) {
            Ok(asked) => asked,
            Err(why) => {
                self.wrong.push(format!("{run:?}: {why}: {url}"));
                Asked::List("a request that can't be read".into(), 0)
            }
        };
        let at = self.now();
        self.requests.push(Sent {
            at,
            run,
            asked: asked.clone(),
            answered: None,
        });
        let plan = &self.plan;
        let mut latency = plan.latency_ms + self.rng.u64(0..=plan.jitter_ms);
        let effect = latency / 2;
        let (mut clears, mut answers) = (None, true);
        let is_taken = self.counted.takes(plan.limiter, at.as_micros() as u64);
        let coin = self.rng.bool();
        let said = match self.troubled() {
            Some(Trouble::Refused | Trouble::Resets) => {
                clears = coin.then(|| self.would_clear(&asked)).flatten();
                None
            }
            Some(Trouble::Silent) => {
                answers = false;
                clears = coin.then(|| self.would_clear(&asked)).flatten();
                None
            }
            Some(Trouble::BadGateway) => Some(page(502)),
            Some(Trouble::Portal) => Some(page(200)),
            Some(Trouble::Busy) => Some(self.code(1)),
            Some(Trouble::Signature) => Some(self.code(100_000_005)),
            Some(Trouble::App) => Some(self.code(100_000_011)),
            Some(Trouble::Fatal) => Some(self.code(3)),
            slow => {
                if slow.is_some() {
                    latency += 12_000;
                }
                if is_taken {
                    let (cleared, said) = self.answer(&asked, url);
                    clears = cleared;
                    Some(said)
                } else {
                    Some(self.refusal())
                }
            }
        };
        let server_time = SystemTime::now() + Duration::from_secs(self.plan.skew.unsigned_abs());
        Some(Plan {
            request: self.requests.len() - 1,
            effect_in: Duration::from_millis(effect),
            answer_in: answers.then(|| Duration::from_millis(latency - effect)),
            clears,
            answer: said,
            date: httpdate::fmt_http_date(server_time),
        })
    }

    fn would_clear(&self, asked: &Asked) -> Option<Key> {
        match asked {
            Asked::Clear(key) if self.fate(key) == Fate::Ok => Some(key.clone()),
            _ => None,
        }
    }

    fn refusal(&self) -> (Said, Vec<u8>) {
        match self.plan.refusal {
            Refusal::Code(code) => self.code(code),
            Refusal::Http(http, retry_after) => {
                let (said, body) = page(http);
                (Said { retry_after, ..said }, body)
            }
        }
    }

    fn code(&self, code: i64) -> (Said, Vec<u8>) {
        said(code, "said", "")
    }

    fn answer(&mut self, asked: &Asked, url: &str) -> (Option<Key>, (Said, Vec<u8>)) {
        let echo = self.echo(url);
        match asked {
            Asked::List(user, from) => (None, self.list(user, *from, &echo)),
            Asked::Clear(key) => {
                let tries = self.tries.entry(key.clone()).or_default();
                *tries += 1;
                let tries = *tries;
                let code = match self.fate(key) {
                    Fate::Page(http) => return (None, page_with(http, &echo)),
                    Fate::Ok => 0,
                    Fate::Outside => OUTSIDE,
                    Fate::Rejected(code) | Fate::Transient(code) => code,
                    Fate::Flaky(code, fails) if tries <= fails => code,
                    Fate::Flaky(..) => 0,
                    Fate::Unknown => UNKNOWN,
                };
                ((code == 0).then(|| key.clone()), said(code, &echo, ""))
            }
        }
    }

    /// What a message repeats of a request's URL, in some way or other.
    fn echo(&self, url: &str) -> String {
        let encoded = || url.bytes().map(|byte| format!("%{byte:02X}")).collect();
        match self.requests.len() % 5 {
            _ if !self.plan.echoes => "m".to_owned(),
            0 => encoded(),
            1 => url.to_uppercase(),
            2 => format!("'{}' can't be read", url.replace('&', "&amp;")),
            3 => url.split(['&', '=']).collect::<Vec<_>>().join(" "),
            _ => url.to_owned(),
        }
    }

    fn list(&self, user: &str, from: usize, echo: &str) -> (Said, Vec<u8>) {
        let Some(conversations) = self.conversations(user) else {
            return said(NO_SUCH_USER, echo, "");
        };
        let entry = |(nth, [conv, conv_type]): (usize, &[String; 2])| {
            let updated = NEWEST - nth as u64 * UPDATED_EVERY;
            format!(r#"{{"ConvId":"{conv}","ConvType":{conv_type},"UpdateTime":{updated}}}"#)
        };
        let page = conversations.iter().enumerate().skip(from).take(500);
        let list: Vec<String> = page.map(entry).collect();
        let next = if from + list.len() < conversations.len() {
            from + list.len()
        } else {
            0
        };
        said(0, echo, &format!(r#","Next":{next},"List":[{}]"#, list.join(",")))
    }

    /// What a request asks, if it is signed and as it should be.
    fn read(&mut self, url: &str, body: &[u8]) -> Result<Asked, String> {
        let url = url::Url::parse(url).map_err(|error| error.to_string())?;
        let query: HashMap<String, String> = url.query_pairs().into_owned().collect();
        let get = |name: &str| query.get(name).cloned().ok_or(format!("there is no {name}"));
        let (nonce, timestamp, signature) = (get("SignatureNonce")?, get("Timestamp")?, get("Signature")?);
        let digest = Md5::digest(format!("{APP_ID}{nonce}{SECRET}{timestamp}"));
        let expected: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        if signature != expected || timestamp.parse::<u64>().is_ok_and(|time| time.abs_diff(now) > 600) {
            return Err("it is not signed".into());
        }
        self.signatures.insert(signature);
        if !self.nonces.insert(nonce) {
            return Err("its nonce was used before".into());
        }
        match get("Action")?.as_str() {
            "ClearConversationUnread" => Ok(Asked::Clear([get("FromUserId")?, get("ConvId")?, get("ConvType")?])),
            "QueryConversationList" => {
                let body: serde_json::Value = serde_json::from_slice(body).map_err(|error| error.to_string())?;
                let user = body["FromUserId"].as_str().ok_or("no FromUserId")?;
                let next = body["Next"].as_u64().ok_or("no Next")?;
                Ok(Asked::List(user.to_owned(), next as usize))
            }
            other => Err(format!("nobody asks for {other}")),
        }
    }
}

fn page(http: u16) -> (Said, Vec<u8>) {
    let said = Said {
        http,
        code: None,
        retry_after: None,
    };
    (said, b"<html>a page</html>".to_vec())
}

fn page_with(http: u16, text: &str) -> (Said, Vec<u8>) {
    let body = format!("<html>no such page: {text}</html>");
    (page(http).0, body.into_bytes())
}

fn said(code: i64, message: &str, more: &str) -> (Said, Vec<u8>) {
    let body = format!(r#"{{"Code":{code},"Message":"{message}","RequestId":"343649807833778782"{more}}}"#);
    let said = Said {
        http: 200,
        code: Some(code),
        retry_after: None,
    };
    (said, body.into_bytes())
}

impl Server {
    fn world(&self) -> MutexGuard<'_, World> {
        self.world.lock().unwrap()
    }
}

impl InProcess for Server {
    fn connect(&self) -> InProcessFuture<'_, Result<(), String>> {
        Box::pin(async {
            let connect_ms = self.world().plan.connect_ms;
            sleep(Duration::from_millis(connect_ms)).await;
            let is_dead = self.world().dead.contains(&self.run);
            let troubled = self.world().troubled();
            match troubled {
                _ if is_dead => std::future::pending().await,
                Some(Trouble::Refused) => {
                    let mut world = self.world();
                    let now = world.now();
                    world.refused.push((self.run, now));
                    Err("connection refused".to_owned())
                }
                _ => Ok(()),
            }
        })
    }

    fn answer(&self, url: String, body: hyper::body::Bytes) -> InProcessFuture<'_, Option<InProcessAnswer>> {
        Box::pin(async move {
            let Some(plan) = self.world().take(self.run, &url, &body) else {
                return std::future::pending().await;
            };
            sleep(plan.effect_in).await;
            self.world().cleared.extend(plan.clears);
            let Some(answer_in) = plan.answer_in else {
                return std::future::pending().await;
            };
            sleep(answer_in).await;
            let (said, body) = plan.answer?;
            let mut world = self.world();
            let now = world.now();
            world.requests[plan.request].answered = Some((now, said));
            let mut headers = vec![("date", plan.date)];
            headers.extend(said.retry_after.map(|seconds| ("retry-after", seconds.to_string())));
            Some(InProcessAnswer {
                http: said.http,
                headers,
                body,
            })
        })
    }
}
