//! The documented rules for requests, and the code of each violation.
//!
//! This is the simulator's own reading of ZEGO's documents. It shares nothing with the client, above all not the
//! signature: a server that signed with the client's function could not detect that the function is wrong.
//!
//! The documents give no order of checks. [`authorize`] checks the common parameters: each is present and well-formed,
//! the app exists, the time is right, the signature is right, and the [`Action`] exists. The business parameters of an
//! action are checked later, after the cap: a request with a bad conversation ID uses quota too.

use std::collections::HashSet;

use md5::{Digest, Md5};
use serde_json::Value;

use super::body::Object;
use super::codes::*;
use super::conversation::{ConvType, ConversationKey, MAX_ID_BYTES};
use super::query::Query;

/// How far a request's `Timestamp` may be from the server's clock, either way, in whole seconds. 600 is still accepted.
const TIMESTAMP_WINDOW_SECS: u64 = 600;

/// How many conversations a page has: by default, and at most.
const DEFAULT_LIMIT: u64 = 100;
const MAX_LIMIT: u64 = 500;

/// How many users one `QueryUserInfos` can ask for, and the longest of their IDs, in bytes.
const MAX_USERS: usize = 100;
const MAX_QUERIED_ID_BYTES: usize = 64;

/// The calls that the simulator serves. `SimulatedZim` carries them out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Action {
    ClearConversationUnread,
    QueryConversationList,
    QueryUserInfos,
}

impl Action {
    const ALL: [Action; 3] = [
        Action::ClearConversationUnread,
        Action::QueryConversationList,
        Action::QueryUserInfos,
    ];

    /// The Action of a query, if it exists.
    pub fn of(query: &Query<'_>) -> Option<Action> {
        let name = query.get("Action");
        Action::ALL.into_iter().find(|action| action.name().as_bytes() == name)
    }

    pub fn name(self) -> &'static str {
        match self {
            Action::ClearConversationUnread => "ClearConversationUnread",
            Action::QueryConversationList => "QueryConversationList",
            Action::QueryUserInfos => "QueryUserInfos",
        }
    }

    /// The HTTP method of the call, as in an `Allow` header.
    pub fn method(self) -> &'static str {
        match self {
            Action::ClearConversationUnread => "GET",
            Action::QueryConversationList | Action::QueryUserInfos => "POST",
        }
    }
}

/// What a `QueryConversationList` asks for.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct ListRequest<'a> {
    pub user: &'a str,
    pub limit: usize,
    /// 0: from the start.
    pub next: u64,
}

/// Checks the common parameters of a request to the app `app_id`, signed with `secret`, at the time `now` (Unix
/// seconds). Returns what the request asks for.
pub(super) fn authorize(query: &Query<'_>, app_id: u32, secret: &str, now: u64) -> Result<Action, Reply> {
    present(query, "Action", ACTION_EMPTY)?;
    let app = query.get("AppId");
    let requested_app = decimal(app)
        .and_then(|app| u32::try_from(app).ok())
        .ok_or(APP_ID_FORMAT)?;
    let nonce = present(query, "SignatureNonce", NONCE_EMPTY)?;
    if nonce.len() != 16 || !nonce.iter().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f')) {
        return Err(NONCE_FORMAT);
    }
    let timestamp = present(query, "Timestamp", TIMESTAMP_EMPTY)?;
    let signed_at = decimal(timestamp).ok_or(TIMESTAMP_FORMAT)?;
    if present(query, "SignatureVersion", VERSION_EMPTY)? != b"2.0" {
        return Err(VERSION_UNSUPPORTED);
    }
    let signature = present(query, "Signature", SIGNATURE_EMPTY)?;

    if requested_app != app_id {
        return Err(NO_SUCH_APP);
    }
    if signed_at.abs_diff(now) > TIMESTAMP_WINDOW_SECS {
        return Err(EXPIRED);
    }
    if signature != expected_signature(&[app, nonce, secret.as_bytes(), timestamp]) {
        return Err(WRONG_SIGNATURE);
    }
    Action::of(query).ok_or(ACTION_UNSUPPORTED)
}

/// Checks the business parameters of `ClearConversationUnread`. The characters of an ID are not checked: ZEGO's own
/// pages disagree on which are allowed.
pub(super) fn clear_parameters<'a>(query: &'a Query<'_>) -> Result<ConversationKey<'a>, Reply> {
    let user = id(query.get("FromUserId"), USER_EMPTY, USER_TOO_LONG, USER_NOT_UTF8)?;
    let conv = id(query.get("ConvId"), CONV_EMPTY, CONV_TOO_LONG, CONV_NOT_UTF8)?;
    let conv_type = match query.get("ConvType") {
        b"0" => ConvType::Peer,
        b"2" => ConvType::Group,
        _ => return Err(TYPE_INVALID),
    };
    Ok(ConversationKey { user, conv, conv_type })
}

