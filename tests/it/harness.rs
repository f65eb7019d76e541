//! The tests' own server under test: what it would not notice, no test would.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::support::{APP_ID, Answer, Options, SECRET, Server, pace};
use md5::{Digest, Md5};

/// Sends this target on a connection of its own and reads what comes until it is closed.
fn get(server: &Server, target: &str) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server.url().trim_start_matches("http://"))?;
    write!(stream, "GET {target} HTTP/1.1\r\nHost: x\r\n\r\n")?;
    let mut answer = Vec::new();
    let mut chunk = [0; 4096];
    loop {
        let length = stream.read(&mut chunk)?;
        answer.extend(&chunk[..length]);
        if length == 0 || answer.ends_with(b"}") {
            return Ok(String::from_utf8_lossy(&answer).into_owned());
        }
    }
}

/// A rightly signed target for this user, already encoded; `nonce` in 16 digits.
fn target(user: &str, nonce: &str) -> String {
    let seconds = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .expect("it is past 1970")
        .as_secs();
    let digest = Md5::digest(format!("{APP_ID}{nonce}{SECRET}{seconds}"));
    let signature: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    format!(
        "/?Action=ClearConversationUnread&FromUserId={user}&ConvId=c&ConvType=0&AppId={APP_ID}&SignatureNonce={nonce}\
         &Timestamp={seconds}&SignatureVersion=2.0&Signature={signature}"
    )
}

const NONCE: &str = "0123456789abcdef";

#[test]
fn a_right_request_is_taken_and_decoded() {
    let server = crate::support::kind_server();

    let answer = get(&server, &target("a%20b%2B%23%25", NONCE)).unwrap();

    assert!(
        answer.starts_with("HTTP/1.1 200 ") && answer.contains(r#""Code":0"#),
        "{answer}"
    );
    server.assert_well_formed();
    assert_eq!(server.requests()[0].row(), [&b"a b+#%"[..], b"c", b"0"].map(Vec::from));
}

#[test]
fn every_fault_is_noticed() {
    let right = target("u", NONCE);
    let faults = [
        right.replace("FromUserId=u", "FromUserId=u[]"),
        right.replace("FromUserId=u", "FromUserId=%4"),
        right.replace("FromUserId=u", "FromUserId=u&FromUserId=u"),
        right.replace("ConvType=0", "ConvType=1"),
        right.replace("ConvType=0&", ""),
        right.replace("/?", "/x?"),
        right.replace("ClearConversationUnread", "SendPeerMessage"),
        right.replace("Version=2.0", "Version=1.0"),
        right.replace(NONCE, "0123456789ABCDEF"),
        right.replace(&APP_ID.to_string(), "1"),
        right.replace("Timestamp=1", "Timestamp=2"),
        format!("{right}#x"),
        format!("{right}&Extra=1"),
    ];
    for fault in faults {
        let server = crate::support::kind_server();
        get(&server, &fault).unwrap();
        assert!(!server.requests()[0].faults.is_empty(), "nothing wrong with {fault}?");
    }
}

#[test]
fn a_wrong_signature_and_a_nonce_used_twice_are_noticed() {
    let server = crate::support::kind_server();
    let wrong = target("u", NONCE).replace("Signature=", "Signature=0");
    assert!(get(&server, &wrong).unwrap().contains("100000005"));
    assert!(!server.requests()[0].has_right_signature);

    let server = crate::support::kind_server();
    for user in ["a", "b"] {
        get(&server, &target(user, NONCE)).unwrap();
    }
    assert!(std::panic::catch_unwind(|| server.assert_well_formed()).is_err());
}

#[test]
fn the_cap_counts_what_was_accepted_in_any_second() {
    let options = Options {
        cap: Some(3),
        ..Options::default()
    };
    let server = Server::with(options, |_, _| Answer::Code(0, "success"));
    let (mut accepted, mut refused) = (Vec::new(), 0);
    while accepted.len() < 6 {
        let sent_at = Instant::now();
        let is_accepted = get(&server, &target("u", NONCE)).unwrap().contains(r#""Code":0"#);
        if is_accepted {
            accepted.push((sent_at, Instant::now()));
        } else {
            refused += 1;
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    // The fourth was accepted before its answer, the first after it was sent.
    let second = accepted[3].1 - accepted[0].0;
    assert!(second.as_secs() >= 1 && refused > 0, "{second:?}, {refused} refused");
    let seen = server.requests();
    assert_eq!(seen.iter().filter(|request| request.is_accepted).count(), 6);
    assert_eq!(seen.len(), 6 + refused);
}

#[test]
fn misbehaviour_is_what_it_says() {
    let server = Server::start(|request, _| match request.user().as_str() {
        "reset" => Answer::Reset,
        "close" => Answer::Close,
        "truncate" => Answer::Truncate,
        _ => Answer::HalfJson,
    });
    let answer = |user| get(&server, &target(user, NONCE));

    assert_eq!(answer("reset").unwrap_err().kind(), std::io::ErrorKind::ConnectionReset);
    assert_eq!(answer("close").unwrap(), "");
    assert!(answer("truncate").unwrap().contains("Content-Length: 500"));
}

#[test]
fn a_burst_is_noticed_unless_delays_of_the_machine_explain_it() {
    // In an hour, for which no delay has been noted.
    let begin = Instant::now() + Duration::from_secs(3600);
    let every = |gap: Duration| -> Vec<Instant> { (0..40).map(|number| begin + number * gap).collect() };
    let is_refused = |arrivals: &[Instant]| std::panic::catch_unwind(|| pace::assert_within_cap(arrivals, 20)).is_err();
    assert!(!is_refused(&every(Duration::from_millis(50))));
    assert!(!is_refused(&every(Duration::from_millis(49))));
    assert!(is_refused(&every(Duration::from_millis(48))));
    let mut one_more = every(Duration::from_millis(50));
    one_more.insert(20, one_more[20]);
    assert!(is_refused(&one_more));
}
