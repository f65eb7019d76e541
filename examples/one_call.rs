//! Single calls and what their answers mean, without a job around them: `cargo run --example one_call`.

mod simulator;

use std::error::Error;

use zim_batch::{Class, ConvType, Row, User};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let client = simulator::client().await?;
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
