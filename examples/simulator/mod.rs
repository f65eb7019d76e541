//! A simulator of ZIM on 127.0.0.1, so that these examples need no app.

use std::{error::Error, future::pending};

use tokio::net::TcpListener;
use zim_batch::Client;
use zim_batch::simulator::{Options, World, serve};

/// A client of a new simulator. A client of ZIM is `Client::builder(app_id, server_secret).build()?`.
pub async fn client() -> Result<Client, Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?).parse()?;
    let app = Options::default();
    let client = Client::builder(app.app_id, app.server_secret.clone()).endpoint(endpoint);
    tokio::spawn(serve(listener, World::sample(), app, None, pending()));
    Ok(client.build()?)
}
