//! What is left to do about the rows of a report, after a run or later.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use zim_batch::code;
use zim_batch::files::stem;
use zim_batch::journal::list_report_of;
use zim_batch::page::NextStep;
use zim_batch::reasons::Reason;
use zim_batch::row::Outcome;
use zim_batch::run::summary::Summary;
use zim_batch::text::{grouped, one_line};

use crate::cli::args::given::path_argument;
use crate::cli::output::free_name;
use crate::cli::output::language::Language;
use crate::cli::output::next::{START_AGAIN, line};
use crate::cli::output::table::{SHOWN, lines_of};

/// How many reasons are named for which another try is of no use.
const MAX_PERMANENT: usize = 5;

/// The return codes about a user who does not exist.
const NOT_REGISTERED: [i64; 3] = [51_102, 660_200_001, 660_500_002];

/// What there is to do about the rows of a report, or the users of a list report, or both.
pub struct Remaining {
    pub report: PathBuf,
    /// Other reports that were read as one with it.
    pub others: Vec<PathBuf>,
    /// The report is that of a list.
    is_list: bool,
    /// Where what is listed is cleared: the users.
    users: Option<Part>,
    /// The rows; in a list report, the users.
    rows: Part,
    outside: u64,
    /// What is said of invalid rows that were listed: nobody can correct them.
    unsendable: Option<String>,
    /// The name of the input, where invalid rows or users are corrected.
    input: String,
    /// The command that starts the run again, if it is to be started again and not resumed.
    pub start_again: Option<String>,
    /// The command that resumes the run, if it is known.
    resume: Option<String>,
    /// The flags for a new run, as words for a shell.
    flags: String,
    /// That of what is said about codes.
    pub language: Language,
}

/// Rows or users that have no record, or have failed.
#[derive(Default)]
struct Part {
    not_run: u64,
    failed: u64,
    /// Those that the input's owner can correct.
    invalid: u64,
    /// Failed ones that may succeed in another try.
    retryable: u64,
    /// Why failed ones can't.
    permanent: Vec<Reason>,
}

impl Part {
    fn new([not_run, failed, invalid]: [u64; 3], reasons: &[Reason]) -> Part {
        let retryable = reasons.iter().filter(|reason| reason.retryable);
        let permanent = reasons.iter().filter(|reason| is_permanent(reason));
        Part {
            not_run,
            failed,
            invalid,
            retryable: retryable.map(|reason| reason.rows).sum(),
            permanent: permanent.take(MAX_PERMANENT + 1).cloned().collect(),
        }
    }

    /// Appended to what is said of another try of all that failed.
    fn of_them(&self) -> String {
        if self.retryable == self.failed {
            return String::new();
        }
        format!("; {} of them may succeed then", grouped(self.retryable))
    }
}

impl Remaining {
    /// What there is to do about what a summary of the report counts.
    pub fn new(report: PathBuf, summary: &Summary, resume: Option<String>, flags: String) -> Remaining {
        let is_list = summary.conversations.is_some();
        let users = summary.users.as_ref();
        // A run with a limit doesn't count the rows after it.
        let without_record = users.map_or(summary.not_run, |users| {
            users.conversations.saturating_sub(summary.rows - summary.not_run)
        });
        // Where rows are listed, those that are invalid are ZIM's, and not in the input.
        let (invalid, unsendable) = match users {
            Some(_) => (0, unsendable(summary)),
            None => (summary.all_invalid, None),
        };
        let rows = [without_record, summary.all_failed, invalid];
        let users = users.map(|users| {
            let counts = [users.not_run, users.failed, users.invalid];
            Part::new(counts, &users.reasons)
        });
        Remaining {
            report,
            others: Vec::new(),
            is_list,
            users,
            rows: Part::new(rows, &summary.reasons),
            outside: summary.all_outside,
            unsendable,
            input: lines_of(&summary.input, "the input"),
            start_again: None,
            resume,
            flags,
            language: Language::English,
        }
    }

