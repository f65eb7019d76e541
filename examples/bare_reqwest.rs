//! GETs a URL many times with reqwest and does nothing else: what `benches/compare.py` compares `clear` with, besides oha.
//! `cargo run --release --example bare_reqwest -- URL REQUESTS IN_FLIGHT`

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [url, requests, in_flight] = &arguments[..] else {
        return Err("name a URL, how many requests, and how many at once".into());
    };
    let (requests, in_flight) = (requests.parse::<u64>()?, in_flight.parse::<u64>()?);
    // Not used by plain HTTP, but looked for.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let client = reqwest::Client::builder().no_proxy().http1_only().build()?;
    let (started_at, taken) = (Instant::now(), Arc::new(AtomicU64::new(0)));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (client, url, taken) = (client.clone(), url.clone(), Arc::clone(&taken));
        tasks.spawn(async move {
            while taken.fetch_add(1, Ordering::Relaxed) < requests {
                client.get(&url).send().await?.error_for_status()?.bytes().await?;
            }
            Ok::<(), reqwest::Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    writeln!(
        io::stdout(),
        "{:.0} requests a second",
        requests as f64 / started_at.elapsed().as_secs_f64()
    )?;
    Ok(())
}
