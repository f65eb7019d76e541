//! ZIM's return codes: one table with the meaning and the class of each.
//!
//! The table has the codes that a call like ClearConversationUnread can return, from ZEGO's list of global return
//! codes and the API's own page. ZEGO's lists are incomplete, so a code that is not here is [`Class::Unknown`], never
//! an error of this program. HTTP statuses and transport errors are not codes: `verdict.rs` classifies those.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::row::UnknownName;

/// How a run handles an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Class {
    /// The row is done.
    Ok,
    /// The conversation is not reachable: it does not exist, or is not among the user's newest 1000. Never retried, never a failure.
    Outside,
    /// Retry with back-off and jitter, with a new signature.
    Transient,
    /// Too many requests per second: slow down the whole run, then retry. Does not count as an attempt of the row.
    Limited,
    /// The signature was refused or has expired: sign again and retry once; if refused again, [`Class::Fatal`].
    Signature,
    /// The app is not known (yet): retry a few times; if that fails, [`Class::Fatal`]. Probably a wrong AppId.
    App,
    /// This row can't succeed: it fails immediately.
    Rejected,
    /// No row can succeed: the run stops and leaves the other rows unsent.
    Fatal,
    /// An answer that is not in this table: at most two retries, then the row fails.
    Unknown,
}

impl Class {
    /// All of them.
    pub const ALL: [Class; 9] = [
        Class::Ok,
        Class::Outside,
        Class::Transient,
        Class::Limited,
        Class::Signature,
        Class::App,
        Class::Rejected,
        Class::Fatal,
        Class::Unknown,
    ];

    /// Its name: the variant in lower case.
    pub fn as_str(self) -> &'static str {
        match self {
            Class::Ok => "ok",
            Class::Outside => "outside",
            Class::Transient => "transient",
            Class::Limited => "limited",
            Class::Signature => "signature",
            Class::App => "app",
            Class::Rejected => "rejected",
            Class::Fatal => "fatal",
            Class::Unknown => "unknown",
        }
    }

    /// How a run handles this class, in a few words.
    pub fn handling(self) -> &'static str {
        match self {
            Class::Ok => "the row is done",
            Class::Outside => "the row goes to the outside log; never retried, never a failure",
            Class::Transient => "retried with back-off and a new signature",
            Class::Limited => "the whole run slows down, then the row is retried; does not count as an attempt",
            Class::Signature => "signed again and retried once; if refused again, the run stops",
            Class::App => "retried a few times; if that fails, the run stops",
            Class::Rejected => "the row fails immediately",
            Class::Fatal => "the run stops immediately and leaves the other rows unsent",
            Class::Unknown => "at most two retries, then the row fails",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Parses the form of [`Class::as_str`].
///
/// ```
/// use zim_batch::code::Class;
///
/// for class in Class::ALL {
///     assert_eq!(class.to_string().parse(), Ok(class));
/// }
/// assert!("fine".parse::<Class>().is_err());
/// ```
impl FromStr for Class {
    type Err = UnknownName;

    fn from_str(text: &str) -> Result<Class, UnknownName> {
        let class = Class::ALL.into_iter().find(|class| class.as_str() == text);
        class.ok_or_else(|| UnknownName::new(text, "class", &Class::ALL.map(Class::as_str)))
    }
}

/// One line of the table.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct ReturnCode {
    /// The `Code` of the answer.
    pub code: i64,
    /// How a run handles it.
    pub class: Class,
    /// Its meaning, according to ZEGO.
    pub meaning: &'static str,
    /// What the operator can do; empty if nothing.
    pub advice: &'static str,
}

const fn known(code: i64, class: Class, meaning: &'static str, advice: &'static str) -> ReturnCode {
    ReturnCode {
        code,
        class,
        meaning,
        advice,
    }
}

/// Looks up a code; `None` if ZEGO's lists don't have it.
///
/// ```
/// use zim_batch::code::{Class, find};
///
/// assert_eq!(find(660800002).map(|known| known.class), Some(Class::Outside));
/// assert_eq!(find(424242), None);
/// ```
pub fn find(code: i64) -> Option<&'static ReturnCode> {
    TABLE
        .binary_search_by_key(&code, |known| known.code)
        .ok()
        .map(|index| &TABLE[index])
}

/// The class of a code; [`Class::Unknown`] if the table doesn't have it.
pub fn class_of(code: i64) -> Class {
    find(code).map_or(Class::Unknown, |known| known.class)
}

/// Whether a row that failed with this code may succeed in another try.
pub fn is_retryable(code: i64) -> bool {
    match class_of(code) {
        Class::Ok | Class::Transient | Class::Limited | Class::Unknown => true,
        Class::Outside | Class::Signature | Class::App | Class::Rejected | Class::Fatal => false,
    }
}

