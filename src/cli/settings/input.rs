//! The input: where it is, how it is read, and which of its rows are processed.

use std::io::ErrorKind;
use std::num::NonZeroU64;
use std::path::{Path, PathBuf};

use zim_batch::ConvType;
use zim_batch::rows::{Columns, Format, InputErrorKind, Only, Reads, Selection, Source, Types};

use crate::cli::args::values::OnlyWord;
use crate::cli::args::{DialectArgs, ReportArgs, RowFormatArgs, RowsArgs, UsersArgs};
use crate::cli::errors::Error;
use crate::cli::errors::redact;
use crate::cli::settings::files::{Files, Role, is_named_pipe};

/// Rows or users.
#[derive(Debug, Clone)]
pub struct InputSettings {
    pub source: Source,
    pub format: Format,
    pub selection: Selection,
    /// Invalid records don't make the exit status 3.
    pub ignore_invalid: bool,
}

impl InputSettings {
    /// `limit` is the maximum number of rows to send.
    pub fn rows(
        args: RowsArgs,
        limit: Option<NonZeroU64>,
        conv_type: Option<ConvType>,
        files: &mut Files,
    ) -> Result<InputSettings, Error> {
        let RowsArgs { rows, format: args } = args;
        let RowFormatArgs {
            dialect,
            columns,
            types,
            dedupe,
        } = args;
        let selection = Selection {
            only: only(dialect.only.as_deref()),
            dedupe,
            limit: limit.map(NonZeroU64::get),
            conv_type,
        };
        Ok(InputSettings {
            source: source(rows, "rows", files)?,
            selection,
            ignore_invalid: dialect.ignore_invalid,
            format: format(dialect, columns, types),
        })
    }

    /// `limit` is the maximum number of users to list.
    pub fn users(args: UsersArgs, limit: Option<NonZeroU64>, files: &mut Files) -> Result<InputSettings, Error> {
        let UsersArgs {
            users,
            dialect,
            columns,
        } = args;
        let selection = Selection {
            only: only(dialect.only.as_deref()),
            // A user is listed once.
            dedupe: true,
            limit: limit.map(NonZeroU64::get),
            conv_type: None,
        };
        Ok(InputSettings {
            source: source(users, "users", files)?,
            selection,
            ignore_invalid: dialect.ignore_invalid,
            format: Format {
                reads: Reads::Users,
                ..format(dialect, columns, None)
            },
        })
    }

    /// Its path; of standard input, `stdin`.
    pub fn path(&self) -> &Path {
        match &self.source {
            Source::File(path) => path,
            Source::Stdin => Path::new("stdin"),
        }
    }

    /// Refuses an input for `--resume` that can't be read again.
    pub fn refuse_named_pipe(&self) -> Result<(), Error> {
        match &self.source {
            Source::File(path) if is_named_pipe(path) => Err(Error::Usage(format!(
                "{}: this is a named pipe (FIFO), but --resume reads the input again from its beginning; write it to a \
                 file first, or pass it on standard input: - < {0}",
                path.display()
            ))),
            _ => Ok(()),
        }
    }
}

/// How the rows beside a report are read.
pub fn format_of_report_rows(args: &ReportArgs) -> Format {
    Format {
        delimiter: args.delimiter,
        columns: args.columns.clone().unwrap_or_default(),
        encoding: args.encoding,
        types: args.types.clone().unwrap_or_default(),
        ..Format::default()
    }
}

fn source(path: PathBuf, items: &'static str, files: &mut Files) -> Result<Source, Error> {
    let source = Source::from(path);
    match &source {
        Source::File(path) => {
            files.add(Role::Input(items), path)?;
            refuse_directory(path)?;
            refuse_secret(path)?;
        }
        Source::Stdin => files.add(Role::Input(items), Path::new("/dev/stdin"))?,
    }
    Ok(source)
}

fn format(dialect: DialectArgs, columns: Option<Columns>, types: Option<Types>) -> Format {
    Format {
        delimiter: dialect.delimiter,
        columns: columns.unwrap_or_default(),
        encoding: dialect.encoding,
        types: types.unwrap_or_default(),
        ..Format::default()
    }
}

/// The outcomes that are selected.
pub fn only(words: Option<&[OnlyWord]>) -> Option<Only> {
    let words = words?;
    let outcomes: Option<Vec<_>> = words.iter().map(|word| word.0).collect();
    Some(outcomes.map_or(Only::All, Only::Outcomes))
}

/// Refuses a file that does not exist if its name may be the secret: later errors would show it.
pub fn refuse_secret(path: &Path) -> Result<(), Error> {
    if path.exists() || !redact::may_be_secret(&path.to_string_lossy()) {
        return Ok(());
    }
    let error = InputErrorKind::Open(ErrorKind::NotFound.into()).of(redact::NOT_SHOWN);
    Err(zim_batch::Error::from(error).into())
}

/// Refuses a directory as input, before results are named after it.
fn refuse_directory(path: &Path) -> Result<(), Error> {
    if !path.is_dir() {
        return Ok(());
    }
    let error = InputErrorKind::Open(ErrorKind::IsADirectory.into()).of(&path.display().to_string());
    Err(zim_batch::Error::from(error).into())
}
