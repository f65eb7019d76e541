//! A whole run inside another program: rows, limiter, client, report. Here against a simulator, so that it can be tried:
//! `cargo run --example embed`.

use std::error::Error;
use std::sync::{Arc, mpsc};
use tokio::{net::TcpListener, time::Instant};
use zim_batch::client::{App, Client};
use zim_batch::event::Event;
use zim_batch::limiter::Limiter;
use zim_batch::report::{Files, IfExists, Report};
use zim_batch::row::Outcome;
use zim_batch::rows::{Format, Plan, Rows, Selection};
use zim_batch::run::{Job, Limits, run};
use zim_batch::simulator::{Options, World, serve};
use zim_batch::stop::StopHandle;

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

    let directory = tempfile::tempdir()?;
    let paths = (directory.path().join("out.csv"), directory.path().join("outside.csv"));
    let csv = "user,conv,type\nalice,bob,peer\nalice,#team,group\narchivist,c1200,peer\n";
    let rows = Rows::from_reader(Box::new(csv.as_bytes()), "embedded rows", &Format::default())?;
    let files = Files::open(&paths.0, &paths.1, IfExists::Refuse, true)?;
    let (records, told) = mpsc::channel(); // what happens, as it happens
    let job = Job {
        plan: Plan::new(rows, "embedded rows".into(), Arc::new(Selection::default()))?,
        total: Some(3),
        limiter: Limiter::new(20.0),
        service: Client::new(app)?,
        report: Report::new(files, paths),
        observers: vec![Box::new(move |event: &Event| {
            if let Event::Settled(record) = event {
                records
                    .send((record.line, record.outcome))
                    .expect("the receiver is below");
            }
        })],
        limits: Limits::default(),
        stop: StopHandle::new(),
        turn: None,
        started_at: Instant::now(),
    };
    let summary = run(job).await?;
    assert_eq!((summary.ok, summary.outside), (2, 1));
    let outside: Vec<(u64, Outcome)> = told
        .iter()
        .filter(|(_, outcome)| *outcome == Outcome::Outside)
        .collect();
    assert_eq!(outside, [(4, Outcome::Outside)]);
    Ok(())
}
