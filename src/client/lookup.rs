//! QueryUserInfos: which users exist, a hundred at a time.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::call::Call;
use super::gate::Gate;
use super::{Attempt, Client, Service};
use crate::code::Class;
use crate::row::{Item, User};

/// The most users of one request (ZEGO, "QueryUserInfos").
pub const MAX_USERS: usize = 100;

/// The sub-codes of users who do not exist: never registered, or removed. With any other sub-code, such as 660700008 (not
/// known just now), a user is looked up again.
const NO_SUCH_USER: [i64; 5] = [51_102, 660_000_002, 660_200_001, 660_700_012, 660_700_015];

/// Looks users up: what a [`Job`](crate::Job) sends [`Lookup`]s with.
#[derive(Debug)]
pub struct UserLookup {
    client: Client,
    found: Arc<Mutex<Found>>,
}

/// What the answers said so far.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Found {
    /// How many users exist.
    pub existing: u64,
    /// The users who do not exist, in the order of the answers.
    pub missing: Vec<User>,
}

impl UserLookup {
    /// Looks users up with this client.
    pub fn new(client: Client) -> UserLookup {
        UserLookup {
            client,
            found: Arc::default(),
        }
    }

    /// Returns a function that returns what was found so far.
    pub fn found(&self) -> impl Fn() -> Found + Send + Sync + use<> {
        let found = Arc::clone(&self.found);
        move || lock(&found).clone()
    }
}

fn lock(found: &Mutex<Found>) -> MutexGuard<'_, Found> {
    found.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Users to look up with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lookup {
    line: u64,
    /// Those who have not been looked up.
    users: Vec<User>,
}

impl Lookup {
    /// At most [`MAX_USERS`] users, each once: ZIM refuses more.
    pub fn new(users: Vec<User>) -> Lookup {
        Lookup {
            line: users.first().map_or(0, |user| user.line),
            users,
        }
    }

    /// Takes up an answer. Returns `false` if it can't be read.
    fn take_answer(&mut self, body: &[u8], found: &mut Found) -> bool {
        let body = String::from_utf8_lossy(body);
        let body = body.trim_start_matches('\u{feff}');
        let Ok(answer) = serde_json::from_str::<Answer>(body) else {
            return false;
        };
        let (result, errors) = (answer.result.unwrap_or_default(), answer.errors.unwrap_or_default());
        self.users.retain(|user| {
            let is_user = |known: &UserInfo| known.user.as_deref() == Some(&user.user);
            if result.iter().any(is_user) {
                found.existing += 1;
                return false;
            }
            let sub_code = errors.iter().find(|known| is_user(known)).and_then(UserInfo::sub_code);
            if sub_code.is_some_and(|code| NO_SUCH_USER.contains(&code)) {
                found.missing.push(user.clone());
                return false;
            }
            true
        });
        true
    }
}

impl Item for Lookup {
    fn line(&self) -> u64 {
        self.line
    }

    fn key(&self) -> [&str; 3] {
        [""; 3]
    }
}

/// The fields of an answer; others are ignored.
#[derive(Deserialize)]
struct Answer<'a> {
    #[serde(rename = "Result", borrow)]
    result: Option<Vec<UserInfo<'a>>>,
    #[serde(rename = "ErrorList", borrow)]
    errors: Option<Vec<UserInfo<'a>>>,
}

#[derive(Deserialize)]
struct UserInfo<'a> {
    #[serde(rename = "UserId")]
    user: Option<String>,
    #[serde(rename = "SubCode", borrow)]
    sub_code: Option<&'a RawValue>,
}

impl UserInfo<'_> {
    fn sub_code(&self) -> Option<i64> {
        self.sub_code?.get().trim_matches('"').trim().parse().ok()
    }
}

impl Service for UserLookup {
    type Item = Lookup;

    async fn attempt(&self, lookup: &mut Lookup, gate: &impl Gate) -> Option<Attempt> {
        let users: Vec<&str> = lookup.users.iter().map(|user| user.user.as_str()).collect();
        let (mut attempt, body) = self.client.call(&Call::lookup(&users), gate).await?;
        let verdict = &mut attempt.verdict;
        if verdict.class == Class::Outside {
            verdict.class = Class::Rejected;
        }
        if verdict.class == Class::Ok {
            let is_readable = lookup.take_answer(&body, &mut lock(&self.found));
            if !is_readable {
                verdict.class = Class::Unknown;
                verdict.message = "the answer can't be read: it is not as ZEGO documents it".into();
            } else if !lookup.users.is_empty() {
                // The service works, so this is not an outage; a few more attempts may find them.
                verdict.class = Class::Unknown;
                verdict.message = format!("ZIM did not say of {} users whether they exist", lookup.users.len());
            }
        }
        Some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn user(line: u64, user: &str) -> User {
        User {
            line,
            user: user.into(),
        }
    }

    #[test]
    fn each_user_exists_or_is_missing_or_is_asked_for_again() {
        let users = ["a", "b", "c", "d", "e"].iter().zip(2..);
        let mut lookup = Lookup::new(users.map(|(name, line)| user(line, name)).collect());
        let mut found = Found::default();
        let answer = br#"{"Code":0,"Result":[{"UserId":"a","UserName":"A"}],"ErrorList":[
            {"UserId":"b","SubCode":660700015},{"UserId":"c","SubCode":"660000002"},{"UserId":"d","SubCode":660700008}]}"#;
        assert!(lookup.take_answer(answer, &mut found));
        assert_eq!(lookup.users, [user(5, "d"), user(6, "e")]);
        assert_eq!(
            (found.existing, &found.missing[..]),
            (1, &[user(3, "b"), user(4, "c")][..])
        );
        assert!(lookup.take_answer(br#"{"Result":[{"UserId":"d"},{"UserId":"e"},{}]}"#, &mut found));
        assert_eq!((lookup.users.len(), found.existing), (0, 3));
        assert_eq!(lookup.line(), 2);
    }

    #[test]
    fn what_is_not_an_answer_can_t_be_read() {
        let mut lookup = Lookup::new(vec![user(2, "a")]);
        for body in ["", "[]", r#"{"Result":7}"#, r#"{"ErrorList":[7]}"#] {
            assert!(!lookup.take_answer(body.as_bytes(), &mut Found::default()), "{body}");
        }
    }
}
