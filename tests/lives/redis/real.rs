//! The Redis of the test's own making does what a real one does, call by call.

use std::os::unix::net::UnixStream;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use fastrand::Rng;
use redis::{Connection, ConnectionLike, Value};
use zim_batch::Rate;
use zim_batch::limiter::quota::{Presence, QuotaLocation, RedisQuota};

use super::data::{Answer, Data};
use super::{LIMIT, RUNS, Redis, STARTS, Scripts};

#[path = "../../support/passed_over.rs"]
mod passed_over;

/// A real one, until this is dropped or this process ends.
struct Real {
    process: Child,
    connection: Connection,
}

impl Drop for Real {
    fn drop(&mut self) {
        drop(self.process.stdin.take());
        self.process.wait().unwrap();
    }
}

impl Real {
    /// `None` if it is not installed.
    fn start(directory: &Path) -> Option<Real> {
        if Command::new("redis-server").arg("-v").output().is_err() {
            passed_over::passed_over("redis-server is not installed");
            return None;
        }
        let (socket, settings) = (directory.join("redis.sock"), directory.join("redis.conf"));
        let text = format!("port 0\nsave ''\nunixsocket {}\n", socket.display());
        std::fs::write(&settings, text).unwrap();
        let process = Command::new("sh")
            .args(["-c", "redis-server \"$0\" & read -r end; kill $! && wait $!"])
            .arg(&settings)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let begun = Instant::now();
        while UnixStream::connect(&socket).is_err() {
            assert!(
                begun.elapsed() < Duration::from_secs(60),
                "redis-server does not answer"
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        let client = redis::Client::open(format!("redis+unix://{}", socket.display())).unwrap();
        let connection = client.get_connection().unwrap();
        Some(Real { process, connection })
    }

    fn call(&mut self, command: &[Vec<u8>]) -> Value {
        let mut request = redis::Cmd::new();
        request.arg(command);
        let answer = self.connection.req_packed_command(&request.get_packed_command());
        answer.unwrap()
    }
}

/// What the program sends: its scripts, with their constants.
fn scripts() -> [String; 2] {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .start_paused(true)
        .build();
    runtime.unwrap().block_on(async {
        let server = Arc::new(Redis::new(Duration::ZERO, Duration::MAX));
        let location = QuotaLocation::new(12345, &"https://zim-api.zego.im".parse().unwrap());
        let connecting = Arc::clone(&server);
        let connect = move || Box::pin(Arc::clone(&connecting).connect(false)) as _;
        let joined = RedisQuota::join_in_process(connect, &location, Presence::new("", Rate::default())).await;
        let scripts = &server.state().scripts;
        let texts = [
            include_str!("../../../src/limiter/quota/redis/starts.lua"),
            include_str!("../../../src/limiter/quota/redis/runs.lua"),
        ];
        let texts = texts.map(|text| scripts.text(&scripts.hash_of(text).unwrap()).unwrap().to_owned());
        std::mem::forget(joined);
        texts
    })
}

fn bytes(words: &[&str]) -> Vec<Vec<u8>> {
    words.iter().map(|word| word.as_bytes().to_vec()).collect()
}

/// As the client reads it. Errors of scripts name a line, which is left out.
fn read(answer: &Answer) -> Value {
    let mut bytes = Vec::new();
    answer.write(&mut bytes);
    redis::parse_redis_value(&bytes).unwrap()
}

fn shown(value: &Value) -> String {
    let text = format!("{value:?}");
    text.split(" script: ").next().unwrap().to_owned()
}

/// A real server and the other one, which takes the time from it.
struct Both {
    real: Real,
    data: Arc<std::sync::Mutex<Data>>,
    scripts: Scripts,
    now: Arc<AtomicU64>,
}

impl Both {
    fn time(&mut self) -> u64 {
        let Value::Array(parts) = self.real.call(&bytes(&["TIME"])) else {
            panic!()
        };
        let parts = parts
            .into_iter()
            .map(|part| redis::from_redis_value::<u64>(part).unwrap());
        parts.reduce(|seconds, micros| seconds * 1_000_000 + micros).unwrap()
    }

    /// Calls both, and returns what they answer.
    fn compare(&mut self, command: &[Vec<u8>]) -> Answer {
        let now = self.time();
        let real = self.real.call(command);
        // `runs.lua` returns what time it was.
        let at = match &real {
            Value::Array(answers) => answers
                .first()
                .and_then(|at| redis::from_redis_value_ref::<u64>(at).ok()),
            _ => None,
        };
        self.now
            .store(at.filter(|at| *at >= now).unwrap_or(now), Ordering::Relaxed);
        let own = match (command[0].as_slice(), command) {
            (b"SCRIPT", [_, _, text]) => self.scripts.load(text),
            (b"EVALSHA", [_, hash, rest @ ..]) => self.scripts.call(hash, rest),
            _ => self.data.lock().unwrap().call(command),
        };
        let told = command
            .iter()
            .map(|word| String::from_utf8_lossy(word))
            .collect::<Vec<_>>();
        assert_eq!(shown(&read(&own)), shown(&real), "{told:?}");
        own
    }

    fn words(&mut self, words: &[&str]) -> Answer {
        self.compare(&bytes(words))
    }

    /// What both have kept.
    fn compare_keys(&mut self) {
        for key in [STARTS, RUNS, LIMIT] {
            // What expires soon is gone on the one before the other.
            let left = self.real.call(&bytes(&["PTTL", key]));
            if matches!(left, Value::Int(-2 | 0..1000)) {
                self.real.call(&bytes(&["DEL", key]));
                self.data.lock().unwrap().call(&bytes(&["DEL", key]));
            }
            self.words(&["PERSIST", key]);
            self.words(&["PTTL", key]);
        }
        self.words(&["GET", STARTS]);
        self.words(&["HGETALL", RUNS]);
        self.words(&["GET", LIMIT]);
    }
}

#[test]
fn it_answers_as_a_real_redis_call_by_call() {
    let directory = tempfile::tempdir().unwrap();
    let Some(real) = Real::start(directory.path()) else {
        return;
    };
    let now = Arc::new(AtomicU64::new(0));
    let clock = Arc::clone(&now);
    let data = Arc::new(std::sync::Mutex::new(Data::new(Box::new(move || {
        clock.load(Ordering::Relaxed)
    }))));
    let scripts = Scripts::new(&data);
    let mut both = Both {
        real,
        data,
        scripts,
        now,
    };
    both.words(&["EVALSHA", "0000000000000000000000000000000000000000", "0"]);
    let [starts, runs] = scripts_loaded(&mut both);
    let mut rng = Rng::with_seed(7);
    // Reservations name their own time.
    let (mut at, mut latest) = (1_700_000_000_000_000_u64, vec![0_u64; 4]);
    for _ in 0..2000 {
        let run = rng.usize(1..4);
        let id = run.to_string();
        let now = both.time();
        match rng.u8(0..26) {
            0..12 => {
                at += rng.u64(0..200_000);
                let rate = ["20", "5", "0.5", "300"][rng.usize(0..4)];
                let count = if rate == "300" { "2" } else { "1" };
                let used = rng.u8(0..2).to_string();
                let words = [
                    "EVALSHA",
                    &starts,
                    "3",
                    STARTS,
                    RUNS,
                    LIMIT,
                    &id,
                    "reserve",
                    rate,
                    "0.9",
                    count,
                    "0",
                    "1500",
                    &latest[run].to_string(),
                    &used,
                    "700",
                    &at.to_string(),
                ];
                if let Answer::Array(answers) = both.words(&words)
                    && let Answer::Bulk(place) = &answers[4]
                {
                    latest[run] = String::from_utf8_lossy(place).parse().unwrap_or(0);
                }
            }
            12 => {
                let mut words = vec!["EVALSHA", &starts, "3", STARTS, RUNS, LIMIT, &id, "check"];
                let at = at.to_string();
                words.extend(["20", "1", "1", "0", "0", "0", "0", "0", &at]);
                both.words(&words);
            }
            13..17 => {
                let what = ["join", "join alone", "renew", "renew", "leave", "look"][rng.usize(0..6)];
                let since = (now - rng.u64(0..3_000_000)).to_string();
                both.words(&[
                    "EVALSHA",
                    &runs,
                    "2",
                    RUNS,
                    LIMIT,
                    &id,
                    what,
                    "{\"an\":\"entry\"}",
                    &since,
                ]);
            }
            17 => {
                let offsets = [
                    -3_600_000_000,
                    -11_000_000,
                    -9_000_000,
                    9_000_000,
                    11_000_000,
                    3_600_000_000,
                ];
                let renewed = now.saturating_add_signed(offsets[rng.usize(0..6)]);
                both.words(&["HSET", RUNS, &id, &format!("{renewed} {{}}")]);
            }
            18 => {
                let entry = ["", "x", "1e300 {}", "12 \u{7f}"][rng.usize(0..4)];
                both.words(&["HSET", RUNS, "f", entry, "0e", "garbage"]);
            }
            19 | 20 => {
                let texts = [
                    "off",
                    "{\"limit\":5}",
                    "{\"limit\":0}",
                    "{\"limit\":0.25,\"until\":12}",
                    "{\"limit\":-1}",
                    "x",
                    "",
                    "{\"limit\":\"5\"}",
                    "null",
                    "[5]",
                    "{\"limit\":1e99}",
                    "{\"limit\":12.5,\"by\":\"é\\u0007\"}",
                ];
                both.words(&["SET", LIMIT, texts[rng.usize(0..texts.len())], "PX", "60000"]);
            }
            21 => {
                let text = ["", "garbage\n", "hold 99999999999999999999\n", "1 1 1 20 a\n"][rng.usize(0..4)];
                both.words(&["SET", STARTS, text]);
            }
            22 => {
                let key = [STARTS, RUNS, LIMIT][rng.usize(0..3)];
                both.words(&["DEL", key]);
                both.words(&["LPUSH", key, "x"]);
            }
            23 => drop(both.words(&["DEL", [STARTS, RUNS, LIMIT][rng.usize(0..3)]])),
            24 => {
                both.real.call(&bytes(&["REPLICAOF", "127.0.0.1", "1"]));
                both.data.lock().unwrap().is_read_only = true;
            }
            _ => {
                both.real.call(&bytes(&["CONFIG", "SET", "maxmemory", "1"]));
                both.data.lock().unwrap().is_full = true;
            }
        }
        let mut data = both.data.lock().unwrap();
        if rng.u8(0..4) == 0 && (data.is_read_only || data.is_full) {
            (data.is_read_only, data.is_full) = (false, false);
            drop(data);
            both.real.call(&bytes(&["REPLICAOF", "NO", "ONE"]));
            both.real.call(&bytes(&["CONFIG", "SET", "maxmemory", "0"]));
        } else {
            drop(data);
        }
        both.compare_keys();
    }
}

/// The hashes of the program's scripts, which both have loaded.
fn scripts_loaded(both: &mut Both) -> [String; 2] {
    scripts().map(|text| {
        both.words(&["SCRIPT", "LOAD", &text]);
        redis::Script::new(&text).get_hash().to_owned()
    })
}