/// Checks the business parameters of `QueryConversationList`, except for where its `Next` comes from.
pub(super) fn list_parameters(body: &Object) -> Result<ListRequest<'_>, Reply> {
    let user = match body.get("FromUserId") {
        None => "",
        Some(user) => user.as_str().ok_or(USER_NOT_TEXT)?,
    };
    let user = id(user.as_bytes(), USER_EMPTY, USER_TOO_LONG, USER_NOT_UTF8)?;
    let limit = whole_number(body, "Limit", DEFAULT_LIMIT).filter(|&limit| limit > 0);
    let limit = limit.ok_or(LIMIT_INVALID)?.min(MAX_LIMIT) as usize;
    let next = whole_number(body, "Next", 0).ok_or(NEXT_INVALID)?;
    Ok(ListRequest { user, limit, next })
}

/// Checks the business parameters of `QueryUserInfos`. Returns each user once.
pub(super) fn queried_users(body: &Object) -> Result<Vec<&str>, Reply> {
    let listed = body.get("UserIds").and_then(Value::as_array).ok_or(USERS_INVALID)?;
    if !(1..=MAX_USERS).contains(&listed.len()) {
        return Err(USERS_INVALID);
    }
    let mut users = Vec::with_capacity(listed.len());
    let mut seen = HashSet::new();
    for user in listed {
        let user = user.as_str().ok_or(USERS_INVALID)?;
        if !(1..=MAX_QUERIED_ID_BYTES).contains(&user.len()) {
            return Err(USERS_INVALID);
        }
        if seen.insert(user) {
            users.push(user);
        }
    }
    Ok(users)
}

/// Returns a field that is a number without fraction, exponent or sign; `missing` if there is no such field.
fn whole_number(body: &Object, name: &str, missing: u64) -> Option<u64> {
    body.get(name).map_or(Some(missing), Value::as_u64)
}

fn present<'a>(query: &'a Query<'_>, name: &str, empty: Reply) -> Result<&'a [u8], Reply> {
    Some(query.get(name)).filter(|value| !value.is_empty()).ok_or(empty)
}

fn id(value: &[u8], empty: Reply, long: Reply, encoding: Reply) -> Result<&str, Reply> {
    match value.len() {
        0 => Err(empty),
        1..=MAX_ID_BYTES => str::from_utf8(value).map_err(|_| encoding),
        _ => Err(long),
    }
}

/// Parses a decimal number: only digits, no sign, no leading zero.
fn decimal(text: &[u8]) -> Option<u64> {
    if !text.iter().all(u8::is_ascii_digit) || (text.len() > 1 && text[0] == b'0') {
        return None;
    }
    str::from_utf8(text).ok()?.parse().ok()
}

/// The MD5 of the joined parts, as 32 lower-case hex digits.
fn expected_signature(parts: &[&[u8]]) -> [u8; 32] {
    let mut md5 = Md5::new();
    for part in parts {
        md5.update(part);
    }
    let mut hex = [0; 32];
    for (pair, byte) in hex.chunks_exact_mut(2).zip(md5.finalize()) {
        pair[0] = b"0123456789abcdef"[usize::from(byte >> 4)];
        pair[1] = b"0123456789abcdef"[usize::from(byte & 15)];
    }
    hex
}

#[cfg(test)]
mod tests {
    use super::super::body::tests::json;
    use super::*;

    const SECRET: &str = "9193cc662a4c0ec135ec71fb57194b38";
    const AT: u64 = 1_615_186_943;

    /// The documents' own example.
    const GOOD: [(&str, &str); 9] = [
        ("Action", "ClearConversationUnread"),
        ("AppId", "12345"),
        ("SignatureNonce", "4fd24687296dd9f3"),
        ("Timestamp", "1615186943"),
        ("SignatureVersion", "2.0"),
        ("Signature", "43e5cfcca828314675f91b001390566a"),
        ("FromUserId", "user1"),
        ("ConvId", "user2"),
        ("ConvType", "0"),
    ];

    /// The example with some parameters replaced; `None` leaves one out.
    fn with(changes: &[(&str, Option<&str>)]) -> String {
        let value_of = |name: &str, good| changes.iter().find(|(n, _)| *n == name).map_or(Some(good), |(_, v)| *v);
        let pairs = GOOD
            .iter()
            .filter_map(|(name, good)| value_of(name, *good).map(|v| format!("{name}={v}")));
        pairs.collect::<Vec<_>>().join("&")
    }

