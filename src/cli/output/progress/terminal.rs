//! The terminal that shows the bar.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::output::lossy::LossyWriter;

/// The output for the bar, and the flag that requests a status line. Clones share both.
#[derive(Debug, Clone, Default)]
pub struct Terminal {
    output: Option<LossyWriter>,
    is_status_requested: Arc<AtomicBool>,
}

impl Terminal {
    /// The terminal on stderr, if it is one; `output` writes to stderr.
    pub fn stderr(output: LossyWriter) -> Terminal {
        Terminal {
            output: Some(output),
            is_status_requested: Arc::default(),
        }
    }

    /// Makes the run print one status line, in any progress style.
    pub fn request_status(&self) {
        self.is_status_requested.store(true, Ordering::Release);
    }

    /// Waits until all output is written; see [`LossyWriter::drain`].
    pub fn drain(&self) {
        self.output.iter().for_each(LossyWriter::drain);
    }

    /// Whether a status line was requested since the last call.
    pub fn take_status_request(&self) -> bool {
        self.is_status_requested.swap(false, Ordering::AcqRel)
    }

    /// The output for a bar, if the terminal can move its cursor.
    pub fn with_bar(&self) -> Option<&LossyWriter> {
        let is_dumb = matches!(term().as_str(), "" | "dumb");
        self.output.as_ref().filter(|_| !is_dumb && io::stderr().is_terminal())
    }
}

/// The terminal type, from `TERM`.
pub fn term() -> String {
    env::var("TERM").unwrap_or_default().to_lowercase()
}
