//! Users and their conversations: the data that requests act on.
//!
//! Whether the API reaches a conversation depends on its rank among the user's conversations. Clearing does not change
//! the rank, so the conversations are ordered once, when the world is built.

use std::collections::HashMap;
use std::sync::Arc;

use super::codes::{NOT_REGISTERED, OUTSIDE, Reply};
use super::conversation::{ConvType, ConversationKey, MAX_ID_BYTES};
use super::world_csv::{self, RowConversation, WorldError};

/// How the IDs begin that no user of an open world has.
const UNREGISTERED_PREFIX: &str = "nobody";

/// When the newest conversation of a user was updated, if the world does not say it: 2026-01-01T00:00:00Z, in
/// milliseconds. Each older one was updated a minute earlier.
const NEWEST_UPDATE_MS: u64 = 1_767_225_600_000;
const UPDATE_INTERVAL_MS: u64 = 60_000;

/// The users of the simulated app, their conversations from newest to oldest, and the unread count of each.
///
/// A world is *closed* or *open*. In a closed world ([`World::from_csv`]) an unlisted user is not registered (code
/// 660500002). In an open world ([`World::sample`]) every unlisted user is registered, and each of their conversations
/// exists, is reachable and has 1 unread message on every call, because nothing is stored about them. So you can try
/// your own rows without describing a world first. Their list of conversations is empty. Exceptions are users whose ID
/// begins with `nobody` or is longer than 32 bytes: they are not registered. A conversation that a listed user does not
/// have is answered 660800002 in both.
#[derive(Clone, Debug, Default)]
pub struct World {
    users: HashMap<String, User>,
    open: bool,
}

#[derive(Clone, Debug, Default)]
struct User {
    /// From newest to oldest.
    conversations: Vec<Conversation>,
    /// For each ID, where the conversation of this type is.
    peers: HashMap<Arc<str>, usize>,
    groups: HashMap<Arc<str>, usize>,
}

/// A conversation of one user.
#[derive(Clone, Debug)]
pub(super) struct Conversation {
    pub id: Arc<str>,
    pub conv_type: ConvType,
    unread: u32,
    /// In milliseconds since the epoch.
    pub update_time: u64,
}

impl World {
    /// The built-in world. It is open (see [`World`]): a user that is not listed exists too, except for those whose ID
    /// begins with `nobody`, such as `nobody7`. It lists:
    ///
    /// | user | conversations, newest first (unread messages) |
    /// |---|---|
    /// | `alice` | `bob` (3), group `#team` (12), `carol` (1), group `#1+1=2 ?` (7) |
    /// | `bob` | `alice` (0), group `#team` (4) |
    /// | `carol` | `alice` (2), `mary ann` (1) |
    /// | `mary ann` | `carol` (5), `q&a+x=y` (1), group `#team` (9) |
    /// | `q&a+x=y` | `mary ann` (2), group `#100%` (1) |
    /// | `helpdesk` | `h001` (1) … `h160` (1) |
    /// | `archivist` | `c0001` (1) … `c1200` (1): `c1001` and older are outside the newest 1000 |
    pub fn sample() -> World {
        use ConvType::{Group, Peer};
        let mut world = World {
            open: true,
            ..World::default()
        };
        for (user, conv, conv_type, unread) in [
            ("alice", "bob", Peer, 3),
            ("alice", "#team", Group, 12),
            ("alice", "carol", Peer, 1),
            ("alice", "#1+1=2 ?", Group, 7),
            ("bob", "alice", Peer, 0),
            ("bob", "#team", Group, 4),
            ("carol", "alice", Peer, 2),
            ("carol", "mary ann", Peer, 1),
            ("mary ann", "carol", Peer, 5),
            ("mary ann", "q&a+x=y", Peer, 1),
            ("mary ann", "#team", Group, 9),
            ("q&a+x=y", "mary ann", Peer, 2),
            ("q&a+x=y", "#100%", Group, 1),
        ] {
            world.push_older(user, conv, conv_type, unread, None);
        }
        for number in 1..=160 {
            world.push_older("helpdesk", &format!("h{number:03}"), Peer, 1, None);
        }
        for number in 1..=1200 {
            world.push_older("archivist", &format!("c{number:04}"), Peer, 1, None);
        }
        world
    }

