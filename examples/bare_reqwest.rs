//! GETs a URL many times with reqwest and does nothing else: what `benches/compare.py` compares `clear` with, besides oha.
//! `cargo run --release --example bare_reqwest -- URL REQUESTS IN_FLIGHT`, or `URL REQUESTS 1 RATE`: one after the other, so
//! many per second, on one thread.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use tokio::runtime::Builder;
use tokio::sync::Mutex;
use tokio::time::interval;

type Failure = Box<dyn std::error::Error + Send + Sync>;

fn main() -> Result<(), Failure> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let (url, numbers) = arguments.split_first().ok_or("name a URL")?;
    let numbers: Vec<u64> = numbers.iter().map(|number| number.parse()).collect::<Result<_, _>>()?;
    let (mut runtime, rate) = match numbers[..] {
        [_, _] => (Builder::new_multi_thread(), None),
        [_, 1, rate] => (Builder::new_current_thread(), Some(rate)),
        _ => return Err("name how many requests, and how many at once; or how many, 1, and a rate".into()),
    };
    // Not used by plain HTTP, but looked for.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let runtime = runtime.enable_all().build()?;
    let started_at = Instant::now();
    runtime.block_on(send(url, numbers[0], numbers[1], rate))?;
    let rate = numbers[0] as f64 / started_at.elapsed().as_secs_f64();
    writeln!(io::stdout(), "{rate:.0} requests a second")?;
    Ok(())
}

async fn send(url: &str, requests: u64, in_flight: u64, rate: Option<u64>) -> Result<(), Failure> {
    let client = reqwest::Client::builder().no_proxy().http1_only().build()?;
    let taken = Arc::new(AtomicU64::new(0));
    let pace = rate.map(|rate| Arc::new(Mutex::new(interval(Duration::from_secs(1) / rate as u32))));
    let mut tasks = tokio::task::JoinSet::new();
    for _ in 0..in_flight {
        let (client, url, taken, pace) = (client.clone(), url.to_owned(), Arc::clone(&taken), pace.clone());
        tasks.spawn(async move {
            while taken.fetch_add(1, Ordering::Relaxed) < requests {
                if let Some(pace) = &pace {
                    pace.lock().await.tick().await;
                }
                client.get(&url).send().await?.error_for_status()?.bytes().await?;
            }
            Ok::<(), reqwest::Error>(())
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended??;
    }
    Ok(())
}
