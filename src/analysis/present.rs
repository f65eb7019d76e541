//! What the run under way is doing: what the report and the log of runs do not say, and its time limit.

use super::model::Analysis;
use crate::limiter::quota::Limit;
use crate::text::local;

/// What is known of the run under way beside its files. Nothing, unless the caller who has read them adds it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Present {
    /// It is on hold: the service or the quota can't be used. Why, or an empty text if that is not known.
    pub on_hold: Option<String>,
    /// A limit of its quota that is lower than its own rate.
    pub limit: Option<Limit>,
}

impl Analysis {
    /// Why the run under way sends nothing at present: `on hold: HTTP 503`, `paused by 'zim-batch quota' until 14:00`,
    /// `paused by its timetable until …`. `None` if that is not known, or if it is sending.
    pub fn waits(&self) -> Option<String> {
        self.waits_for_others().or_else(|| {
            let until = self.paused_until()?;
            Some(format!("paused by its timetable until {}", local(until)))
        })
    }

    /// Likewise, but not for its own timetable, of which it is known when it goes on.
    pub(super) fn waits_for_others(&self) -> Option<String> {
        self.under_way?;
        let Present { on_hold, limit } = &self.present;
        match on_hold.as_deref() {
            Some("") => Some("on hold".to_owned()),
            Some(why) => Some(format!("on hold: {why}")),
            None => limit
                .filter(|limit| limit.rate.is_none())
                .map(|limit| limit.to_string()),
        }
    }

    /// A limit of the quota at which the run under way goes, in words: `limited to 5/s by 'zim-batch quota'`.
    pub fn limited(&self) -> Option<String> {
        self.under_way?;
        let limit = self.present.limit.filter(|limit| limit.rate.is_some())?;
        Some(limit.to_string())
    }

    /// When the time limit of the run under way ends it, in milliseconds since 1970.
    pub fn ends_at(&self) -> Option<i64> {
        self.runs.iter().rfind(|run| run.is_under_way)?.begin.ends_at
    }

    /// When the run under way will end, in words: `until about 2026-11-25 14:00:00 +08:00`. `None` if that can't be told.
    pub fn until_in_words(&self) -> Option<String> {
        let until = self.until().or_else(|| self.until_about());
        match (until, self.ends_at()) {
            (Some(until), Some(end)) if until == end => Some(format!(
                "until {}, when its time limit ends it with rows left",
                local(end)
            )),
            (Some(until), _) => Some(format!("until about {}", local(until))),
            (None, Some(end)) => Some(format!("at the latest until {}, its time limit", local(end))),
            (None, None) => None,
        }
    }
}
