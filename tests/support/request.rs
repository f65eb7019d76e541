//! A request as the server sees it: parsed, strictly percent-decoded, and compared with ZIM's documents.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use md5::{Digest, Md5};
use serde_json::value::RawValue;

/// The app ID that `clear()` gives to the program and the server expects.
pub const APP_ID: u32 = 2_718_281_828;

/// The server secret of that app. Long and unusual enough to be searched for in any output.
pub const SECRET: &str = "5ec0e7c0ffee4badc0de00f1e1d0b5e9";

/// One request as it arrived.
#[derive(Clone, Debug)]
pub struct Request {
    pub method: String,
    pub path: String,
    /// As on the wire, still encoded.
    pub target: String,
    /// Decoded; a parameter given twice is a fault.
    pub params: BTreeMap<String, Vec<u8>>,
    /// The members of a JSON body, each as it was sent.
    pub members: BTreeMap<String, Box<RawValue>>,
    pub at: Instant,
    /// Which connection brought it, counted from 1.
    pub connection: usize,
    /// How many requests for this row, page or set of users there were so far, this one included.
    pub n: usize,
    /// Accepted under the cap (always, when there is none).
    pub is_accepted: bool,
    pub has_right_signature: bool,
    /// What does not conform to ZIM's documents.
    pub faults: Vec<String>,
}

impl Request {
    /// A parameter as text, empty when it is missing.
    pub fn text(&self, name: &str) -> String {
        self.params
            .get(name)
            .map(|value| String::from_utf8_lossy(value).into_owned())
            .unwrap_or_default()
    }

    pub fn action(&self) -> String {
        self.text("Action")
    }

    pub fn is_list(&self) -> bool {
        self.action() == LIST
    }

    pub fn user(&self) -> String {
        if self.is_list() {
            self.member("FromUserId")
        } else {
            self.text("FromUserId")
        }
    }

    /// A member of the body: a string's content, or the JSON of anything else; empty when it is missing.
    pub fn member(&self, name: &str) -> String {
        let json = self.members.get(name).map(|value| value.get()).unwrap_or_default();
        serde_json::from_str(json).unwrap_or_else(|_| json.to_owned())
    }

    /// The users that are looked up.
    pub fn users(&self) -> Vec<String> {
        let json = self.members.get("UserIds").map(|value| value.get());
        json.and_then(|json| serde_json::from_str(json).ok())
            .unwrap_or_default()
    }

    /// User, conversation and type, byte for byte; of a call with a body, what it asks for.
    pub fn row(&self) -> [Vec<u8>; 3] {
        if !self.members.is_empty() {
            let asked = [
                self.user(),
                self.member("Next") + &self.users().join("\n"),
                self.action(),
            ];
            return asked.map(String::into_bytes);
        }
        ["FromUserId", "ConvId", "ConvType"].map(|name| self.params.get(name).cloned().unwrap_or_default())
    }
}

const CLEAR: &str = "ClearConversationUnread";
const LIST: &str = "QueryConversationList";
const LOOKUP: &str = "QueryUserInfos";

