//! Lists the conversations of one user, then clears them, at one rate: `cargo run --example list_user`.

mod simulator;

use std::{error::Error, sync::mpsc};

use zim_batch::{Job, Limiter, Lister, Rate, Row, User};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let (client, limiter) = (simulator::client().await?, Limiter::new(Rate::default()));
    let (found, records) = mpsc::channel();
    let list = Job::new(Lister::new(client.clone()), [User::new("alice")?])
        .limiter(limiter.clone())
        .on_record(move |record| found.send(record.conversations.clone()).expect("it is open"));
    assert!(list.run().await?.is_success());

    let rows = records.into_iter().flatten();
    let rows = rows.map(|found| Row::new("alice", found.conv, found.conv_type));
    let summary = Job::try_new(client, rows).limiter(limiter).run().await?;
    assert_eq!((summary.ok, summary.is_success()), (4, true));
    Ok(())
}
