//! The simulator of `--simulate`, in this process.

use std::future::pending;
use std::io;
use std::net::Ipv4Addr;
use std::time::Duration;

use tokio::net::TcpListener;
use zim_batch::Rate;
use zim_batch::client::Client;
use zim_batch::simulator::{Options, World, serve};

use crate::cli::errors::Error;
use crate::cli::settings::run::PaceSettings;

/// Starts it. Returns a client of it.
pub async fn start(pace: &PaceSettings) -> Result<Client, Error> {
    let failed = |error: io::Error| Error::Unexpected(format!("the simulator could not be started: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let options = demonstration(pace.rate.value.highest());
    let endpoint = format!("http://{address}/");
    let endpoint = endpoint
        .parse()
        .map_err(|error| Error::Unexpected(format!("{endpoint}: {error}")))?;
    let client = Client::builder(options.app_id, options.server_secret.clone())
        .endpoint(endpoint)
        .timeout(pace.timeout)
        .build()?;
    tokio::spawn(serve(listener, World::sample(), options, None, pending()));
    Ok(client)
}

/// It is healthy, with an occasional retry, and a cap that fits `rate`.
fn demonstration(rate: Rate) -> Options {
    Options {
        cap: rate.cap().max(20) as u32,
        error_rate: 0.01,
        jitter: Duration::from_millis(20),
        seed: 3,
        ..Options::default()
    }
}
