//! Which column is which: from the header line, from `--columns`, or from the shape of a first record without header.

use std::fmt;
use std::str::FromStr;

use super::record::{Record, Records};
use super::{ConvType, Format, InputError};

/// Delimiters tried, in this order: a comma can't be part of an ID, the others can.
pub(super) const DELIMITERS: [u8; 3] = [b',', b'\t', b';'];

const USER_NAMES: &[&str] = &["user", "fromuserid", "from_user_id", "user_id"];
const CONV_NAMES: &[&str] = &["conv", "convid", "conv_id"];
const TYPE_NAMES: &[&str] = &["type", "convtype", "conv_type"];
const OUTCOME_NAMES: &[&str] = &["outcome"];

/// How a file's records are to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Layout {
    pub delimiter: u8,
    pub has_header: bool,
    pub user: usize,
    pub conv: usize,
    pub conv_type: usize,
    pub outcome: Option<usize>,
}

/// Header names that stand for the columns, as given with `--columns user=A,conv=B,type=C`. What is not named keeps
/// its usual names.
///
/// ```
/// use zim_batch::rows::Columns;
///
/// let columns: Columns = "user=uid, conv=Room ID".parse()?;
/// assert_eq!(columns.conv.as_deref(), Some("Room ID"));
/// assert!("colour=red".parse::<Columns>().is_err());
/// # Ok::<(), String>(())
/// ```
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Columns {
    /// The header of the users' column.
    pub user: Option<String>,
    /// The header of the conversations' column.
    pub conv: Option<String>,
    /// The header of the types' column.
    pub conv_type: Option<String>,
}

impl FromStr for Columns {
    type Err = String;

    fn from_str(text: &str) -> Result<Columns, String> {
        let mut columns = Columns::default();
        for pair in text.split(',') {
            let (key, name) = pair
                .split_once('=')
                .ok_or_else(|| format!("'{pair}' is not KEY=NAME; write user=A,conv=B,type=C"))?;
            let place = match key.trim() {
                "user" => &mut columns.user,
                "conv" => &mut columns.conv,
                "type" => &mut columns.conv_type,
                other => {
                    return Err(format!(
                        "'{other}' is not a column; the columns are user, conv and type"
                    ));
                }
            };
            if name.trim().is_empty() {
                return Err(format!("'{}' has no name after the '='", key.trim()));
            }
            if place.replace(name.trim().to_owned()).is_some() {
                return Err(format!("'{}' is given twice", key.trim()));
            }
        }
        Ok(columns)
    }
}

/// As [`Columns::from_str`] reads it.
impl fmt::Display for Columns {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let pairs = [("user", &self.user), ("conv", &self.conv), ("type", &self.conv_type)];
        let given = pairs
            .into_iter()
            .filter_map(|(key, name)| Some(format!("{key}={}", name.as_ref()?)));
        f.write_str(&given.collect::<Vec<_>>().join(","))
    }
}

/// Finds the layout from the first bytes of the input, which hold its first record whole (or are all there is).
pub(super) fn find_layout(start: &[u8], format: &Format, place: &str) -> Result<Layout, InputError> {
    let given = format.delimiter.map(|delimiter| [delimiter]);
    let delimiters = given.as_ref().map_or(&DELIMITERS[..], |given| &given[..]);
    let mut first_try: Option<(usize, u64, String, Unclear)> = None;
    for &delimiter in delimiters {
        let mut records = Records::new(start, delimiter);
        if !to_first_record(&mut records) {
            return Err(InputError::Empty {
                place: place.to_owned(),
            });
        }
        let first = records.current();
        match layout_of(&first, delimiter, &format.columns) {
            Ok(layout) => return Ok(layout),
            Err(problem) => {
                // The delimiter that splits the line into the most columns gives the most helpful message.
                if first_try.as_ref().is_none_or(|(columns, ..)| *columns < first.len()) {
                    first_try = Some((first.len(), first.line, names(&first), problem));
                }
            }
        }
    }
    let (_, line, found, problem) = first_try.expect("at least one delimiter was tried");
    Err(InputError::Columns {
        place: place.to_owned(),
        line,
        hint: hint(start, &problem),
        problem: problem.to_string(),
        found,
    })
}

