//! `--exit-ok`: exit statuses that are reported as 0, for schedulers that know no other success.

use std::fmt;
use std::process::ExitCode;

use crate::cli::errors::ExitStatus;

/// The exit statuses that may be reported as 0. A bug never is, and neither is a command line that can't be understood.
const POSSIBLE: [ExitStatus; 10] = [
    ExitStatus::RowsFailed,
    ExitStatus::Input,
    ExitStatus::Policy,
    ExitStatus::Rejected,
    ExitStatus::MaxDuration,
    ExitStatus::Report,
    ExitStatus::Held,
    ExitStatus::Signal(1),
    ExitStatus::Signal(2),
    ExitStatus::Signal(15),
];

/// The exit statuses that are reported as 0. What is said of a run, its log and its metrics have the true status.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ExitOk(Vec<ExitStatus>);

impl ExitOk {
    /// Parses a list of exit statuses: `3,7`.
    pub fn parse(text: &str) -> Result<ExitOk, String> {
        text.split(',')
            .map(|status| parse(status.trim()))
            .collect::<Result<_, _>>()
            .map(ExitOk)
    }

    /// The exit status of the process.
    pub fn code(&self, exit: ExitStatus) -> ExitCode {
        if self.0.contains(&exit) {
            ExitCode::SUCCESS
        } else {
            exit.into()
        }
    }

    /// Says that an exit status is reported as 0, if it is.
    pub fn note(&self, exit: ExitStatus) -> Option<String> {
        let is_ok = self.0.contains(&exit);
        is_ok.then(|| format!("exit status {}, reported as 0 (--exit-ok)", exit.code()))
    }
}

fn parse(text: &str) -> Result<ExitStatus, String> {
    let possible = POSSIBLE.into_iter().find(|status| status.code().to_string() == text);
    possible.ok_or_else(|| {
        let why = match text {
            "0" => "0 is reported as 0 anyway",
            "1" => "1 is an unexpected error, which is never a success",
            "2" => "2 means that the command could not run as it is",
            _ => "each must be an exit status of zim-batch",
        };
        let possible: Vec<String> = POSSIBLE.iter().map(|status| status.code().to_string()).collect();
        format!(
            "{why}; the statuses that can be reported as 0 are {}",
            possible.join(", ")
        )
    })
}

/// As it is written: `3,7`.
impl fmt::Display for ExitOk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let statuses: Vec<String> = self.0.iter().map(|status| status.code().to_string()).collect();
        f.write_str(&statuses.join(","))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_that_a_run_may_end_with_are_taken_and_bugs_and_mistakes_are_not() {
        let all = "3,4,5,6,7,74,75,129,130,143";
        assert_eq!(ExitOk::parse(all).map(|ok| ok.to_string()), Ok(all.to_owned()));
        assert_eq!(ExitOk::parse(" 7, 3").map(|ok| ok.to_string()), Ok("7,3".to_owned()));
        for (text, says) in [
            ("0", "0 is reported as 0 anyway"),
            ("3,1", "1 is an unexpected error, which is never a success"),
            ("2", "2 means that the command could not run"),
            ("", "each must be an exit status of zim-batch"),
            ("3,", "each must be an exit status of zim-batch"),
            ("9", "each must be an exit status of zim-batch"),
            ("03", "each must be"),
            ("all", "each must be"),
        ] {
            let why = ExitOk::parse(text).unwrap_err();
            assert!(
                why.contains(says) && why.ends_with(&all.replace(',', ", ")),
                "{text}: {why}"
            );
        }
    }

    #[test]
    fn only_what_was_chosen_is_reported_as_0() {
        let ok = ExitOk::parse("3,143").unwrap();
        assert_eq!(
            ok.note(ExitStatus::RowsFailed).unwrap(),
            "exit status 3, reported as 0 (--exit-ok)"
        );
        assert_eq!(
            ok.note(ExitStatus::Signal(15)).unwrap(),
            "exit status 143, reported as 0 (--exit-ok)"
        );
        for exit in [
            ExitStatus::Success,
            ExitStatus::Unexpected,
            ExitStatus::Held,
            ExitStatus::Signal(2),
        ] {
            assert_eq!(ok.note(exit), None);
            assert_eq!(format!("{:?}", ok.code(exit)), format!("{:?}", ExitCode::from(exit)));
        }
        assert_eq!(
            format!("{:?}", ok.code(ExitStatus::RowsFailed)),
            format!("{:?}", ExitCode::SUCCESS)
        );
    }
}
