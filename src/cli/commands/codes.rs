//! `zim-batch codes`: explains ZIM's return codes offline.

use std::fmt::Write as _;
use std::process::ExitCode;

use zim_batch::code::{Class, ReturnCode, TABLE, find};

use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::print::print;

pub fn codes(wanted: &[i64], json: bool) -> Result<ExitCode, Error> {
    let known: Vec<ReturnCode> = match wanted {
        [] => TABLE.to_vec(),
        wanted => wanted
            .iter()
            .map(|&code| find(code).copied().unwrap_or_else(|| unknown(code)))
            .collect(),
    };
    if json {
        let json = serde_json::to_string_pretty(&known).map_err(|error| Error::Unexpected(error.to_string()))?;
        return print(&format!("{json}\n"));
    }
    let mut text = String::new();
    for code in known {
        // Writing to a String does not fail.
        let _ = match wanted {
            [] => writeln!(text, "{:>9}  {:<9}  {}", code.code, code.class, code.meaning),
            _ => writeln!(text, "{}", explained(&code)),
        };
    }
    print(&text)
}

fn explained(code: &ReturnCode) -> String {
    let status = match code.class {
        Class::Signature | Class::App | Class::Fatal => format!(" (exit {})", ExitStatus::Rejected.code()),
        _ => String::new(),
    };
    let mut text = format!(
        "{}: {}\n  class   {}: {}{status}",
        code.code,
        code.meaning,
        code.class,
        code.class.handling()
    );
    if !code.advice.is_empty() {
        text += &format!("\n  advice  {}", code.advice);
    }
    text
}

fn unknown(code: i64) -> ReturnCode {
    ReturnCode {
        code,
        class: Class::Unknown,
        meaning: "not in ZEGO's published lists, which are incomplete",
        advice: "ask ZEGO's support; include the request_id from the report",
    }
}
