//! Bulk work on ZEGO's ZIM chat servers: clear the unread counts of a CSV full of conversations, without ever
//! exceeding the API's limit, and say for every row what became of it.
//!
//! ZIM's server API has a call, ClearConversationUnread, that clears one user's unread count for one conversation. It
//! takes 20 requests a second per app, and reaches only each user's newest 1000 conversations.
//!
//! # The flow
//!
//! ```text
//!   rows  ──►  limiter  ──►  client  ──►  report
//!    │            │             │            │
//!    │            │             │            ├─ the report: one record a row, the journal of the run
//!    │            │             │            ├─ the outside log: rows out of reach, ready to be run again
//!    │            │             │            └─ statistics and summary; observers are told what happens
//!    │            │             └─ one attempt: sign now, send, judge the answer
//!    │            └─ one gate for first tries and retries alike: even, never more than the cap in any second
//!    └─ a CSV, streamed; a row that can't be sent is reported, never sent
//! ```
//!
//! [`run`](run::run) joins the four. What happens in a run is an [`Event`](event::Event), and the report knows nothing
//! else; why a run stops early is a [`StopReason`](stop::StopReason); what ends it with no summary is an
//! [`Error`](error::Error), which joins the errors of the stages: each is an enum to match on, and its text says what is
//! wrong and where.
//! The [`simulator`] is ZIM on 127.0.0.1, by its own reading of ZEGO's documents: it shares no code with the client.
//!
//! # Embedding
//!
//! The examples in the repository's `examples/` are whole programs. In short: open the rows ([`rows::Plan`]) and the
//! report ([`report::Files`]), make a [`limiter::Limiter`] and a [`client::Client`], and pass them to [`run::run`].
//! Everything is on Tokio's clock, so that tests of programs that embed this can pause time.

#![warn(missing_debug_implementations)]

pub mod client;
pub mod code;
mod csv_reader;
pub mod done;
pub mod error;
pub mod event;
mod fingerprint;
pub mod limiter;
pub mod quota;
pub mod report;
pub mod row;
pub mod rows;
pub mod run;
pub mod simulator;
pub mod stop;
pub mod window;
