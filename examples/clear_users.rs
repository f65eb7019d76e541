//! Lists users and clears what is listed, in one run that resumes: `cargo run --example clear_users`.

mod simulator;

use std::error::Error;
use std::path::Path;

use zim_batch::client::ClearUsers;
use zim_batch::journal::{IfExists, Journal, UsersReport};
use zim_batch::rows::{Format, Input, Plan, Reads, Selection, Source};
use zim_batch::{Job, Lister};

/// The whole program.
#[tokio::main]
pub async fn main() -> Result<(), Box<dyn Error>> {
    let directory = tempfile::tempdir()?;
    let file = |name: &str| directory.path().join(name);
    let mut journal = UsersReport::open(
        [&file("out.rows.csv"), &file("out.list.csv")],
        [&file("out.csv"), &file("out.outside.csv")],
        IfExists::Resume,
        false,
    )?;

    let format = Format {
        reads: Reads::Users,
        ..Format::default()
    };
    let selection = Selection {
        dedupe: true,
        ..Selection::default()
    };
    let users = Source::File(Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/users.csv"));
    let users = Input::open(&users, &format)?.plan(&selection, journal.list().take_done())?;
    let rows = Plan::of_listed(&journal.listed(), Some(20), journal.take_done())?;
    let lister = Lister::new(simulator::client().await?);
    let summary = Job::listed(ClearUsers::new(lister), users, rows, journal).run().await?;
    assert_eq!(summary.ok, 20);
    Ok(())
}
