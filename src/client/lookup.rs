//! QueryUserInfos: which users exist, a hundred at a time.

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Client;
use super::call::Call;
use super::gate::Gate;
use super::service::{Attempt, Item, Service};
use crate::code::Class;
use crate::row::{LookedUp, Record, Subject, User};
use crate::sealed::Sealed;

/// The most users of one request (ZEGO, "QueryUserInfos").
pub const MAX_USERS: usize = 100;

/// The sub-codes of users who do not exist: never registered, or removed. With any other sub-code, such as 660700008 (not
/// known just now), a user is looked up again.
const NO_SUCH_USER: [i64; 5] = [51_102, 660_000_002, 660_200_001, 660_700_012, 660_700_015];

/// Looks users up: what a [`Job`](crate::Job) sends [`UserBatch`]es with. What was found is in each
/// [record](crate::Record::looked_up).
#[derive(Debug, Clone)]
pub struct UserLookup {
    client: Client,
}

impl UserLookup {
    /// Looks users up with this client.
    pub fn new(client: Client) -> UserLookup {
        UserLookup { client }
    }
}

/// Users to look up with one request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UserBatch {
    /// Those of whom ZIM has not said whether they exist.
    unknown: Vec<User>,
    found: LookedUp,
}

impl UserBatch {
    /// At most [`MAX_USERS`] users, each once: ZIM refuses more.
    pub fn new(users: Vec<User>) -> UserBatch {
        UserBatch {
            unknown: users,
            found: LookedUp::default(),
        }
    }

    pub(super) fn into_found(self) -> LookedUp {
        self.found
    }

    /// Takes up an answer. Returns `false` if it can't be read.
    fn take_answer(&mut self, body: &[u8]) -> bool {
        let body = String::from_utf8_lossy(body);
        let body = body.trim_start_matches('\u{feff}');
        let Ok(answer) = serde_json::from_str::<Answer>(body) else {
            return false;
        };
        let (result, errors) = (answer.result.unwrap_or_default(), answer.errors.unwrap_or_default());
        for user in std::mem::take(&mut self.unknown) {
            let is_user = |known: &UserInfo| known.user.as_deref() == Some(user.id());
            let sub_code = || errors.iter().find(|known| is_user(known)).and_then(UserInfo::sub_code);
            if result.iter().any(is_user) {
                self.found.existing += 1;
            } else if sub_code().is_some_and(|code| NO_SUCH_USER.contains(&code)) {
                self.found.missing.push(user);
            } else {
                self.unknown.push(user);
            }
        }
        true
    }
}

impl Sealed for UserBatch {}

impl Item for UserBatch {
    fn subject(&self) -> Subject {
        Subject::User
    }

    fn key(&self) -> [&str; 3] {
        [""; 3]
    }

    fn complete(self, record: &mut Record) {
        record.looked_up = Some(self.found);
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

impl Sealed for UserLookup {}

impl Service for UserLookup {
    type Item = UserBatch;

    async fn attempt(&self, batch: &mut UserBatch, gate: &impl Gate) -> Option<Attempt> {
        let users: Vec<&str> = batch.unknown.iter().map(User::id).collect();
        let (mut attempt, body) = self.client.call(&Call::lookup(&users), gate).await?;
        let verdict = &mut attempt.verdict;
        if verdict.class == Class::Outside {
            verdict.class = Class::Rejected;
        }
        if verdict.class == Class::Ok {
            if !batch.take_answer(&body) {
                verdict.class = Class::Unknown;
                verdict.message = "the answer can't be read: it is not as ZEGO documents it".into();
            } else if !batch.unknown.is_empty() {
                // The service works, so this is not an outage; a few more attempts may find them.
                verdict.class = Class::Unknown;
                verdict.message = format!("ZIM did not say of {} users whether they exist", batch.unknown.len());
            }
        }
        Some(attempt)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn users(ids: &[&str]) -> Vec<User> {
        ids.iter().map(|id| User::new(*id).unwrap()).collect()
    }

    #[test]
    fn each_user_exists_or_is_missing_or_is_asked_for_again() {
        let mut batch = UserBatch::new(users(&["a", "b", "c", "d", "e"]));
        let answer = br#"{"Code":0,"Result":[{"UserId":"a","UserName":"A"}],"ErrorList":[
            {"UserId":"b","SubCode":660700015},{"UserId":"c","SubCode":"660000002"},{"UserId":"d","SubCode":660700008}]}"#;
        assert!(batch.take_answer(answer));
        assert_eq!(batch.unknown, users(&["d", "e"]));
        assert_eq!((batch.found.existing, &batch.found.missing), (1, &users(&["b", "c"])));
        assert!(batch.take_answer(br#"{"Result":[{"UserId":"d"},{"UserId":"e"},{}]}"#));
        assert_eq!((batch.unknown.len(), batch.found.existing), (0, 3));
    }

    #[test]
    fn what_is_not_an_answer_can_t_be_read() {
        let mut batch = UserBatch::new(users(&["a"]));
        for body in ["", "[]", r#"{"Result":7}"#, r#"{"ErrorList":[7]}"#] {
            assert!(!batch.take_answer(body.as_bytes()), "{body}");
        }
        assert_eq!(batch.unknown, users(&["a"]));
    }
}
