//! What was not cleared, or not listed: why, which rows, and of whom.

use std::fmt::Write as _;

use super::shown;
use crate::analysis::Analysis;
use crate::journal::Kind;
use crate::reasons;
use crate::row::Outcome;
use crate::text::grouped;

/// The maximum number of each that a page lists, so that its size is bounded.
const REASONS: usize = 40;
const USERS: usize = 20;
const NAMES: usize = 100;

/// The lines of a reason that are shown before it is unfolded.
const FIRST: usize = 5;

/// The maximum length of the lines of all reasons together, in bytes.
const LINES: usize = 40_000;

/// Why rows, or users, failed or could not be sent.
pub(super) struct Reasons {
    pub title: &'static str,
    pub noun: &'static str,
    pub list: Vec<Reason>,
    /// The lines are known. Those of several reports are lines of different inputs.
    pub has_lines: bool,
    pub more: usize,
}

/// A reason.
pub(super) struct Reason {
    pub outcome: Outcome,
    pub why: String,
    pub rows: String,
    /// The first lines, or all if they are few.
    pub first: String,
    /// All of them, if they are more.
    pub all: String,
}

impl Reasons {
    pub fn new(analysis: &Analysis) -> Reasons {
        let reasons = &analysis.reasons;
        let mut room = LINES;
        Reasons {
            title: match analysis.kind {
                Kind::Clear => "Why rows failed or could not be sent",
                Kind::List => "Why users could not be listed",
            },
            noun: match analysis.kind {
                Kind::Clear => "Rows",
                Kind::List => "Users",
            },
            list: reasons
                .iter()
                .take(REASONS)
                .map(|reason| Reason::new(reason, &mut room))
                .collect(),
            has_lines: reasons.iter().any(|reason| !reason.lines.is_empty()),
            more: reasons.len().saturating_sub(REASONS),
        }
    }
}

impl Reason {
    /// `room` is how many bytes are left for lines.
    fn new(reason: &reasons::Reason, room: &mut usize) -> Reason {
        let (first, all) = match reason.rows {
            0..=8 => (lines(reason, reason.lines.len(), room), String::new()),
            _ => (lines(reason, FIRST, room), lines(reason, reason.lines.len(), room)),
        };
        Reason {
            outcome: reason.outcome,
            why: why(reason),
            rows: grouped(reason.rows),
            first,
            all,
        }
    }
}

/// The reason in words.
pub(super) fn why(reason: &reasons::Reason) -> String {
    let message = shown(&reason.message);
    match reason.code {
        Some(code) => format!("code {code}: {message}"),
        None if message.is_empty() => "no message".to_owned(),
        None => message,
    }
}

/// The first lines of a reason, consecutive ones as a range, and how many more there are.
fn lines(reason: &reasons::Reason, max: usize, room: &mut usize) -> String {
    let mut text = String::new();
    if reason.lines.is_empty() {
        return text; // They are lines of different inputs.
    }
    let mut listed = 0;
    let lines = &reason.lines[..max.min(reason.lines.len())];
    for range in lines.chunk_by(|line, next| next.checked_sub(1) == Some(*line)) {
        let separator = if listed > 0 { ", " } else { "" };
        let range_text = match range {
            [line] => line.to_string(),
            [first, .., last] => format!("{first}–{last}"),
            [] => continue,
        };
        let length = separator.len() + range_text.len();
        if length > *room {
            break;
        }
        *room -= length;
        listed += range.len() as u64;
        text += separator;
        text += &range_text;
    }
    let more = reason.rows.saturating_sub(listed);
    if more > 0 {
        // Writing to a String does not fail.
        let _ = write!(text, " and {} more", grouped(more));
    }
    text
}

/// Users with several rows that were not cleared.
pub(super) struct Users {
    pub list: Vec<User>,
    pub note: String,
}

/// A user with rows that were not cleared.
pub(super) struct User {
    pub user: String,
    pub failed: String,
    pub outside: String,
}

impl Users {
    /// None of a list, in which each user has one record.
    pub fn new(analysis: &Analysis) -> Users {
        let several = || analysis.users.iter().filter(|user| user.failed + user.outside > 1);
        let list: Vec<User> = several()
            .take(USERS)
            .map(|user| User {
                user: shown(&user.user),
                failed: grouped(user.failed),
                outside: grouped(user.outside),
            })
            .collect();
        let mut notes = Vec::new();
        if several().count() > USERS {
            notes.push(format!("The {USERS} with the most rows; there are more."));
        }
        if analysis.users_missed > 0 {
            notes.push(format!(
                "So many users have such rows that each may have up to {} more.",
                grouped(analysis.users_missed)
            ));
        }
        Users {
            list,
            note: notes.join(" "),
        }
    }
}

/// The names of the users that could not be listed.
pub(super) fn not_listed(listed: &Analysis) -> String {
    let names: Vec<String> = listed.users.iter().take(NAMES).map(|user| shown(&user.user)).collect();
    let more = listed.outcome(Outcome::Failed).saturating_sub(names.len() as u64);
    match more {
        0 => names.join(", "),
        more => format!("{} and {} more", names.join(", "), grouped(more)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reason(rows: u64, lines: impl IntoIterator<Item = u64>) -> reasons::Reason {
        let mut analysis = Analysis::from_reader(
            &b"line,user,conv,type,outcome,code,http,message,request_id,attempts,latency_ms,finished_at\n2,u,c,0,failed,,,m,,1,,\n"[..],
            "out.csv",
        )
        .unwrap();
        let mut reason = analysis.reasons.remove(0);
        reason.rows = rows;
        reason.lines = lines.into_iter().collect();
        reason
    }

    #[test]
    fn all_lines_of_a_reason_are_told_and_ranges_are_short() {
        let mut room = LINES;
        let told = |rows, lines: Vec<u64>, room: &mut usize| {
            let reason = Reason::new(&reason(rows, lines), room);
            (reason.first, reason.all)
        };
        assert_eq!(told(3, vec![2, 9, 10], &mut room), ("2, 9–10".into(), String::new()));
        let odd = |count: u64| (1..=count).map(|number| 2 * number + 1).collect::<Vec<_>>();
        assert_eq!(
            told(12, odd(12), &mut room),
            (
                "3, 5, 7, 9, 11 and 7 more".into(),
                "3, 5, 7, 9, 11, 13, 15, 17, 19, 21, 23, 25".into()
            )
        );
        assert_eq!(
            told(5000, (2..1002).collect(), &mut room),
            ("2–6 and 4,995 more".into(), "2–1001 and 4,000 more".into())
        );
        // Where there is no room for a line, it is counted.
        assert_eq!(
            told(1000, odd(1000), &mut 20),
            ("3, 5, 7, 9, 11 and 995 more".into(), "3, 5 and 998 more".into())
        );
    }
}
