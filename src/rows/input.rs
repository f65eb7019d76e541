//! An opened input, from which a plan is made.

use std::path::PathBuf;

use super::columns::AssumedUser;
use super::error::InputError;
use super::format::Format;
use super::plan::Plan;
use super::reader::Rows;
use super::selection::Selection;
use super::source::Source;
use crate::done::Done;

/// An input that can be opened and whose columns are known.
///
/// ```
/// use zim_batch::rows::{Done, Format, Input, Selection, Source, Task};
///
/// let file = tempfile::NamedTempFile::new()?;
/// std::fs::write(&file, "user,conv,type\nalice,bob,0\nalice,,0\nalice,bob,peer\n")?;
/// let input = Input::open(&Source::File(file.path().to_owned()), &Format::default())?;
/// let selection = Selection { dedupe: true, ..Selection::default() };
/// let plan = input.plan(&selection, Done::default())?;
/// assert_eq!(plan.total(), Some(3));
/// let tasks = plan.collect::<Result<Vec<_>, _>>()?;
/// assert!(matches!(&tasks[..], [Task::Send(_), Task::Invalid(_), Task::Skip { first: 2, .. }]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug)]
pub struct Input {
    opened: Opened,
    assumed_user: Option<AssumedUser>,
}

#[derive(Debug)]
enum Opened {
    /// A file, which is opened again for each pass over it.
    File(PathBuf, Format),
    /// An input that can be read only once.
    Stream(Box<Rows>),
}

impl Input {
    /// Opens the input and finds its columns.
    pub fn open(source: &Source, format: &Format) -> Result<Input, InputError> {
        let rows = Rows::open(source, format)?;
        tracing::info!("{source}: {}", rows.columns());
        match source {
            Source::File(path) if source.can_be_read_twice() => Ok(Input {
                opened: Opened::File(path.clone(), format.clone()),
                assumed_user: rows.assumed_user().cloned(),
            }),
            _ => Ok(Input::from(rows)),
        }
    }

    /// Set if users are read and nothing says which of several columns is the user.
    pub fn assumed_user(&self) -> Option<&AssumedUser> {
        self.assumed_user.as_ref()
    }

    /// Finds out what to do with each row; `done` are the rows that an earlier run has recorded.
    ///
    /// A file is read twice: first to count its rows and to compare them with those that are done, then, by the plan, to
    /// send them. A stream is read once: here only as far as it takes to compare all rows that are done.
    pub fn plan(self, selection: &Selection, done: Done) -> Result<Plan, InputError> {
        match self.opened {
            Opened::File(path, format) => Plan::of_file(&path, &format, selection, done),
            Opened::Stream(rows) => Plan::of_stream(*rows, selection, done),
        }
    }
}

/// Rows that can be read only once.
impl From<Rows> for Input {
    fn from(rows: Rows) -> Input {
        Input {
            assumed_user: rows.assumed_user().cloned(),
            opened: Opened::Stream(Box::new(rows)),
        }
    }
}
