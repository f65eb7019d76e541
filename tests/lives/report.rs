//! Reports as this test reads them: whole records only, without the program's reader.

use std::path::Path;

use crate::disk::bytes;
use crate::world::Key;

/// A record of a report or, without `conv` and type, of a list report.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Row {
    pub line: u64,
    pub key: Key,
    pub outcome: String,
    pub code: Option<i64>,
    pub http: Option<u16>,
    pub message: String,
    pub attempts: u64,
    pub latency_ms: String,
    pub conversations: u64,
}

/// The records of a report; an error if it is not one.
pub fn read(path: &Path) -> Result<Vec<Row>, String> {
    let bytes = bytes(path);
    if bytes.is_empty() {
        return Ok(Vec::new());
    }
    let mut reader = csv::ReaderBuilder::new().flexible(false).from_reader(&bytes[..]);
    let header = reader.headers().map_err(|error| error.to_string())?.clone();
    let mut rows = Vec::new();
    for record in reader.records() {
        let record = record.map_err(|error| format!("{}: {error}", path.display()))?;
        let get = |name: &str| {
            let index = header.iter().position(|column| column == name);
            index.and_then(|index| record.get(index)).unwrap_or_default().to_owned()
        };
        rows.push(Row {
            line: get("line").parse().map_err(|_| format!("no line: {record:?}"))?,
            key: [get("user"), get("conv"), get("type")],
            outcome: get("outcome"),
            code: get("code").parse().ok(),
            http: get("http").parse().ok(),
            message: get("message"),
            attempts: get("attempts").parse().unwrap_or(0),
            latency_ms: get("latency_ms"),
            conversations: get("conversations").parse().unwrap_or(0),
        });
    }
    Ok(rows)
}

/// Whether a report ends with a record that is not whole, or with zeros.
pub fn is_torn(path: &Path) -> bool {
    let bytes = bytes(path);
    let quotes = bytes.iter().filter(|byte| **byte == b'"').count();
    !bytes.is_empty() && (!bytes.ends_with(b"\n") || quotes % 2 == 1)
}

/// The rows of a rows file, with their lines.
pub fn read_rows(path: &Path) -> Result<Vec<(u64, Key)>, String> {
    let bytes = bytes(path);
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let rows = reader
        .records()
        .map(|record| record.map(row).map_err(|error| error.to_string()));
    rows.collect()
}

/// The conversations of a rows file, and when each was updated.
pub fn read_times(path: &Path) -> Vec<[String; 2]> {
    let bytes = bytes(path);
    let mut reader = csv::Reader::from_reader(&bytes[..]);
    let rows = reader.records().map_while(Result::ok);
    rows.map(|record| [record[1].to_owned(), record[3].to_owned()])
        .collect()
}

/// The whole rows at the beginning of a rows file.
pub fn rows_in(bytes: &[u8]) -> Vec<(u64, Key)> {
    let mut reader = csv::Reader::from_reader(bytes);
    reader.records().map_while(Result::ok).map(row).collect()
}

fn row(record: csv::StringRecord) -> (u64, Key) {
    let line = record.position().map_or(0, csv::Position::line);
    (line, [record[0].to_owned(), record[1].to_owned(), record[2].to_owned()])
}
