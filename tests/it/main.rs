//! What the program does and writes: its commands, files, messages and exit statuses.

#[path = "../support/mod.rs"]
mod support;

mod answers;
mod check;
mod clear;
mod clear_users;
mod config;
mod connections;
mod dialects;
mod empty_input;
mod examples;
mod exit_ok;
mod harness;
mod language;
mod list;
mod messages;
mod metrics;
mod other_users;
mod quota;
mod readme;
mod report;
mod resume;
mod retries;
mod rows;
mod run_log;
mod secrets;
mod snapshots;
mod timetable;
mod until;
mod usage;
