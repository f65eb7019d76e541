//! `zim-batch codes`: explains ZIM's return codes offline.

use std::fmt::Write as _;
use std::process::ExitCode;

use zim_batch::code::{Class, ReturnCode, TABLE, find};

use crate::cli::errors::Error;
use crate::cli::errors::ExitStatus;
use crate::cli::output::language::Language;
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
    let language = Language::of_environment();
    let mut text = String::new();
    for code in known {
        // Writing to a String does not fail.
        let _ = match wanted {
            [] => writeln!(text, "{:>9}  {:<9}  {}", code.code, code.class, language.meaning(&code)),
            _ => writeln!(text, "{}", explained(&code, language)),
        };
    }
    print(&text)
}

fn explained(code: &ReturnCode, language: Language) -> String {
    let exit = ExitStatus::Rejected.code();
    let (class, advice, status) = match language {
        Language::English => ("class ", "advice", format!(" (exit {exit})")),
        Language::Chinese => ("类别", "建议", format!("（退出码 {exit}）")),
    };
    let status = match code.class {
        Class::Signature | Class::App | Class::Fatal => status,
        _ => String::new(),
    };
    let mut text = format!(
        "{}: {}\n  {class}  {}: {}{status}",
        code.code,
        language.meaning(code),
        code.class,
        language.handling(code.class)
    );
    if !language.advice(code).is_empty() {
        text += &format!("\n  {advice}  {}", language.advice(code));
    }
    text
}

fn unknown(code: i64) -> ReturnCode {
    ReturnCode {
        code,
        class: Class::Unknown,
        meaning: "not in ZEGO's published lists, which are incomplete",
        advice: "ask ZEGO's support; include the request_id from the report",
        meaning_zh: "不在 ZEGO 公布的返回码中，这些列表并不完整",
        advice_zh: "联系 ZEGO 技术支持，并提供报告中的 request_id",
    }
}
