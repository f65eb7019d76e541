//! Rows that arrive from elsewhere in a program, as a stream: `cargo run --example stream`.

mod simulator;

use std::convert::Infallible;
use std::error::Error;
use std::pin::Pin;
use std::task::{Context, Poll};

use futures_core::Stream;
use tokio::sync::mpsc;
use zim_batch::{ConvType, Job, Row};

/// What is received, as `ReceiverStream` of tokio-stream has it.
struct Received(mpsc::Receiver<Row>);

impl Stream for Received {
    type Item = Result<Row, Infallible>;

    fn poll_next(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.0.poll_recv(context).map(|row| row.map(Ok))
    }
}

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let client = simulator::client().await?;
    // The job takes a row when its turn has come, so the sender waits when the channel is full.
    let (rows, received) = mpsc::channel(1);
    let job = tokio::spawn(Job::from_stream(client, Received(received)).run());
    for conv in ["bob", "carol"] {
        rows.send(Row::new("alice", conv, ConvType::Peer)?).await?;
    }
    drop(rows);
    let summary = job.await??;
    assert_eq!((summary.ok, summary.is_success()), (2, true));
    Ok(())
}
