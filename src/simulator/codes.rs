//! The return codes the simulator answers with.
//!
//! This table is separate from the client's on purpose: a mistake in one of the two makes a test fail. Numbers and
//! meanings are those of ZEGO's published lists. The messages are the simulator's own: ZEGO documents only `success`.

/// The return code and the message of an answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Reply {
    pub code: u32,
    pub message: &'static str,
}

impl Reply {
    pub const fn new(code: u32, message: &'static str) -> Reply {
        Reply { code, message }
    }

    /// A business parameter that is missing or not valid.
    pub const fn parameter(message: &'static str) -> Reply {
        Reply::new(660_000_002, message)
    }
}

pub(super) const SUCCESS: Reply = Reply::new(0, "success");

// Errors of the query string or the body as a whole, and of the one common parameter whose format has no documented
// code.
pub(super) const BAD_ENCODING: Reply = Reply::new(2, "the query string has a broken percent escape");
pub(super) const REPEATED: Reply = Reply::new(2, "a parameter is given twice");
pub(super) const NOT_AN_OBJECT: Reply = Reply::new(2, "the body is not a JSON object");
pub(super) const BODY_REPEATED: Reply = Reply::new(2, "a field of the body is given twice");
pub(super) const NONCE_FORMAT: Reply = Reply::new(2, "SignatureNonce is not 16 lower-case hex digits");

pub(super) const WRONG_PATH: Reply = Reply::new(100_000_000, "wrong address: the path is /");
pub(super) const WRONG_METHOD: Reply = Reply::new(100_000_000, "wrong method for this Action: see Allow");
pub(super) const APP_ID_FORMAT: Reply = Reply::new(100_000_001, "AppId is missing or not a decimal uint32");
pub(super) const TIMESTAMP_EMPTY: Reply = Reply::new(100_000_002, "Timestamp is empty");
pub(super) const TIMESTAMP_FORMAT: Reply = Reply::new(100_000_003, "Timestamp is not decimal Unix seconds");
pub(super) const EXPIRED: Reply = Reply::new(100_000_004, "signature expired: Timestamp is more than 10 minutes off");
pub(super) const WRONG_SIGNATURE: Reply = Reply::new(100_000_005, "wrong signature");
pub(super) const ACTION_EMPTY: Reply = Reply::new(100_000_006, "Action is empty");
pub(super) const ACTION_UNSUPPORTED: Reply = Reply::new(100_000_007, "unsupported Action");
pub(super) const NONCE_EMPTY: Reply = Reply::new(100_000_008, "SignatureNonce is empty");
pub(super) const SIGNATURE_EMPTY: Reply = Reply::new(100_000_009, "Signature is empty");
pub(super) const BODY_UNREADABLE: Reply = Reply::new(100_000_012, "the HTTP body could not be read");
pub(super) const NO_SUCH_APP: Reply = Reply::new(100_000_011, "no configuration for this AppId");
pub(super) const VERSION_EMPTY: Reply = Reply::new(100_000_013, "SignatureVersion is empty");
pub(super) const VERSION_UNSUPPORTED: Reply = Reply::new(100_000_014, "unsupported SignatureVersion: it must be 2.0");

pub(super) const USER_EMPTY: Reply = Reply::parameter("FromUserId is missing or empty");
pub(super) const USER_NOT_UTF8: Reply = Reply::parameter("FromUserId is not UTF-8");
pub(super) const USER_TOO_LONG: Reply = Reply::new(660_000_012, "FromUserId is longer than 32 bytes");
pub(super) const CONV_EMPTY: Reply = Reply::parameter("ConvId is missing or empty");
pub(super) const CONV_NOT_UTF8: Reply = Reply::parameter("ConvId is not UTF-8");
pub(super) const CONV_TOO_LONG: Reply = Reply::parameter("ConvId is longer than 32 bytes");
pub(super) const TYPE_INVALID: Reply = Reply::parameter("ConvType is not 0 or 2");

pub(super) const NOT_JSON_TYPE: Reply = Reply::parameter("Content-Type is not application/json");
pub(super) const USER_NOT_TEXT: Reply = Reply::parameter("FromUserId is not a string");
pub(super) const LIMIT_INVALID: Reply = Reply::parameter("Limit is not a whole number of at least 1");
pub(super) const NEXT_INVALID: Reply = Reply::parameter("Next is not a whole number");
pub(super) const NEXT_UNKNOWN: Reply = Reply::parameter("Next is not one that this list was answered with");
pub(super) const USERS_INVALID: Reply = Reply::parameter("UserIds is not a list of 1 to 100 strings of 1 to 64 bytes");

/// The `SubCode`s of a user that does not exist. The documents name two and give no rule for which of them it is.
pub(super) const NO_SUCH_USER: [u32; 2] = [660_700_015, 660_000_002];
/// The `SubCode` of a user that could not be looked up just now.
pub(super) const USER_UNAVAILABLE: u32 = 660_700_008;

pub(super) const NOT_REGISTERED: Reply = Reply::new(660_500_002, "FromUserId is not registered");
pub(super) const OUTSIDE: Reply = Reply::new(
    660_800_002,
    "the conversation does not exist or is not among the user's newest",
);

pub(super) const TOO_FAST: Reply = Reply::new(7, "more requests per second than allowed");
pub(super) const APP_LIMITED: Reply = Reply::new(660_300_005, "AppID-level call frequency exceeded");

/// Every documented code that means "try again later".
pub(super) const BUSY: [Reply; 11] = [
    Reply::new(1, "server busy"),
    Reply::new(105_001, "database request failed"),
    BODY_UNREADABLE,
    Reply::new(100_000_015, "internal error of the API gateway"),
    Reply::new(660_000_001, "general error"),
    Reply::new(660_000_003, "logic error"),
    Reply::new(660_600_015, "database error"),
    Reply::new(660_700_013, "user information query failed"),
    Reply::new(660_700_016, "user information sync failed"),
    Reply::new(660_700_017, "user information update failed"),
    Reply::new(660_800_053, "conversation list query failed"),
];
