//! Where the runs of an app meet.
//!
//! # Location
//! `/run/zim-batch` if it exists: a directory that only a group can write to, as the Debian package makes it. Otherwise `/tmp`.
//! Both regardless of `TMPDIR` and `XDG_RUNTIME_DIR`, because runs from cron, from a terminal and of different users must share
//! the files. All runs of an app must use the same directory ([`QuotaLocation::in_directory`]). Users who may write
//! there can disturb the sharing, but can't make a run write or read anything else: see the module `lock_file`.
//!
//! # Name
//! The quota is the app's, whatever host name is used: the regional hosts, `zim-api.zego.im` and a custom domain all
//! lead to the same app and share one limit. So the files are named after the app alone. A server on a loopback address is
//! not ZEGO but a stand-in: there is one quota per port, whatever the spelling of the address.

use std::path::{Path, PathBuf};

use url::Url;

use crate::endpoint::is_loopback;

/// Where the runs of one app on this machine meet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct QuotaLocation {
    /// Names the quota.
    pub(super) name: String,
    /// Locked by every run.
    pub(super) runs: PathBuf,
    /// Has the starts.
    pub(super) starts: PathBuf,
    /// Has the limit that an operator has set, if there is one.
    pub(super) limit: PathBuf,
}

/// Runs that share a quota on one machine: no more of them have an entry.
const MAX_ENTRIES: u32 = 256;

impl QuotaLocation {
    /// The directory of the files on a machine that has it: only a group can write to it.
    pub const GROUP_DIRECTORY: &str = "/run/zim-batch";

    /// The default directory of the files: [`QuotaLocation::GROUP_DIRECTORY`] if it exists, or else `/tmp`.
    pub fn default_directory() -> &'static Path {
        let directory = Path::new(QuotaLocation::GROUP_DIRECTORY);
        if directory.is_dir() {
            directory
        } else {
            Path::new("/tmp")
        }
    }

    /// The location for an app. A stand-in on a loopback `endpoint` has its own.
    pub fn new(app_id: u32, endpoint: &Url) -> QuotaLocation {
        let name = match loopback_port(endpoint) {
            Some(port) => format!("zim-batch-{app_id}-loopback-{port}"),
            None => format!("zim-batch-{app_id}"),
        };
        let path = |ending: &str| QuotaLocation::default_directory().join(format!("{name}.{ending}"));
        QuotaLocation {
            runs: path("lock"),
            starts: path("starts"),
            limit: path("limit"),
            name,
        }
    }

    /// The files of the runs' entries. Each run takes the first that no run has.
    pub(super) fn entries(&self) -> impl Iterator<Item = PathBuf> {
        (0..MAX_ENTRIES).map(|number| self.runs.with_extension(format!("run-{number}")))
    }

    /// Uses another directory than the default. Runs that use different directories don't detect each other.
    #[must_use]
    pub fn in_directory(self, directory: &Path) -> QuotaLocation {
        let inside = |path: PathBuf| directory.join(path.file_name().unwrap_or_default());
        QuotaLocation {
            runs: inside(self.runs),
            starts: inside(self.starts),
            limit: inside(self.limit),
            name: self.name,
        }
    }
}

/// The port, if the endpoint is on a loopback address.
fn loopback_port(endpoint: &Url) -> Option<u16> {
    is_loopback(endpoint).then(|| endpoint.port_or_known_default().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_app_has_one_location_whatever_the_host_and_one_per_port_of_this_machine() {
        let name = |endpoint: &str| {
            let location = QuotaLocation::new(12345, &endpoint.parse().unwrap());
            location.in_directory(Path::new("/tmp")).runs
        };
        assert_eq!(name("https://zim-api.zego.im"), Path::new("/tmp/zim-batch-12345.lock"));
        assert_eq!(name("https://zim-api-fra.zego.im"), name("https://zim-api.zego.im"));
        let local = Path::new("/tmp/zim-batch-12345-loopback-8080.lock");
        for host in [
            "127.0.0.1",
            "127.1.2.3",
            "localhost",
            "LOCALHOST.",
            "[::1]",
            "[::ffff:127.0.0.1]",
        ] {
            assert_eq!(name(&format!("http://{host}:8080")), local, "{host}");
        }
    }
}
