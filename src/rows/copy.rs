//! Copies rows as they are: those of some users, for instance of those who don't exist, or the records of a report.

use std::collections::HashMap;
use std::io::{self, Write};

use super::error::InputError;
use super::format::{Format, Reads};
use super::reader::Rows;
use super::selection::{OkRows, Only, SelectedRows, Selection};
use super::source::Source;

/// Why rows can't be copied.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CopyError {
    /// The input can't be read.
    #[error(transparent)]
    Input(#[from] InputError),
    /// The copy can't be written.
    #[error(transparent)]
    Write(#[from] io::Error),
}

/// Copies the header, if there is one, and the rows of the users that `is_wanted` returns `true` for: those that
/// [`Selection::only`] selects, all their columns, and invalid rows too, except those that are not valid CSV. Returns their
/// number. The copy has the input's delimiter; it is UTF-8, with LF line ends and quotes where they are needed.
///
/// ```
/// use zim_batch::rows::{Format, Selection, Source, copy_rows};
///
/// let file = tempfile::NamedTempFile::new()?;
/// std::fs::write(&file, "user;conv;type;note\r\nalice;bob;0;\"a;b\"\r\nbob;#team;2;\r\n")?;
/// let source = Source::File(file.path().to_owned());
/// let mut copy = Vec::new();
/// let rows = copy_rows(&source, &Format::default(), &Selection::default(), |user| user == "alice", &mut copy)?;
/// assert_eq!((rows, &copy[..]), (1, &b"user;conv;type;note\nalice;bob;0;\"a;b\"\n"[..]));
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
pub fn copy_rows(
    source: &Source,
    format: &Format,
    selection: &Selection,
    is_wanted: impl Fn(&str) -> bool,
    out: impl Write,
) -> Result<u64, CopyError> {
    let mut rows = SelectedRows::new(Rows::open(source, format)?, selection, OkRows::Accept)?;
    let (delimiter, header) = rows.rows().dialect();
    let mut writer = writer(delimiter, out);
    if let Some(header) = header {
        writer.write_record(header).map_err(io::Error::from)?;
    }
    let mut copied = 0;
    while let Some(row) = rows.next()? {
        if row.user().is_some_and(&is_wanted)
            && let Some(fields) = row.fields()
        {
            writer.write_record(fields).map_err(io::Error::from)?;
            copied += 1;
        }
    }
    writer.flush()?;
    Ok(copied)
}

/// Copies the header of a report, and the records that `only` selects of it, all their columns as they are: with
/// [several](crate::analysis::Analysis::from_files) reports, those that count. Returns their number.
///
/// With `rows`, the input of the run and how it is read, its own other columns stand behind them, by the line that a record
/// is of; what is selected is then in memory at once.
///
/// # Errors
/// If the report or the rows can't be read, or the copy can't be written.
pub fn copy_records(
    reports: &[RecordsToCopy],
    only: &Only,
    rows: Option<(&Source, &Format)>,
    out: impl Write,
) -> Result<u64, CopyError> {
    let mut writer = writer(b',', out);
    let mut others = match rows {
        Some((source, format)) => Some(OtherColumns::open(source, format)?),
        None => None,
    };
    let names = others.as_ref().map(OtherColumns::names).unwrap_or_default();
    let mut header: Vec<Vec<u8>> = Vec::new();
    let mut copied = 0;
    let mut selected: Vec<(u64, Vec<Vec<u8>>)> = Vec::new();
    for report in reports {
        let format = Format {
            reads: Reads::RowsOrUsers,
            ..Format::default()
        };
        let selection = Selection {
            only: Some(only.clone()),
            ..Selection::default()
        };
        let mut records = SelectedRows::new(Rows::open(report.source, &format)?, &selection, OkRows::Accept)?;
        let columns = records.rows().dialect().1.unwrap_or_default().to_vec();
        if header.is_empty() {
            header.clone_from(&columns);
            writer
                .write_record(header.iter().chain(&names))
                .map_err(io::Error::from)?;
        }
        // Another version may have written other columns.
        let places: Vec<Option<usize>> = header
            .iter()
            .map(|name| columns.iter().position(|column| column == name))
            .collect();
        let line_column = header.iter().position(|name| name == b"line");
        while let Some(record) = records.next()? {
            let line = record.line();
            let Some(fields) = record.fields().filter(|_| (report.is_wanted)(line)) else {
                continue;
            };
            let fields: Vec<&[u8]> = fields.collect();
            if fields.len() < columns.len() {
                continue; // Torn: its row has no record.
            }
            let fields = places.iter().map(|place| fields.get((*place)?).copied());
            let fields = fields.map(Option::unwrap_or_default);
            copied += 1;
            if others.is_none() {
                writer.write_record(fields).map_err(io::Error::from)?;
                continue;
            }
            let fields: Vec<Vec<u8>> = fields.map(<[u8]>::to_vec).collect();
            let line = line_column.and_then(|column| std::str::from_utf8(fields.get(column)?).ok()?.parse().ok());
            selected.push((line.unwrap_or_default(), fields));
        }
    }
    if let Some(others) = &mut others {
        let mut found = others.find(selected.iter().map(|(line, _)| *line))?;
        for (line, fields) in &selected {
            let others = found.remove(line).unwrap_or_else(|| vec![Vec::new(); names.len()]);
            writer
                .write_record(fields.iter().chain(&others))
                .map_err(io::Error::from)?;
        }
    }
    writer.flush()?;
    Ok(copied)
}

/// A report, and which of its records to copy.
pub struct RecordsToCopy<'a> {
    /// The report.
    pub source: &'a Source,
    /// Whether the record that begins on this line of it is wanted, if it is selected.
    pub is_wanted: &'a dyn Fn(u64) -> bool,
}

