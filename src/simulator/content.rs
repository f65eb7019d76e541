//! What a successful answer says beside `Code`, `Message` and `RequestId`.

use md5::{Digest, Md5};
use serde::Serialize;

use super::codes::{NEXT_UNKNOWN, Reply};
use super::conversation::ConvType;
use super::rules::ListRequest;
use super::world::Conversation;

/// The fields of an answer that depend on its Action.
#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    Nothing {},
    Conversations(ConversationList),
    Users(UserInfos),
}

/// One page of a user's conversations.
#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct ConversationList {
    total_count: usize,
    next: u64,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    list: Vec<ListedConversation>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct ListedConversation {
    conv_id: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    conv_type: Option<u8>,
    update_time: u64,
}

impl ConversationList {
    /// Returns the page that the request asks for, oldest first, of these conversations, newest first.
    pub fn page(newest_first: &[Conversation], request: &ListRequest<'_>) -> Result<ConversationList, Reply> {
        let skipped = match request.next {
            0 => 0,
            next => position(request.user, next).ok_or(NEXT_UNKNOWN)?,
        };
        let total_count = newest_first.len();
        let oldest_first = newest_first.iter().enumerate().rev();
        let page = oldest_first.skip(skipped).take(request.limit);
        let list: Vec<_> = page.map(ListedConversation::new).collect();
        let end = skipped + list.len();
        Ok(ConversationList {
            total_count,
            next: if end < total_count { next(request.user, end) } else { 0 },
            list,
        })
    }
}

impl ListedConversation {
    /// The documents let the type of a one-to-one conversation be 0 or absent, so every other one has none.
    fn new((rank, conversation): (usize, &Conversation)) -> ListedConversation {
        let conv_type = conversation.conv_type;
        ListedConversation {
            conv_id: conversation.id.to_string(),
            conv_type: (conv_type == ConvType::Group || rank % 2 == 1).then_some(conv_type as u8),
            update_time: conversation.update_time,
        }
    }
}

/// Makes the `Next` after a user's first `position` conversations: bit 62, then 30 bits of position and 32 bits of a
/// checksum over user and position. It is odd: no number of this size is, once it has been through a double.
fn next(user: &str, position: usize) -> u64 {
    let digest = Md5::digest(format!("{position} {user}"));
    let checksum = u32::from_le_bytes([digest[0], digest[1], digest[2], digest[3]]) | 1;
    1 << 62 | (position as u64) << 32 | u64::from(checksum)
}

/// Returns the position in a `Next` that [`next`] made for this user.
fn position(user: &str, token: u64) -> Option<usize> {
    let position = usize::try_from(token >> 32 & ((1 << 30) - 1)).ok()?;
    (token == next(user, position)).then_some(position)
}

/// Which users exist and which don't.
#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "PascalCase")]
pub(super) struct UserInfos {
    result: Vec<UserInfo>,
    error_list: Vec<UserError>,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UserInfo {
    user_id: String,
    user_name: String,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "PascalCase")]
struct UserError {
    user_id: String,
    sub_code: u32,
}

impl UserInfos {
    /// Adds a user that exists. The world has no names, so its ID is its name.
    pub fn push_found(&mut self, user: &str) {
        self.result.push(UserInfo {
            user_id: user.to_owned(),
            user_name: user.to_owned(),
        });
    }

    pub fn push_error(&mut self, user: &str, sub_code: u32) {
        self.error_list.push(UserError {
            user_id: user.to_owned(),
            sub_code,
        });
    }
}

#[cfg(test)]
mod tests {
    use super::super::world::World;
    use super::*;
    use proptest::prelude::*;

    fn page(world: &World, user: &str, limit: usize, next: u64) -> Result<ConversationList, Reply> {
        let newest_first = world.newest(user, 1000).unwrap();
        ConversationList::page(newest_first, &ListRequest { user, limit, next })
    }

    /// Every position that the sample world's largest user can have.
    fn all_next() -> impl Iterator<Item = u64> {
        (1..1000).map(|position| next("archivist", position))
    }

    #[test]
    fn a_next_with_another_digit_is_refused() {
        let world = World::sample();
        for good in all_next().step_by(97) {
            assert!(page(&world, "archivist", 1, good).is_ok());
            let digits = good.to_string();
            for at in 0..digits.len() {
                for digit in "0123456789".chars().filter(|&digit| !digits[at..].starts_with(digit)) {
                    let changed = format!("{}{digit}{}", &digits[..at], &digits[at + 1..]);
                    let refused = page(&world, "archivist", 1, changed.parse().unwrap());
                    assert_eq!(refused.err(), Some(NEXT_UNKNOWN), "{changed} for {good}");
                }
            }
        }
    }

    #[test]
    fn a_next_that_was_a_double_or_is_another_users_is_refused() {
        let world = World::sample();
        for good in all_next() {
            assert!(good > 1 << 53 && i64::try_from(good).is_ok() && good % 2 == 1);
            let rounded = good as f64 as u64;
            assert_eq!(page(&world, "archivist", 1, rounded).err(), Some(NEXT_UNKNOWN));
            assert_eq!(page(&world, "alice", 1, good).err(), Some(NEXT_UNKNOWN));
        }
        assert_eq!(page(&world, "archivist", 1, 1).err(), Some(NEXT_UNKNOWN));
        assert_eq!(page(&world, "archivist", 1, u64::MAX).err(), Some(NEXT_UNKNOWN));
    }

    proptest! {
        #[test]
        fn pages_of_any_sizes_have_each_conversation_once_oldest_first(
            limits in proptest::collection::vec(1..=500_usize, 1..8),
        ) {
            let world = World::sample();
            let mut listed = Vec::new();
            let mut next = 0;
            for limit in limits.into_iter().cycle() {
                let page = page(&world, "archivist", limit, next).unwrap();
                prop_assert_eq!(page.total_count, 1000);
                prop_assert!(page.list.len() == limit || page.next == 0);
                listed.extend(page.list);
                next = page.next;
                if next == 0 {
                    break;
                }
            }
            // c1001 and older are not among the newest 1000.
            let expected: Vec<_> = (1..=1000).rev().map(|number| format!("c{number:04}")).collect();
            let ids: Vec<_> = listed.iter().map(|conversation| conversation.conv_id.clone()).collect();
            prop_assert_eq!(ids, expected);
            prop_assert!(listed.is_sorted_by_key(|conversation| conversation.update_time));
        }
    }
}
