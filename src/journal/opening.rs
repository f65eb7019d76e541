//! How a journal's files are opened: first all of them are opened, locked and read, then they are changed. So what can't be
//! opened leaves the others as they are.

use std::path::Path;

use super::appender::Appender;
use super::earlier::Earlier;
use super::error::{ReportError, Role};
use super::file::{self, IfExists, OpenFile};
use super::outside;
use super::record::{Kind, ROWS_COLUMNS};
use super::report::Report;
use super::rows::{self, Kept, RowsFile, RowsTo, Stream};

impl Report {
    /// Opens and locks the report of `clear`, which excludes other runs, reads back the rows that are done, and completes
    /// the outside log.
    ///
    /// The program's outside log is [`files::named_after`](crate::files::named_after)`(report, ".outside.csv")`.
    ///
    /// `is_simulated`: the answers come from a simulator. Then every record's message begins with `simulated: `. Such a
    /// report is never resumed by a real run, nor a real one by a simulated run.
    ///
    /// # Errors
    /// A [`ReportError`] if a file is not a report or an outside log, if the report exists and must not be changed or can't
    /// be resumed, if the outside log has rows of another report, if another run has locked a file, or if a file can't be
    /// written. The files are unchanged then, except one that failed while it was written.
    pub fn open(report: &Path, outside: &Path, existing: IfExists, is_simulated: bool) -> Result<Report, ReportError> {
        ClearFiles::check(report, outside, existing, is_simulated)?.begin()
    }

    /// Opens and locks the files of `list`, reads back the users that are done, and removes the rows of users without a
    /// record. Without a report, for rows to standard output only, a later run can't resume.
    ///
    /// `is_simulated`: as for [`Report::open`].
    ///
    /// # Errors
    /// A [`ReportError`] if a file is not of a list, if it exists and must not be changed or can't be resumed, if the two
    /// files don't belong together, if another run has locked one, or if one can't be written. The files are unchanged then,
    /// except one that failed while it was written.
    pub fn open_list(
        rows: &RowsTo,
        report: Option<&Path>,
        existing: IfExists,
        is_simulated: bool,
    ) -> Result<Report, ReportError> {
        ListFiles::check(rows, report, existing, is_simulated)?.begin()
    }
}

/// The report of `clear` and its outside log, opened, locked, read, and unchanged.
pub(super) struct ClearFiles {
    report: OpenFile,
    outside: OpenFile,
    earlier: Earlier,
    existing: IfExists,
    is_simulated: bool,
}

impl ClearFiles {
    pub fn check(
        report: &Path,
        outside: &Path,
        existing: IfExists,
        is_simulated: bool,
    ) -> Result<ClearFiles, ReportError> {
        check_paths(report, outside, existing)?;
        let report = OpenFile::open(report, Role::Report, existing)?;
        let earlier = match existing {
            IfExists::Resume => Earlier::read(&report, Kind::Clear, is_simulated)?,
            IfExists::Overwrite if report.is_regular => Earlier::read_as_far_as_possible(&report)?,
            IfExists::Refuse | IfExists::Overwrite => Earlier::default(),
        };
        let outside = OpenFile::open(outside, Role::Outside, existing)?;
        outside::check(&outside, &report.path, &earlier)?;
        Ok(ClearFiles {
            report,
            outside,
            earlier,
            existing,
            is_simulated,
        })
    }

    /// Takes out what is not continued, and completes the outside log.
    pub fn begin(self) -> Result<Report, ReportError> {
        let ClearFiles {
            report,
            outside,
            mut earlier,
            existing,
            is_simulated,
        } = self;
        if existing != IfExists::Resume {
            // The log before the report that shows whose it is, so that an interrupted overwrite can be repeated.
            earlier = Earlier::default();
            outside.truncate(0)?;
        }
        report.continue_from(earlier.len)?;
        let outside = outside::complete(outside, &report, earlier.len)?;
        let records = appender(report, Kind::Clear, &earlier)?;
        if existing == IfExists::Resume && earlier.len == 0 {
            tracing::info!(
                "{}: no report yet: starting from the first row",
                records.path().display()
            );
        }
        Ok(Report::new(
            Kind::Clear,
            None,
            Some(records),
            Some(outside),
            earlier,
            is_simulated,
        ))
    }
}