/// The columns of an input that are none of a row's.
struct OtherColumns {
    rows: Rows,
    /// Their places, and their names.
    columns: Vec<(usize, Vec<u8>)>,
}

impl OtherColumns {
    fn open(source: &Source, format: &Format) -> Result<OtherColumns, CopyError> {
        let rows = Rows::open(source, format)?;
        let used = rows.columns();
        // They count from 1.
        let used = [Some(used.user), used.conv, used.conv_type];
        let header = rows.dialect().1.unwrap_or_default();
        let other =
            |(place, name): (usize, &Vec<u8>)| (!used.contains(&Some(place + 1))).then(|| (place, name.clone()));
        let columns = header.iter().enumerate().filter_map(other).collect();
        Ok(OtherColumns { rows, columns })
    }

    /// None without a header: then nobody knows what they are.
    fn names(&self) -> Vec<Vec<u8>> {
        self.columns.iter().map(|(_, name)| name.clone()).collect()
    }

    /// The fields on these lines.
    fn find(&mut self, lines: impl Iterator<Item = u64>) -> Result<HashMap<u64, Vec<Vec<u8>>>, CopyError> {
        let mut found: HashMap<u64, Vec<Vec<u8>>> = lines.map(|line| (line, Vec::new())).collect();
        while self.rows.advance()? {
            let row = self.rows.current();
            let Some(others) = found.get_mut(&row.line()) else {
                continue;
            };
            let fields: Vec<&[u8]> = row.fields().map(Iterator::collect).unwrap_or_default();
            let field = |(place, _): &(usize, Vec<u8>)| fields.get(*place).copied().unwrap_or_default().to_vec();
            *others = self.columns.iter().map(field).collect();
        }
        found.retain(|_, others| others.len() == self.columns.len());
        Ok(found)
    }
}

fn writer<W: Write>(delimiter: u8, out: W) -> csv::Writer<W> {
    csv::WriterBuilder::new()
        .delimiter(delimiter)
        .terminator(csv::Terminator::Any(b'\n'))
        .flexible(true)
        .from_writer(out)
}

#[cfg(test)]
mod tests {
    use super::super::error::InputErrorKind;
    use super::super::format::Reads;
    use super::super::selection::Only;
    use super::*;
    use crate::row::Outcome;