    /// Reads a closed world (see [`World`]) from a CSV in UTF-8 with a header line.
    ///
    /// The columns, in any order (others are ignored):
    ///
    /// | column | meaning |
    /// |---|---|
    /// | `user` | the user's ID, 1 to 32 bytes, used byte for byte |
    /// | `conv` | the conversation's ID, likewise |
    /// | `type` | `0` or `peer`, `2` or `group` |
    /// | `unread` | optional: unread messages, 0 to 4294967295; 1 if it is left out or empty |
    /// | `last_active` | optional: any integer, larger is newer; ties keep the order of the file |
    ///
    /// Lines that repeat another one are one. A line with neither conversation nor type (`alice,,`) is a user without
    /// conversations, if no other line has one.
    ///
    /// `last_active` is also the `UpdateTime` in lists of conversations, as it is: so it should be in milliseconds
    /// since the epoch. Negative numbers become 0. Without it the rows of each user are newest first, and their times
    /// are made up: 2026-01-01T00:00:00Z for the newest, and a minute earlier for each older one.
    ///
    /// Header names and types are also accepted in the other forms that a file of rows to clear may have (`FromUserId`,
    /// `用户ID`, `单聊`, …), so such a file can be used as a world.
    ///
    /// ```
    /// use zim_batch::simulator::World;
    ///
    /// let world = World::from_csv("user,conv,type,unread\nalice,bob,0,3\nalice,#team,2,12\n".as_bytes())?;
    /// assert_eq!((world.users(), world.conversations()), (1, 2));
    /// let error = World::from_csv("user,conv,type\nalice,bob,1\n".as_bytes()).unwrap_err();
    /// assert_eq!(error.to_string(), "line 2: the type is `1`; expected 0, peer, 2 or group");
    /// # Ok::<(), zim_batch::simulator::WorldError>(())
    /// ```
    ///
    /// # Errors
    /// If the reader fails, or a line is not as above; the message names the line and says what was expected.
    pub fn from_csv(reader: impl std::io::Read) -> Result<World, WorldError> {
        let mut world = World::default();
        for row in world_csv::read(reader)? {
            match row.conversation {
                Some(RowConversation {
                    id,
                    conv_type,
                    unread,
                    last_active,
                }) => {
                    world.push_older(&row.user, &id, conv_type, unread, last_active);
                }
                None => _ = world.users.entry(row.user).or_default(),
            }
        }
        Ok(world)
    }

    /// How many users are listed.
    pub fn users(&self) -> usize {
        self.users.len()
    }

    /// The number of listed conversations, of all users.
    pub fn conversations(&self) -> usize {
        self.users.values().map(|user| user.conversations.len()).sum()
    }

    /// Whether unlisted users count as registered, with the exceptions in [`World`].
    pub fn is_open(&self) -> bool {
        self.open
    }

    /// Adds a conversation that is older than all others of the user.
    fn push_older(&mut self, user: &str, conv: &str, conv_type: ConvType, unread: u32, last_active: Option<i64>) {
        let user = self.users.entry(user.to_owned()).or_default();
        let id: Arc<str> = conv.into();
        let rank = user.conversations.len();
        let made_up = || NEWEST_UPDATE_MS.saturating_sub(rank as u64 * UPDATE_INTERVAL_MS);
        user.conversations.push(Conversation {
            id: Arc::clone(&id),
            conv_type,
            unread,
            update_time: last_active.map_or_else(made_up, |at| at.max(0).unsigned_abs()),
        });
        user.ranks_mut(conv_type).insert(id, rank);
    }

