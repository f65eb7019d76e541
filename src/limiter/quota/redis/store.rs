//! What the runs of an app keep on the server: three keys, and the scripts for them.

use ::redis::{RedisError, Script, ScriptInvocation};

use super::super::limit_entry::{KEPT_FOR, LimitEntry};
use super::super::location::QuotaLocation;
use super::server::Server;
use super::{MAX_ENTRIES, PRESENT_FOR};
use crate::limiter::rate::{MAX as MAX_RATE, MIN as MIN_RATE};
use crate::limiter::schedule::{KEPT, LATENESS, MARGIN, MAX_AHEAD, MAX_COUNT, SECOND, STRETCH};

/// The longest text of a limit, in bytes.
const MAX_LIMIT_TEXT: usize = 4096;

/// The text of a limit that has been ended, until it expires.
const NO_LIMIT: &str = "off";

/// The scripts, without their constants: for the scheduling rule, for the entries of the active runs, and what both use.
const STARTS: &str = include_str!("starts.lua");
const RUNS: &str = include_str!("runs.lua");
const LIMIT: &str = include_str!("limit.lua");

/// Sets the limit, which expires, or ends it. Needs no other rights than the other scripts.
const SET_LIMIT: &str = "redis.call('SET', KEYS[1], ARGV[1], 'PX', ARGV[2])";

/// The keys of an app on a server.
pub(super) struct Store {
    pub server: Server,
    pub starts_key: String,
    pub runs_key: String,
    pub limit_key: String,
    starts: Script,
    runs: Script,
    set_limit: Script,
}

/// What `starts.lua` returns; see there.
pub(super) type StartsAnswer = (u8, u64, u64, usize, String, String, String, Text);

/// What `runs.lua` returns; see there.
pub(super) type RunsAnswer = (u64, bool, usize, usize, Vec<Text>, String, Text);

/// A text that anybody may have written, so perhaps not UTF-8.
type Text = Vec<u8>;

impl Store {
    pub fn new(server: Server, location: &QuotaLocation) -> Store {
        let kept_for = KEPT_FOR.as_millis();
        let constants = format!(
            "local SECOND, MARGIN, STRETCH, LATENESS, KEPT, MAX_AHEAD, MAX_COUNT = \
             {SECOND}, {MARGIN}, {STRETCH}, {LATENESS}, {KEPT}, {MAX_AHEAD}, {MAX_COUNT}\n\
             local NO_LIMIT, MIN_RATE, MAX_RATE, MAX_LIMIT_TEXT, LIMIT_KEPT_FOR, PRESENT_FOR, MAX_ENTRIES = \
             '{NO_LIMIT}', {MIN_RATE}, {MAX_RATE}, {MAX_LIMIT_TEXT}, {kept_for}, {PRESENT_FOR}, {MAX_ENTRIES}\n{LIMIT}"
        );
        let key = |ending: &str| format!("{}.{ending}", location.name);
        Store {
            server,
            starts_key: key("starts"),
            runs_key: key("runs"),
            limit_key: key("limit"),
            starts: Script::new(&(constants.clone() + STARTS)),
            runs: Script::new(&(constants + RUNS)),
            set_limit: Script::new(SET_LIMIT),
        }
    }

    /// A call of `starts.lua`, as yet without arguments.
    pub fn starts(&self) -> ScriptInvocation<'_> {
        let mut script = self.starts.key(&self.starts_key);
        script.key(&self.runs_key).key(&self.limit_key);
        script
    }

    /// A call of `runs.lua`, as yet without arguments.
    pub fn runs(&self) -> ScriptInvocation<'_> {
        let mut script = self.runs.key(&self.runs_key);
        script.key(&self.limit_key);
        script
    }

    /// Sets the limit, which expires after so many milliseconds; or ends it.
    pub async fn set_limit(&self, entry: Option<&LimitEntry>, expires: u64) -> Result<(), RedisError> {
        let (text, expires) = match entry {
            Some(entry) => (entry.to_text(), expires.max(1)),
            None => (NO_LIMIT.to_owned(), 1),
        };
        let mut script = self.set_limit.key(&self.limit_key);
        script.arg(text).arg(expires);
        self.server.call::<()>(&script).await?;
        Ok(())
    }
}
