//! Records in memory, as CSV without a header, that are to be written.

use serde::Serialize;

/// Records that are to be written together.
pub(super) struct Buffer {
    records: csv::Writer<Vec<u8>>,
    is_empty: bool,
}

impl Buffer {
    pub fn new() -> Buffer {
        Buffer {
            records: writer(Vec::new()),
            is_empty: true,
        }
    }

    /// Adds a record.
    pub fn push(&mut self, record: impl Serialize) {
        self.records.serialize(record).expect("memory takes any record");
        self.is_empty = false;
    }

    /// Adds a record with these fields.
    pub fn push_fields<F: AsRef<[u8]>>(&mut self, fields: impl IntoIterator<Item = F>) {
        self.records.write_record(fields).expect("memory takes any record");
        self.is_empty = false;
    }

    /// Adds the line end that a record in the file lacks. Nothing may have been added before.
    pub fn push_line_end(&mut self) {
        self.records = writer(b"\n".to_vec());
        self.is_empty = false;
    }

    pub fn is_empty(&self) -> bool {
        self.is_empty
    }

    /// How many bytes there are, about.
    pub fn len(&self) -> usize {
        self.records.get_ref().len()
    }

    /// How many bytes there are, exactly.
    pub fn exact_len(&mut self) -> usize {
        self.records.flush().expect("memory takes any record");
        self.len()
    }

    /// Keeps the first `len` bytes.
    pub fn truncate(&mut self, len: usize) {
        let mut bytes = self.take();
        bytes.truncate(len);
        self.is_empty = bytes.is_empty();
        self.records = writer(bytes);
    }

    /// Takes the bytes.
    pub fn take(&mut self) -> Vec<u8> {
        let Buffer { records, .. } = std::mem::replace(self, Buffer::new());
        records.into_inner().expect("memory takes any record")
    }
}

/// Each file has only one header, so this writes none.
fn writer(bytes: Vec<u8>) -> csv::Writer<Vec<u8>> {
    csv::WriterBuilder::new().has_headers(false).from_writer(bytes)
}
