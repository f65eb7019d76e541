//! A job beside the other work of a service, which watches and cancels it: `cargo run --example service`.

mod simulator;

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::task::JoinHandle;
use tokio::time::sleep;
use tracing::{Instrument, info_span};
use zim_batch::{Client, ConvType, Job, Row, StopHandle, StopReason, Summary};

/// What handlers of requests share: the job that runs, how far it is, and how to cancel it.
struct Night {
    job: JoinHandle<Result<Summary, zim_batch::Error>>,
    done: Arc<AtomicU64>,
    stop: StopHandle,
}

impl Night {
    fn start(client: Client, rows: Vec<Row>) -> Night {
        let (done, stop) = (Arc::new(AtomicU64::new(0)), StopHandle::new());
        let count = Arc::clone(&done);
        let job = Job::new(client, rows)
            .stop_handle(stop.clone())
            .on_record(move |_| _ = count.fetch_add(1, Ordering::Relaxed));
        // All that the job logs is in this span.
        let job = tokio::spawn(job.run().instrument(info_span!("night")));
        Night { job, done, stop }
    }
}

/// The whole program.
#[tokio::main(flavor = "multi_thread")]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let row = |number: u32| Row::new("archivist", format!("c{number:04}"), ConvType::Peer);
    let rows = (1..=1000).map(row).collect::<Result<_, _>>()?;
    let night = Night::start(simulator::client().await?, rows);
    while night.done.load(Ordering::Relaxed) < 5 {
        sleep(Duration::from_millis(20)).await;
    }
    // As when the service shuts down: the requests in flight are finished, no more are sent.
    night.stop.cancel();
    let summary = night.job.await??;
    assert_eq!(summary.stopped, Some(StopReason::Cancelled));
    assert_eq!(summary.not_run, 1000 - night.done.load(Ordering::Relaxed));
    Ok(())
}
