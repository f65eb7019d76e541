//! The types that the stages share: a row, its outcome, and its record. No stage imports another stage for a type.

mod conv_type;
mod error;
mod item;
mod outcome;
mod record;
mod unknown_name;

pub use conv_type::ConvType;
pub use error::{Column, MAX_ID, RowError};
pub(crate) use item::check_id;
pub use item::{Numbered, Row, User};
pub use outcome::{Counts, Outcome};
pub(crate) use record::rfc3339_millis;
pub use record::{Conversation, LookedUp, Record, Subject};
pub use unknown_name::UnknownName;
