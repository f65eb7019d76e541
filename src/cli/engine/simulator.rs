//! The simulator of `--simulate`, in this process.

use std::future::pending;
use std::io;
use std::net::Ipv4Addr;

use tokio::net::TcpListener;
use zim_batch::client::ClientBuilder;
use zim_batch::simulator::{World, serve};

use crate::cli::errors::Error;
use crate::cli::settings::app;
use crate::cli::settings::run::PaceSettings;
use crate::cli::settings::simulate::demonstration;

/// Starts it. Returns what a client of it is built from.
pub async fn start(pace: &PaceSettings) -> Result<ClientBuilder, Error> {
    let failed = |error: io::Error| Error::Unexpected(format!("the simulator could not be started: {error}"));
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    let options = demonstration(pace.rate.value);
    let client = app::simulated(options.app_id, options.server_secret.clone(), address, pace.timeout)?;
    tokio::spawn(serve(listener, World::sample(), options, None, pending()));
    Ok(client)
}
