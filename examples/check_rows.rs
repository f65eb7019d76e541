//! What is wrong with a CSV, before anything is sent: `cargo run --example check_rows`.

use std::error::Error;

use zim_batch::rows::check::check_rows;
use zim_batch::rows::{Format, Rows, Selection};

/// The whole program.
pub fn main() -> Result<(), Box<dyn Error>> {
    let csv = "FromUserId;ConvId;ConvType\nalice;bob;0\nalice;;0\nalice;bob;peer\nbob;#team;3\n";
    let rows = Rows::from_reader(Box::new(csv.as_bytes()), "rows", &Format::default())?;
    let findings = check_rows(rows, &Selection::default())?;

    assert_eq!((findings.rows, findings.invalid_rows()), (4, 2));
    assert_eq!(findings.invalid["conv is empty"].first_lines, [3]);
    assert_eq!(findings.duplicates.first_lines, [4]);
    Ok(())
}
