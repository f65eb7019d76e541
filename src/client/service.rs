//! The kinds of work that a run does: a [`Service`] sends [`Item`]s, one [`Attempt`] at a time.

use std::time::Duration;

use tokio::time::Instant;

use super::error::CallError;
use super::gate::{Gate, NoGate};
use super::verdict::Verdict;
use crate::code::Class;
use crate::row::{Record, Row, Subject};
use crate::sealed::Sealed;

/// What a run sends its items with: [`Client`](super::Client) clears rows, [`Lister`](super::Lister) lists users'
/// conversations, [`UserLookup`](super::UserLookup) looks users up. Only this crate implements it.
pub trait Service: Sealed + Send + Sync + 'static {
    /// What is sent.
    type Item: Item;

    /// Makes one attempt at the item's request, or at the next of its requests: at most one request, which starts after it
    /// has passed `gate`. The item takes up what the answer says, so that the next attempt continues from there.
    ///
    /// Returns `None` if the wait at the gate was so long that the server may have closed the connection. Nothing was
    /// sent, and it does not count as an attempt; call it again.
    fn attempt(&self, item: &mut Self::Item, gate: &impl Gate) -> impl Future<Output = Option<Attempt>> + Send;
}

/// What a run processes: a [`Row`], a [`Listing`](super::Listing) of a user, or a [`UserBatch`](super::UserBatch). Only this
/// crate implements it.
pub trait Item: Sealed + Send + Sync + 'static {
    /// Whether it is a row or a user.
    fn subject(&self) -> Subject;

    /// Its user, conversation and type, as a report writes them. What it does not have is empty.
    fn key(&self) -> [&str; 3];

    /// Adds what was found for it to its record.
    fn complete(self, record: &mut Record)
    where
        Self: Sized,
    {
        let _ = record;
    }
}

impl Sealed for Row {}

impl Item for Row {
    fn subject(&self) -> Subject {
        Subject::Row
    }

    fn key(&self) -> [&str; 3] {
        [self.user(), self.conv(), self.conv_type().digit()]
    }
}

/// The result of an attempt.
#[derive(Debug)]
#[non_exhaustive]
pub struct Attempt {
    /// What the answer, or its absence, means.
    pub verdict: Verdict,
    /// When the request was handed to an open connection; `None` if nothing was sent.
    pub started_at: Option<Instant>,
    /// From `started_at`, or else from the start of the attempt, until the answer was complete or the attempt had failed.
    pub latency: Duration,
    /// How far this machine's clock is ahead of the answer's `Date` header, in seconds; negative if it is behind.
    pub clock_skew: Option<i64>,
    /// If the answer is `ok`: the item needs another request.
    pub has_more: bool,
}

impl Attempt {
    /// An attempt at an item's only request.
    pub fn new(verdict: Verdict, started_at: Option<Instant>, latency: Duration) -> Attempt {
        Attempt {
            verdict,
            started_at,
            latency,
            clock_skew: None,
            has_more: false,
        }
    }
}

/// Makes all requests of one item, outside a run: nothing is paced, and nothing that fails is retried.
pub(super) async fn call<S: Service>(service: &S, item: &mut S::Item) -> Result<(), CallError> {
    loop {
        let Some(attempt) = service.attempt(item, &NoGate).await else {
            continue;
        };
        match attempt.verdict.class {
            Class::Ok if attempt.has_more => {}
            Class::Ok => return Ok(()),
            _ => return Err(CallError(attempt.verdict)),
        }
    }
}