    /// Whether a user exists.
    pub(super) fn is_registered(&self, user: &str) -> bool {
        let may_exist = || user.len() <= MAX_ID_BYTES && !user.starts_with(UNREGISTERED_PREFIX);
        self.users.contains_key(user) || (self.open && may_exist())
    }

    /// Returns a user's `newest` conversations, from newest to oldest.
    pub(super) fn newest(&self, user: &str, newest: usize) -> Result<&[Conversation], Reply> {
        match self.users.get(user) {
            Some(User { conversations, .. }) => Ok(&conversations[..newest.min(conversations.len())]),
            None if self.is_registered(user) => Ok(&[]),
            None => Err(NOT_REGISTERED),
        }
    }

    /// Sets a conversation's unread count to 0 and returns the previous count, if the conversation is among the user's
    /// `newest`.
    pub(super) fn clear(&mut self, key: &ConversationKey<'_>, newest: usize) -> Result<u32, Reply> {
        let Some(user) = self.users.get_mut(key.user) else {
            return if self.is_registered(key.user) {
                Ok(1)
            } else {
                Err(NOT_REGISTERED)
            };
        };
        match user.ranks_mut(key.conv_type).get(key.conv) {
            Some(&rank) if rank < newest => Ok(std::mem::take(&mut user.conversations[rank].unread)),
            _ => Err(OUTSIDE),
        }
    }
}

