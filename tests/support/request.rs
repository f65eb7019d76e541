//! A request as the server sees it: parsed, strictly percent-decoded, and compared with ZIM's documents.

use std::collections::BTreeMap;
use std::time::{Instant, SystemTime};

use md5::{Digest, Md5};

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
    pub at: Instant,
    /// Which connection brought it, counted from 1.
    pub connection: usize,
    /// How many requests for this row there were so far, this one included.
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

    pub fn user(&self) -> String {
        self.text("FromUserId")
    }

    /// User, conversation and type, byte for byte.
    pub fn row(&self) -> [Vec<u8>; 3] {
        ["FromUserId", "ConvId", "ConvType"].map(|name| self.params.get(name).cloned().unwrap_or_default())
    }
}

pub fn parse(head: &[u8], connection: usize) -> Request {
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
    expect(method == "GET" && version == "HTTP/1.1", "not a GET of HTTP/1.1");
    expect(words.next().is_none(), "a blank in the target");
    expect(path == "/", "the path is not /");
    expect(!target.contains('#'), "a fragment in the target");
    expect(text("Action") == "ClearConversationUnread", "the Action is another");
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
    expect(
        ["0", "2"].contains(&text("ConvType").as_str()),
        "the ConvType is neither 0 nor 2",
    );
    expect(params.len() == 9, "not the nine documented parameters");
    let has_right_signature = text("Signature") == signature;
    let (path, at) = (path.to_owned(), Instant::now());
    Request {
        method,
        path,
        target,
        params,
        at,
        connection,
        faults,
        has_right_signature,
        n: 0,
        is_accepted: true,
    }
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
