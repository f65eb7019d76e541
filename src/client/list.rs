//! QueryConversationList: all conversations of a user, page by page.
//!
//! ZEGO documents the shapes of the answers, but not what may be missing. So a page without a list is empty, a conversation
//! without a type is one-to-one, and numbers may be strings. `Next` is opaque: all its digits are kept, and a list that
//! doesn't end is an error.

use std::collections::{HashMap, HashSet};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::Deserialize;
use serde_json::value::RawValue;

use super::Client;
use super::call::Call;
use super::gate::Gate;
use super::service::{Attempt, Item, Service};
use crate::code::Class;
use crate::entries::{Entries, NEWEST};
use crate::row::{ConvType, Conversation, Outcome, Record, Row, Subject, User};
use crate::sealed::Sealed;

/// Conversations on a page. ZEGO treats a larger number as 500.
const PAGE: u32 = 500;

/// Pages without a conversation that was not listed before, at most: ZEGO does not document whether there can be any.
const MAX_FRUITLESS: u32 = 20;

/// The last moment that RFC 3339 can express, in milliseconds since the epoch.
const MAX_TIME: u64 = 253_402_300_799_999;

/// Lists the conversations of users: what a [`Job`](crate::Job) sends [`User`]s with.
///
/// ```no_run
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// use zim_batch::{Client, Job, Lister, User};
///
/// let client = Client::builder(12345, "9193cc662a4c0ec135ec71fb57194b38").build()?;
/// let users = [User::new("alice")?];
/// let job = Job::new(Lister::new(client), users).on_record(|record| {
///     println!("{}: {} conversations", record.user, record.conversations.len());
/// });
/// job.run().await?;
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Lister {
    client: Client,
    since: Option<SystemTime>,
    conv_type: Option<ConvType>,
}

impl Lister {
    /// Lists all conversations.
    pub fn new(client: Client) -> Lister {
        Lister {
            client,
            since: None,
            conv_type: None,
        }
    }

    /// Lists only conversations that were updated at this time or later, or whose time is not known.
    pub fn since(self, since: Option<SystemTime>) -> Lister {
        Lister { since, ..self }
    }

    /// Lists only conversations of this type.
    pub fn conv_type(self, conv_type: Option<ConvType>) -> Lister {
        Lister { conv_type, ..self }
    }

    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    fn includes(&self, conversation: &Conversation) -> bool {
        let is_old = |since: SystemTime| conversation.updated_at.is_some_and(|at| at < since);
        let is_type = |conv_type| conversation.conv_type == conv_type;
        !self.since.is_some_and(is_old) && self.conv_type.is_none_or(is_type)
    }
}

impl Sealed for Lister {}

impl Service for Lister {
    type Item = Listing;

    async fn attempt(&self, listing: &mut Listing, gate: &impl Gate) -> Option<Attempt> {
        let call = Call::list(listing.user.id(), PAGE, &listing.next);
        let (mut attempt, body) = self.client.call(&call, gate).await?;
        let verdict = &mut attempt.verdict;
        match verdict.class {
            Class::Ok => match listing.take_page(&body) {
                Ok(has_more) => attempt.has_more = has_more,
                Err(error) => {
                    (verdict.class, verdict.message) = (error.class(), error.to_string());
                }
            },
            // The code of a clear: this call does not document it.
            Class::Outside => verdict.class = Class::Rejected,
            _ => {}
        }
        if verdict.class == Class::Ok && !attempt.has_more {
            let listed = listing.conversations.len();
            listing.conversations.retain(|conversation| self.includes(conversation));
            listing.unselected = (listed - listing.conversations.len()) as u64;
        }
        Some(attempt)
    }
}

/// A user, and the conversations that were listed so far.
#[derive(Debug)]
pub struct Listing {
    user: User,
    /// Where the next page begins.
    next: Box<RawValue>,
    /// Where pages began.
    begun: HashSet<String>,
    fruitless: u32,
    /// Each once; if it came twice, because it was updated meanwhile, with the later time.
    conversations: Vec<Conversation>,
    places: HashMap<(String, ConvType), usize>,
    /// All entries of the pages.
    entries: u64,
    /// Entries that can't be cleared: without an ID, or of another type.
    unusable: u64,
    /// Conversations that were removed, because they are not to be listed.
    unselected: u64,
}

/// Why a page can't be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
enum PageError {
    #[error("the list can't be read: it is not as ZEGO documents it")]
    Unreadable,
    #[error("the list does not end: the next page is one that was listed before")]
    Repeats,
    #[error("the list does not end: there are more pages than {NEWEST} conversations can fill")]
    Endless,
}

impl PageError {
    fn class(self) -> Class {
        match self {
            // Another attempt may get a better answer.
            PageError::Unreadable => Class::Unknown,
            PageError::Repeats | PageError::Endless => Class::Rejected,
        }
    }
}

