//! What tells the runs of one job from those of other jobs: in metrics, in log lines, and for the runs that share its quota.

use std::path::{Path, PathBuf};

use zim_batch::files::stem;
use zim_batch::text::one_line;

/// The labels of a job. What is not known is empty.
#[derive(Debug, Clone, Default)]
pub struct Labels {
    /// The AppId, or `simulated`.
    pub app_id: String,
    pub command: String,
    /// `--name`, or else the stem of the report.
    pub name: String,
}

impl Labels {
    /// Names the job after `file`, unless `--name` was given.
    pub fn set_name(&mut self, given: Option<&str>, file: &Path) {
        self.name = given.map_or_else(
            || one_line(&String::from_utf8_lossy(stem(file))).into_owned(),
            str::to_owned,
        );
    }
}

/// The flag of the file with metrics.
pub const METRICS: &str = "--metrics";

/// Where metrics are written, and their labels.
#[derive(Debug, Clone)]
pub struct MetricsFile {
    pub path: PathBuf,
    pub labels: Labels,
}
