//! Rows from memory, and a callback for each record. Here against a simulator: `cargo run --example embed`.

use std::{error::Error, future::pending, sync::mpsc};

use tokio::net::TcpListener;
use zim_batch::simulator::{Options, World, serve};
use zim_batch::{Client, ConvType, Job, Outcome, Row};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?).parse()?; // ZIM itself is the default.
    let app = Options::default();
    let client = Client::builder(app.app_id, app.server_secret.clone()).endpoint(endpoint);
    tokio::spawn(serve(listener, World::sample(), app, None, pending()));

    let rows = ["bob", "carol"].map(|conv| Row::new("alice", conv, ConvType::Peer));
    let (seen, records) = mpsc::channel();
    let job =
        Job::try_new(client.build()?, rows).on_record(move |record| seen.send(record.outcome).expect("it is open"));
    assert!(job.run().await?.is_success());
    assert_eq!(records.iter().next(), Some(Outcome::Ok));
    Ok(())
}
