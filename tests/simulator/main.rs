//! Tests of the simulator through its public interface.
//!
//! They use nothing else of the crate: the simulator must follow ZEGO's documents, not the client that it tests.

mod harness;
mod limits_and_faults;
mod queries;

use harness::{Simulator, parse, quick, signed, target_with, unix_now};
use serde_json::Value;
use zim_batch::simulator::{Options, World};

#[tokio::test]
async fn a_good_request_is_answered_as_documented() {
    let simulator = Simulator::quick().await;
    let answer = simulator.get(&signed("alice", "bob", "0")).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: application/json"),
        "{}",
        answer.head
    );
    assert!(answer.head.contains("\r\ndate: "), "{}", answer.head);
    let json = answer.json();
    assert_eq!(
        (&json["Code"], &json["Message"]),
        (&Value::from(0), &Value::from("success"))
    );
    let request_id: u64 = json["RequestId"].as_str().expect("text").parse().expect("decimal");
    assert!(request_id > 1 << 53);
    let other = simulator.get(&signed("alice", "bob", "0")).await;
    assert_ne!(other.json()["RequestId"], json["RequestId"]);
}

#[tokio::test]
async fn the_documents_own_signature_is_accepted_by_a_clock_of_its_time() {
    // The unit tests of the rules have more signatures, and every way to be wrong.
    let at = 1_615_186_943;
    let options = Options {
        clock_offset: at - unix_now(),
        ..quick()
    };
    let simulator = Simulator::start(World::sample(), options).await;
    let answer = simulator
        .get(&target_with(&[
            ("Timestamp", Some(&at.to_string())),
            ("Signature", Some("43e5cfcca828314675f91b001390566a")),
        ]))
        .await;
    assert_eq!(answer.code(), 0);
    assert!(
        answer.head.contains("\r\ndate: mon, 08 mar 2021 07:02:2"),
        "{}",
        answer.head
    );
}

#[tokio::test]
async fn violations_are_answered_with_their_codes_and_counted() {
    let simulator = Simulator::quick().await;
    for (name, value, code) in [
        ("Action", "", 100_000_006),
        ("AppId", "54321", 100_000_011),
        ("Timestamp", "1", 100_000_004),
        ("Signature", "00000000000000000000000000000000", 100_000_005),
        ("FromUserId", "", 660_000_002),
        ("ConvId", "nobody", 660_800_002),
    ] {
        let answer = simulator.get(&target_with(&[(name, Some(value))])).await;
        assert_eq!((answer.status, answer.code()), (200, code), "{name}={value}");
    }
    for (addition, code) in [("&ConvId=bob", 2), ("&x=%zz", 2), ("&x=1", 0), ("#x&ConvId=bob", 0)] {
        assert_eq!(
            simulator.get(&format!("{}{addition}", target_with(&[]))).await.code(),
            code,
            "{addition}"
        );
    }
    assert_eq!(simulator.get("/").await.code(), 100_000_006);
    let stats = simulator.stop().await;
    assert_eq!(stats.refused + stats.accepted, stats.requests);
    assert_eq!((stats.ok, stats.outside, stats.rejected), (2, 1, 1));
    assert_eq!(stats.codes[&100_000_006], 2);
}

#[tokio::test]
async fn another_path_or_method_has_a_status_of_its_own() {
    let simulator = Simulator::quick().await;
    let answer = simulator.get(&target_with(&[]).replacen('/', "/v2", 1)).await;
    assert_eq!((answer.status, answer.code()), (404, 100_000_000));
    let post = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n",
        target_with(&[])
    );
    let answer = parse(&simulator.raw(post.as_bytes()).await.unwrap());
    assert_eq!((answer.status, answer.code()), (405, 100_000_000));
    assert!(answer.head.contains("allow: get\r\n"), "{}", answer.head);
}

#[tokio::test]
async fn only_the_newest_1000_are_reachable_unless_the_limit_is_raised() {
    let simulator = Simulator::quick().await;
    assert_eq!(simulator.clear("archivist", "c1000", "0").await, 0);
    assert_eq!(simulator.clear("archivist", "c1001", "0").await, 660_800_002);
    let raised = Simulator::start(
        World::sample(),
        Options {
            newest: 1200,
            ..quick()
        },
    )
    .await;
    assert_eq!(raised.clear("archivist", "c1001", "0").await, 0);
    assert_eq!(raised.clear("archivist", "c1200", "0").await, 0);
}

#[tokio::test]
async fn every_change_is_one_event_with_the_ids_as_they_are() {
    let simulator = Simulator::quick().await;
    let ids = [
        ("alice", "#1+1=2 ?", "2"),
        ("q&a+x=y", "mary ann", "0"),
        ("q&a+x=y", "#100%", "2"),
        ("你 %+", "#é", "2"),
    ];
    for (user, conv, kind) in ids {
        assert_eq!(simulator.clear(user, conv, kind).await, 0);
    }
    assert_eq!(
        simulator.clear("alice", "#1+1=2 ?", "2").await,
        0,
        "nothing is unread any more"
    );
    assert_eq!(simulator.clear("bob", "alice", "0").await, 0, "nothing was unread");
    assert_eq!(simulator.clear("alice", "nobody", "0").await, 660_800_002);
    let events = simulator.events();
    assert_eq!(events.len(), ids.len());
    for (event, (user, conv, kind)) in events.iter().zip(ids) {
        assert_eq!(event["event"], "conversationChanged");
        assert_eq!(
            (&event["user"], &event["conv"]),
            (&Value::from(user), &Value::from(conv))
        );
        assert_eq!(
            (event["type"].to_string().as_str(), &event["unread"]),
            (kind, &Value::from(0))
        );
        assert!(event["at"].as_str().expect("a time").ends_with('Z'));
    }
    // An unencoded `+` arrives as a space, as on any server.
    let careless = signed("alice", "x", "2").replace("ConvId=%78", "ConvId=%231+1%3D2+%3F");
    assert_eq!(simulator.get(&careless).await.code(), 660_800_002);
    assert_eq!(simulator.stop().await.cleared, 4);
}

#[tokio::test]
async fn a_world_from_a_file_knows_only_what_the_file_says() {
    let world = World::from_csv("user,conv,type,unread\nann,#g,group,2\n".as_bytes()).unwrap();
    let simulator = Simulator::start(world, quick()).await;
    assert_eq!(simulator.clear("ann", "#g", "2").await, 0);
    assert_eq!(simulator.clear("ann", "#h", "2").await, 660_800_002);
    assert_eq!(simulator.clear("bob", "#g", "2").await, 660_500_002);
    assert_eq!(simulator.stop().await.rejected, 1);
}
