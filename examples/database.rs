//! Rows from a database that goes away in the middle, and the run that resumes: `cargo run --example database`.

mod simulator;

use std::error::Error;
use std::path::Path;
use std::{io, vec};

use zim_batch::files::named_after;
use zim_batch::journal::IfExists;
use zim_batch::{Client, ConvType, Job, Report, Row, StopKind, Summary};

type Failure = Box<dyn Error + Send + Sync>;

/// Stands for the rows of a query, as a driver returns them: each may be an error. A query must have an ORDER BY, because
/// the report knows rows by their number.
fn query(goes_away: bool) -> vec::IntoIter<io::Result<(&'static str, &'static str)>> {
    let third = if goes_away {
        Err(io::ErrorKind::ConnectionReset.into())
    } else {
        Ok(("mary ann", "carol"))
    };
    vec![Ok(("alice", "bob")), Ok(("alice", "carol")), third].into_iter()
}

/// Clears the rows that have no record yet. Only in a simulation are records marked as simulated.
async fn clear(client: Client, directory: &Path, goes_away: bool) -> Result<Summary, Box<dyn Error>> {
    let report = directory.join("night.csv");
    let outside = named_after(&report, ".outside.csv");
    let report = Report::open(&report, &outside, IfExists::Resume, true)?;
    // The iterator has a thread of its own, so it may block.
    let rows = query(goes_away).map(|found| -> Result<Row, Failure> {
        let (user, conv) = found?;
        Ok(Row::new(user, conv, ConvType::Peer)?)
    });
    Ok(Job::try_new(client, rows).report(report).run().await?)
}

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let (client, directory) = (simulator::client().await?, tempfile::tempdir()?);

    let summary = clear(client.clone(), directory.path(), true).await?;
    let stopped = summary.stopped.expect("the database went away");
    assert_eq!((summary.ok, stopped.kind()), (2, StopKind::Input));
    let source = stopped.source().and_then(|source| source.downcast_ref::<io::Error>());
    assert!(source.is_some_and(|error| error.kind() == io::ErrorKind::ConnectionReset));

    let summary = clear(client, directory.path(), false).await?;
    assert_eq!((summary.already_done, summary.ok, summary.is_success()), (2, 1, true));
    Ok(())
}
