//! The terminal that a bar is drawn on.

use std::env;
use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crate::cli::lossy::LossyWriter;

/// Where the bar is drawn, and who may ask how far the run is. Clones are the same terminal.
#[derive(Debug, Clone, Default)]
pub struct Terminal {
    output: Option<LossyWriter>,
    is_status_asked: Arc<AtomicBool>,
}

impl Terminal {
    /// The terminal that stderr is, if it is one; `output` writes there.
    pub fn stderr(output: LossyWriter) -> Terminal {
        Terminal {
            output: Some(output),
            is_status_asked: Arc::default(),
        }
    }

    /// Makes the run report its progress once, whatever the style.
    pub fn ask_status(&self) {
        self.is_status_asked.store(true, Ordering::Release);
    }

    /// Waits until everything is on the terminal; see [`LossyWriter::drain`].
    pub fn drain(&self) {
        self.output.iter().for_each(LossyWriter::drain);
    }

    /// Whether somebody has asked since the last time.
    pub fn take_status_asked(&self) -> bool {
        self.is_status_asked.swap(false, Ordering::AcqRel)
    }

    /// For a bar, the terminal has to move its cursor.
    pub fn with_bar(&self) -> Option<&LossyWriter> {
        let is_dumb = matches!(term().as_str(), "" | "dumb");
        self.output.as_ref().filter(|_| !is_dumb && io::stderr().is_terminal())
    }
}

/// The terminal's kind, as `TERM` names it.
pub fn term() -> String {
    env::var("TERM").unwrap_or_default().to_lowercase()
}
