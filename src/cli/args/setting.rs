//! What is known of a setting of the app, and how clap takes its flag.

use std::ffi::OsStr;

use clap::builder::{PathBufValueParser, PossibleValue, StringValueParser};
use clap::{Arg, ValueHint};
use serde_json::Value;

use super::APP;
use super::values::offering;

/// A setting of the app.
pub struct Setting<T: 'static> {
    pub about: About,
    /// Its value if it is set nowhere.
    pub default: Option<fn() -> T>,
    /// What its text means. The error does not show the text, which may be the secret by mistake.
    pub parse: fn(&OsStr) -> Result<T, String>,
    /// Its value in JSON, without passwords.
    pub show: fn(&T) -> Value,
}

/// What is known of a setting without its value.
pub struct About {
    /// Its name in a profile and in `zim-batch config`.
    pub key: &'static str,
    pub flag: &'static str,
    pub variable: Option<&'static str>,
    pub in_profile: bool,
    /// What a text is.
    pub kind: Kind,
    /// Its text may contain a password.
    pub has_password: bool,
    /// The key of a setting that can't be set too.
    pub conflicts_with: Option<&'static str>,
    /// In the help: the group, the name of the value, the values that are offered, and the explanation.
    pub heading: &'static str,
    pub value_name: &'static str,
    pub values: fn() -> Vec<PossibleValue>,
    pub help: &'static str,
    /// The default in the help, if it is another one on other machines.
    pub default_in_words: Option<&'static str>,
    /// What `zim-batch config` shows if it is not set.
    pub unset: &'static str,
    /// A run can't do without it.
    pub is_required: bool,
}

/// What the text of a setting is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    /// The path of a file that is read.
    File,
    Directory,
}

impl About {
    /// What most settings have in common.
    pub const OF_APP: About = About {
        key: "",
        flag: "",
        variable: None,
        in_profile: true,
        kind: Kind::Text,
        has_password: false,
        conflicts_with: None,
        heading: APP,
        value_name: "",
        values: Vec::new,
        help: "",
        default_in_words: None,
        unset: "none",
        is_required: false,
    };
}

/// A setting, whatever the type of its value.
pub trait AnySetting: Sync {
    fn about(&self) -> &About;

    /// The value that a text means, as it is shown.
    fn show(&self, text: &OsStr) -> Result<Value, String>;

    /// The default, as it is shown.
    fn show_default(&self) -> Option<Value>;
}

impl<T> AnySetting for Setting<T> {
    fn about(&self) -> &About {
        &self.about
    }

    fn show(&self, text: &OsStr) -> Result<Value, String> {
        (self.parse)(text).map(|value| (self.show)(&value))
    }

    fn show_default(&self) -> Option<Value> {
        self.default.map(|default| (self.show)(&default()))
    }
}

/// A value without quotation marks, and a whole number without a fraction.
pub fn as_text(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Number(number) => number.as_f64().unwrap_or_default().to_string(),
        other => other.to_string(),
    }
}

/// The flag of a setting. Its text is checked later, with those of variable and profile: so `zim-batch config` can show all
/// that is wrong.
pub fn flag(setting: &dyn AnySetting) -> Arg {
    let about = setting.about();
    let mut help = about.help.to_owned();
    // clap does not read the variable: an empty one counts as not set, and one that is not UTF-8 is refused by its name.
    if let Some(variable) = about.variable {
        help += &format!(" [env: {variable}]");
    }
    let default = match about.default_in_words {
        Some(words) => Some(words.to_owned()),
        None => setting.show_default().as_ref().map(as_text),
    };
    if let Some(default) = default {
        // A URL ends with a slash that nobody writes.
        help += &format!(" [default: {}]", default.trim_end_matches('/'));
    }
    let arg = Arg::new(about.key)
        .long(about.flag.trim_start_matches('-'))
        .value_name(about.value_name)
        .help_heading(about.heading)
        .help(help)
        .hide_env_values(about.has_password)
        .conflicts_with_all(about.conflicts_with);
    let values = (about.values)();
    match about.kind {
        Kind::File => arg
            .value_parser(PathBufValueParser::new())
            .value_hint(ValueHint::FilePath),
        Kind::Directory => arg
            .value_parser(PathBufValueParser::new())
            .value_hint(ValueHint::DirPath),
        // What is wrong with a negative number is said below: clap would advise '--'.
        Kind::Text if values.is_empty() => arg.value_parser(StringValueParser::new()).allow_negative_numbers(true),
        Kind::Text => arg.value_parser(offering(StringValueParser::new(), values)),
    }
}