    fn code_at(text: &str, now: u64) -> u32 {
        let query = Query::parse(text.as_bytes()).unwrap();
        let checked = authorize(&query, 12345, SECRET, now).and_then(|_| clear_parameters(&query));
        checked.err().map_or(0, |reply| reply.code)
    }

    fn code_of(changes: &[(&str, Option<&str>)]) -> u32 {
        code_at(&with(changes), AT)
    }

    #[test]
    fn the_documents_own_example_passes() {
        assert_eq!(code_of(&[]), 0);
    }

    #[test]
    fn every_signature_vector_passes_and_a_changed_digit_does_not() {
        for (app, nonce, secret, at, signature) in [
            (
                12345,
                "4fd24687296dd9f3",
                SECRET,
                AT,
                "43e5cfcca828314675f91b001390566a",
            ),
            (
                1_234_567_890,
                "0123456789abcdef",
                "0123456789abcdef0123456789abcdef",
                1_700_000_000,
                "16623b00a07719a644da6752e631e98a",
            ),
            (1, "0000000000000000", "secret", 0, "1f56b39252777595759b8b2fe7de2270"),
            (
                u32::MAX,
                "ffffffffffffffff",
                "fedcba9876543210fedcba9876543210",
                1_735_689_600,
                "386b94f5ea059426ebc66e1f9a8ec070",
            ),
        ] {
            let checked = |app: u32, nonce: &str, secret: &str, at: u64| {
                let text = with(&[
                    ("AppId", Some(&app.to_string())),
                    ("SignatureNonce", Some(nonce)),
                    ("Timestamp", Some(&at.to_string())),
                    ("Signature", Some(signature)),
                ]);
                authorize(&Query::parse(text.as_bytes()).unwrap(), app, secret, at)
            };
            assert_eq!(checked(app, nonce, secret, at), Ok(Action::ClearConversationUnread));
            assert_eq!(checked(app ^ 1, nonce, secret, at), Err(WRONG_SIGNATURE));
            assert_eq!(checked(app, "123456789abcdef0", secret, at), Err(WRONG_SIGNATURE));
            assert_eq!(checked(app, nonce, &secret.to_uppercase(), at), Err(WRONG_SIGNATURE));
            assert_eq!(checked(app, nonce, secret, at + 1), Err(WRONG_SIGNATURE));
        }
    }

    #[test]
    fn each_violation_has_its_code() {
        let long = "x".repeat(33);
        let wide = "%E4%BD%A0".repeat(11);
        for (name, value, code) in [
            ("Action", "", 100_000_006),
            ("Action", "clearconversationunread", 100_000_007),
            ("AppId", "", 100_000_001),
            ("AppId", "-1", 100_000_001),
            ("AppId", "%2B12345", 100_000_001),
            ("AppId", "012345", 100_000_001),
            ("AppId", "4294967296", 100_000_001),
            ("AppId", "0x3039", 100_000_001),
            ("AppId", "12346", 100_000_011),
            ("SignatureNonce", "", 100_000_008),
            ("SignatureNonce", "4FD24687296DD9F3", 2),
            ("SignatureNonce", "4fd24687296dd9f", 2),
            ("Timestamp", "", 100_000_002),
            ("Timestamp", "now", 100_000_003),
            ("Timestamp", "-5", 100_000_003),
            ("Timestamp", "1615186943.5", 100_000_003),
            ("Timestamp", "99999999999999999999", 100_000_003),
            ("Timestamp", "1615186943000", 100_000_004),
            ("SignatureVersion", "", 100_000_013),
            ("SignatureVersion", "1.0", 100_000_014),
            ("SignatureVersion", "2", 100_000_014),
            ("Signature", "", 100_000_009),
            ("Signature", "43E5CFCCA828314675F91B001390566A", 100_000_005),
            ("Signature", "43e5cfcca828314675f91b001390566b", 100_000_005),
            ("FromUserId", "", 660_000_002),
            ("FromUserId", &long, 660_000_012),
            ("FromUserId", &wide, 660_000_012),
            ("FromUserId", "%FF", 660_000_002),
            ("ConvId", "", 660_000_002),
            ("ConvId", &long, 660_000_002),
            ("ConvId", "%FF", 660_000_002),
            ("ConvType", "", 660_000_002),
            ("ConvType", "1", 660_000_002),
            ("ConvType", "3", 660_000_002),
            ("ConvType", "peer", 660_000_002),
            ("ConvType", "00", 660_000_002),
        ] {
            assert_eq!(code_of(&[(name, Some(value))]), code, "{name}={value}");
            if value.is_empty() {
                assert_eq!(code_of(&[(name, None)]), code, "{name} left out");
            }
        }
    }

