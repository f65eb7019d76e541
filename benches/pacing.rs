//! Simulates the limiter's adaptive rate with servers, networks and other traffic on the quota:
//! `cargo bench --bench pacing`.
//!
//! The simulation runs the real limiter in Tokio's paused time: refused rows back off and wait at the limiter again, as in
//! a run, and hours pass in milliseconds. The seeds are fixed, so the same rule gives the same table.
//! `cargo bench --bench pacing -- FILE.csv` writes time series of the main scenarios instead, for `benches/pacing.py`.

#![expect(clippy::print_stdout, reason = "the table is the result")]

#[path = "pacing/figures.rs"]
mod figures;
#[path = "pacing/world.rs"]
mod world;

use std::io::Write as _;
use std::time::Duration;

use figures::{Figures, mean_and_p95};
use world::{Others, Refusal, Scenario, Server, Way, simulate};

const SECOND: Duration = Duration::from_secs(1);

/// The scenarios that are drawn.
const DRAWN: [&str; 5] = [
    "jitter 20 ms, 12000 rows",
    "jitter exp 10 ms, 12000 rows",
    "others 10/s, even",
    "others 10/s, Poisson",
    "spurious, ten minutes",
];

fn scenarios() -> Vec<Scenario> {
    let quiet = Scenario {
        name: "quiet, answers 5 ms..3 s",
        rate: 20.0,
        rows: 2000,
        time: 100_000 * SECOND,
        seeds: 20,
        way: Way::Even,
        answer: 30..31,
        server: Server::Strict,
        others: Others::None,
        present: None,
        spurious: None,
        at_random: 0.0,
        refusal: Refusal::Limited,
    };
    let jitter = |name, way, rows| Scenario {
        name,
        way,
        rows,
        seeds: if rows > 2000 { 20 } else { 200 },
        ..quiet.clone()
    };
    let minute = |name, others| Scenario {
        name,
        others,
        rows: usize::MAX,
        time: 190 * SECOND,
        present: Some((60.0, 120.0)),
        seeds: 40,
        ..quiet.clone()
    };
    let hour = |name, others| Scenario {
        time: 3780 * SECOND,
        present: Some((60.0, 3660.0)),
        seeds: 4,
        ..minute(name, others)
    };
    let at_random = |name, share| Scenario {
        at_random: share,
        ..hour(name, Others::None)
    };
    let spurious = |name, seconds: u32, seeds| Scenario {
        name,
        rows: usize::MAX,
        time: seconds * SECOND,
        spurious: Some(30.0..300.0),
        seeds,
        ..quiet.clone()
    };
    let at = |rate, scenario: Scenario| Scenario {
        rate,
        seeds: 10,
        ..scenario
    };
    let on = |server, scenario: Scenario| Scenario { server, ..scenario };
    let with = |refusal, scenario: Scenario| Scenario { refusal, ..scenario };
    let (uniform, exponential) = (Way::Uniform, Way::Exponential(10.0));
    vec![
        Scenario {
            answer: 5..3000,
            ..quiet.clone()
        },
        jitter("jitter 20 ms, 200 rows", uniform(20), 200),
        jitter("jitter 20 ms, 400 rows", uniform(20), 400),
        jitter("jitter 20 ms, 600 rows", uniform(20), 600),
        jitter("jitter 20 ms, 1200 rows", uniform(20), 1200),
        jitter("jitter 20 ms, 12000 rows", uniform(20), 12_000),
        on(
            Server::StrictCountingAll,
            jitter("  refused ones count", uniform(20), 12_000),
        ),
        Scenario {
            answer: 1000..1001,
            ..jitter("  answers after 1 s", uniform(20), 12_000)
        },
        jitter("jitter 50 ms, 400 rows", uniform(50), 400),
        jitter("jitter 50 ms, 12000 rows", uniform(50), 12_000),
        jitter("jitter exp 10 ms, 400 rows", exponential, 400),
        jitter("jitter exp 10 ms, 12000 rows", exponential, 12_000),
        minute("others 10/s, even", Others::Even(0.5)),
        on(
            Server::StrictCountingAll,
            minute("  refused ones count", Others::Even(0.5)),
        ),
        Scenario {
            way: uniform(20),
            ..minute("  with jitter 20 ms", Others::Even(0.5))
        },
        Scenario {
            answer: 300..301,
            ..minute("  answers after 300 ms", Others::Even(0.5))
        },
        Scenario {
            answer: 1000..1001,
            ..minute("  answers after 1 s", Others::Even(0.5))
        },
        Scenario {
            present: Some((0.0, 60.0)),
            ..minute("  there from the start", Others::Even(0.5))
        },
        minute("others 5/s, even", Others::Even(0.25)),
        minute("others 10/s, Poisson", Others::Poisson(0.5)),
        minute("others 10/s, five at once", Others::Bursts(0.5)),
        minute("the server's cap is 10", Others::LowerCap(0.5)),
        hour("others 10/s for an hour", Others::Even(0.5)),
        Scenario {
            way: uniform(20),
            ..hour("  with jitter 20 ms", Others::Even(0.5))
        },
        Scenario {
            way: uniform(50),
            ..hour("  with jitter 50 ms", Others::Even(0.5))
        },
        hour("  Poisson", Others::Poisson(0.5)),
        spurious("spurious, ten minutes", 600, 20),
        spurious("spurious, a day", 86_400, 2),
        Scenario {
            spurious: Some(10.0..30.0),
            ..spurious("  every 10 to 30 s, an hour", 3600, 4)
        },
        at_random("one of 1000 at random", 0.001),
        at_random("one of 100 at random", 0.01),
        at_random("one of 30 at random", 0.033),
        at_random("one of 22 at random", 1.0 / 22.0),
        with(Refusal::Unavailable, at_random("  with HTTP 503", 1.0 / 22.0)),
        on(Server::Fixed, jitter("fixed window, jitter 20 ms", uniform(20), 1200)),
        on(Server::Bucket, jitter("bucket, jitter 20 ms", uniform(20), 1200)),
        on(Server::Spaced, jitter("spaced, quiet, 400 rows", Way::Even, 400)),
        on(Server::Spaced, jitter("spaced, jitter 20 ms, 40 rows", uniform(20), 40)),
        on(Server::Spaced, jitter("spaced, jitter 20 ms, 400", uniform(20), 400)),
        on(
            Server::Spaced,
            Scenario {
                answer: 300..301,
                ..jitter("  answers after 300 ms", uniform(20), 400)
            },
        ),
        on(Server::Spaced, jitter("spaced, jitter 20 ms, 4000", uniform(20), 4000)),
        with(
            Refusal::Unavailable,
            on(Server::Spaced, jitter("503: spaced, 1 ms, 400", uniform(1), 400)),
        ),
        with(
            Refusal::Unavailable,
            on(Server::Spaced, jitter("503: spaced, 20 ms, 400", uniform(20), 400)),
        ),
        with(
            Refusal::Unavailable,
            on(Server::Spaced, jitter("503: spaced, 20 ms, 4000", uniform(20), 4000)),
        ),
        with(Refusal::Unavailable, jitter("503: jitter 20 ms, 400", uniform(20), 400)),
        with(
            Refusal::Unavailable,
            on(Server::Fixed, minute("503: fixed window of 10", Others::LowerCap(0.5))),
        ),
        with(
            Refusal::Unavailable,
            minute("503: others 10/s, even", Others::Even(0.5)),
        ),
        with(
            Refusal::RetryAfter(1),
            jitter("Retry-After 1, 20 ms, 400", uniform(20), 400),
        ),
        with(
            Refusal::RetryAfter(5),
            jitter("Retry-After 5, 20 ms, 400", uniform(20), 400),
        ),
        with(
            Refusal::RetryAfter(5),
            on(Server::Spaced, jitter("  spaced", uniform(20), 400)),
        ),
        with(Refusal::RetryAfter(1), minute("  1 s, others 10/s", Others::Even(0.5))),
        at(0.5, jitter("0.5/s, jitter 20 ms", uniform(20), 200)),
        at(1.0, jitter("1/s, jitter 20 ms", uniform(20), 400)),
        at(200.0, jitter("200/s, jitter 20 ms", uniform(20), 12_000)),
        at(5000.0, jitter("5000/s, jitter 20 ms", uniform(20), 50_000)),
        at(2.0, minute("2/s, others half", Others::Even(0.5))),
        at(200.0, minute("200/s, others half", Others::Even(0.5))),
    ]
}