    /// Names the input, if it is known better than the summary tells.
    pub fn name_input(&mut self, input: Option<String>) {
        if input.is_some() {
            self.input = lines_of(&input, "the input");
        }
    }

    /// Makes it what there is to do about the users of a list report whose run clears what it lists, with this report of the
    /// rows.
    pub fn of_users_of(&mut self, report: PathBuf) {
        self.report = report;
        self.is_list = false;
        self.users = Some(std::mem::take(&mut self.rows));
    }

    /// Leaves invalid rows and users out.
    pub fn without_invalid(&mut self) {
        self.parts().for_each(|part| part.invalid = 0);
        self.unsendable = None;
    }

    fn parts(&mut self) -> impl Iterator<Item = &mut Part> {
        self.users.iter_mut().chain([&mut self.rows])
    }

    /// Leaves only rows and users without a record.
    pub fn only_not_run(&mut self) {
        self.parts().for_each(|part| {
            *part = Part {
                not_run: part.not_run,
                ..Part::default()
            };
        });
        (self.outside, self.unsendable) = (0, None);
    }

    /// Leaves rows and users without a record out.
    pub fn without_not_run(&mut self) {
        self.parts().for_each(|part| part.not_run = 0);
    }

    /// What to do, in order.
    pub fn steps(&self) -> Vec<NextStep> {
        let mut steps = Vec::new();
        let mut step = |what: String, command: Option<String>| steps.push(NextStep { what, command });
        if let Some(command) = &self.start_again {
            step(START_AGAIN.to_owned(), Some(command.clone()));
            return steps;
        }
        if let Some(users) = &self.users {
            if users.not_run > 0 {
                let to_clear = match self.rows.not_run {
                    0 => String::new(),
                    rows => format!(", {} to clear", rows_of(rows, "", false)),
                };
                let what = format!("Continue: {} to list{to_clear}", rows_of(users.not_run, "", true));
                step(what, self.resume.clone());
            }
            if users.retryable > 0 {
                let failed = rows_of(users.failed, "failed ", true);
                let what = format!("List the {failed} again, and clear what is listed{}", users.of_them());
                step(what, Some(self.users_again()));
            }
        }
        let rows = |rows: u64, which: &str| rows_of(rows, which, self.is_list);
        let verb = if self.is_list { "List" } else { "Send" };
        // The command that lists the users clears the rows too.
        if self.rows.not_run > 0 && self.users.as_ref().is_none_or(|users| users.not_run == 0) {
            let what = format!("{verb} the {}", without_record(self.rows.not_run, self.is_list));
            step(what, self.resume.clone());
        }
        if self.rows.retryable > 0 {
            let failed = rows(self.rows.failed, "failed ");
            let what = format!("{verb} the {failed} again{}", self.rows.of_them());
            step(what, Some(self.again(Outcome::Failed, "retry")));
        }
        let users = self.users.iter().map(|users| (users, true));
        let parts = users.chain([(&self.rows, self.is_list)]);
        let permanent = parts.flat_map(|(part, are_users)| {
            let about = move |reason| match are_users && is_not_registered(reason) {
                // Where others are tried again, these are too.
                true if part.retryable > 0 => (self.about_not_registered(reason), None),
                true => (self.about_not_registered(reason), Some(self.failed_users_again())),
                false => (about_permanent(reason, are_users, self.language), None),
            };
            part.permanent.iter().map(about)
        });
        for (index, (what, command)) in permanent.enumerate() {
            match index {
                ..MAX_PERMANENT => step(what, command),
                MAX_PERMANENT => step(
                    "See the other reasons, which another try can't change either".to_owned(),
                    None,
                ),
                _ => {}
            }
        }
        if self.outside > 0 {
            let outside = rows(self.outside, "outside ");
            let what = format!("Send the {outside} again, after ZEGO has raised the limit");
            step(what, Some(self.again(Outcome::Outside, "second")));
        }
        if let Some(what) = &self.unsendable {
            step(what.clone(), None);
        }
        let users = self.users.iter().map(|users| (users.invalid, true));
        for (invalid, are_users) in users.chain([(self.rows.invalid, self.is_list)]) {
            if invalid > 0 {
                let invalid = rows_of(invalid, "invalid ", are_users);
                let what = format!("Correct the {invalid} in {}, then resume", self.input);
                step(what, self.resume.clone());
            }
        }
        steps
    }

