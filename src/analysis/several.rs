//! Several reports, read as one: those of the parts of an input, or a report and those of its retries.
//!
//! The first pass analyses each report by itself, and finds the latest record of each conversation. The second pass counts
//! those. What was sent, and when, counts for all records.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use foldhash::quality::FixedState;

use super::collector::Collector;
use super::model::Analysis;
use crate::files::{identity, named_after};
use crate::fingerprint::fingerprint;
use crate::journal::{self, Kind, ReportError, ReportRecord, list_report_of};
use crate::row::Outcome;

/// One of several reports that are read as one.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Part {
    /// The report by itself.
    pub analysis: Analysis,
    /// Its records that count: no other report has a later one.
    pub counted: u64,
    /// How many of its rows have no record yet, if that is known. None of those that were selected from another one of the
    /// reports, where each has a record.
    pub left: Option<u64>,
    records: RecordsOf,
}

impl Part {
    /// Whether the record that begins on this line of the report counts.
    pub fn counts(&self, line: u64) -> bool {
        matches!(self.records.counts(line), Counts::Whole)
    }
}

/// Analyses several reports as one.
pub(super) fn read(paths: &[PathBuf]) -> Result<Analysis, ReportError> {
    let (parts, records) = read_each(paths)?;
    let selected = selected_from_another(paths, &parts);
    let listed = listed(paths, &parts, &selected)?;
    let mut analysis = read_together(paths, &parts, &records)?;
    if let Some(listed) = listed {
        analysis.set_listed(listed);
    }
    // Where users were selected, their rows may be new.
    let lists = |part: &Analysis| part.runs.last().is_some_and(|run| run.begin.lists);
    let selected: Vec<bool> = parts
        .iter()
        .zip(selected)
        .map(|(part, selected)| selected && !lists(part))
        .collect();
    analysis.add_parts(parts, &selected, records);
    Ok(analysis)
}

/// The list reports beside those reports that have one, as one.
fn listed(paths: &[PathBuf], parts: &[Analysis], selected: &[bool]) -> Result<Option<Analysis>, ReportError> {
    let mut with_list = Vec::new();
    for ((path, part), selected) in paths.iter().zip(parts).zip(selected) {
        with_list.extend(
            part.listed
                .as_deref()
                .map(|listed| (list_report_of(path), listed, *selected)),
        );
    }
    if let [] | [_] = with_list[..] {
        return Ok(with_list.pop().map(|(_, listed, _)| listed.clone()));
    }
    let paths: Vec<PathBuf> = with_list.iter().map(|(path, _, _)| path.clone()).collect();
    let (mut lists, records) = read_each(&paths)?;
    for (list, (_, listed, _)) in lists.iter_mut().zip(&with_list) {
        list.or_to_do(listed.to_do);
    }
    let selected: Vec<bool> = with_list.iter().map(|(_, _, selected)| *selected).collect();
    let mut analysis = read_together(&paths, &lists, &records)?;
    analysis.add_parts(lists, &selected, records);
    Ok(Some(analysis))
}

/// The first pass.
fn read_each(paths: &[PathBuf]) -> Result<(Vec<Analysis>, Records), ReportError> {
    let mut latest = Latest::default();
    let mut parts: Vec<Analysis> = Vec::new();
    for path in paths {
        latest.records.of.push(RecordsOf::default());
        let part = Analysis::of_file(path, |record, line| latest.note(record, line))?;
        if let Some(first) = parts.first() {
            check_alike(first, &part)?;
        }
        parts.push(part);
    }
    Ok((parts, latest.finish()))
}

fn check_alike(first: &Analysis, part: &Analysis) -> Result<(), ReportError> {
    let kind = |analysis: &Analysis| match analysis.kind {
        Kind::List => "a list report",
        Kind::Clear => "a report of rows",
    };
    let simulated = |analysis: &Analysis| match analysis.simulated {
        true => "of a simulated run",
        false => "of a real run",
    };
    let is_mixed = first.simulated != part.simulated && first.rows > 0 && part.rows > 0;
    let name: fn(&Analysis) -> &'static str = match first.kind == part.kind {
        true if is_mixed => simulated,
        true => return Ok(()),
        false => kind,
    };
    Err(ReportError::NotAlike {
        place: part.report.clone(),
        what: name(part),
        first: first.report.clone(),
        other: name(first),
    })
}

/// The second pass.
fn read_together(paths: &[PathBuf], parts: &[Analysis], records: &Records) -> Result<Analysis, ReportError> {
    let began = parts.iter().filter_map(|part| part.under_way?.began).min();
    let mut collector = Collector::new(began);
    for (path, records) in paths.iter().zip(&records.of) {
        let count = |record: &ReportRecord, line| match records.counts(line) {
            // Lines are those of different inputs.
            Counts::Whole => {
                collector.add_row(record, None);
                collector.add_work(record);
            }
            Counts::OnlyItsWork => {
                collector.add_work(record);
                collector.add_superseded();
            }
            Counts::Not => {}
        };
        journal::read_file(path, |input, place| journal::read_report(input, place, count))?;
    }
    let kind = parts.first().map_or(Kind::Clear, |part| part.kind);
    Ok(collector.finish(kind))
}