impl User {
    fn ranks_mut(&mut self, conv_type: ConvType) -> &mut HashMap<Arc<str>, usize> {
        match conv_type {
            ConvType::Peer => &mut self.peers,
            ConvType::Group => &mut self.groups,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn clear(world: &mut World, user: &str, conv: &str, conv_type: ConvType, newest: usize) -> Result<u32, u32> {
        world
            .clear(&ConversationKey { user, conv, conv_type }, newest)
            .map_err(|reply| reply.code)
    }

    #[test]
    fn a_clear_sets_the_unread_count_to_zero() {
        let mut world = World::sample();
        assert_eq!(clear(&mut world, "alice", "#team", ConvType::Group, 1000), Ok(12));
        assert_eq!(clear(&mut world, "alice", "#team", ConvType::Group, 1000), Ok(0));
    }

    #[test]
    fn only_the_newest_are_reachable() {
        let mut world = World::sample();
        assert_eq!(clear(&mut world, "archivist", "c1000", ConvType::Peer, 1000), Ok(1));
        assert_eq!(
            clear(&mut world, "archivist", "c1001", ConvType::Peer, 1000),
            Err(660_800_002)
        );
        assert_eq!(clear(&mut world, "archivist", "c1001", ConvType::Peer, 1001), Ok(1));
        assert_eq!(clear(&mut world, "alice", "carol", ConvType::Peer, 2), Err(660_800_002));
    }

    #[test]
    fn conversations_of_different_types_are_distinct() {
        let mut world = World::from_csv("user,conv,type\na,x,0\na,x,2\na,y,2\n".as_bytes()).unwrap();
        assert_eq!(clear(&mut world, "a", "x", ConvType::Peer, 1000), Ok(1));
        assert_eq!(clear(&mut world, "a", "x", ConvType::Group, 1000), Ok(1));
        assert_eq!(clear(&mut world, "a", "y", ConvType::Peer, 1000), Err(660_800_002));
    }

    #[test]
    fn an_unlisted_user_is_registered_in_the_open_world_only() {
        let mut open = World::sample();
        for _ in 0..2 {
            assert_eq!(clear(&mut open, "somebody", "x", ConvType::Group, 1000), Ok(1));
        }
        assert_eq!(open.users(), 7);
        assert_eq!(clear(&mut open, "alice", "x", ConvType::Peer, 1000), Err(660_800_002));
        let mut closed = World::from_csv("user,conv,type\na,b,0\n".as_bytes()).unwrap();
        assert_eq!(clear(&mut closed, "b", "a", ConvType::Peer, 1000), Err(660_500_002));
    }

    #[test]
    fn no_user_of_the_open_world_begins_with_nobody_or_has_a_long_id() {
        let mut open = World::sample();
        for user in ["nobody", "nobody7", &"x".repeat(33)] {
            assert_eq!(
                clear(&mut open, user, "x", ConvType::Peer, 1000),
                Err(660_500_002),
                "{user}"
            );
            assert_eq!(open.newest(user, 1000).unwrap_err(), NOT_REGISTERED, "{user}");
            assert!(!open.is_registered(user), "{user}");
        }
        for user in ["alice", "Nobody", "a nobody", &"x".repeat(32)] {
            assert!(open.is_registered(user) && open.newest(user, 1000).is_ok(), "{user}");
        }
        let listed = World::from_csv("user,conv,type\nnobody,b,0\n".as_bytes()).unwrap();
        assert!(listed.is_registered("nobody") && !listed.is_registered("b"));
    }

    fn listed(world: &World, user: &str, newest: usize) -> Vec<(String, u64)> {
        let conversations = world.newest(user, newest).unwrap().iter();
        conversations
            .map(|conv| (conv.id.to_string(), conv.update_time))
            .collect()
    }

    #[test]
    fn a_list_has_the_newest_conversations_and_a_clear_does_not_change_it() {
        let mut world = World::sample();
        let before = listed(&world, "alice", 3);
        let times = [1_767_225_600_000, 1_767_225_540_000, 1_767_225_480_000];
        let expected: Vec<_> = ["bob", "#team", "carol"]
            .map(str::to_owned)
            .into_iter()
            .zip(times)
            .collect();
        assert_eq!(before, expected);
        assert_eq!(clear(&mut world, "alice", "carol", ConvType::Peer, 1000), Ok(1));
        assert_eq!(listed(&world, "alice", 3), before);
        assert_eq!(listed(&world, "archivist", 1000).len(), 1000);
        assert_eq!(listed(&world, "somebody", 1000), []);
    }

    #[test]
    fn a_user_without_conversations_is_registered() {
        let mut world = World::from_csv("user,conv,type\na,b,0\na,b,peer\nc,,\n".as_bytes()).unwrap();
        assert_eq!((world.users(), world.conversations()), (2, 1));
        assert!(world.is_registered("c") && listed(&world, "c", 1000).is_empty());
        assert_eq!(clear(&mut world, "c", "b", ConvType::Peer, 1000), Err(660_800_002));
    }

    #[test]
    fn last_active_is_the_time_of_the_update() {
        let csv = "user,conv,type,last_active\na,x,0,-5\na,y,2,1700000000123\na,z,0,0\n";
        let world = World::from_csv(csv.as_bytes()).unwrap();
        let expected = [("y", 1_700_000_000_123), ("z", 0), ("x", 0)].map(|(id, at)| (id.to_owned(), at));
        assert_eq!(listed(&world, "a", 1000), expected);
    }

    #[test]
    fn last_active_orders_the_conversations_of_a_user() {
        let csv = "last_active,type,conv,user,note\n5,0,old,a,\n9,2,#new,a,\n-7,0,older,a,\n5,0,tie,a,x\n1,0,x,b,\n";
        let mut world = World::from_csv(csv.as_bytes()).unwrap();
        for (conv, conv_type, rank) in [
            ("#new", ConvType::Group, 0),
            ("old", ConvType::Peer, 1),
            ("tie", ConvType::Peer, 2),
            ("older", ConvType::Peer, 3),
        ] {
            assert_eq!(
                clear(&mut world, "a", conv, conv_type, rank),
                Err(660_800_002),
                "{conv}"
            );
            assert_eq!(clear(&mut world, "a", conv, conv_type, rank + 1), Ok(1), "{conv}");
        }
        assert_eq!(clear(&mut world, "b", "x", ConvType::Peer, 1), Ok(1));
    }
}
