//! Kinds of files that are often mistaken for CSV.

/// The first bytes of such files, what they are, and what to do about them.
const SIGNATURES: &[(&[u8], &str, &str)] = &[
    (
        b"PK\x03\x04",
        "an Excel workbook (.xlsx) or a ZIP archive",
        "save it as CSV (UTF-8), or unpack it, and take that",
    ),
    (
        b"\xd0\xcf\x11\xe0",
        "an old Excel workbook (.xls)",
        "save it as CSV (UTF-8) and take that",
    ),
    (b"\xfd7zX", "a file packed by xz", "unpack it first (xz -d)"),
    (b"\x1f\x9d", "a file packed by compress", "unpack it first (gzip -d)"),
    (b"\x04\x22\x4d\x18", "a file packed by lz4", "unpack it first (lz4 -d)"),
    (b"7z\xbc\xaf", "a 7z archive", "unpack it first"),
    (b"Rar!", "a RAR archive", "unpack it first"),
    (
        b"PAR1",
        "a Parquet file",
        "export it as CSV with a user, a conversation and a type",
    ),
    (
        b"Obj\x01",
        "an Avro file",
        "export it as CSV with a user, a conversation and a type",
    ),
    (
        b"SQLi",
        "an SQLite database",
        "export it as CSV with a user, a conversation and a type",
    ),
    (b"%PDF", "a PDF", "export the rows as CSV from where it was made"),
];

/// The kind of file and what to do about it, if it is recognised as something other than CSV.
pub(super) fn kind_of_file(start: &[u8], signature: &[u8]) -> Option<(&'static str, &'static str)> {
    if let Some((_, kind, advice)) = SIGNATURES.iter().find(|(magic, ..)| signature.starts_with(magic)) {
        return Some((kind, advice));
    }
    if matches!(signature, [b'B', b'Z', b'h', b'1'..=b'9']) {
        return Some(("a file packed by bzip2", "unpack it first (bzip2 -d)"));
    }
    if start.get(257..262) == Some(b"ustar") {
        return Some(("a tar archive", "unpack it first (tar -x)"));
    }
    match start.trim_ascii_start() {
        [b'{' | b'[', ..] => Some((
            "JSON",
            "make it a CSV first, for instance with jq -r '.[] | [.user, .conv, .type] | @csv'",
        )),
        [b'<', ..] => Some(("HTML or XML", "export the rows as CSV from where it was made")),
        _ => None,
    }
}
