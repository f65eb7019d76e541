//! How a run is set up, driven and ended.

pub mod batch;
pub mod process;
pub mod session;
pub mod signals;
