//! How a run is set up, driven and ended, for `clear`, `list` and `check --online`.
//!
//! ```text
//! Prepared   threads, signals; the metrics file can be written
//!    │ connect
//! Connected  the secret is read, the client is built
//!    │ join
//! Joined     the limiter shares the app's quota
//!    │ drive: one job or several
//! Ended      the summary, and why the run stopped
//! ```
//!
//! `clear` and `list` also have an input and a journal: see [`batch::Batch`].

pub mod batch;
pub mod client;
pub mod input;
pub mod process;
pub mod quota;
pub mod run;
pub mod run_log;
pub mod signals;
mod simulator;
pub mod since;
