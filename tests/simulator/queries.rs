//! The calls whose parameters are in a body: `QueryConversationList` and `QueryUserInfos`.

use crate::harness::{Answer, NONCE, Simulator, parse, query, quick, signed, target_with};
use serde_json::{Value, json};
use std::io::ErrorKind;
use std::time::Duration;
use tokio::io::AsyncWriteExt;
use zim_batch::simulator::{Options, Outage, OutageKind, World};

const LIST: &str = "QueryConversationList";
const USERS: &str = "QueryUserInfos";

async fn list(simulator: &Simulator, body: Value) -> Answer {
    simulator.post(&query(LIST), &body.to_string()).await
}

async fn users(simulator: &Simulator, ids: &[&str]) -> Answer {
    let body = json!({ "UserIds": ids }).to_string();
    simulator.post(&query(USERS), &body).await
}

#[tokio::test]
async fn a_list_is_answered_as_documented() {
    let simulator = Simulator::quick().await;
    let answer = list(&simulator, json!({"FromUserId": "alice"})).await;
    assert_eq!(answer.status, 200);
    assert!(
        answer.head.contains("content-type: application/json"),
        "{}",
        answer.head
    );
    let mut json = answer.json();
    let request_id = json["RequestId"].take();
    assert!(request_id.as_str().expect("text").parse::<u64>().expect("decimal") > 1 << 53);
    let expected = json!({
        "Code": 0, "Message": "success", "RequestId": null, "TotalCount": 4, "Next": 0, "List": [
            {"ConvId": "#1+1=2 ?", "ConvType": 2, "UpdateTime": 1_767_225_420_000_u64},
            {"ConvId": "carol", "UpdateTime": 1_767_225_480_000_u64},
            {"ConvId": "#team", "ConvType": 2, "UpdateTime": 1_767_225_540_000_u64},
            {"ConvId": "bob", "UpdateTime": 1_767_225_600_000_u64},
        ],
    });
    assert_eq!(json, expected);
    // A type of 0 may be absent or not.
    let carols = list(&simulator, json!({"FromUserId": "carol"})).await.json();
    assert_eq!(carols["List"][0]["ConvType"], 0);
    assert!(carols["List"][1].get("ConvType").is_none());
    // A clear is not an update.
    assert_eq!(simulator.clear("alice", "carol", "0").await, 0);
    let after = list(&simulator, json!({"FromUserId": "alice"})).await.json();
    assert_eq!(after["List"], expected["List"]);
    let nothing = list(&simulator, json!({"FromUserId": "somebody"})).await.json();
    assert_eq!(
        (&nothing["TotalCount"], &nothing["Next"]),
        (&Value::from(0), &Value::from(0))
    );
    assert!(nothing.get("List").is_none());
}

#[tokio::test]
async fn pages_lead_to_each_of_the_newest_conversations_once() {
    let simulator = Simulator::quick().await;
    for (limit, expected_pages) in [(None, 10), (Some(4000), 2)] {
        let mut body = json!({"FromUserId": "archivist"});
        if let Some(limit) = limit {
            body["Limit"] = limit.into();
        }
        let (mut pages, mut ids) = (0, Vec::new());
        loop {
            let page = list(&simulator, body.clone()).await.json();
            assert_eq!(
                (&page["Code"], &page["TotalCount"]),
                (&Value::from(0), &Value::from(1000))
            );
            pages += 1;
            let listed = page["List"].as_array().expect("a page is not empty");
            ids.extend(listed.iter().map(|conversation| conversation["ConvId"].clone()));
            body["Next"] = page["Next"].clone();
            match page["Next"].as_u64().expect("a whole number") {
                0 => break,
                next => assert!(next > 1 << 53),
            }
        }
        assert_eq!(pages, expected_pages, "{limit:?}");
        let expected: Vec<_> = (1..=1000)
            .rev()
            .map(|number| Value::from(format!("c{number:04}")))
            .collect();
        assert_eq!(ids, expected, "{limit:?}");
    }
}

#[tokio::test]
async fn users_are_found_or_have_a_sub_code() {
    let simulator = Simulator::quick().await;
    let long = "x".repeat(64);
    let answer = users(
        &simulator,
        &["alice", "nobody", "你", "nobody1", "alice", "nobody", &long],
    )
    .await;
    let mut json = answer.json();
    json["RequestId"].take();
    let expected = json!({
        "Code": 0, "Message": "success", "RequestId": null,
        "Result": [{"UserId": "alice", "UserName": "alice"}, {"UserId": "你", "UserName": "你"}],
        "ErrorList": [
            {"UserId": "nobody", "SubCode": 660_700_015},
            {"UserId": "nobody1", "SubCode": 660_000_002},
            {"UserId": long, "SubCode": 660_700_015},
        ],
    });
    assert_eq!(json, expected);
    let hundred: Vec<_> = (0..100).map(|number| format!("u{number}")).collect();
    let mut ids: Vec<_> = hundred.iter().map(String::as_str).collect();
    let found = users(&simulator, &ids).await.json();
    assert_eq!(found["Result"].as_array().map(Vec::len), Some(100));
    ids.push("u0");
    assert_eq!(users(&simulator, &ids).await.code(), 660_000_002);
}

