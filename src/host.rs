//! The name of this machine.

/// What this machine calls itself, for people who have several.
pub(crate) fn host_name() -> String {
    rustix::system::uname().nodename().to_string_lossy().into_owned()
}
