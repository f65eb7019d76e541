//! Rows from memory, and a callback for each record: `cargo run --example embed`.

mod simulator;

use std::{error::Error, sync::mpsc};

use zim_batch::{ConvType, Job, Outcome, Row};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let client = simulator::client().await?;
    let rows = ["bob", "carol"].map(|conv| Row::new("alice", conv, ConvType::Peer));
    let (seen, records) = mpsc::channel();
    let job = Job::try_new(client, rows).on_record(move |record| seen.send(record.outcome).expect("it is open"));
    assert!(job.run().await?.is_success());
    assert_eq!(records.iter().next(), Some(Outcome::Ok));
    Ok(())
}
