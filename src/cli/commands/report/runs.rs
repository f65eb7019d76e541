//! The runs of a report, in its table.

use std::fmt;

use zim_batch::analysis::{Analysis, Run};
use zim_batch::text::{duration, grouped, local, one_line};

use crate::cli::output::table::{SHOWN, fmt_texts};

/// The newest runs, each with when it began, how long it took, and why it ended.
pub fn fmt(f: &mut fmt::Formatter<'_>, analysis: &Analysis) -> fmt::Result {
    let runs = &analysis.runs;
    if runs.is_empty() {
        return Ok(());
    }
    writeln!(
        f,
        "\nrun                  {}  when, and why it ended",
        analysis.kind.noun()
    )?;
    let earlier = runs.len().saturating_sub(SHOWN);
    if earlier > 0 {
        writeln!(f, "  {} earlier runs (see --json)", grouped(earlier as u64))?;
    }
    let mut made_by = String::new();
    for (index, run) in runs.iter().enumerate().skip(earlier) {
        let mut texts = vec![when(run), one_line(&why(run)).into_owned()];
        // Said once for runs that have it in common.
        let mut run_by = run_by(run);
        if !analysis.parts.is_empty() {
            run_by = format!("{}; {run_by}", one_line(&run.report));
        }
        if run_by != made_by {
            texts.push(run_by.clone());
            made_by = run_by;
        }
        fmt_texts(f, &(index + 1).to_string(), run.rows, texts)?;
    }
    Ok(())
}

fn when(run: &Run) -> String {
    let mut text = local(run.begin.at);
    if let Some(took) = run.duration() {
        let until = if run.end.is_some() { "" } else { "newest record after " };
        text += &format!(", {until}{}", duration(took));
    }
    if let Some(rate) = run.rate() {
        text += &format!(", {rate:.2}/s");
    }
    text
}

fn why(run: &Run) -> String {
    match &run.end {
        Some(end) => format!("{} (exit status {})", run.why(), end.exit),
        None => run.why(),
    }
}

/// For which app, and where it ran.
fn run_by(run: &Run) -> String {
    let begin = &run.begin;
    let to = match begin.app_id {
        _ if begin.simulated => "simulated".to_owned(),
        Some(app_id) => format!("app {app_id} at {}", begin.endpoint),
        None => begin.endpoint.clone(),
    };
    let text = format!("{to}; on {}, version {}", begin.host, begin.version);
    one_line(&text).into_owned()
}