fn print_table(scenarios: &[Scenario]) {
    println!(
        "{:<30}{:>5}  {:>9}  {:>14}  {:>7}  {:>7}  {:>9}  {:>14}  {:>14}  {:>14}  {:>14}",
        "", "", "", "refused %", "rows", "", "beside", "refused % ", "settled, s", "95 % again, s", "99 % again, s"
    );
    println!(
        "{:<30}{:>5}  {:>9}  {:>7}{:>7}  {:>7}  {:>7}  {:>9}{}",
        "scenario",
        "runs",
        "accepted/s",
        "mean",
        "p95",
        "failed",
        "took, s",
        "others/s",
        format!("  {:>7}{:>7}", "mean", "p95").repeat(4)
    );
    for scenario in scenarios {
        let runs: Vec<Figures> = (1..=scenario.seeds)
            .map(|seed| Figures::of(&simulate(scenario, seed)))
            .collect();
        let pair = |figure| {
            let (mean, p95) = mean_and_p95(&runs, figure);
            format!("  {mean:>7}{p95:>7}")
        };
        let accepted = mean_and_p95(&runs, |figures| figures.accepted).0;
        let refused = pair(|figures| figures.refused);
        let failed = mean_and_p95(&runs, |figures| figures.failed).0;
        let elapsed = mean_and_p95(&runs, |figures| figures.elapsed).0;
        print!(
            "{:<30}{:>5}  {accepted:>10}{refused}  {failed:>7}  {elapsed:>7}",
            scenario.name, scenario.seeds
        );
        if scenario.present.is_some() {
            let beside = mean_and_p95(&runs, |figures| figures.accepted_beside).0;
            let [refused, settled] = [pair(|figures| figures.refused_beside), pair(|figures| figures.settled)];
            let [back_95, back_99] = [pair(|figures| figures.back_95), pair(|figures| figures.back_99)];
            print!("  {beside:>9}{refused}{settled}{back_95}{back_99}");
        }
        println!();
    }
}

