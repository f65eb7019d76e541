//! Counts the records of a CSV with the csv crate and does nothing else: what `benches/check.py` compares `check` with.

use std::io::{self, Write};

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args_os().nth(1).ok_or("name a CSV")?;
    let mut reader = csv::Reader::from_path(path)?;
    let mut record = csv::ByteRecord::new();
    let (mut records, mut bytes) = (0_u64, 0);
    while reader.read_byte_record(&mut record)? {
        records += 1;
        bytes += record.as_slice().len();
    }
    writeln!(io::stdout(), "{records} records, {bytes} bytes in their fields")?;
    Ok(())
}
