//! Lists the conversations of one user, then clears them, at one rate: `cargo run --example list_user`.

use std::{error::Error, future::pending, sync::mpsc};

use tokio::net::TcpListener;
use zim_batch::simulator::{Options, World, serve};
use zim_batch::{Client, Job, Limiter, Lister, Rate, Row, User};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?).parse()?; // ZIM itself is the default.
    let app = Options::default();
    let client = Client::builder(app.app_id, app.server_secret.clone()).endpoint(endpoint);
    tokio::spawn(serve(listener, World::sample(), app, None, pending()));

    let (client, limiter) = (client.build()?, Limiter::new(Rate::default()));
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
