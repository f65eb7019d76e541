//! The language in which return codes are explained on a terminal. Everything else, and what is written to files, is English.

use std::env;
use std::ffi::OsString;

use zim_batch::code::{Class, ReturnCode};

/// The variables that say it, in the order of POSIX: the first that is not empty.
const VARIABLES: [&str; 3] = ["LC_ALL", "LC_MESSAGES", "LANG"];

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Language {
    English,
    Chinese,
}

impl Language {
    /// What the environment asks for.
    pub fn of_environment() -> Language {
        let mut values = VARIABLES.iter().filter_map(env::var_os);
        Language::of(values.find(|value| !value.is_empty()))
    }

    /// The language of a locale: Chinese for `zh_CN.UTF-8`, `zh-Hans` and the like, unless its encoding can't show what is
    /// written in UTF-8; English for all others.
    fn of(locale: Option<OsString>) -> Language {
        let locale = locale.and_then(|locale| locale.into_string().ok()).unwrap_or_default();
        let locale = locale.to_ascii_lowercase();
        let locale = locale.split('@').next().unwrap_or_default();
        let (name, encoding) = locale.split_once('.').unwrap_or((locale, "utf-8"));
        let language = name.split(['_', '-']).next().unwrap_or_default();
        match language == "zh" && ["utf-8", "utf8"].contains(&encoding) {
            true => Language::Chinese,
            false => Language::English,
        }
    }

    /// What the code means.
    pub fn meaning(self, code: &ReturnCode) -> &'static str {
        match self {
            Language::English => code.meaning,
            Language::Chinese => code.meaning_zh,
        }
    }

    /// What the operator can do about the code; empty if nothing.
    pub fn advice(self, code: &ReturnCode) -> &'static str {
        match self {
            Language::English => code.advice,
            Language::Chinese => code.advice_zh,
        }
    }

    /// How a run handles the class.
    pub fn handling(self, class: Class) -> &'static str {
        match self {
            Language::English => class.handling(),
            Language::Chinese => class.handling_zh(),
        }
    }

    /// What a code means that ZEGO's lists don't have.
    pub fn not_published(self) -> &'static str {
        match self {
            Language::English => "not in ZEGO's published lists",
            Language::Chinese => "不在 ZEGO 公布的返回码中",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locale_is_chinese_by_its_language_if_it_can_be_shown() {
        for locale in [
            "zh",
            "zh_CN",
            "zh_CN.UTF-8",
            "zh_TW.utf8",
            "zh-Hans",
            "zh_CN.UTF-8@stroke",
        ] {
            assert_eq!(Language::of(Some(locale.into())), Language::Chinese, "{locale}");
        }
        for locale in [
            "",
            "C",
            "POSIX",
            "C.UTF-8",
            "en_US.UTF-8",
            "zha_CN",
            "zh_CN.GB18030",
            "de_DE@zh",
        ] {
            assert_eq!(Language::of(Some(locale.into())), Language::English, "{locale}");
        }
        assert_eq!(Language::of(None), Language::English);
    }
}
