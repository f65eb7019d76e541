//! Users with conversations, served by a reading of ZEGO's documents that shares nothing with the program.

use std::collections::BTreeMap;
use std::time::{Duration, UNIX_EPOCH};

use serde_json::{Value, json};

use super::{Answer, Options, Request, Server};

/// What the first update of the first conversation is counted from, in milliseconds since the epoch.
pub const FIRST: u64 = 1_763_000_000_123;

/// `Next` begins with these digits: as a floating-point number it would lose the last ones.
const NEXT: &str = "900719925474";

/// ZIM lists this many of the newest conversations.
const NEWEST: usize = 1000;

/// A conversation.
#[derive(Clone, Debug)]
pub struct Conv {
    pub id: String,
    /// 0 or 2.
    pub kind: u8,
    /// When it was updated, in milliseconds since the epoch.
    pub at: u64,
}

/// Registered users and their conversations, oldest first.
#[derive(Clone, Debug, Default)]
pub struct World(BTreeMap<String, Vec<Conv>>);

impl World {
    /// Users with so many conversations each: every third one is with a group.
    pub fn of<U: Into<String>>(users: impl IntoIterator<Item = (U, usize)>) -> Self {
        let users = users.into_iter().map(|(user, count)| {
            let user: String = user.into();
            let conv = |number: usize| Conv {
                id: format!("{}{user}-{number}", if number.is_multiple_of(3) { "#" } else { "" }),
                kind: if number.is_multiple_of(3) { 2 } else { 0 },
                at: FIRST + number as u64 * 1001,
            };
            let convs = (0..count).map(conv).collect();
            (user, convs)
        });
        Self(users.collect())
    }

    /// With this user.
    pub fn with(mut self, user: &str, convs: Vec<Conv>) -> Self {
        self.0.insert(user.into(), convs);
        self
    }

    /// A server of this world.
    pub fn serve(&self) -> Server {
        self.serve_with(Options::default())
    }

    pub fn serve_with(&self, options: Options) -> Server {
        let world = self.clone();
        Server::with(options, move |request, _| world.answer(request))
    }

    /// The rows of a user, as a list must write them.
    pub fn rows(&self, user: &str) -> Vec<[String; 4]> {
        let row = |conv: &Conv| [user.to_owned(), conv.id.clone(), conv.kind.to_string(), time(conv.at)];
        self.reachable(user).unwrap_or_default().iter().map(row).collect()
    }

    /// The rows of all users, sorted.
    pub fn all_rows(&self) -> Vec<[String; 4]> {
        let mut rows: Vec<_> = self.0.keys().flat_map(|user| self.rows(user)).collect();
        rows.sort();
        rows
    }

    /// The registered users.
    pub fn users(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    /// The conversations of a user, oldest first.
    pub fn convs(&self, user: &str) -> &[Conv] {
        self.0.get(user).map(Vec::as_slice).unwrap_or_default()
    }

    /// The users under a header.
    pub fn users_csv(&self) -> String {
        let users = self.0.keys().map(|user| format!("\n{user}"));
        "user".to_owned() + &users.collect::<String>() + "\n"
    }

    pub fn answer(&self, request: &Request) -> Answer {
        match request.action().as_str() {
            "QueryConversationList" => self.list(request),
            "QueryUserInfos" => self.lookup(request),
            _ => self.clear(request),
        }
    }

    fn reachable(&self, user: &str) -> Option<&[Conv]> {
        let convs = self.0.get(user)?;
        Some(&convs[convs.len().saturating_sub(NEWEST)..])
    }

    fn list(&self, request: &Request) -> Answer {
        let Some(convs) = self.reachable(&request.user()) else {
            return Answer::Code(660_500_002, "FromUserId is not registered");
        };
        let next = request.member("Next");
        let begin = match next.strip_prefix(NEXT).map(str::parse::<usize>) {
            _ if next == "0" => 0,
            Some(Ok(begin)) if begin < convs.len() => begin,
            _ => return Answer::Code(660_000_002, "Next is none that was given out"),
        };
        let limit: usize = request.member("Limit").parse().unwrap_or(100);
        let end = convs.len().min(begin + limit.min(500));
        let list: Vec<Value> = convs[begin..end].iter().map(entry).collect();
        let next: u64 = if end < convs.len() {
            format!("{NEXT}{end:04}").parse().expect("it is a number")
        } else {
            0
        };
        Answer::Json(page(&next.to_string(), &list, convs.len()))
    }

    fn lookup(&self, request: &Request) -> Answer {
        let (found, missing): (Vec<_>, Vec<_>) =
            request.users().into_iter().partition(|user| self.0.contains_key(user));
        let found: Vec<_> = found
            .iter()
            .map(|user| json!({"UserId": user, "UserName": "N"}))
            .collect();
        let missing: Vec<_> = missing
            .iter()
            .map(|user| json!({"UserId": user, "SubCode": 660_700_015}))
            .collect();
        let answer = json!({"Code": 0, "Message": "success", "RequestId": "9007199254740997", "Result": found, "ErrorList": missing});
        Answer::Json(answer.to_string())
    }

    fn clear(&self, request: &Request) -> Answer {
        let convs = self.reachable(&request.user()).unwrap_or_default();
        let (id, kind) = (request.text("ConvId"), request.text("ConvType"));
        if convs.iter().any(|conv| conv.id == id && conv.kind.to_string() == kind) {
            Answer::Code(0, "success")
        } else {
            Answer::Code(660_800_002, "no such conversation")
        }
    }
}

/// An entry of a list. A one-to-one conversation has the type 0 or none.
fn entry(conv: &Conv) -> Value {
    let mut entry = json!({"ConvId": conv.id, "UpdateTime": conv.at});
    if conv.kind != 0 || conv.at.is_multiple_of(2) {
        entry["ConvType"] = conv.kind.into();
    }
    entry
}

/// The body of a page with this `Next`, which may be any JSON.
pub fn page(next: &str, list: &[Value], total: usize) -> String {
    let list = Value::from(list);
    format!(
        r#"{{"Code":0,"Message":"success","RequestId":"9007199254740995","TotalCount":{total},"Next":{next},"List":{list}}}"#
    )
}

/// RFC 3339, UTC, milliseconds.
pub fn time(milliseconds: u64) -> String {
    humantime::format_rfc3339_millis(UNIX_EPOCH + Duration::from_millis(milliseconds)).to_string()
}
