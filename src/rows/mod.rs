//! Stage 1, where work comes from: a CSV → [`Row`](crate::row::Row), or why a row is invalid.
//!
//! Rows are streamed: one record is in memory at a time, however long the file. A row that can't be sent is data
//! ([`InvalidRow`]), for the report; an [`InputError`] is for input that can't be read at all. IDs are kept byte for byte,
//! never trimmed or normalised, and no character begins a comment: ZIM's group IDs begin with `#`.
//!
//! A list of users is read in the same way, as rows without a conversation: see [`Reads`].
//!
//! # From bytes to tasks
//!
//! ```text
//! source     a file or standard input
//! text/      its text as UTF-8: decompressed, decoded
//! layout/    which column is which: a guess from the first record, resolved with `format`, `columns` and `types`
//! reader     record by record: `raw_row` borrowed and checked, `parsed` owned
//! selection  only the rows of a report with some outcomes
//! plan/      what to do with each row: done already, a repeat, or to be sent; `input` makes it
//! ```
//!
//! `snapshot` notices when a file changes meanwhile. `check/` reads all rows and sends none; `copy` writes rows as they are.

pub mod check;
mod columns;
mod copy;
pub mod error;
mod format;
mod input;
mod layout;
mod parsed;
mod plan;
mod raw_row;
mod reader;
mod selection;
mod snapshot;
mod source;
mod text;
mod types;

pub use crate::done::Done;
pub use crate::row::{Column, RowError};
pub use columns::{AssumedUser, ColumnRef, Columns, FoundColumns};
pub use copy::{CopyError, RecordsToCopy, copy_records, copy_rows};
pub use error::{InputError, InputErrorKind};
pub use format::{Format, Reads};
pub use input::Input;
pub use parsed::{InvalidRow, ParsedRow};
pub use plan::{Plan, Task};
pub use reader::Rows;
pub use selection::{Only, Selection};
pub use snapshot::Snapshot;
pub use source::Source;
pub use text::{Encoding, encoding};
pub use types::Types;
