//! One row of the table of settings: its names, what fits it, and how its documentation reads.

use std::fmt::Write;

use figment::value::{Num, Value};

use super::table::{SECTIONS, SETTINGS};
use super::value::Database;

/// A value found in a file is quoted in a problem up to this many characters.
const FOUND_CHARS_MAX: usize = 80;

/// A setting: what it is called, what fits it, and what it means.
#[derive(Debug)]
pub struct Setting {
    /// The environment variable.
    pub env: &'static str,
    pub(super) section: &'static str,
    pub(super) name: &'static str,
    pub(super) kind: Kind,
    pub(super) default: Fallback,
    pub(super) help: &'static str,
}

/// What fits a setting.
#[derive(Debug)]
pub(super) enum Kind {
    /// What is expected, and whether a text is that.
    Text(&'static str, fn(&str) -> bool),
    /// Comma-separated in the environment; what each item is expected to be, and whether it is.
    List(&'static str, fn(&str) -> bool),
    /// Never shown; at least so many bytes.
    Secret(usize),
    /// A path or URL; shown only where it cannot hold a password.
    Database,
    /// From, to.
    Number(u64, u64),
    /// One of these.
    Choice(&'static [&'static str]),
}

/// What holds where nothing is set.
#[derive(Debug)]
pub(super) enum Fallback {
    /// This value, as the environment would write it.
    Value(&'static str),
    /// What this sentence says.
    Otherwise(&'static str),
}

impl Setting {
    /// The key in `burble.toml`.
    pub fn path(&self) -> String {
        if self.section.is_empty() { self.name.into() } else { format!("{}.{}", self.section, self.name) }
    }

    /// The value of an environment variable. Only numbers are read as such: a password of digits stays text.
    pub(super) fn parse(&self, text: &str) -> Value {
        match self.kind {
            Kind::Number(..) => text.trim().parse::<u64>().map_or_else(|_| text.into(), Value::from),
            Kind::List(..) => list(text),
            _ => text.into(),
        }
    }

    pub(super) fn default_value(&self) -> Option<Value> {
        match self.default {
            Fallback::Value(text) => Some(self.parse(text)),
            Fallback::Otherwise(_) => matches!(self.kind, Kind::List(..)).then(|| list("")),
        }
    }

    /// The value if it fits; else what was found and what was expected.
    pub(super) fn accept(&self, value: Value) -> Result<Value, String> {
        let value = match (&self.kind, value.as_str()) {
            (Kind::List(..), Some(text)) => list(text),
            _ => value,
        };
        if self.fits(&value) {
            Ok(value)
        } else {
            Err(format!("found {}, expected {}", self.found(&value), self.expected()))
        }
    }

    fn fits(&self, value: &Value) -> bool {
        let text = value.as_str();
        match &self.kind {
            Kind::Text(_, fits) => text.is_some_and(fits),
            Kind::List(_, fits) => {
                value.as_array().is_some_and(|items| items.iter().all(|item| item.as_str().is_some_and(fits)))
            }
            Kind::Secret(bytes_min) => text.is_some_and(|text| text.len() >= *bytes_min),
            Kind::Database => text.is_some_and(|text| text.parse::<Database>().is_ok()),
            Kind::Number(min, max) => number(value).is_some_and(|n| (u128::from(*min)..=u128::from(*max)).contains(&n)),
            Kind::Choice(names) => text.is_some_and(|text| names.contains(&text)),
        }
    }

    /// What is expected, for problems and documentation.
    fn expected(&self) -> String {
        match &self.kind {
            Kind::Text(expected, _) => (*expected).into(),
            Kind::List(expected, _) => format!("a list, each {expected}"),
            Kind::Secret(1) => "a text, in burble.toml in quotes".into(),
            Kind::Secret(bytes_min) => format!("a text of at least {bytes_min} bytes"),
            Kind::Database => "a path, sqlite://… or postgres://…".into(),
            Kind::Number(min, max) if *max == u64::from(u32::MAX) => format!("a number of at least {min}"),
            Kind::Number(min, max) => format!("a number from {min} to {max}"),
            Kind::Choice(names) => names.join(", "),
        }
    }

    fn found(&self, value: &Value) -> String {
        match (&self.kind, value) {
            (Kind::Secret(_), Value::String(_, text)) => format!("{} bytes", text.len()),
            (Kind::Secret(_), _) => "something else than text".into(),
            (Kind::Database, Value::String(_, text)) if text.contains(['@', '?']) => "another kind of URL".into(),
            (Kind::Number(..), Value::String(_, text)) if text.starts_with("tcp://") => {
                format!("{} (Kubernetes sets this for a service of that name: enableServiceLinks: false)", show(value))
            }
            (Kind::List(_, fits), Value::Array(_, items)) => {
                let misfit = items.iter().find(|item| !item.as_str().is_some_and(fits));
                misfit.map_or_else(|| show(value), show)
            }
            _ => show(value),
        }
    }

    fn default_text(&self) -> String {
        match self.default {
            Fallback::Value(text) => format!("`{text}`"),
            Fallback::Otherwise(sentence) => sentence.into(),
        }
    }
}

fn list(text: &str) -> Value {
    text.split(',').map(str::trim).filter(|item| !item.is_empty()).map(Value::from).collect::<Vec<_>>().into()
}

fn number(value: &Value) -> Option<u128> {
    value.to_u128().or_else(|| value.to_i128().and_then(|n| n.try_into().ok()))
}

fn show(value: &Value) -> String {
    match value {
        Value::String(_, text) => format!("{:?}", text.chars().take(FOUND_CHARS_MAX).collect::<String>()),
        Value::Char(_, c) => format!("{:?}", c.to_string()),
        Value::Bool(_, it) => it.to_string(),
        Value::Num(_, Num::F32(it)) => it.to_string(),
        Value::Num(_, Num::F64(it)) => it.to_string(),
        Value::Num(_, it) => {
            it.to_u128().map(|n| n.to_string()).or_else(|| value.to_i128().map(|n| n.to_string())).unwrap_or_default()
        }
        Value::Empty(..) => "nothing".into(),
        Value::Dict(..) => "a table".into(),
        Value::Array(..) => "a list".into(),
    }
}

/// The text of `.env.example`.
pub fn env_example() -> String {
    let mut text = String::from(
        "# Settings of Burble. Copy this file to .env and take the # from what you change; what is left as it is, is the\n\
         # default. The environment goes before burble.toml. An empty variable counts as not set.\n",
    );
    let mut section = None;
    for setting in SETTINGS {
        if section != Some(setting.section) {
            section = Some(setting.section);
            let sentence =
                SECTIONS.iter().find(|(name, _)| *name == setting.section).map_or("The node.", |(_, help)| help.trim());
            let _ = write!(text, "\n# {} {sentence}\n", "-".repeat(10));
        }
        let (value, note) = match setting.default {
            Fallback::Value(value) => (value, String::new()),
            Fallback::Otherwise(sentence) => ("", format!("; default: {sentence}")),
        };
        let _ = write!(
            text,
            "\n# {}\n# Expected: {}{note}\n#{}={value}\n",
            setting.help.trim(),
            setting.expected(),
            setting.env
        );
    }
    text
}

/// All settings as a Markdown table.
pub fn settings_markdown() -> String {
    let mut text =
        String::from("| variable | in `burble.toml` | expected | default | meaning |\n|---|---|---|---|---|\n");
    for setting in SETTINGS {
        let (env, path, help) = (setting.env, setting.path(), setting.help.trim());
        let _ = writeln!(text, "| `{env}` | `{path}` | {} | {} | {help} |", setting.expected(), setting.default_text());
    }
    text
}
