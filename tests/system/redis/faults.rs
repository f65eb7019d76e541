//! Faults of the server through which runs share the quota, and what runs tell each other through it.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use super::{CAP, PASSWORD, Redis, SECOND, run_of, wait_for_requests};
use crate::support::{APP_ID, Desk, Outcome, kind_server, pace};

/// The lines on stderr about holds.
fn holds(outcome: &Outcome) -> (usize, usize) {
    let count = |text: &str| outcome.stderr.matches(text).count();
    (count("on hold"), count("can be used again"))
}

/// Serves each connection in a thread, and returns the port.
fn serve(connection: impl Fn(TcpStream) + Send + Sync + 'static) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("loopback has a free port");
    let port = listener.local_addr().expect("it is bound").port();
    let connection = Arc::new(connection);
    thread::spawn(move || {
        for stream in listener.incoming().flatten() {
            let connection = Arc::clone(&connection);
            thread::spawn(move || connection(stream));
        }
    });
    port
}

#[test]
fn a_run_that_does_not_wait_names_another_one_that_is_on_hold_too_and_sees_when_it_is_gone() {
    let Some(redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let no_wait = |user| run_of(&desk, &server, &redis.url(), user, 2).arg("--no-wait");
    let mut first = run_of(&desk, &server, &redis.url(), "a", 4000).spawn();
    wait_for_requests(&mut first, &server, 5);
    let named = format!("process {} on ", first.id());
    for _ in 0..2 {
        let refused = no_wait("b").run();
        refused
            .assert_status(75)
            .assert_says(&[&named, "job \"a.report\"", "/a.report.csv\"", "--no-wait"]);
    }
    first.signal("TERM");
    first.wait().assert_status(143);
    no_wait("b").run().assert_status(0);

    // It is gone soon after a kill.
    let mut killed = run_of(&desk, &server, &redis.url(), "c", 4000).spawn();
    wait_for_requests(&mut killed, &server, server.count() + 5);
    killed.signal("KILL");
    killed.wait();
    let killed_at = Instant::now();
    while no_wait("d").arg("--overwrite").run().status != 0 {
        assert!(killed_at.elapsed() < 60 * SECOND, "it is still there");
        thread::sleep(SECOND);
    }

    // A run that can send nothing is there all the same.
    let away = |user| run_of(&desk, &server, &redis.url(), user, 100).flag("--endpoint", "http://127.0.0.1:1");
    let mut held = away("e").flag("--log-file", "held.log").spawn();
    held.wait_until("it is on hold", || {
        desk.has("held.log") && desk.read("held.log").contains("on hold")
    });
    thread::sleep(3 * SECOND);
    let named = format!("process {} on ", held.id());
    away("f")
        .arg("--no-wait")
        .run()
        .assert_status(75)
        .assert_says(&[&named]);
    held.signal("TERM");
    held.wait();
}

#[test]
fn a_server_that_can_t_be_used_whatever_happens_is_refused_before_anything_begins() {
    let (desk, server) = (Desk::new(), kind_server());
    let Some(primary) = Redis::start() else { return };
    let refused = |url: &str, says: &[&str]| {
        let outcome = run_of(&desk, &server, url, "a", 2).flag("--give-up-after", "5s").run();
        outcome
            .assert_status(2)
            .assert_says(says)
            .assert_says(&["ZIM_QUOTA", "quota server redis"]);
        assert!(!desk.has("a.report.csv"), "{outcome:?}");
        assert!(!outcome.stderr.contains("s3cr"), "{outcome:?}");
    };
    refused(&format!("{}/99", primary.url()), &["no database of this number"]);

    for rights in [
        "+eval +evalsha +script|load +get +time +hset +hdel +hgetall +hexists +pexpire",
        "+eval +evalsha +script|load +get +set +time",
        "+get +set",
    ] {
        primary.command(&format!(
            "ACL SETUSER limited reset on >pw ~zim-batch-* +ping +client {rights}"
        ));
        let url = format!("redis://limited:pw@127.0.0.1:{}", primary.port);
        refused(&url, &["its user lacks a right", "it needs ~zim-batch-* ", "+hgetall"]);
    }
    let all = "+eval +evalsha +script|load +get +set +time +hset +hdel +hgetall +hexists +pexpire";
    primary.command(&format!("ACL SETUSER limited reset on >pw ~zim-batch-* +ping {all}"));
    let url = format!("redis://limited:pw@127.0.0.1:{}", primary.port);
    run_of(&desk, &server, &url, "enough", 2).run().assert_status(0);
    primary.command(&format!("ACL SETUSER limited reset on >pw ~other +ping {all}"));
    refused(&url, &["its user lacks a right", "access one of the keys"]);

    // Without TLS it does not answer a handshake, which is not known to last.
    let outcome = run_of(&desk, &server, &primary.url().replace("redis:", "rediss:"), "tls", 2)
        .flag("--give-up-after", "1s")
        .run();
    outcome.assert_status(5).assert_says(&["does it speak TLS?"]);

    let port = primary.port.to_string();
    let replica = Redis::with(&["--replicaof", "127.0.0.1", &port, "--masterauth", PASSWORD]);
    refused(
        &replica.expect("it is installed").url(),
        &["a replica", "use the URL of the primary"],
    );
    let cluster = Redis::with(&["--cluster-enabled", "yes"]).expect("it is installed");
    refused(&cluster.url(), &["Redis Cluster"]);
    cluster.command("CLUSTER ADDSLOTSRANGE 0 16383");
    thread::sleep(3 * SECOND);
    refused(&cluster.url(), &["Redis Cluster"]);
    let sentinel = Redis::with(&["--sentinel"]).expect("it is installed");
    refused(&sentinel.url(), &["Sentinel", "use the URL of the primary"]);

    let port = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n");
    });
    refused(&format!("redis://127.0.0.1:{port}"), &["is it another server?"]);
    assert_eq!(server.requests().len(), 2);
}

