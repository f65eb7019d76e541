//! The kinds of errors: what the errors of all stages are mapped to.

/// What kind of error it is, to decide by. [`Error::kind`](crate::Error::kind) returns it; `ErrorKind::from` does for the errors of the stages.
///
/// There may be new errors in any version, each of one of these kinds. So this enum is exhaustive on purpose: a `match`
/// without `_` stays complete until a version that may break code has another kind.
///
/// ```
/// use zim_batch::{Client, Error, ErrorKind};
///
/// let client = Client::builder(12345, "9193cc662a4c0ec135ec71fb57194b38").endpoint("http://example.com".parse()?);
/// let error = Error::from(client.build().expect_err("plain http is only for this machine"));
/// let try_again_later = match error.kind() {
///     ErrorKind::Busy => true,
///     ErrorKind::Settings | ErrorKind::Input | ErrorKind::Output | ErrorKind::System | ErrorKind::Bug => false,
/// };
/// assert!(!try_again_later);
/// # Ok::<(), Box<dyn std::error::Error>>(())
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// What the caller chose can't be used: a setting of the client or the quota, the path of a file, or a file that exists
    /// already and is to be neither resumed nor replaced. Nothing was sent.
    Settings,
    /// The rows, or a report that is to be read or resumed, can't be read, or they don't belong together.
    Input,
    /// A result can't be written. A run can be resumed.
    Output,
    /// Another run holds the report or the quota: try again later.
    Busy,
    /// The operating system refuses what every run needs, a thread or a lock.
    System,
    /// A part of this crate failed, which is a bug.
    Bug,
}