impl Analysis {
    /// Adds what the logs of runs say.
    fn add_parts(&mut self, parts: Vec<Analysis>, selected: &[bool], records: Records) {
        self.report = parts.first().map(|part| part.report.clone()).unwrap_or_default();
        self.runs = parts.iter().flat_map(|part| part.runs.clone()).collect();
        self.runs.sort_by_key(|run| run.begin.at);
        self.under_way = parts
            .iter()
            .filter_map(|part| part.under_way)
            .max_by_key(|run| run.began);
        self.is_torn = parts.iter().any(|part| part.is_torn);
        let Records { of, keys } = records;
        let part = |((analysis, records), is_selected): ((Analysis, RecordsOf), &bool)| Part {
            counted: analysis
                .rows
                .saturating_sub((records.superseded.len() + records.copies.len()) as u64),
            left: match *is_selected || records.are_copies() {
                true => Some(0),
                false => analysis.left(),
            },
            analysis,
            records,
        };
        self.parts = parts.into_iter().zip(of).zip(selected).map(part).collect();
        self.to_do = self.left_of_parts(keys).map(|left| self.rows + left);
    }

    /// How many rows have no record in any of the reports, which have so many conversations together. `None` if it is not
    /// known: what has no record in one may have one in another.
    fn left_of_parts(&self, keys: u64) -> Option<u64> {
        let mut open = None;
        for part in &self.parts {
            match (part.left?, open) {
                (0, _) => {}
                (left, None) if part.records.keys == keys => open = Some(left),
                _ => return None,
            }
        }
        Some(open.unwrap_or(0))
    }
}

/// Which reports are of rows, or users, that were selected from another one of them.
fn selected_from_another(paths: &[PathBuf], parts: &[Analysis]) -> Vec<bool> {
    let files_of = |path: &PathBuf| -> Vec<_> {
        let beside = [named_after(path, ".outside.csv"), list_report_of(path)];
        beside.iter().chain([path]).filter_map(|path| identity(path)).collect()
    };
    let files: Vec<_> = paths.iter().map(files_of).collect();
    let is_from_another = |(index, part): (usize, &Analysis)| {
        let begin = part.runs.last().map(|run| &run.begin);
        let input = begin.and_then(|begin| identity(&begin.directory.join(Path::new(&begin.input))));
        let mut others = files.iter().enumerate().filter(|(other, _)| *other != index);
        input.is_some_and(|input| others.any(|(_, files)| files.contains(&input)))
    };
    parts.iter().enumerate().map(is_from_another).collect()
}

/// Finds the latest record of each conversation, or of each user.
#[derive(Default)]
struct Latest {
    latest: HashMap<u64, Found, FixedState>,
    /// Earlier records of the same conversation in the same report, as long as no other report has it.
    repeated: HashMap<u64, Vec<u64>, FixedState>,
    records: Records,
}

#[derive(Clone, Copy)]
struct Found {
    rank: Rank,
    report: u32,
    line: u64,
    /// The newest report that has it, and whether others do.
    seen_in: u32,
    is_in_several: bool,
}

/// What is later counts: any record more than a `skipped` one, then by time.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Rank {
    is_of_row: bool,
    finished_at: Option<i64>,
}

impl Latest {
    /// Notes a record of the newest report, which begins on this line of it.
    fn note(&mut self, record: &ReportRecord, line: u64) {
        let report = self.records.of.len() - 1;
        let records = &mut self.records;
        records.of[report].count += 1;
        records.of[report].last_line = line;
        let report = report as u32;
        let [user, conv, conv_type] = record.key();
        let key = fingerprint(user, conv, conv_type);
        let found = Found {
            rank: Rank {
                is_of_row: record.outcome != Outcome::Skipped,
                finished_at: record.finished_at(),
            },
            report,
            line,
            seen_in: report,
            is_in_several: false,
        };
        let mut entry = match self.latest.entry(key) {
            Entry::Vacant(entry) => {
                entry.insert(found);
                records.keys += 1;
                records.of[report as usize].keys += 1;
                return;
            }
            Entry::Occupied(entry) => entry,
        };
        let known = entry.get_mut();
        if known.seen_in != report {
            known.seen_in = report;
            known.is_in_several = true;
            records.of[report as usize].keys += 1;
            for line in self.repeated.remove(&key).unwrap_or_default() {
                records.of[known.report as usize].superseded.push(line);
            }
        }
        let is_copy = found.report != known.report && found.rank == known.rank && found.rank.finished_at.is_some();
        if is_copy {
            records.of[report as usize].copies.push(line);
            return;
        }
        let replaced = if found.rank >= known.rank {
            let before = (known.report, known.line);
            (known.rank, known.report, known.line) = (found.rank, report, line);
            before
        } else {
            (report, line)
        };
        if known.is_in_several {
            records.of[replaced.0 as usize].superseded.push(replaced.1);
        } else {
            self.repeated.entry(key).or_default().push(replaced.1);
        }
    }

    fn finish(mut self) -> Records {
        for records in &mut self.records.of {
            records.superseded.sort_unstable();
            records.copies.sort_unstable();
        }
        self.records
    }
}

/// Which records count.
#[derive(Default)]
struct Records {
    of: Vec<RecordsOf>,
    /// How many conversations there are.
    keys: u64,
}

/// Which records of a report count.
#[derive(Debug, Clone, Default)]
struct RecordsOf {
    count: u64,
    /// Later ones were added since, and don't count.
    last_line: u64,
    keys: u64,
    /// The lines of those that don't count, because another report has a later one; ascending.
    superseded: Vec<u64>,
    /// The lines of those that stand in an earlier report too, as in an outside log; ascending.
    copies: Vec<u64>,
}

enum Counts {
    Whole,
    /// Its requests and its time, not its outcome.
    OnlyItsWork,
    Not,
}

impl RecordsOf {
    fn counts(&self, line: u64) -> Counts {
        if line > self.last_line || self.copies.binary_search(&line).is_ok() {
            Counts::Not
        } else if self.superseded.binary_search(&line).is_ok() {
            Counts::OnlyItsWork
        } else {
            Counts::Whole
        }
    }

    /// All records stand in earlier reports too.
    fn are_copies(&self) -> bool {
        self.count > 0 && self.copies.len() as u64 == self.count
    }
}