#[test]
fn a_server_that_can_be_read_and_not_written_to_is_one_hold_that_is_bounded() {
    let Some(redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    // It has no memory left, from the beginning.
    redis.command("CONFIG SET maxmemory-policy noeviction");
    redis.command("CONFIG SET maxmemory 1kb");
    let outcome = run_of(&desk, &server, &redis.url(), "a", 2)
        .flag("--give-up-after", "3s")
        .run();
    outcome.assert_status(5).assert_says(&["OOM", "--give-up-after"]);
    assert_eq!(holds(&outcome), (1, 0), "{outcome:?}");
    redis.command("CONFIG SET maxmemory 0");

    // It becomes a replica during the run, and a primary again.
    let mut run = run_of(&desk, &server, &redis.url(), "b", 100)
        .flag("--log-file", "run.log")
        .spawn();
    wait_for_requests(&mut run, &server, 20);
    redis.command("REPLICAOF 127.0.0.1 1");
    run.wait_until("it is on hold", || {
        desk.has("run.log") && desk.read("run.log").contains("on hold")
    });
    let before = server.count();
    thread::sleep(3 * SECOND);
    assert!(server.count() <= before + 3);
    redis.command("REPLICAOF NO ONE");
    let outcome = run.wait();
    outcome.assert_status(0).assert_says(&["a replica"]);
    assert_eq!(holds(&outcome), (1, 1), "{outcome:?}");
    pace::assert_within_cap(&server.arrivals(), CAP);
}

#[test]
fn a_server_that_closes_idle_connections_is_nobody_s_news() {
    let Some(redis) = Redis::with(&["--timeout", "1"]) else {
        return;
    };
    let (desk, server) = (Desk::new(), kind_server());
    let call = run_of(&desk, &server, &redis.url(), "a", 3).flag("--rate", "0.4");
    let mut run = call.spawn();
    while run.is_running() {
        if run.is_running() {
            redis.command("CLIENT KILL TYPE normal SKIPME yes");
        }
        thread::sleep(SECOND / 4);
    }
    let outcome = run.wait();
    outcome.assert_status(0);
    assert_eq!(holds(&outcome), (0, 0), "{outcome:?}");
}

#[test]
fn starts_that_a_clock_has_left_in_the_future_stop_nobody() {
    let Some(redis) = Redis::start() else { return };
    let (desk, server) = (Desk::new(), kind_server());
    let port = server.url().rsplit(':').next().expect("it has a port").to_owned();
    let key = |kind: &str| format!("zim-batch-{APP_ID}-loopback-{port}.{kind}");
    let later = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is after 1970") + 3600 * SECOND;
    let micros = later.as_micros();
    redis.command(&format!(
        "SET {} \"hold 0\\n{micros} {micros} 1 20 a\\nend\\n\"",
        key("starts")
    ));
    let entry = r#"{\"host\":\"x\",\"process\":1,\"rate\":20,\"since\":0}"#;
    redis.command(&format!("HSET {} a \"{micros} {entry}\"", key("runs")));
    let started_at = Instant::now();
    run_of(&desk, &server, &redis.url(), "a", 20)
        .arg("--no-wait")
        .run()
        .assert_status(0);
    let took = started_at.elapsed();
    assert!(took < 60 * SECOND, "{took:?}");
    assert_eq!(
        redis
            .command(&format!("EXISTS {}", key("runs")))
            .matches(":0\r\n")
            .count(),
        1
    );
}

#[test]
fn an_answer_without_an_end_takes_no_memory() {
    let port = serve(|mut stream| {
        let _ = stream.read(&mut [0; 4096]);
        let _ = stream.write_all(b"$2147483648\r\n");
        while stream.write_all(&[b'x'; 65536]).is_ok() {}
    });
    let (desk, server) = (Desk::new(), kind_server());
    let mut run = run_of(&desk, &server, &format!("redis://127.0.0.1:{port}"), "a", 2)
        .flag("--give-up-after", "3s")
        .spawn();
    let mut peak = 0;
    while run.is_running() {
        peak = run.peak_memory_kib().unwrap_or_default().max(peak);
        thread::sleep(SECOND / 20);
    }
    run.wait().assert_status(5).assert_says(&["its answer is too long"]);
    assert!(peak < 100_000, "{peak} KiB");
}