    /// The command that takes the rows with this outcome once more. `name` is a part of the new report's name.
    fn again(&self, outcome: Outcome, name: &str) -> String {
        let (command, to, file) = if self.is_list {
            ("list", "--rows", free_name::beside(&without_list(&self.report), name))
        } else {
            ("clear", "--report", free_name::beside(&self.report, name))
        };
        self.only(vec![command.into()], outcome, |report| report.to_owned(), to, &file)
    }

    /// What to do about users who are not registered.
    fn about_not_registered(&self, reason: &Reason) -> String {
        let lines: Vec<String> = reason.lines.iter().take(SHOWN).map(u64::to_string).collect();
        let more = reason.rows.saturating_sub(lines.len() as u64);
        let known = reason.code.and_then(code::find);
        // Nobody edits a report.
        let is_list_of_users = !self.input.ends_with(".list.csv");
        if let (Language::Chinese, Some(known)) = (self.language, known) {
            let lines = match (lines.is_empty(), more) {
                (true, _) => String::new(),
                (false, 0) => format!("（第 {} 行）", lines.join("、")),
                (false, more) => format!("（第 {} 行等，另有 {} 个）", lines.join("、"), grouped(more)),
            };
            let remove = match is_list_of_users {
                true => format!("；或从 {} 中删除{lines}", self.input),
                false => String::new(),
            };
            return format!(
                "注册这些用户后重新查询{remove}：{} 个用户失败，返回码 {}，{}",
                grouped(reason.rows),
                known.code,
                known.meaning_zh
            );
        }
        let lines = match (lines.len(), more) {
            (0, _) => String::new(),
            (1, 0) => format!(" (line {})", lines.join(", ")),
            (_, 0) => format!(" (lines {})", lines.join(", ")),
            (_, more) => format!(" (lines {} and {} more)", lines.join(", "), grouped(more)),
        };
        let (these, them) = match reason.rows {
            1 => ("this user", "the user"),
            _ => ("these users", "them"),
        };
        let remove = match is_list_of_users {
            true => format!("; or remove {them} from {}{lines}", self.input),
            false => String::new(),
        };
        let why = known.map_or(String::new(), |known| {
            format!(" with code {}, {}", known.code, known.meaning)
        });
        let failed = rows_of(reason.rows, "failed ", true);
        format!("Register {these}, then list {them} again{remove}: {failed}{why}")
    }

    /// The command that lists the failed users once more.
    fn failed_users_again(&self) -> String {
        match self.users {
            Some(_) => self.users_again(),
            None => self.again(Outcome::Failed, "retry"),
        }
    }

    /// The command that lists the failed users once more, and clears what is listed.
    fn users_again(&self) -> String {
        let report = free_name::beside(&self.report, "users");
        let command = vec!["clear".into(), "--users".into()];
        self.only(command, Outcome::Failed, list_report_of, "--report", &report)
    }

