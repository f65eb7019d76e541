//! The cap, the faults, and clients that misbehave.

use crate::harness::{Simulator, parse, quick, signed, target_with};
use std::collections::BTreeSet;
use std::io;
use std::time::{Duration, Instant};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;
use zim_batch::simulator::{Options, Outage, OutageKind, World, serve};

#[tokio::test]
async fn no_second_admits_more_than_the_cap_and_refused_requests_do_not_count() {
    let options = Options {
        cap: 5,
        latency: Duration::ZERO,
        ..Options::default()
    };
    let simulator = Simulator::start(World::sample(), options).await;
    assert_eq!(
        simulator
            .get(&target_with(&[("Signature", Some("forged"))]))
            .await
            .code(),
        100_000_005
    );
    let mut accepted: Vec<(Instant, Instant)> = Vec::new();
    let start = Instant::now();
    // 5 at 0 and 1 seconds, and the next at 2. If refused ones counted, there would never be more than 5.
    while accepted.len() < 11 && start.elapsed() < Duration::from_secs(60) {
        let sent = Instant::now();
        match simulator.clear("alice", "bob", "0").await {
            0 => accepted.push((sent, Instant::now())),
            code => assert_eq!(code, 7),
        }
        tokio::time::sleep(Duration::from_millis(7)).await;
    }
    // It was admitted at some time between sending and answer.
    for six in accepted.windows(6) {
        assert!(six[5].1 - six[0].0 >= Duration::from_secs(1));
    }
    assert_eq!(accepted.len(), 11);
    let stats = simulator.stop().await;
    assert_eq!((stats.accepted, stats.refused), (accepted.len() as u64, 1));
    assert_eq!(stats.requests, stats.accepted + stats.refused + stats.limited);
    assert!(
        u64::from(stats.peak_1s) <= stats.requests && stats.peak_1s > 5,
        "{stats:?}"
    );
}

#[tokio::test]
async fn a_gateway_can_refuse_requests_over_the_cap() {
    let retry_after = Some(Duration::from_millis(1500));
    let options = Options {
        cap: 1,
        retry_after,
        latency: Duration::ZERO,
        ..Options::default()
    };
    let simulator = Simulator::start(World::sample(), options).await;
    assert_eq!(simulator.clear("alice", "bob", "0").await, 0);
    let answer = simulator.get(&signed("alice", "bob", "0")).await;
    assert_eq!(answer.status, 429);
    assert!(answer.head.contains("retry-after: 2"), "{}", answer.head);
}

#[tokio::test]
async fn faults_change_nothing_and_repeat_with_the_same_seed() {
    let mut runs = BTreeSet::new();
    for _ in 0..2 {
        let options = Options {
            error_rate: 0.5,
            limited_rate: 0.2,
            seed: 7,
            ..quick()
        };
        let simulator = Simulator::start(World::sample(), options).await;
        let mut codes = Vec::new();
        for number in 1..=60 {
            codes.push(simulator.clear("archivist", &format!("c{number:04}"), "0").await);
        }
        assert_eq!(
            simulator.events().len(),
            codes.iter().filter(|&&code| code == 0).count()
        );
        assert!(
            codes.contains(&660_300_005) && codes.iter().collect::<BTreeSet<_>>().len() > 5,
            "{codes:?}"
        );
        let stats = simulator.stop().await;
        assert_eq!((stats.accepted, stats.ok + stats.faults), (60, 60));
        runs.insert(codes);
    }
    assert_eq!(runs.len(), 1);
}

#[tokio::test]
async fn a_reset_can_lose_the_request_or_only_its_answer() {
    let simulator = Simulator::start(
        World::sample(),
        Options {
            reset_rate: 1.0,
            ..quick()
        },
    )
    .await;
    for number in 1..=40 {
        let error = simulator
            .try_get(&signed("archivist", &format!("c{number:04}"), "0"))
            .await
            .unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::ConnectionReset);
    }
    let changed = simulator.events().len();
    assert!((5..=35).contains(&changed), "{changed}");
    assert_eq!(simulator.stop().await.reset, 40);
}

#[tokio::test]
async fn an_outage_begins_and_ends() {
    for kind in [OutageKind::Unavailable, OutageKind::Reset] {
        let outage = Outage {
            after: Duration::ZERO,
            lasts: Duration::from_millis(1000),
            every: None,
            kind,
        };
        let simulator = Simulator::start(
            World::sample(),
            Options {
                outage: Some(outage),
                ..quick()
            },
        )
        .await;
        match simulator.try_get(&signed("alice", "bob", "0")).await {
            Ok(answer) => assert_eq!((kind, answer.status), (OutageKind::Unavailable, 503)),
            Err(error) => assert_eq!(
                (kind, error.kind()),
                (OutageKind::Reset, io::ErrorKind::ConnectionReset)
            ),
        }
        tokio::time::sleep(Duration::from_millis(1050)).await;
        assert_eq!(simulator.clear("alice", "bob", "0").await, 0);
        assert_eq!(simulator.stop().await.outage, 1);
    }
}

