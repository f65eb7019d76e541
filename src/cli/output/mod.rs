//! What a command writes besides its results: logs, progress, tables, metrics, commands to run next.

pub mod empty_input;
pub mod free_name;
pub mod language;
pub mod logging;
pub mod lossy;
pub mod metrics;
pub mod next;
pub mod print;
pub mod progress;
pub mod rate_changes;
pub mod remaining;
pub mod run_page;
pub mod table;
pub mod work;
pub mod wrapped;