    /// A command that takes the rows or users with this outcome. Those of several reports are copied to one file first.
    fn only(
        &self,
        command: Vec<OsString>,
        outcome: Outcome,
        report: fn(&Path) -> PathBuf,
        to: &str,
        file: &Path,
    ) -> String {
        let only = |input: &Path| {
            let only = ["--only".into(), outcome.as_str().into()];
            let words = [OsString::from("zim-batch")].into_iter().chain(command);
            let words = words.chain([path_argument(input)]).chain(only);
            let command = line(words.chain([to.into(), path_argument(file)]));
            format!("{command} {}", self.flags).trim_end().to_owned()
        };
        let others = self.others.iter().map(|other| report(other));
        // Not beside each report is a list report.
        let mut reports: Vec<PathBuf> = [report(&self.report)].into_iter().chain(others).collect();
        if !self.others.is_empty() {
            reports.retain(|report| report.exists());
        }
        if let [report] = &reports[..] {
            return only(report);
        }
        let copy = free_name::beside(&self.report, outcome.as_str());
        let reports = reports.iter().map(|path| path_argument(path));
        let words = ["zim-batch".into(), "report".into()].into_iter().chain(reports);
        let to_copy = [
            "--only".into(),
            outcome.as_str().into(),
            "--csv".into(),
            path_argument(&copy),
        ];
        format!("{} && {}", line(words.chain(to_copy)), only(&copy))
    }
}

/// Whether the users don't exist: never registered, or removed.
fn is_not_registered(reason: &Reason) -> bool {
    reason.code.is_some_and(|code| NOT_REGISTERED.contains(&code))
}

/// Whether another try is of no use.
fn is_permanent(reason: &Reason) -> bool {
    reason.outcome == Outcome::Failed && !reason.retryable
}

/// What to do about rows that can't succeed as they are: what their code advises.
fn about_permanent(reason: &Reason, is_list: bool, language: Language) -> String {
    let rows = rows_of(reason.rows, "failed ", is_list);
    let known = reason.code.and_then(code::find);
    if let (Language::Chinese, Some(known)) = (language, known) {
        let advice = match known.advice_zh {
            "" => "再次发送也不会成功",
            advice => advice,
        };
        let (rows, unit) = (grouped(reason.rows), if is_list { "个用户" } else { "行" });
        return format!(
            "{advice}：{rows} {unit}失败，返回码 {}，{}",
            known.code, known.meaning_zh
        );
    }
    let why = match known {
        Some(known) => format!("code {}, {}", known.code, known.meaning),
        None => format!("'{}'", one_line(&reason.message)),
    };
    let advice = known.map(|known| known.advice).filter(|advice| !advice.is_empty());
    let advice = advice.unwrap_or("another try is of no use");
    let (first, rest) = advice.split_at(advice.len().min(1));
    format!("{}{rest}: {rows} with {why}", first.to_uppercase())
}

/// What is said of invalid rows that were listed, if there are any.
fn unsendable(summary: &Summary) -> Option<String> {
    let invalid = summary.all_invalid;
    let mut reasons = summary.reasons.iter();
    let why = match reasons.find(|reason| reason.outcome == Outcome::Invalid) {
        Some(reason) if reason.rows == invalid => format!(" ({})", one_line(&reason.message)),
        _ => String::new(),
    };
    let rows = rows_of(invalid, "invalid ", false);
    let text = format!("Nothing to correct: {rows}, listed by ZIM with an ID that can't be sent{why}");
    (invalid > 0).then_some(text)
}

/// `1 row that has no record yet`.
fn without_record(number: u64, is_list: bool) -> String {
    let has = if number == 1 { "has" } else { "have" };
    format!("{} that {has} no record yet", rows_of(number, "", is_list))
}

/// `1 failed row`, `2,000 users`.
fn rows_of(number: u64, which: &str, is_list: bool) -> String {
    let noun = if is_list { "user" } else { "row" };
    let s = if number == 1 { "" } else { "s" };
    format!("{} {which}{noun}{s}", grouped(number))
}

/// `rows.list.csv` → `rows.csv`: the rows that belong to a list report.
pub fn without_list(report: &Path) -> PathBuf {
    let stem = stem(report);
    let rows = stem.strip_suffix(b".list").unwrap_or(stem);
    report.with_file_name(OsStr::from_bytes(&[rows, b".csv"].concat()))
}