pub fn parse(head: &[u8], body: &[u8], connection: usize) -> Request {
    let head = String::from_utf8_lossy(head);
    let mut words = head.lines().next().unwrap_or_default().split(' ');
    let [method, target, version] = [(); 3].map(|()| words.next().unwrap_or_default().to_owned());
    let mut faults = Vec::new();
    let mut expect = |holds: bool, what: &str| {
        if !holds {
            faults.push(what.to_owned());
        }
    };
    let (path, query) = target.split_once('?').unwrap_or((&target, ""));
    let mut params = BTreeMap::new();
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let decoded = decode(value);
        expect(decoded.is_some(), &format!("`{pair}` is not strictly percent-encoded"));
        let before = params.insert(name.to_owned(), decoded.unwrap_or_default());
        expect(before.is_none(), &format!("{name} is given twice"));
    }
    let text = |name: &str| String::from_utf8(params.get(name).cloned().unwrap_or_default()).unwrap_or_default();
    let (app, nonce, seconds) = (text("AppId"), text("SignatureNonce"), text("Timestamp"));
    let digest = Md5::digest(format!("{app}{nonce}{SECRET}{seconds}"));
    let signature: String = digest.iter().map(|byte| format!("{byte:02x}")).collect();
    let age = SystemTime::now()
        .duration_since(SystemTime::UNIX_EPOCH)
        .expect("it is past 1970")
        .as_secs_f64()
        - seconds.parse::<f64>().unwrap_or_default();
    expect(version == "HTTP/1.1", "not HTTP/1.1");
    expect(words.next().is_none(), "a blank in the target");
    expect(path == "/", "the path is not /");
    expect(!target.contains('#'), "a fragment in the target");
    expect(app == APP_ID.to_string(), "the AppId is another");
    expect(
        nonce.len() == 16 && nonce.bytes().all(|b| b"0123456789abcdef".contains(&b)),
        "the nonce is not 16 hex digits",
    );
    expect(
        seconds.bytes().all(|b| b.is_ascii_digit()) && (-1.0..5.0).contains(&age),
        "the Timestamp is not now",
    );
    expect(text("SignatureVersion") == "2.0", "the SignatureVersion is not 2.0");
    let mut members = BTreeMap::new();
    let action = text("Action");
    if action == CLEAR {
        expect(method == "GET" && body.is_empty(), "a clear is a GET without a body");
        expect(
            ["0", "2"].contains(&text("ConvType").as_str()),
            "the ConvType is neither 0 nor 2",
        );
        expect(params.len() == 9, "not the nine documented parameters");
    } else {
        expect(method == "POST", "a query is a POST");
        expect(params.len() == 6, "not the Action and the five common parameters");
        expect(
            header(&head, "content-type").is_some_and(|kind| kind == "application/json"),
            "the Content-Type is not application/json",
        );
        expect(
            header(&head, "content-length") == Some(body.len().to_string()),
            "no Content-Length, or a wrong one",
        );
        let json = serde_json::from_slice(body);
        expect(json.is_ok(), "the body is no JSON object");
        members = json.unwrap_or_default();
        for fault in body_faults(&action, &members) {
            expect(false, &fault);
        }
    }
    let has_right_signature = text("Signature") == signature;
    let (path, at) = (path.to_owned(), Instant::now());
    Request {
        method,
        path,
        target,
        params,
        members,
        at,
        connection,
        faults,
        has_right_signature,
        n: 0,
        is_accepted: true,
    }
}

/// The value of a header, if there is exactly one of this name.
pub fn header(head: &str, name: &str) -> Option<String> {
    let pairs = head.lines().filter_map(|line| line.split_once(':'));
    let named = pairs.filter(|(key, _)| key.eq_ignore_ascii_case(name));
    let mut values = named.map(|(_, value)| value.trim().to_owned());
    values.next().filter(|_| values.next().is_none())
}

/// What ZIM's documents do not allow in the body of this call.
fn body_faults(action: &str, members: &BTreeMap<String, Box<RawValue>>) -> Vec<String> {
    let json = |name: &str| members.get(name).map(|value| value.get()).unwrap_or_default();
    let id = |text: &str, most: usize| (1..=most).contains(&text.len());
    let is = match action {
        LIST => vec![
            (
                "FromUserId",
                serde_json::from_str(json("FromUserId")).is_ok_and(|user: String| id(&user, 32)),
            ),
            (
                "Limit",
                serde_json::from_str(json("Limit")).is_ok_and(|limit: u64| (1..=500).contains(&limit)),
            ),
            (
                "Next",
                !json("Next").is_empty() && json("Next").bytes().all(|byte| byte.is_ascii_digit()),
            ),
        ],
        LOOKUP => vec![(
            "UserIds",
            serde_json::from_str(json("UserIds")).is_ok_and(|users: Vec<String>| {
                (1..=100).contains(&users.len()) && users.iter().all(|user| id(user, 64))
            }),
        )],
        _ => return vec!["the Action is another".into()],
    };
    let unknown = members.keys().filter(|name| is.iter().all(|(known, _)| known != name));
    let unknown = unknown.map(|name| format!("{name} is not documented"));
    let wrong = is.iter().filter(|(_, is_right)| !is_right);
    unknown
        .chain(wrong.map(|(name, _)| format!("{name} is missing or wrong")))
        .collect()
}

/// Strict percent-decoding of one value, `+` being a space; `None` for a byte that should have been encoded.
fn decode(value: &str) -> Option<Vec<u8>> {
    let mut bytes = value.bytes();
    let mut decoded = Vec::new();
    while let Some(byte) = bytes.next() {
        decoded.push(match byte {
            b'%' => {
                let hex = [bytes.next()?, bytes.next()?];
                let is_hex = hex.iter().all(u8::is_ascii_hexdigit);
                u8::from_str_radix(str::from_utf8(&hex).ok().filter(|_| is_hex)?, 16).ok()?
            }
            b'+' => b' ',
            _ if byte.is_ascii_alphanumeric() || b"-._~!$'()*,;:@/".contains(&byte) => byte,
            _ => return None,
        });
    }
    Some(decoded)
}