/// For each second: target rate, requests accepted and refused.
fn write_course(scenarios: &[Scenario], path: &str) -> std::io::Result<()> {
    let mut out = std::io::BufWriter::new(std::fs::File::create(path)?);
    writeln!(out, "scenario,second,aimed,accepted,refused")?;
    for scenario in scenarios.iter().filter(|scenario| DRAWN.contains(&scenario.name)) {
        let world = simulate(scenario, 1);
        let seconds = world.seen.last().map_or(0, |(at, _)| at.as_secs());
        let mut aimed = scenario.rate;
        for second in 0..seconds {
            let counted = |wanted| {
                let is_now = |(at, accepted): &&(Duration, bool)| at.as_secs() == second && *accepted == wanted;
                world.seen.iter().filter(is_now).count()
            };
            let latest = world.aimed.iter().rfind(|(at, _)| at.as_secs() == second);
            aimed = latest.map_or(aimed, |(_, rate)| *rate);
            let (name, accepted, refused) = (scenario.name, counted(true), counted(false));
            writeln!(out, "\"{name}\",{second},{aimed:.3},{accepted},{refused}")?;
        }
    }
    out.flush()
}

fn main() {
    let scenarios = scenarios();
    match std::env::args().skip(1).find(|argument| !argument.starts_with("--")) {
        Some(path) => write_course(&scenarios, &path).expect("the file can be written"),
        None => print_table(&scenarios),
    }
}
