//! Which signals the programs that a test starts will ignore: those that the test itself was started to ignore, as
//! SIGHUP is under `nohup`, and SIGINT in the background of a shell script.

use std::fs;
use std::sync::Once;

use super::passed_over;

/// Whether this signal (`INT`, `HUP`; others never) will be ignored; then says so on stderr.
pub fn is_ignored(name: &str) -> bool {
    let number = match name {
        "HUP" => 1,
        "INT" => 2,
        _ => return false,
    };
    let status = fs::read_to_string("/proc/self/status").unwrap_or_default();
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))
        .and_then(|mask| u64::from_str_radix(mask.trim(), 16).ok())
        .unwrap_or_default();
    let is_ignored = mask & (1 << (number - 1)) != 0;
    if is_ignored {
        static SAID: Once = Once::new();
        SAID.call_once(|| passed_over(&format!("SIG{name}, which is ignored here")));
    }
    is_ignored
}
