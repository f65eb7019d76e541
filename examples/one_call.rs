//! One signed request and what its answer means, without a run around it: `cargo run --example one_call`.

use std::error::Error;

use tokio::net::TcpListener;
use zim_batch::client::{App, Client};
use zim_batch::code::Class;
use zim_batch::row::{ConvType, Row};
use zim_batch::simulator::{Options, World, serve};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let endpoint = format!("http://{}", listener.local_addr()?).parse()?; // ZIM itself: https://zim-api.zego.im
    let known = Options::default();
    let app = App::new(known.app_id, known.server_secret, endpoint);
    tokio::spawn(serve(
        listener,
        World::sample(),
        Options::default(),
        None,
        std::future::pending(),
    ));

    let row = Row {
        line: 1,
        user: "alice".into(),
        conv: "#team".into(),
        conv_type: ConvType::Group,
    };
    let attempt = Client::new(app)?.clear_conversation_unread(&row).await;
    assert_eq!((attempt.verdict.class, attempt.verdict.code), (Class::Ok, Some(0)));
    Ok(())
}
