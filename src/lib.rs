//! Bulk work on ZEGO's ZIM chat servers: lists the conversations of users, and clears the unread counts of conversations,
//! from CSV files; never exceeds the API's limit, and records the outcome of every row.
//!
//! ZIM's server API has a call, ClearConversationUnread, that clears one user's unread count for one conversation. It
//! takes 20 requests per second per app, and reaches only each user's newest 1000 conversations.
//!
//! # The flow
//!
//! ```text
//!   rows  ──►  limiter  ──►  client  ──►  report
//!    │            │             │            │
//!    │            │             │            ├─ the report: one record per row, the journal of the run
//!    │            │             │            ├─ the outside log: rows out of reach, valid input again
//!    │            │             │            └─ statistics and summary; observers are told what happens
//!    │            │             └─ one attempt: sign now, send, judge the answer
//!    │            └─ one gate for first attempts and retries: evenly spaced, never more than the cap in any second
//!    └─ a CSV, streamed; an invalid row is recorded, never sent
//! ```
//!
//! A [`Job`] joins the four. What happens in a run is an [`Event`]; why a run stops early is a [`StopReason`]; a run that
//! ends without a summary is an [`Error`], which joins the errors of the stages. All of them are enums to match on.
//! The `simulator` is ZIM on 127.0.0.1, from its own reading of ZEGO's documents: it shares no code with the client.
//!
//! # Embedding
//!
//! ```no_run
//! # async fn example() -> Result<(), Box<dyn std::error::Error>> {
//! use zim_batch::{Client, ConvType, Job, Row};
//!
//! let client = Client::builder(12345, "9193cc662a4c0ec135ec71fb57194b38").build()?;
//! let rows = [Row::new("alice", "bob", ConvType::Peer)?];
//! let job = Job::new(client, rows).on_record(|record| println!("{}: {}", record.conv, record.outcome));
//! let summary = job.run().await?;
//! # Ok(())
//! # }
//! ```
//!
//! A [`Report`] makes a run resumable; rows of a CSV come from a [`rows::Plan`]; a [`StopHandle`] stops a run; errors and
//! [`StopReason`]s can be matched on. Whole programs are in the repository's `examples/`. Everything is on Tokio's
//! clock, so that tests of programs that embed this can pause time.
//!
//! # Versions
//!
//! Semantic versioning: until 1.0, a change that breaks code comes with a new minor version. Structs with public
//! fields, such as [`Limits`], [`Record`] and [`Summary`], may get fields in any version: fill in the others with
//! `..Limits::default()`, and match with `..`. The formats of the report and of the
//! summary as JSON get no changes that break a reader; the summary may get fields.
//!
//! # Features
//!
//! | feature | adds |
//! |---|---|
//! | `cli` (default) | the program `zim-batch`, with everything below |
//! | `simulator` | `simulator`: ZIM on 127.0.0.1 |
//! | `compression` | rows that are packed with gzip or zstd |
//! | `encodings` | rows in other encodings than UTF-8 |
//! | `page` | `page`: a report as an HTML page |
//! | `redis` | `limiter::quota::RedisQuota`: a quota that runs on many machines share |

#[cfg(not(any(target_os = "linux", target_os = "macos")))]
compile_error!(
    "zim-batch runs on Linux and macOS: it relies on their file locks, signals and clocks. On Windows, build and run it \
     in WSL 2, the Windows Subsystem for Linux."
);

pub mod analysis;
pub mod client;
pub mod code;
mod csv_reader;
mod done;
pub mod endpoint;
mod entries;
pub mod error;
pub mod event;
pub mod explain;
pub mod files;
mod fingerprint;
mod host;
pub mod journal;
mod kind;
pub mod limiter;
#[cfg(feature = "page")]
pub mod page;
pub mod row;
pub mod rows;
pub mod run;
#[doc(hidden)]
pub mod sealed;
#[cfg(feature = "simulator")]
pub mod simulator;
pub mod stop;
pub mod text;
mod tls;
mod window;

#[cfg(all(test, feature = "redis"))]
#[path = "../tests/support/passed_over.rs"]
mod passed_over;

pub use client::{Client, ClientBuilder, Lister};
pub use code::Class;
pub use error::{Error, ErrorKind};
pub use event::Event;
pub use journal::Report;
pub use limiter::{Limiter, Rate};
pub use row::{ConvType, Conversation, LookedUp, Outcome, Record, Row, RowError, User};
pub use run::summary::Summary;
pub use run::{Job, Limits, Observer};
pub use stop::{StopHandle, StopKind, StopReason};

/// README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
