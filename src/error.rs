//! Why there was no run: the errors of the stages, joined. A row that fails is data, not an error; a run that stops early
//! has a summary, with a [`StopReason`](crate::stop::StopReason).

use std::io;

use crate::client::BuildError;
use crate::journal::ReportError;
pub use crate::kind::ErrorKind;
use crate::limiter::quota::QuotaError;
use crate::rows::InputError;

/// Why there was no run, or why it ended with no summary worth trusting.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The rows can't be read, or are not those that the report was made from.
    #[error(transparent)]
    Rows(#[from] InputError),
    /// Another run uses the app's quota.
    #[error(transparent)]
    Quota(#[from] QuotaError),
    /// The client can't be set up with these settings.
    #[error(transparent)]
    Client(#[from] BuildError),
    /// The report can't be written, resumed or read.
    #[error(transparent)]
    Report(#[from] ReportError),
    /// The system has no thread for a part of the run.
    #[error("a thread could not be started")]
    Thread(#[source] io::Error),
    /// A part of this crate failed, which is a bug; which, and how. What was recorded until then stays.
    #[error("{0}")]
    Bug(String),
}

impl Error {
    /// What kind of error it is.
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Rows(error) => error.into(),
            Error::Quota(error) => error.into(),
            Error::Client(error) => error.into(),
            Error::Report(error) => error.into(),
            Error::Thread(_) => ErrorKind::System,
            Error::Bug(_) => ErrorKind::Bug,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::explain::ExplainError;
    use crate::rows::InputErrorKind;
    use crate::stop::StopReason;
    use crate::text::{causes, with_causes};

    #[test]
    fn a_cause_is_said_once_and_by_its_own_error() {
        let cause = || io::Error::other("cable pulled");
        let input = || InputErrorKind::Read(cause()).at("rows.csv", 7);
        let write = || ReportError::Write {
            path: "out.csv".into(),
            source: cause(),
        };
        let unusable = QuotaError::Unusable {
            path: "lock".into(),
            why: cause(),
        };
        let open = ReportError::Open {
            place: "out.csv".into(),
            source: cause(),
        };
        let errors: [Box<dyn std::error::Error>; 9] = [
            Box::new(Error::from(input())),
            Box::new(Error::from(InputErrorKind::Open(cause()).of("rows.csv"))),
            Box::new(Error::from(write())),
            Box::new(Error::from(open)),
            Box::new(Error::from(unusable)),
            Box::new(Error::Thread(cause())),
            Box::new(ExplainError::Write(cause())),
            Box::new(StopReason::InputFailed(input().into())),
            Box::new(StopReason::ReportFailed(write().into())),
        ];
        for error in errors {
            let all = with_causes(&*error);
            assert_eq!(all.matches("cable pulled").count(), 1, "{all}");
            let texts: Vec<String> = causes(&*error).map(ToString::to_string).collect();
            for pair in texts.windows(2) {
                assert!(!pair[0].contains(&pair[1]), "{texts:?}");
            }
        }
    }
}