/// What a start that is no header most likely is, and what to do about it.
fn hint(start: &[u8], problem: &Unclear) -> &'static str {
    let first_line = start
        .split(|byte| matches!(byte, b'\r' | b'\n'))
        .next()
        .unwrap_or_default();
    match problem {
        _ if start.starts_with(b"PK\x03\x04") => {
            "This is an Excel workbook or a ZIP archive; save it as CSV (UTF-8) and take that"
        }
        _ if first_line.contains(&0) => {
            "The text looks like UTF-16 without a byte order mark; say --encoding utf-16le or utf-16be"
        }
        _ if start.starts_with(b"sep=") => "The first line names Excel's delimiter; remove it, and say --delimiter",
        Unclear::Twice(..) => "Say which is meant with --columns user=A,conv=B,type=C",
        Unclear::Missing(_) if first_line.contains(&b'|') => {
            "If '|' is the delimiter, say --delimiter '|'; say which column is which with --columns \
             user=A,conv=B,type=C"
        }
        Unclear::Missing(_) => {
            "Say which is which with --columns user=A,conv=B,type=C (names, not numbers), or leave the header out and \
             have user, conv, type in this order, with 0, peer, 2 or group in the first row's third field"
        }
    }
}

/// Goes to the first record that is not blank; `false` if there is none.
pub(super) fn to_first_record(records: &mut Records<&[u8]>) -> bool {
    while records.advance().expect("reading from memory does not fail") {
        if !records.current().is_blank() {
            return true;
        }
    }
    false
}

/// Why the first record is no layout.
enum Unclear {
    Missing(Vec<String>),
    Twice(&'static str, Vec<String>),
}

impl fmt::Display for Unclear {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Unclear::Missing(columns) => write!(f, "no column for {}", columns.join(", ")),
            Unclear::Twice(column, names) => write!(f, "more than one column for {column} ({})", names.join(", ")),
        }
    }
}

fn layout_of(first: &Record, delimiter: u8, columns: &Columns) -> Result<Layout, Unclear> {
    let user = find(first, columns.user.as_deref(), USER_NAMES, "user")?;
    let conv = find(first, columns.conv.as_deref(), CONV_NAMES, "conv")?;
    let conv_type = find(first, columns.conv_type.as_deref(), TYPE_NAMES, "type")?;
    if let (Some(user), Some(conv), Some(conv_type)) = (user, conv, conv_type) {
        return Ok(Layout {
            delimiter,
            has_header: true,
            user,
            conv,
            conv_type,
            outcome: find(first, None, OUTCOME_NAMES, "outcome")?,
        });
    }
    let headerless =
        columns == &Columns::default() && first.get(2).is_some_and(|third| ConvType::parse(third).is_some());
    if headerless {
        return Ok(Layout {
            delimiter,
            has_header: false,
            user: 0,
            conv: 1,
            conv_type: 2,
            outcome: None,
        });
    }
    let missing = [
        (user, "user", &columns.user),
        (conv, "conv", &columns.conv),
        (conv_type, "type", &columns.conv_type),
    ]
    .into_iter()
    .filter(|(found, _, _)| found.is_none())
    .map(|(_, column, mapped)| match mapped {
        Some(name) => format!("{column} (--columns says '{name}')"),
        None => column.to_owned(),
    })
    .collect();
    Err(Unclear::Missing(missing))
}

/// The index of the one column with the mapped name or one of the usual `names`, ignoring case and blanks around.
fn find(first: &Record, mapped: Option<&str>, names: &[&str], column: &'static str) -> Result<Option<usize>, Unclear> {
    let is_it = |field: &[u8]| {
        let Ok(field) = std::str::from_utf8(field) else {
            return false;
        };
        match mapped {
            Some(name) => field.trim() == name,
            None => names.iter().any(|name| field.trim().eq_ignore_ascii_case(name)),
        }
    };
    let matches = |is_it: &dyn Fn(&[u8]) -> bool| -> Vec<usize> {
        first
            .iter()
            .enumerate()
            .filter(|(_, field)| is_it(field))
            .map(|(index, _)| index)
            .collect()
    };
    let mut found = matches(&is_it);
    if found.is_empty() {
        // A mapped name in another case is still meant.
        if let Some(name) = mapped {
            let in_any_case = |field: &[u8]| {
                std::str::from_utf8(field).is_ok_and(|field| field.trim().to_lowercase() == name.to_lowercase())
            };
            found = matches(&in_any_case);
        }
    }
    match found[..] {
        [] => Ok(None),
        [index] => Ok(Some(index)),
        _ => {
            let headers = found.iter().filter_map(|&index| first.get(index));
            Err(Unclear::Twice(
                column,
                headers
                    .map(|name| String::from_utf8_lossy(name).trim().to_owned())
                    .collect(),
            ))
        }
    }
}

/// The first record's fields, for a message.
fn names(first: &Record) -> String {
    const SHOWN: usize = 20;
    let mut names: Vec<String> = first
        .iter()
        .take(SHOWN)
        .map(|field| {
            let field = String::from_utf8_lossy(field);
            let short: String = field
                .chars()
                .take(40)
                .map(|c| if c.is_control() { ' ' } else { c })
                .collect();
            format!("'{short}'")
        })
        .collect();
    if first.len() > SHOWN {
        names.push(format!("and {} more", first.len() - SHOWN));
    }
    names.join(", ")
}
