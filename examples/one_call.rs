//! One signed call and what its answer means, without a run around it: `cargo run --example one_call`.

use std::error::Error;

use tokio::net::TcpListener;
use zim_batch::simulator::{Options, World, serve};
use zim_batch::{Class, Client, ConvType, Row};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?).parse()?; // ZIM itself is the default.
    let app = Options::default();
    let client = Client::builder(app.app_id, app.server_secret.clone())
        .endpoint(endpoint)
        .build()?;
    tokio::spawn(serve(listener, World::sample(), app, None, std::future::pending()));

    let row = Row {
        line: 1,
        user: "alice".into(),
        conv: "#team".into(),
        conv_type: ConvType::Group,
    };
    let attempt = client.clear_conversation_unread(&row).await;
    assert_eq!((attempt.verdict.class, attempt.verdict.code), (Class::Ok, Some(0)));
    Ok(())
}
