//! Stage 1, where work comes from: a CSV → [`Row`](crate::row::Row), or why a row is invalid.
//!
//! Rows are streamed: one record is in memory at a time, however long the file. A row that can't be sent is data
//! ([`InvalidRow`]), for the report; an [`InputError`] is for input that can't be read at all. IDs are kept byte for byte,
//! never trimmed or normalised, and no character begins a comment: ZIM's group IDs begin with `#`.
//!
//! A list of users is read in the same way, as rows without a conversation: see [`Reads`].

pub mod check;
mod columns;
mod compression;
mod copy;
mod dedupe;
mod diagnosis;
mod encoding;
pub mod error;
mod file_kind;
mod first_record;
mod format;
mod input;
mod layout;
mod parsed;
mod plan;
mod raw_row;
mod reader;
mod resume;
mod selection;
mod snapshot;
mod source;
mod text;
mod types;
mod unusual_ids;
mod warnings;

pub use crate::done::Done;
pub use crate::row::{Column, RowError};
pub use columns::{ColumnRef, Columns, FoundColumns};
pub use copy::{CopyError, copy_rows};
pub use encoding::{Encoding, encoding};
pub use error::{InputError, InputErrorKind};
pub use format::{Format, Reads};
pub use input::Input;
pub use parsed::{InvalidRow, ParsedRow};
pub use plan::{Plan, Task};
pub use reader::Rows;
pub use selection::{Only, Selection};
pub use snapshot::Snapshot;
pub use source::Source;
pub use types::Types;