    fn list_code(text: &str) -> u32 {
        let object = json(text).object();
        let checked = object.and_then(|object| list_parameters(&object).map(|_| ()));
        checked.err().map_or(0, |reply| reply.code)
    }

    #[test]
    fn each_violation_in_a_list_request_has_its_code() {
        let (longest, long) = ("x".repeat(32), "x".repeat(33));
        for (field, value, code) in [
            ("FromUserId", format!(r#""{longest}""#), 0),
            ("FromUserId", format!(r#""{long}""#), 660_000_012),
            ("FromUserId", r#""""#.into(), 660_000_002),
            ("FromUserId", "1".into(), 660_000_002),
            ("FromUserId", "null".into(), 660_000_002),
            ("Limit", "500".into(), 0),
            ("Limit", "501".into(), 0),
            ("Limit", "18446744073709551615".into(), 0),
            ("Limit", "0".into(), 660_000_002),
            ("Limit", "-1".into(), 660_000_002),
            ("Limit", "1.5".into(), 660_000_002),
            ("Limit", r#""100""#.into(), 660_000_002),
            ("Limit", "null".into(), 660_000_002),
            ("Next", "0".into(), 0),
            ("Next", "0.0".into(), 660_000_002),
            ("Next", "4.611686018427388e18".into(), 660_000_002),
            ("Next", "18446744073709551616".into(), 660_000_002),
            ("Next", r#""0""#.into(), 660_000_002),
            ("Next", "null".into(), 660_000_002),
        ] {
            let user = if field == "FromUserId" { "x" } else { "FromUserId" };
            let text = format!(r#"{{"{user}":"alice","{field}":{value},"Other":[]}}"#);
            assert_eq!(list_code(&text), code, "{text}");
        }
        for (text, code) in [("{}", 660_000_002), ("[]", 2), (r#"{"Next":0,"Next":0}"#, 2)] {
            assert_eq!(list_code(text), code, "{text}");
        }
    }

    #[test]
    fn a_list_request_has_a_default_limit_and_a_largest_one() {
        for (limit, expected) in [("", 100), (r#","Limit":7"#, 7), (r#","Limit":4000"#, 500)] {
            let object = json(&format!(r#"{{"FromUserId":"a","Next":9007199254740993{limit}}}"#));
            let object = object.object().unwrap();
            let request = ListRequest {
                user: "a",
                limit: expected,
                next: (1 << 53) + 1,
            };
            assert_eq!(list_parameters(&object), Ok(request));
        }
    }

    #[test]
    fn one_to_100_users_are_queried_and_each_is_answered_once() {
        let users = |ids: &Value| {
            let object = json(&format!(r#"{{"UserIds":{ids}}}"#)).object().unwrap();
            queried_users(&object).map(|users| users.join(" "))
        };
        assert_eq!(users(&vec!["b", "a", "b", "c", "a"].into()).unwrap(), "b a c");
        assert!(users(&vec!["x".repeat(64); 100].into()).is_ok());
        for wrong in [
            vec!["a"; 101].into(),
            Vec::<Value>::new().into(),
            vec![String::new()].into(),
            vec!["x".repeat(65)].into(),
            vec![Value::from("a"), Value::from(1)].into(),
            "a".into(),
            Value::Null,
        ] {
            assert_eq!(users(&wrong), Err(USERS_INVALID), "{wrong}");
        }
        assert_eq!(queried_users(&json("{}").object().unwrap()), Err(USERS_INVALID));
    }

    #[test]
    fn an_id_of_32_bytes_is_not_too_long() {
        let longest = "x".repeat(32);
        assert_eq!(
            code_of(&[("FromUserId", Some(&longest)), ("ConvId", Some(&longest))]),
            0
        );
    }

    #[test]
    fn the_timestamp_may_be_exactly_ten_minutes_off_either_way() {
        for (now, code) in [
            (AT + 600, 0),
            (AT - 600, 0),
            (AT + 601, 100_000_004),
            (AT - 601, 100_000_004),
        ] {
            assert_eq!(code_at(&with(&[]), now), code, "{now}");
        }
    }

    #[test]
    fn a_wrong_time_is_reported_before_a_wrong_signature() {
        assert_eq!(code_at(&with(&[("Signature", Some("wrong"))]), AT + 601), 100_000_004);
    }
}
