//! The calls of the API: what distinguishes their requests.

use hyper::body::Bytes;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use reqwest::Method;
use serde::Serialize;
use serde_json::value::RawValue;

use crate::row::Row;

/// Everything but RFC 3986's unreserved characters is encoded: `#` would end the query and `+` become a space.
const STRICT: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'.').remove(b'_').remove(b'~');

/// A request without its common parameters, which are added for each attempt.
pub(super) struct Call {
    pub action: &'static str,
    /// The business parameters in the query, encoded, each after a `&`.
    pub parameters: String,
    /// The business parameters as JSON, for a call that takes them in the body.
    pub body: Option<Bytes>,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListParameters<'a> {
    from_user_id: &'a str,
    limit: u32,
    next: &'a RawValue,
}

#[derive(Serialize)]
#[serde(rename_all = "PascalCase")]
struct LookupParameters<'a> {
    user_ids: &'a [&'a str],
}

impl Call {
    pub fn clear(row: &Row) -> Call {
        Call {
            action: "ClearConversationUnread",
            parameters: format!(
                "&FromUserId={}&ConvId={}&ConvType={}",
                utf8_percent_encode(row.user(), STRICT),
                utf8_percent_encode(row.conv(), STRICT),
                row.conv_type().digit(),
            ),
            body: None,
        }
    }

    /// One page of a user's conversations. `next`: where the page begins, as the previous answer said.
    pub fn list(user: &str, limit: u32, next: &RawValue) -> Call {
        Call::post(
            "QueryConversationList",
            &ListParameters {
                from_user_id: user,
                limit,
                next,
            },
        )
    }

    /// Which of these users exist.
    pub fn lookup(users: &[&str]) -> Call {
        Call::post("QueryUserInfos", &LookupParameters { user_ids: users })
    }

    fn post(action: &'static str, parameters: &impl Serialize) -> Call {
        let body = serde_json::to_vec(parameters).expect("text and numbers can be written as JSON");
        Call {
            action,
            parameters: String::new(),
            body: Some(body.into()),
        }
    }

    pub fn method(&self) -> Method {
        match self.body {
            Some(_) => Method::POST,
            None => Method::GET,
        }
    }
}
