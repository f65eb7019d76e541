//! Single calls and what their answers mean, without a run around them: `cargo run --example one_call`.

use std::error::Error;

use tokio::net::TcpListener;
use zim_batch::simulator::{Options, World, serve};
use zim_batch::{Class, Client, ConvType, Row, User};

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

    client.clear(&Row::new("alice", "#team", ConvType::Group)?).await?;
    let unknown = Row::new("alice", "nobody", ConvType::Peer)?;
    let error = client.clear(&unknown).await.expect_err("there is no such conversation");
    assert_eq!(
        (error.class(), error.verdict().code),
        (Class::Outside, Some(660_800_002))
    );

    let alice = User::new("alice")?;
    assert_eq!(client.list(&alice).await?.len(), 4);
    let nobody = User::new("nobody")?;
    let found = client.look_up(&[alice, nobody.clone()]).await?;
    assert_eq!((found.existing, found.missing), (1, vec![nobody]));
    Ok(())
}