#[tokio::test]
async fn garbage_closes_its_connection_and_nothing_else() {
    let simulator = Simulator::quick().await;
    let mut random = fastrand::Rng::with_seed(1);
    for length in 0..200 {
        let mut bytes: Vec<u8> = (0..length).map(|_| random.u8(..)).collect();
        if length % 2 == 0 {
            // Garbage inside a request, so that the request line is valid.
            bytes = [b"GET /?", &bytes[..], b" HTTP/1.1\r\n\r\n"].concat();
        }
        bytes.extend(b"\r\n\r\n");
        let mut stream = simulator.connect().await;
        let _ = stream.write_all(&bytes).await;
        let _ = stream.shutdown().await;
        let _ = stream.read_to_end(&mut Vec::new()).await;
    }
    let huge = format!("GET /?{} HTTP/1.1\r\n\r\n", "a&".repeat(300_000));
    let _ = simulator.raw(huge.as_bytes()).await;
    assert_eq!(simulator.clear("alice", "bob", "0").await, 0);
    assert!(simulator.stop().await.unreadable > 50);
}

#[tokio::test]
async fn a_connection_serves_many_requests() {
    let simulator = Simulator::quick().await;
    let mut stream = simulator.connect().await;
    for _ in 0..3 {
        let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target_with(&[]));
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = vec![0; 1000];
        let length = stream.read(&mut answer).await.unwrap();
        assert_eq!(parse(&answer[..length]).code(), 0);
    }
}

#[tokio::test]
async fn stopping_answers_open_requests_and_waits_for_nothing_else() {
    let options = Options {
        latency: Duration::from_millis(300),
        ..Options::default()
    };
    let simulator = Simulator::start(World::sample(), options).await;
    let _idle = simulator.connect().await;
    let mut half = simulator.connect().await;
    half.write_all(b"GET /?Act").await.unwrap();
    let mut open = simulator.connect().await;
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target_with(&[]));
    open.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(100)).await;
    let stats = simulator.stop().await;
    assert_eq!((stats.requests, stats.ok), (1, 1));
    let mut answer = Vec::new();
    open.read_to_end(&mut answer).await.unwrap();
    assert_eq!(parse(&answer).code(), 0);
}

/// In paused time, which passes only while everything waits.
#[tokio::test(start_paused = true)]
async fn stopping_closes_idle_connections_immediately() {
    let simulator = Simulator::quick().await;
    let _unused = simulator.connect().await;
    let mut used = simulator.connect().await;
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target_with(&[]));
    used.write_all(request.as_bytes()).await.unwrap();
    assert!(used.read(&mut [0; 1000]).await.unwrap() > 0);
    let stopping = tokio::time::Instant::now();
    assert_eq!(simulator.stop().await.ok, 1);
    assert_eq!(stopping.elapsed(), Duration::ZERO);
    assert_eq!(used.read(&mut [0; 1000]).await.unwrap(), 0);
}

/// In paused time, which passes only while everything waits.
#[tokio::test(start_paused = true)]
async fn an_answer_takes_its_latency_and_no_longer_than_the_jitters_add() {
    let ms = Duration::from_millis;
    let options = Options {
        latency: ms(100),
        jitter: ms(100),
        arrival_jitter: ms(100),
        ..quick()
    };
    let simulator = Simulator::start(World::sample(), options).await;
    let mut slowest = Duration::ZERO;
    for _ in 0..8 {
        let sent = tokio::time::Instant::now();
        assert_eq!(simulator.clear("alice", "bob", "0").await, 0);
        assert!(sent.elapsed() >= ms(100));
        slowest = slowest.max(sent.elapsed());
    }
    assert!((ms(150)..ms(310)).contains(&slowest), "{slowest:?}");
}

#[tokio::test]
async fn a_client_that_disconnects_leaves_the_statistics_complete() {
    let simulator = Simulator::start(
        World::sample(),
        Options {
            latency: Duration::from_secs(60),
            ..quick()
        },
    )
    .await;
    let mut stream = simulator.connect().await;
    let request = format!("GET {} HTTP/1.1\r\nHost: x\r\n\r\n", target_with(&[]));
    stream.write_all(request.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(200)).await;
    drop(stream);
    let stopping = tokio::time::timeout(Duration::from_secs(50), simulator.stop());
    let stats = stopping.await.expect("no client waits for this answer");
    assert_eq!((stats.requests, stats.accepted, stats.ok, stats.cleared), (1, 1, 1, 1));
}

#[tokio::test]
async fn an_option_out_of_range_is_refused_immediately() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let options = Options {
        error_rate: 1.5,
        ..Options::default()
    };
    let error = serve(listener, World::sample(), options, None, std::future::pending())
        .await
        .unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::InvalidInput);
}
