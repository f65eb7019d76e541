//! The program among others and on a real system: in real time, with networks, disks and clocks that fail, kills, terminals
//! and pipes, certificates, browsers and databases.

#[path = "../support/mod.rs"]
mod support;

mod browser;
mod clear_users;
mod clock;
mod disk;
mod list;
mod locks;
mod metrics;
mod outages;
mod pacing;
mod redis;
mod stopping;
mod terminal;
mod tls;
mod torture;