/// All known codes, ascending.
#[rustfmt::skip]
pub const TABLE: &[ReturnCode] = &[
    known(0, Class::Ok, "success", ""),
    known(1, Class::Transient, "request failed; server busy", "try again later"),
    known(2, Class::Rejected, "input parameter error", "check the row's values"),
    known(3, Class::Fatal, "authentication failed", "check AppId and ServerSecret; contact ZEGO"),
    known(7, Class::Limited, "more requests per second than allowed", "slow down"),
    known(50_014, Class::Rejected, "user name too long", "not expected for this API"),
    known(51_102, Class::Rejected, "user does not exist or never logged in to ZIM", "register the user or drop the row"),
    known(105_001, Class::Transient, "database request failed on the server", "try again; contact ZEGO if it stays"),
    known(100_000_000, Class::Fatal, "wrong host in the URL", "check the endpoint"),
    known(100_000_001, Class::Fatal, "AppId has a wrong format", "check the AppId"),
    known(100_000_002, Class::Fatal, "Timestamp is empty", ""),
    known(100_000_003, Class::Fatal, "Timestamp has a wrong format", "it must be Unix seconds"),
    known(100_000_004, Class::Signature, "signature expired", "check this machine's clock"),
    known(100_000_005, Class::Signature, "wrong signature", "check AppId and ServerSecret"),
    known(100_000_006, Class::Fatal, "Action is empty", ""),
    known(100_000_007, Class::Fatal, "unsupported Action", "check the endpoint; the region may not have this API"),
    known(100_000_008, Class::Fatal, "SignatureNonce is empty", ""),
    known(100_000_009, Class::Fatal, "Signature is empty", ""),
    known(100_000_010, Class::App, "the server could not get the ServerSecret", "check the AppId"),
    known(100_000_011, Class::App, "internal error: the server could not get the app's configuration", "contact ZEGO's support; perhaps the AppId is wrong"),
    known(100_000_012, Class::Transient, "the server could not read the HTTP body", "try again"),
    known(100_000_013, Class::Fatal, "SignatureVersion is empty", ""),
    known(100_000_014, Class::Fatal, "unsupported SignatureVersion", "it must be 2.0"),
    known(100_000_015, Class::Transient, "internal error of the API gateway", "try again"),
    known(100_000_016, Class::Fatal, "the app is not configured for the production environment", "check the app in the ZEGO console"),
    known(100_000_017, Class::Fatal, "the service is not enabled for the app", "enable In-app Chat for the app"),
    known(660_000_001, Class::Transient, "general error on the server", "try again"),
    known(660_000_002, Class::Rejected, "input parameter missing or invalid", "check the row's values"),
    known(660_000_003, Class::Transient, "logic error on the server", "try again"),
    known(660_000_012, Class::Rejected, "user ID longer than 32 bytes", "check the row's values"),
    known(660_000_028, Class::Fatal, "not supported in the free edition", "upgrade the plan"),
    known(660_200_001, Class::Rejected, "the user does not exist, has logged out, or never logged in", "register the user or drop the row"),
    known(660_300_005, Class::Limited, "AppID-level call frequency exceeded", "slow down"),
    known(660_300_006, Class::Limited, "group or room-level call frequency exceeded", "slow down"),
    known(660_500_002, Class::Rejected, "FromUserId is not registered", "register the user or drop the row"),
    known(660_600_001, Class::Rejected, "the group does not exist", "check the group ID"),
    known(660_600_009, Class::Rejected, "group information could not be read", "check the group ID"),
    known(660_600_015, Class::Transient, "database error on the server", "try again"),
    known(660_600_024, Class::Rejected, "the user is not in the group", "check the membership"),
    known(660_700_008, Class::Rejected, "user information could not be read", "check the user ID"),
    known(660_700_012, Class::Rejected, "the user is not registered", "register the user or drop the row"),
    known(660_700_013, Class::Transient, "user information query failed", "try again"),
    known(660_700_015, Class::Rejected, "the peer is not registered", "register the user or drop the row"),
    known(660_700_016, Class::Transient, "user information sync failed", "try again"),
    known(660_700_017, Class::Transient, "user information update failed", "try again"),
    known(660_800_001, Class::Rejected, "the peer is not registered", "register the user or drop the row"),
    known(660_800_002, Class::Outside, "conversation missing or not among the user's newest 1000", "check the conversation ID; ask ZEGO to raise the limit and send these rows again"),
    known(660_800_053, Class::Transient, "conversation list query failed on the server", "try again"),
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_ascending_so_that_every_code_is_found() {
        assert!(TABLE.windows(2).all(|pair| pair[0].code < pair[1].code));
        for known in TABLE {
            assert_eq!(find(known.code), Some(known));
        }
    }

    #[test]
    fn only_zero_is_success() {
        let ok: Vec<i64> = TABLE
            .iter()
            .filter(|known| known.class == Class::Ok)
            .map(|known| known.code)
            .collect();
        assert_eq!(ok, [0]);
    }
}