/// The list report and the rows file of `list`, opened, locked, read, and unchanged.
pub(super) struct ListFiles {
    report: Option<OpenFile>,
    earlier: Earlier,
    /// `None`: standard output.
    rows: Option<(OpenFile, Kept)>,
    is_simulated: bool,
}

impl ListFiles {
    pub fn check(
        rows: &RowsTo,
        report: Option<&Path>,
        existing: IfExists,
        is_simulated: bool,
    ) -> Result<ListFiles, ReportError> {
        check_list_paths(rows, report, existing)?;
        let report = report.map(|path| OpenFile::open(path, Role::ListReport, existing));
        let report = report.transpose()?;
        let resumed = report.as_ref().filter(|_| existing == IfExists::Resume);
        let earlier = match resumed {
            Some(report) => Earlier::read(report, Kind::List, is_simulated)?,
            None => Earlier::default(),
        };
        let rows = match rows {
            RowsTo::Stdout => None,
            RowsTo::File(path) => {
                let rows = OpenFile::open(path, Role::Rows, existing)?;
                let kept = match resumed {
                    Some(report) => rows_to_keep(&rows, report, &earlier)?,
                    None => Kept { rows: 0, report: None },
                };
                Some((rows, kept))
            }
        };
        Ok(ListFiles {
            report,
            earlier,
            rows,
            is_simulated,
        })
    }

    /// Takes out what is not continued: rows of users without a record, and the last users if their rows are lost.
    pub fn begin(self) -> Result<Report, ReportError> {
        let ListFiles {
            report,
            mut earlier,
            rows,
            is_simulated,
        } = self;
        let lost_from = rows.as_ref().and_then(|(_, kept)| kept.report);
        if let (Some(report), Some(len)) = (&report, lost_from) {
            report.truncate(len)?;
            earlier = Earlier::read(report, Kind::List, is_simulated)?;
        }
        let rows = match rows {
            None => RowsFile::Stdout(Stream::new()),
            Some((rows, kept)) => {
                rows.continue_from(kept.rows)?;
                RowsFile::File(Appender::new(rows, kept.rows, &ROWS_COLUMNS)?)
            }
        };
        let records = report.map(|report| {
            report.continue_from(earlier.len)?;
            appender(report, Kind::List, &earlier)
        });
        Ok(Report::new(
            Kind::List,
            Some(rows),
            records.transpose()?,
            None,
            earlier,
            is_simulated,
        ))
    }
}

/// The checks of [`Report::open`] that need no open file. Call it before long operations; opening repeats them.
///
/// # Errors
/// Those of [`Report::open`] that the paths alone show.
pub fn check_paths(report: &Path, outside: &Path, existing: IfExists) -> Result<(), ReportError> {
    file::check_path(report, Role::Report, existing)?;
    file::check_path(outside, Role::Outside, existing)
}

/// The checks of [`Report::open_list`] that need no open file. Call it before long operations; opening repeats them.
///
/// # Errors
/// Those of [`Report::open_list`] that the paths alone show.
pub fn check_list_paths(rows: &RowsTo, report: Option<&Path>, existing: IfExists) -> Result<(), ReportError> {
    if let RowsTo::File(path) = rows {
        file::check_path(path, Role::Rows, existing)?;
    }
    report.map_or(Ok(()), |path| file::check_path(path, Role::ListReport, existing))
}

/// Appends to a report that was read back and has no torn record any more.
fn appender(report: OpenFile, kind: Kind, earlier: &Earlier) -> Result<Appender, ReportError> {
    let mut records = Appender::new(report, earlier.len, kind.columns())?;
    if earlier.lacks_line_end {
        records.end_line()?;
    }
    Ok(records)
}

/// How much of an existing rows file and of its list report is kept.
fn rows_to_keep(rows: &OpenFile, report: &OpenFile, earlier: &Earlier) -> Result<Kept, ReportError> {
    if rows.is_new() && earlier.conversations > 0 {
        return Err(ReportError::RowsFileMissing {
            path: rows.path.clone(),
            report: report.path.clone(),
        });
    }
    if report.is_new() && rows.len > 0 {
        return Err(ReportError::ListReportMissing {
            path: report.path.clone(),
            rows: rows.path.clone(),
        });
    }
    let kept = rows::compare(rows, report, earlier.len)?;
    if kept.report.is_some() {
        tracing::warn!(
            "{}: rows of the last users of {} are missing, perhaps after a power cut; these users are listed again",
            rows.path.display(),
            report.path.display()
        );
    }
    Ok(kept)
}
