//! From users to nothing unread: a service that lists users and clears rows, in one run.

use super::gate::Gate;
use super::list::{Lister, Listing};
use super::service::{Attempt, Item, Service};
use crate::row::{Record, Row, Subject};
use crate::sealed::Sealed;

/// Lists users and clears rows, both at the pace of one run. [`Job::listed`](crate::Job::listed) runs it.
#[derive(Debug, Clone)]
pub struct ClearUsers {
    lister: Lister,
}

impl ClearUsers {
    /// Lists as `lister` does, and clears with its client.
    pub fn new(lister: Lister) -> ClearUsers {
        ClearUsers { lister }
    }
}

impl Sealed for ClearUsers {}

impl Service for ClearUsers {
    type Item = UserOrRow;

    async fn attempt(&self, item: &mut UserOrRow, gate: &impl Gate) -> Option<Attempt> {
        match item {
            UserOrRow::User(listing) => self.lister.attempt(listing, gate).await,
            UserOrRow::Row(row) => self.lister.client().attempt(row, gate).await,
        }
    }
}

/// A user to list, or a row to clear.
#[derive(Debug)]
pub enum UserOrRow {
    /// A user. Boxed, because it is much larger than a row.
    User(Box<Listing>),
    /// A row.
    Row(Row),
}

impl UserOrRow {
    /// The user of a row.
    pub(crate) fn user(row: Row) -> UserOrRow {
        UserOrRow::User(Box::new(row.into()))
    }
}

impl Sealed for UserOrRow {}

impl Item for UserOrRow {
    fn subject(&self) -> Subject {
        match self {
            UserOrRow::User(listing) => listing.subject(),
            UserOrRow::Row(row) => row.subject(),
        }
    }

    fn key(&self) -> [&str; 3] {
        match self {
            UserOrRow::User(listing) => listing.key(),
            UserOrRow::Row(row) => row.key(),
        }
    }

    fn complete(self, record: &mut Record) {
        match self {
            UserOrRow::User(listing) => listing.complete(record),
            UserOrRow::Row(row) => row.complete(record),
        }
    }
}
