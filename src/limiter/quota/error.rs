//! Errors of the quota.

use std::io;
use std::path::PathBuf;

use crate::kind::ErrorKind;

/// Why a run can't use the app's quota as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// Another run is using it.
    #[error("{by} uses the same app's quota")]
    Held {
        /// The description of that run.
        by: String,
    },
    /// No file can be locked, so other runs are not detected.
    #[error(
        "{}: can't be used as a lock file ({why}), so other runs of this app on this machine are not detected; together \
         with one of them this run may exceed the app's limit", .path.display()
    )]
    Unusable {
        /// The lock file.
        path: PathBuf,
        /// Why not.
        why: io::Error,
    },
    /// The URL of the server through which runs share the quota can't be used.
    #[error("the quota URL can't be used: {0}; write it like redis://host:6379, rediss://host or redis+unix:///path")]
    Url(&'static str),
    /// The server through which runs share the quota refuses this run.
    #[error("{server}: this quota server refuses the user or the password ({why})")]
    Refused {
        /// The server, without user and password.
        server: String,
        /// Its error code.
        why: String,
    },
}

impl From<&QuotaError> for ErrorKind {
    fn from(error: &QuotaError) -> ErrorKind {
        match error {
            QuotaError::Held { .. } => ErrorKind::Busy,
            QuotaError::Url(_) | QuotaError::Refused { .. } => ErrorKind::Settings,
            QuotaError::Unusable { .. } => ErrorKind::System,
        }
    }
}