    fn copied(bytes: &[u8], format: &Format, selection: &Selection, wanted: &[&str]) -> (u64, String) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, bytes).unwrap();
        let mut copy = Vec::new();
        let source = Source::File(file.path().to_owned());
        let rows = copy_rows(&source, format, selection, |user| wanted.contains(&user), &mut copy);
        (
            rows.unwrap_or_else(|error| panic!("{error}")),
            String::from_utf8(copy).unwrap(),
        )
    }

    #[test]
    fn rows_are_copied_with_all_their_columns_whether_they_are_valid_or_not() {
        let long = "x".repeat(33);
        for (csv, reads, wanted, expected) in [
            (
                "user,conv,type\na,b,0\nc,d,0\n",
                Reads::Rows,
                &["c"][..],
                "user,conv,type\nc,d,0\n".to_owned(),
            ),
            ("user,conv,type\na,b,0\n", Reads::Rows, &[], "user,conv,type\n".into()),
            // Without a header, and with columns that are not needed.
            (
                "a,b,0,more\r\nc,d,0\r\na,\"x,\"\"y\"\"\nz\",2,",
                Reads::Rows,
                &["a"],
                "a,b,0,more\na,\"x,\"\"y\"\"\nz\",2,\n".into(),
            ),
            (
                "conv\tuser\ttype\n\"x\ty\"\ta,;\t0\n",
                Reads::Rows,
                &["a,;"],
                "conv\tuser\ttype\n\"x\ty\"\ta,;\t0\n".into(),
            ),
            (
                "user;\"no;te\"\ra;\"1;2\"\rb;\r",
                Reads::Users,
                &["a", "b"],
                "user;\"no;te\"\na;\"1;2\"\nb;\n".into(),
            ),
            // Invalid rows, and IDs of any length.
            (
                "user,conv,type\na,,9\na\n,b,0\nuser,conv,type\n",
                Reads::Rows,
                &["a"],
                "user,conv,type\na,,9\na\n".into(),
            ),
            (
                &format!("{long}\n\"\"\n"),
                Reads::Users,
                &[&long, ""],
                format!("{long}\n\"\"\n"),
            ),
            // A quote that is never closed can't be copied as it is.
            (
                "user,note\na,x\na,\"y\n",
                Reads::Users,
                &["a"],
                "user,note\na,x\n".into(),
            ),
        ] {
            let format = Format {
                reads,
                ..Format::default()
            };
            let (rows, copy) = copied(csv.as_bytes(), &format, &Selection::default(), wanted);
            assert_eq!(copy, expected, "{csv:?}");
            let (again, copy) = copied(copy.as_bytes(), &format, &Selection::default(), wanted);
            assert_eq!((again, copy), (rows, expected), "{csv:?}");
        }
    }

    #[test]
    fn only_selected_rows_are_copied() {
        let csv = "user,conv,type,outcome\na,b,0,ok\na,c,0,failed\n";
        for (only, rows) in [
            (None, 2),
            (Some(Only::All), 2),
            (Some(Only::Outcomes(vec![Outcome::Failed])), 1),
        ] {
            let selection = Selection {
                only,
                ..Selection::default()
            };
            assert_eq!(copied(csv.as_bytes(), &Format::default(), &selection, &["a"]).0, rows);
        }
    }

    #[test]
    #[cfg(all(feature = "compression", feature = "encodings"))]
    fn packed_and_encoded_rows_are_copied_as_plain_utf_8() {
        let text = "\u{feff}用户ID\tx\r\né\t1\r\n";
        let utf16: Vec<u8> = text.encode_utf16().flat_map(u16::to_be_bytes).collect();
        let mut packer = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        packer.write_all(&utf16).unwrap();
        let format = Format {
            reads: Reads::Users,
            ..Format::default()
        };
        let copy = copied(&packer.finish().unwrap(), &format, &Selection::default(), &["é"]);
        assert_eq!(copy, (1, "用户ID\tx\né\t1\n".to_owned()));
    }

    #[test]
    fn what_failed_is_distinguished() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(&file, "user\na\n").unwrap();
        let source = Source::File(file.path().to_owned());
        let copy = |format: &Format, selection: &Selection, out: &mut [u8]| {
            copy_rows(&source, format, selection, |_| true, out).unwrap_err()
        };
        let users = Format {
            reads: Reads::Users,
            ..Format::default()
        };
        let failed = Selection {
            only: Some(Only::Outcomes(vec![Outcome::Failed])),
            ..Selection::default()
        };
        let (rows, all) = (Format::default(), Selection::default());
        assert!(matches!(copy(&users, &all, &mut [0; 3]), CopyError::Write(_)));
        assert!(matches!(
            copy(&users, &failed, &mut []),
            CopyError::Input(InputError {
                kind: InputErrorKind::NoOutcomes,
                ..
            })
        ));
        assert!(matches!(
            copy(&rows, &all, &mut []),
            CopyError::Input(InputError {
                kind: InputErrorKind::Layout(_),
                ..
            })
        ));
    }
}
