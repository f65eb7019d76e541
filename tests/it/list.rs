//! `zim-batch list`, which writes the conversations of users as rows for `clear`, and `check --online`, which asks which
//! users exist: whole runs of the program against a server with users of its own.

mod explain;
mod files;
mod full;
mod leaks;
mod oddities;
mod online;
mod policies;
mod together;
mod whole;