impl From<User> for Listing {
    fn from(user: User) -> Listing {
        Listing {
            user,
            next: raw("0"),
            begun: HashSet::from(["0".to_owned()]),
            fruitless: 0,
            conversations: Vec::new(),
            places: HashMap::new(),
            entries: 0,
            unusable: 0,
            unselected: 0,
        }
    }
}

/// The user of a row, whatever its conversation.
impl From<Row> for Listing {
    fn from(row: Row) -> Listing {
        User::from(row).into()
    }
}

impl Sealed for Listing {}

impl Item for Listing {
    fn subject(&self) -> Subject {
        Subject::User
    }

    fn key(&self) -> [&str; 3] {
        [self.user.id(), "", ""]
    }

    fn complete(self, record: &mut Record) {
        if record.outcome == Outcome::Ok {
            record.entries = self.entries();
            record.conversations = self.conversations;
        }
    }
}

/// The fields of an answer; others are ignored.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(rename = "Next", borrow)]
    next: Option<&'a RawValue>,
    #[serde(rename = "List", borrow)]
    list: Option<Vec<Entry<'a>>>,
}

#[derive(Deserialize)]
struct Entry<'a> {
    #[serde(rename = "ConvId", borrow)]
    conv: Option<&'a RawValue>,
    #[serde(rename = "ConvType", borrow)]
    conv_type: Option<&'a RawValue>,
    #[serde(rename = "UpdateTime", borrow)]
    updated_at: Option<&'a RawValue>,
}

impl Listing {
    pub(super) fn into_conversations(self) -> Vec<Conversation> {
        self.conversations
    }

    /// Takes up a page. Returns whether there are more.
    fn take_page(&mut self, body: &[u8]) -> Result<bool, PageError> {
        let body = String::from_utf8_lossy(body);
        let body = body.trim_start_matches('\u{feff}');
        let page: Page = serde_json::from_str(body).map_err(|_| PageError::Unreadable)?;
        let before = self.conversations.len();
        for entry in page.list.unwrap_or_default() {
            self.entries += 1;
            match entry.conversation() {
                Some(conversation) => self.add(conversation),
                None => self.unusable += 1,
            }
        }
        self.fruitless += u32::from(self.conversations.len() == before);
        let Some(next) = page.next.and_then(next) else {
            return Ok(false);
        };
        if !self.begun.insert(next.get().to_owned()) {
            return Err(PageError::Repeats);
        }
        if self.conversations.len() as u64 > NEWEST || self.fruitless > MAX_FRUITLESS {
            return Err(PageError::Endless);
        }
        self.next = next;
        Ok(true)
    }

    /// What became of the entries.
    fn entries(&self) -> Entries {
        Entries {
            all: self.entries,
            unselected: self.unselected,
            unusable: self.unusable,
            repeated: self.entries - self.unusable - self.unselected - self.conversations.len() as u64,
        }
    }

    fn add(&mut self, conversation: Conversation) {
        let key = (conversation.conv.clone(), conversation.conv_type);
        match self.places.get(&key) {
            Some(&place) => {
                let known = &mut self.conversations[place];
                known.updated_at = known.updated_at.max(conversation.updated_at);
            }
            None => {
                self.places.insert(key, self.conversations.len());
                self.conversations.push(conversation);
            }
        }
    }
}

impl Entry<'_> {
    /// `None` if it can't be cleared.
    fn conversation(&self) -> Option<Conversation> {
        let updated_at = self.updated_at.and_then(|raw| text(raw).trim().parse().ok());
        let updated_at = updated_at.filter(|milliseconds| *milliseconds <= MAX_TIME);
        Some(Conversation {
            conv: self
                .conv
                .filter(|raw| raw.get() != "null")
                .map(text)
                .filter(|conv| !conv.is_empty())?,
            conv_type: match self.conv_type.map(text).as_deref().map(str::trim) {
                None | Some("" | "null" | "0") => ConvType::Peer,
                Some("2") => ConvType::Group,
                Some(_) => return None,
            },
            updated_at: updated_at.map(|milliseconds| UNIX_EPOCH + Duration::from_millis(milliseconds)),
        })
    }
}

/// A string's content; of any other value, its JSON.
fn text(value: &RawValue) -> String {
    serde_json::from_str(value.get()).unwrap_or_else(|_| value.get().to_owned())
}

/// Where the next page begins; `None` if there is none. A number in quotes becomes the number that ZEGO documents; anything
/// else stays as it came.
fn next(value: &RawValue) -> Option<Box<RawValue>> {
    let text = text(value);
    let text = text.trim();
    let is_end = matches!(text, "" | "null" | "false") || text.parse::<f64>() == Ok(0.0);
    let is_number = text.starts_with(|c: char| c.is_ascii_digit() || c == '-');
    (!is_end).then(|| match RawValue::from_string(text.to_owned()) {
        Ok(number) if is_number => number,
        _ => value.to_owned(),
    })
}

fn raw(json: &str) -> Box<RawValue> {
    RawValue::from_string(json.to_owned()).expect("it is JSON")
}

#[cfg(test)]
mod tests;
