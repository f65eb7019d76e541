//! Errors of the quota.

use std::io;
use std::path::PathBuf;

use super::presence::Presence;
use crate::kind::ErrorKind;

/// Why a run can't use the app's quota as it should.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum QuotaError {
    /// Another run is using it.
    #[error("another run{} uses the same app's quota", by.as_ref().map(|by| format!(", {by},")).unwrap_or_default())]
    Held {
        /// That run, if its entry can be read.
        by: Option<Box<Presence>>,
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
    /// A run on another machine uses the same file.
    #[error(
        "{}: a run on another machine uses this file, but the runs of several machines can't share the quota through files", .path.display()
    )]
    OtherMachine {
        /// The file with the starts.
        path: PathBuf,
    },
    /// The URL of the server through which runs share the quota can't be used.
    #[error("the quota URL can't be used: {0}; write it like redis://host:6379, rediss://host or redis+unix:///path")]
    Url(&'static str),
    /// The server through which runs share the quota can't be used, and waiting does not help.
    #[error("quota server {server}: {why}")]
    Refused {
        /// The server, without user and password.
        server: String,
        /// Why not.
        why: String,
    },
    /// The certificate of the server is not trusted.
    #[error("quota server {server}: its certificate is not trusted ({why})")]
    Untrusted {
        /// The server, without user and password.
        server: String,
        /// Why not.
        why: String,
    },
    /// The server can't be reached, so it is not known whether another run is using the quota.
    #[error("quota server {server}: {why}; so it is not known whether another run uses the same app's quota")]
    Unreachable {
        /// The server, without user and password.
        server: String,
        /// Why not.
        why: String,
    },
}

impl From<&QuotaError> for ErrorKind {
    fn from(error: &QuotaError) -> ErrorKind {
        match error {
            QuotaError::Held { .. } | QuotaError::Unreachable { .. } => ErrorKind::Busy,
            QuotaError::Url(_)
            | QuotaError::Refused { .. }
            | QuotaError::Untrusted { .. }
            | QuotaError::OtherMachine { .. } => ErrorKind::Settings,
            QuotaError::Unusable { .. } => ErrorKind::System,
        }
    }
}
