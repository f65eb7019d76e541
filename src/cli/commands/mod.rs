//! The commands, a file or directory each.

pub mod check;
pub mod clear;
pub mod clear_users;
pub mod codes;
pub mod completions;
pub mod config;
pub mod list;
pub mod man;
pub mod quota;
pub mod report;
pub mod simulate;