#[tokio::test]
async fn all_calls_agree_on_who_is_registered() {
    let world = World::from_csv("user,conv,type,last_active\nann,#g,2,1700000000123\n".as_bytes()).unwrap();
    let closed = Simulator::start(world, quick()).await;
    let open = Simulator::quick().await;
    for (simulator, user, code) in [
        (&open, "nobody", 660_500_002),
        (&open, "nobody at all", 660_500_002),
        (&open, "Nobody", 0),
        (&closed, "ann", 0),
        (&closed, "bob", 660_500_002),
    ] {
        assert_eq!(simulator.clear(user, "#g", "2").await, code, "{user}");
        assert_eq!(
            list(simulator, json!({"FromUserId": user})).await.code(),
            code,
            "{user}"
        );
        let found = users(simulator, &[user]).await.json();
        assert_eq!(
            found["Result"].as_array().map(Vec::len),
            Some(usize::from(code == 0)),
            "{user}"
        );
    }
    let anns = list(&closed, json!({"FromUserId": "ann"})).await.json();
    assert_eq!(anns["List"][0]["UpdateTime"], 1_700_000_000_123_u64);
}

#[tokio::test]
async fn a_body_that_can_not_be_used_has_its_code() {
    let simulator = Simulator::quick().await;
    for (action, body, code) in [
        (LIST, String::new(), 2),
        (LIST, "FromUserId=alice".into(), 2),
        (LIST, "{}".into(), 660_000_002),
        (LIST, r#"{"FromUserId":"alice","Next":1}"#.into(), 660_000_002),
        (LIST, r#"{"FromUserId":"alice","Other":1}"#.into(), 0),
        (LIST, format!(r#"{{"FromUserId":"alice"}}{}"#, " ".repeat(65_000)), 0),
        (
            LIST,
            format!(r#"{{"FromUserId":"alice"}}{}"#, " ".repeat(70_000)),
            100_000_012,
        ),
        (LIST, " ".repeat(3_000_000), 100_000_012),
        (USERS, "{}".into(), 660_000_002),
    ] {
        let answer = simulator.post(&query(action), &body).await;
        let start = &body[..body.len().min(60)];
        assert_eq!((answer.status, answer.code()), (200, code), "{action} {start}");
    }
    let body = r#"{"UserIds":["alice"]}"#;
    for (headers, code) in [
        ("", 660_000_002),
        ("Content-Type: text/plain\r\n", 660_000_002),
        ("Content-Type: application/x-www-form-urlencoded\r\n", 660_000_002),
        ("Content-Type: application/json;charset=UTF-8\r\n", 0),
    ] {
        assert_eq!(
            simulator.post_as(headers, &query(USERS), body).await.code(),
            code,
            "{headers}"
        );
    }
    // The parameters of a POST are not taken from the query string.
    let target = target_with(&[("Action", Some(LIST))]);
    assert_eq!(simulator.post(&target, "{}").await.code(), 660_000_002);
    let stats = simulator.stop().await;
    assert_eq!((stats.refused, stats.ok, stats.accepted), (0, 3, 14));
    assert_eq!(stats.rejected, 11);
}

#[tokio::test]
async fn a_body_may_come_in_chunks_and_must_come_whole() {
    let simulator = Simulator::quick().await;
    let head = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Type: application/json\r\n",
        query(USERS)
    );
    let chunked =
        format!("{head}Transfer-Encoding: chunked\r\n\r\n5\r\n{{\"Use\r\n10\r\nrIds\":[\"alice\"]}}\r\n0\r\n\r\n");
    let answer = parse(&simulator.raw(chunked.as_bytes()).await.unwrap());
    assert_eq!(answer.json()["Result"][0]["UserId"], "alice");
    let half = format!("{head}Content-Length: 100\r\n\r\n{{");
    let mut broken = simulator.connect().await;
    broken.write_all(half.as_bytes()).await.unwrap();
    let mut waiting = simulator.connect().await;
    waiting.write_all(half.as_bytes()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(50)).await;
    drop(broken);
    // The one that still waits for its body does not keep the simulator from stopping.
    let stats = simulator.stop().await;
    assert_eq!((stats.ok, stats.requests - stats.rejected), (1, 1));
}

#[tokio::test]
async fn each_action_has_one_method() {
    let simulator = Simulator::quick().await;
    for action in [LIST, USERS] {
        let answer = simulator.get(&query(action)).await;
        assert_eq!((answer.status, answer.code()), (405, 100_000_000), "{action}");
        assert!(answer.head.contains("allow: post\r\n"), "{}", answer.head);
        assert!(answer.json()["Message"].as_str().expect("text").contains("method"));
    }
    let answer = simulator.post(&signed("alice", "bob", "0"), "{}").await;
    assert_eq!((answer.status, answer.code()), (405, 100_000_000));
    assert!(answer.head.contains("allow: get\r\n"), "{}", answer.head);
    let unknown = query("SendPeerMessage");
    assert_eq!(simulator.post(&unknown, "{}").await.code(), 100_000_007);
    assert_eq!(simulator.get(&unknown).await.code(), 100_000_007);
    let put = format!("PUT {unknown} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
    let answer = parse(&simulator.raw(put.as_bytes()).await.unwrap());
    assert_eq!((answer.status, answer.code()), (405, 100_000_000));
    assert!(answer.head.contains("allow: get, post\r\n"), "{}", answer.head);
    let elsewhere = query(USERS).replacen('/', "/v2", 1);
    assert_eq!(simulator.post(&elsewhere, "{}").await.status, 404);
    assert_eq!(simulator.stop().await.refused, 7);
}

#[tokio::test]
async fn the_common_parameters_have_the_same_rules() {
    let simulator = Simulator::quick().await;
    for action in [LIST, USERS] {
        for (name, value, code) in [
            ("AppId", "54321", 100_000_011),
            ("SignatureNonce", "xyz", 2),
            ("SignatureNonce", &NONCE.replace('4', "5"), 100_000_005),
            ("Timestamp", "1", 100_000_004),
            ("SignatureVersion", "1.0", 100_000_014),
            ("Signature", "", 100_000_009),
            ("Signature", "00000000000000000000000000000000", 100_000_005),
        ] {
            let target = target_with(&[("Action", Some(action)), (name, Some(value))]);
            // A good body and a bad one: the signature comes first.
            for body in [r#"{"FromUserId":"alice","UserIds":["alice"]}"#, "{"] {
                assert_eq!(
                    simulator.post(&target, body).await.code(),
                    code,
                    "{action} {name}={value}"
                );
            }
        }
    }
    let stats = simulator.stop().await;
    assert_eq!((stats.refused, stats.requests), (28, 28));
    assert!(stats.actions.is_empty());
}

#[tokio::test]
async fn all_actions_share_one_cap() {
    let options = Options {
        cap: 3,
        latency: Duration::ZERO,
        ..Options::default()
    };
    let simulator = Simulator::start(World::sample(), options).await;
    assert_eq!(simulator.clear("alice", "bob", "0").await, 0);
    assert_eq!(list(&simulator, json!({"FromUserId": "alice"})).await.code(), 0);
    // A request that is refused for its body has used up quota too.
    assert_eq!(list(&simulator, json!({})).await.code(), 660_000_002);
    assert_eq!(users(&simulator, &["alice"]).await.code(), 7);
    assert_eq!(list(&simulator, json!({"FromUserId": "alice"})).await.code(), 7);
    assert_eq!(simulator.clear("alice", "bob", "0").await, 7);
    tokio::time::sleep(Duration::from_millis(1050)).await;
    assert_eq!(users(&simulator, &["alice"]).await.code(), 0);
    let stats = simulator.stop().await;
    assert_eq!((stats.accepted, stats.limited), (4, 3));
    let counts: Vec<_> = stats.actions.into_iter().collect();
    assert_eq!(counts, [("ClearConversationUnread", 2), (LIST, 3), (USERS, 2)]);
}

#[tokio::test]
async fn faults_meet_all_calls_and_single_users_too() {
    let options = Options {
        error_rate: 0.5,
        seed: 5,
        ..quick()
    };
    let simulator = Simulator::start(World::sample(), options).await;
    let (mut answered, mut unavailable) = (0, 0);
    for _ in 0..40 {
        let json = users(&simulator, &["alice", "bob", "carol", "nobody"]).await.json();
        if json["Code"] == 0 {
            let errors = json["ErrorList"].as_array().expect("it is there");
            let results = json["Result"].as_array().expect("it is there");
            assert_eq!(errors.len() + results.len(), 4);
            answered += 4;
            unavailable += errors.iter().filter(|error| error["SubCode"] == 660_700_008).count();
        }
    }
    // Half of the 40 answers, and half of the users in them.
    assert!((40..=120).contains(&answered), "{answered}");
    assert!(
        (answered / 4..=answered * 3 / 4).contains(&unavailable),
        "{unavailable} of {answered}"
    );

    let down = Options {
        outage: Some(Outage {
            after: Duration::ZERO,
            lasts: Duration::from_secs(60),
            every: None,
            kind: OutageKind::Unavailable,
        }),
        ..quick()
    };
    let simulator = Simulator::start(World::sample(), down).await;
    assert_eq!(users(&simulator, &["alice"]).await.status, 503);
    let lossy = Options {
        reset_rate: 1.0,
        ..quick()
    };
    let simulator = Simulator::start(World::sample(), lossy).await;
    let request = format!(
        "POST {} HTTP/1.1\r\nHost: x\r\nContent-Type: application/json\r\nContent-Length: 2\r\n\r\n{{}}",
        query(LIST)
    );
    let error = simulator.raw(request.as_bytes()).await.unwrap_err();
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
}
