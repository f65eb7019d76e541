//! Kinds of files that are often mistaken for CSV.

use crate::rows::format::Reads;

/// What to do about such a file.
#[derive(Clone, Copy)]
enum Advice {
    Text(&'static str),
    /// Export the columns that are needed.
    ExportColumns,
    /// Export them from where the file was made.
    ExportFromOrigin,
    /// Take them out of the JSON.
    ConvertJson,
}

impl Advice {
    fn text(self, reads: Reads) -> &'static str {
        match (self, reads) {
            (Advice::Text(text), _) => text,
            (Advice::ExportColumns, Reads::Rows | Reads::RowsOrUsers) => {
                "export it as CSV with a user, a conversation and a type"
            }
            (Advice::ExportColumns, Reads::Users) => "export it as CSV with a user column",
            (Advice::ExportFromOrigin, Reads::Rows | Reads::RowsOrUsers) => {
                "export the rows as CSV from where it was made"
            }
            (Advice::ExportFromOrigin, Reads::Users) => "export the users as CSV from where it was made",
            (Advice::ConvertJson, Reads::Rows | Reads::RowsOrUsers) => {
                "make it a CSV first, for instance with jq -r '.[] | [.user, .conv, .type] | @csv'"
            }
            (Advice::ConvertJson, Reads::Users) => {
                "make it a CSV first, for instance with jq -r '.[] | [.user] | @csv'"
            }
        }
    }
}

/// The first bytes of such files, what they are, and what to do about them.
const SIGNATURES: &[(&[u8], &str, Advice)] = &[
    (
        b"PK\x03\x04",
        "an Excel workbook (.xlsx) or a ZIP archive",
        Advice::Text("save it as CSV (UTF-8), or unpack it, and use that file"),
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook (.xls)",
        Advice::Text("save it as CSV (UTF-8) and use that file"),
    ),
    (
        b"\xfd7zX",
        "a file packed by xz",
        Advice::Text("unpack it first (xz -d)"),
    ),
    (
        b"\x1f\x9d",
        "a file packed by compress",
        Advice::Text("unpack it first (gzip -d)"),
    ),
    (
        b"\x04\x22\x4d\x18",
        "a file packed by lz4",
        Advice::Text("unpack it first (lz4 -d)"),
    ),
    (b"7z\xbc\xaf", "a 7z archive", Advice::Text("unpack it first")),
    (b"Rar!", "a RAR archive", Advice::Text("unpack it first")),
    (b"PAR1", "a Parquet file", Advice::ExportColumns),
    (b"Obj\x01", "an Avro file", Advice::ExportColumns),
    (b"SQLi", "an SQLite database", Advice::ExportColumns),
    (b"%PDF", "a PDF", Advice::ExportFromOrigin),
];

/// The kind of file and what to do about it, if it is recognised as something other than CSV.
pub(super) fn kind_of_file(start: &[u8], signature: &[u8], reads: Reads) -> Option<(&'static str, &'static str)> {
    kind_and_advice(start, signature).map(|(kind, advice)| (kind, advice.text(reads)))
}

/// Whether it is certainly another kind of file: an ID may begin with `Rar!`, `{` or `<` too.
pub(super) fn is_certainly_not_csv(start: &[u8], signature: &[u8]) -> bool {
    // A character may be cut off at the end.
    let is_utf8 = std::str::from_utf8(start).map_or_else(|error| error.error_len().is_none(), |_| true);
    let is_text = is_utf8 && !start.contains(&0);
    let is_syntax = match start.trim_ascii_start() {
        [b'{' | b'[', rest @ ..] => matches!(rest.trim_ascii_start(), [b'"' | b'{' | b'[', ..]),
        [b'<', rest @ ..] => [&b"?"[..], b"!", b"html", b"table"].iter().any(|tag| {
            rest.get(..tag.len())
                .is_some_and(|start| start.eq_ignore_ascii_case(tag))
        }),
        _ => false,
    };
    kind_and_advice(start, signature).is_some() && (!is_text || is_syntax)
}

fn kind_and_advice(start: &[u8], signature: &[u8]) -> Option<(&'static str, Advice)> {
    if let Some((_, kind, advice)) = SIGNATURES.iter().find(|(magic, ..)| signature.starts_with(magic)) {
        return Some((kind, *advice));
    }
    if matches!(signature, [b'B', b'Z', b'h', b'1'..=b'9']) {
        return Some(("a file packed by bzip2", Advice::Text("unpack it first (bzip2 -d)")));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", Advice::Text("unpack it first (tar -x)")));
    }
    match start.trim_ascii_start() {
        [b'{' | b'[', ..] => Some(("JSON", Advice::ConvertJson)),
        [b'<', ..] => Some(("HTML or XML", Advice::ExportFromOrigin)),
        _ => None,
    }
}
