//! ZIM's return codes: one table with what each means and what a batch does about it.
//!
//! The table holds the codes that a call like ClearConversationUnread can meet, from ZEGO's list of global return
//! codes and the API's own page. ZEGO's lists are incomplete, so a code that is not here is [`Class::Unknown`], never
//! an error of this program. HTTP statuses and transport errors are not codes: `verdict.rs` judges those.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

use crate::row::UnknownName;

/// What a batch does about an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Class {
    /// The row is done.
    Ok,
    /// The conversation is not reachable: not there, or not among the user's newest 1000. Never retried, never a failure.
    Outside,
    /// Try again with back-off and jitter, signed anew.
    Transient,
    /// Too many requests a second: slow the whole run, then try again. Does not use up the row's attempts.
    Limited,
    /// The signature was refused or has expired: sign anew and try once more; if it comes again, [`Class::Fatal`].
    Signature,
    /// The app is not known (yet): try a few times; if it stays, [`Class::Fatal`]. Most likely a wrong AppId.
    App,
    /// This row can't succeed: failed at once.
    Rejected,
    /// No row can succeed: the run stops and leaves the other rows unsent.
    Fatal,
    /// Not an answer this table knows: at most two more tries, then failed.
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

    /// What a batch does about this class, in a few words.
    pub fn what_a_batch_does(self) -> &'static str {
        match self {
            Class::Ok => "the row is done",
            Class::Outside => "the row goes to the outside log; never retried, never a failure",
            Class::Transient => "tried again with growing pauses, signed anew",
            Class::Limited => "the whole run slows down, then the row is tried again; costs it no attempt",
            Class::Signature => "signed anew and tried once more; if it comes again, the run stops",
            Class::App => "tried a few times; if it stays, the run stops",
            Class::Rejected => "the row is failed at once",
            Class::Fatal => "the run stops at once and leaves the other rows unsent",
            Class::Unknown => "at most two more tries, then the row is failed",
        }
    }
}

impl fmt::Display for Class {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// Reads what [`Class::as_str`] gives.
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
    /// What a batch does about it.
    pub class: Class,
    /// What ZEGO says it means.
    pub meaning: &'static str,
    /// What the operator can do; empty where there is nothing to do.
    pub advice: &'static str,
}

const fn entry(code: i64, class: Class, meaning: &'static str, advice: &'static str) -> ReturnCode {
    ReturnCode {
        code,
        class,
        meaning,
        advice,
    }
}

/// Looks a code up; `None` if ZEGO's lists don't have it.
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

/// All known codes, ascending.
#[rustfmt::skip]
pub const TABLE: &[ReturnCode] = &[
    entry(0, Class::Ok, "success", ""),
    entry(1, Class::Transient, "request failed; server busy", "try again later"),
    entry(2, Class::Rejected, "input parameter error", "check the row's values"),
    entry(3, Class::Fatal, "authentication failed", "check AppId and ServerSecret; contact ZEGO"),
    entry(7, Class::Limited, "more requests per second than allowed", "slow down"),
    entry(50_014, Class::Rejected, "user name too long", "not expected for this API"),
    entry(51_102, Class::Rejected, "user does not exist or never logged in to ZIM", "register the user or drop the row"),
    entry(105_001, Class::Transient, "database request failed on the server", "try again; contact ZEGO if it stays"),
    entry(100_000_000, Class::Fatal, "wrong host in the URL", "check the endpoint"),
    entry(100_000_001, Class::Fatal, "AppId has a wrong format", "check the AppId"),
    entry(100_000_002, Class::Fatal, "Timestamp is empty", ""),
    entry(100_000_003, Class::Fatal, "Timestamp has a wrong format", "it must be Unix seconds"),
    entry(100_000_004, Class::Signature, "signature expired", "check this machine's clock"),
    entry(100_000_005, Class::Signature, "wrong signature", "check AppId and ServerSecret"),
    entry(100_000_006, Class::Fatal, "Action is empty", ""),
    entry(100_000_007, Class::Fatal, "unsupported Action", "check the endpoint; the region may not have this API"),
    entry(100_000_008, Class::Fatal, "SignatureNonce is empty", ""),
    entry(100_000_009, Class::Fatal, "Signature is empty", ""),
    entry(100_000_010, Class::App, "the server could not get the ServerSecret", "check the AppId"),
    entry(100_000_011, Class::App, "the server could not get the app's configuration", "check the AppId"),
    entry(100_000_012, Class::Transient, "the server could not read the HTTP body", "try again"),
    entry(100_000_013, Class::Fatal, "SignatureVersion is empty", ""),
    entry(100_000_014, Class::Fatal, "unsupported SignatureVersion", "it must be 2.0"),
    entry(100_000_015, Class::Transient, "internal error of the API gateway", "try again"),
    entry(100_000_016, Class::Fatal, "the app is not configured for the production environment", "check the app in the ZEGO console"),
    entry(100_000_017, Class::Fatal, "the service is not enabled for the app", "enable In-app Chat for the app"),
    entry(660_000_001, Class::Transient, "general error on the server", "try again"),
    entry(660_000_002, Class::Rejected, "input parameter missing or invalid", "check the row's values"),
    entry(660_000_003, Class::Transient, "logic error on the server", "try again"),
    entry(660_000_012, Class::Rejected, "user ID longer than 32 bytes", "check the row's values"),
    entry(660_000_028, Class::Fatal, "not supported in the free edition", "upgrade the plan"),
    entry(660_200_001, Class::Rejected, "user missing or never logged in", "register the user or drop the row"),
    entry(660_300_005, Class::Limited, "AppID-level call frequency exceeded", "slow down"),
    entry(660_300_006, Class::Limited, "group or room-level call frequency exceeded", "slow down"),
    entry(660_500_002, Class::Rejected, "FromUserId is not registered", "register the user or drop the row"),
    entry(660_600_001, Class::Rejected, "the group does not exist", "check the group ID"),
    entry(660_600_009, Class::Rejected, "group information could not be read", "check the group ID"),
    entry(660_600_015, Class::Transient, "database error on the server", "try again"),
    entry(660_600_024, Class::Rejected, "the user is not in the group", "check the membership"),
    entry(660_700_008, Class::Rejected, "user information could not be read", "check the user ID"),
    entry(660_700_012, Class::Rejected, "the user is not registered", "register the user or drop the row"),
    entry(660_700_013, Class::Transient, "user information query failed", "try again"),
    entry(660_700_015, Class::Rejected, "the peer is not registered", "register the user or drop the row"),
    entry(660_700_016, Class::Transient, "user information sync failed", "try again"),
    entry(660_700_017, Class::Transient, "user information update failed", "try again"),
    entry(660_800_001, Class::Rejected, "the peer is not registered", "register the user or drop the row"),
    entry(660_800_002, Class::Outside, "conversation missing or not among the user's newest 1000", "check the conversation ID; ask ZEGO to raise the limit and run the outside log again"),
    entry(660_800_053, Class::Transient, "conversation list query failed on the server", "try again"),
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
