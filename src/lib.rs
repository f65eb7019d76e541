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
//! Add the crate with `default-features = false`, and Tokio to run it: a runtime of either kind, with its drivers for I/O
//! and time (`enable_all`, which `#[tokio::main]` does).
//!
//! | to | use |
//! |---|---|
//! | make single calls | [`Client::clear`], [`Client::list`], [`Client::look_up`]: neither paced nor retried |
//! | send many rows | [`Job::new`] for an iterator, [`Job::try_new`] for one that may fail, [`Job::from_stream`] for a stream, [`Job::planned`] for a CSV |
//! | list many users, look many up | a [`Lister`] or a [`UserLookup`](client::UserLookup) in place of the client |
//! | set the pace | [`Job::rate`]: 20 per second if it is not called |
//! | share the pace | [`Job::limiter`] for jobs of one process; [`Limiter::ready`] before single calls; [`limiter::quota`] for processes and machines |
//! | see progress | [`Job::on_record`], [`Job::on_event`], [`Job::observer`] |
//! | end it early | [`StopHandle::cancel`] on the handle given to [`Job::stop_handle`]; [`Limits`] end it by themselves |
//! | resume it | [`Job::report`] with a [`Report`] opened to resume |
//!
//! **What can go wrong.** A row that fails is no error: it has a [`Record`], whose [`Outcome`] is `failed`. A run that ends
//! early is no error either: the [`Summary`] says why ([`Summary::stopped`]), and [`StopReason::kind`] what kind of reason it
//! is. [`Job::run`] returns an [`Error`] if there was no run, or if a bug ended it; [`Error::kind`] is what to decide by. A
//! single call returns a [`CallError`], and its [`Class`] says whether another try may help.
//! An error does not repeat its causes; [`text::with_causes`] puts all on one line.
//!
//! **Resuming.** A row is done when its record is in the report, and any other row is sent by the next run that opens the
//! report with [`IfExists::Resume`](journal::IfExists::Resume). Records have the number of the row, so that run must get the
//! same rows in the same order; there may be more behind them. After any end, a kill or a power cut too, each row is recorded
//! once; those that were in flight are sent twice, which does no harm.
//!
//! **What is read ahead.** A job takes rows from an iterator on a thread of its own, which may block, and at most 64 before
//! their turn; from a stream one. When a run stops, the rows that it has taken and not sent are counted in
//! [`Summary::not_run`]; no others are taken.
//!
//! **Logs.** Log lines are events of [`tracing`], in the span in which [`Job::run`] was called.
//!
//! **Tests.** With the feature `simulator`, the crate's simulator stands for ZIM (see `examples/simulator`). Both are on
//! Tokio's clock, so in a test with paused time (`start_paused`) a run of an hour takes seconds. The thread that iterates over
//! rows is not on that clock; where times have to be exact, use a stream.
//!
//! The repository's `examples/` are whole programs, which run without an app: `database` has rows that may fail and a run
//! that resumes, `stream` rows that arrive, `service` a job that is watched and cancelled; `one_call`, `list_user` and
//! `check_rows` are what their names say.
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
mod listed;
#[cfg(feature = "page")]
pub mod page;
pub mod reasons;
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

pub use client::{CallError, Client, ClientBuilder, Lister};
pub use code::Class;
pub use error::{Error, ErrorKind};
pub use event::Event;
pub use journal::Report;
pub use limiter::{Limiter, Rate, Timetable};
pub use row::{ConvType, Conversation, LookedUp, Outcome, Record, Row, RowError, User};
pub use run::summary::Summary;
pub use run::{Job, Limits, Observer};
pub use stop::{StopHandle, StopKind, StopReason};

/// README's example compiles.
#[cfg(doctest)]
#[doc = include_str!("../README.md")]
struct Readme;
