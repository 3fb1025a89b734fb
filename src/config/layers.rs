//! From defaults, file and environment to one checked set of values, and all that is wrong with them at once.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::Path;

use figment::providers::{Format, Toml};
use figment::value::{Dict, Map, Value};
use figment::{Error, Figment, Metadata, Profile, Provider, Source};

use super::setting::Setting;
use super::table::{SECTIONS, SETTINGS};

const DEFAULTS: &str = "default";
const ENVIRONMENT: &str = "environment";
/// Set by desktops for their own session manager.
const FOREIGN: &[&str] = &["SESSION_MANAGER"];

/// Why a node does not start: all problems with its settings, one a line.
#[derive(Debug)]
pub struct ConfigError {
    /// One sentence for each.
    pub problems: Vec<String>,
}

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.problems.join("\n"))
    }
}

impl std::error::Error for ConfigError {}

/// Where each setting that is not left at its default was found.
#[derive(Debug, Clone, Default)]
pub(super) struct Places(BTreeMap<&'static str, String>);

impl Places {
    /// The place of a setting, for people.
    pub(super) fn of(&self, setting: &Setting) -> &str {
        self.0.get(setting.env).map_or(DEFAULTS, String::as_str)
    }

    /// A setting as the user wrote it, with the place.
    pub(super) fn written(&self, env: &str) -> String {
        let setting = SETTINGS.iter().find(|setting| setting.env == env).expect("problems name settings of the table");
        match self.of(setting) {
            DEFAULTS => env.into(),
            ENVIRONMENT => format!("{env} ({ENVIRONMENT})"),
            file => format!("{} ({file})", setting.path()),
        }
    }
}

/// What the layers hold: values that fit their settings, where they came from, and what is wrong with the rest.
#[derive(Default)]
pub(super) struct Read {
    pub(super) values: Dict,
    pub(super) places: Places,
    pub(super) problems: Vec<String>,
}

/// Lays the environment over the file over the defaults. A value that does not fit is a problem, and its default stands in.
pub(super) fn read(file: Option<&Path>, vars: impl Iterator<Item = (OsString, OsString)>) -> Read {
    let mut read = Read::default();
    let mut layers = Figment::from(Layer::defaults());
    if let Some(path) = file {
        let toml = Toml::file_exact(path);
        match toml.data() {
            Ok(data) => {
                find_unknown_keys(&data, path, &mut read.problems);
                layers = layers.merge(toml);
            }
            Err(error) => read.problems.push(format!("{}: {error}", path.display())),
        }
    }
    layers = layers.merge(Layer::environment(vars, &mut read.problems));
    for setting in SETTINGS {
        read.take(setting, &layers);
    }
    read
}

impl Read {
    fn take(&mut self, setting: &'static Setting, layers: &Figment) {
        let found = layers.find_value(&setting.path()).ok();
        if let Some(place) = found.as_ref().and_then(|value| place(layers.get_metadata(value.tag())?)) {
            self.places.0.insert(setting.env, place);
        }
        let accepted = found.map(|value| setting.accept(value)).transpose().unwrap_or_else(|problem| {
            self.problems.push(format!("{}: {problem}", self.places.written(setting.env)));
            None
        });
        if let Some(value) = accepted.or_else(|| setting.default_value()) {
            insert(&mut self.values, &setting.path(), value);
        }
    }

    /// A default that follows from other settings.
    pub(super) fn or_insert(&mut self, path: &str, value: impl FnOnce(&Dict) -> Option<Value>) {
        if Value::from(self.values.clone()).find(path).is_none()
            && let Some(value) = value(&self.values)
        {
            insert(&mut self.values, path, value);
        }
    }
}

fn place(metadata: &Metadata) -> Option<String> {
    match metadata.source.as_ref().and_then(Source::file_path) {
        Some(path) => Some(path.display().to_string()),
        None => (metadata.name != DEFAULTS).then(|| metadata.name.to_string()),
    }
}

fn insert(values: &mut Dict, path: &str, value: Value) {
    let (section, name) = path.split_once('.').unwrap_or(("", path));
    if section.is_empty() {
        values.insert(name.into(), value);
    } else if let Value::Dict(_, dict) = values.entry(section.into()).or_insert_with(|| Dict::new().into()) {
        dict.insert(name.into(), value);
    }
}

/// A layer made of the table: the defaults, or the environment.
struct Layer {
    name: &'static str,
    values: Dict,
}

impl Layer {
    fn defaults() -> Self {
        let mut values = Dict::new();
        for setting in SETTINGS {
            if let Some(value) = setting.default_value() {
                insert(&mut values, &setting.path(), value);
            }
        }
        Self { name: DEFAULTS, values }
    }

    fn environment(vars: impl Iterator<Item = (OsString, OsString)>, problems: &mut Vec<String>) -> Self {
        let mut values = Dict::new();
        let mut vars: Vec<_> = vars.filter(|(_, value)| !value.is_empty()).collect();
        vars.sort();
        for (name, value) in &vars {
            let Some(name) = name.to_str() else { continue };
            match (SETTINGS.iter().find(|setting| setting.env == name), value.to_str()) {
                (Some(setting), Some(text)) => insert(&mut values, &setting.path(), setting.parse(text)),
                (Some(_), None) => {
                    problems.push(format!("{name} ({ENVIRONMENT}): found bytes that are no UTF-8, expected text"))
                }
                (None, text) if is_ours(name) && !is_injected(name, text.unwrap_or_default()) => {
                    let nearest = nearest(name).env;
                    problems
                        .push(format!("{name} ({ENVIRONMENT}): there is no such setting; the nearest is {nearest}"));
                }
                (None, _) => {}
            }
        }
        Self { name: ENVIRONMENT, values }
    }
}

impl Provider for Layer {
    fn metadata(&self) -> Metadata {
        Metadata::named(self.name)
    }

    fn data(&self) -> Result<Map<Profile, Dict>, Error> {
        Ok(Profile::Default.collect(self.values.clone()))
    }
}

fn is_ours(name: &str) -> bool {
    let prefix = name.split_once('_').map_or("", |(prefix, _)| prefix);
    SECTIONS.iter().any(|(section, _)| section.to_ascii_uppercase() == prefix) && !FOREIGN.contains(&name)
}

/// Whether Kubernetes or Docker set this for a service that happens to be called like one of our sections.
fn is_injected(name: &str, value: &str) -> bool {
    let after_port = name.split_once("_PORT_").map_or("", |(_, rest)| rest);
    name.ends_with("_SERVICE_HOST")
        || name.contains("_SERVICE_PORT")
        || (name.ends_with("_PORT") && value.contains("://"))
        || ["_TCP", "_UDP", "_SCTP"].iter().any(|protocol| after_port.contains(protocol))
}

fn find_unknown_keys(data: &Map<Profile, Dict>, file: &Path, problems: &mut Vec<String>) {
    let mut keys = Vec::new();
    for dict in data.values() {
        collect_unknown("", dict, &mut keys);
    }
    for key in keys {
        let nearest = nearest(&key.replace('.', "_").to_ascii_uppercase()).path();
        problems.push(format!("{key} ({}): there is no such setting; the nearest is {nearest}", file.display()));
    }
}

fn collect_unknown(parent: &str, dict: &Dict, unknown: &mut Vec<String>) {
    for (name, value) in dict {
        let key = if parent.is_empty() { name.clone() } else { format!("{parent}.{name}") };
        match value {
            _ if SETTINGS.iter().any(|setting| setting.path() == key) => {}
            Value::Dict(_, inner) if !inner.is_empty() => collect_unknown(&key, inner, unknown),
            Value::Dict(..) if SECTIONS.iter().any(|(section, _)| *section == key) => {}
            _ => unknown.push(key),
        }
    }
}

fn nearest(env: &str) -> &'static Setting {
    SETTINGS.iter().min_by_key(|setting| distance(env, setting.env)).expect("the table is not empty")
}

/// How many characters must be put in, taken out or changed to get from one name to the other (Levenshtein).
fn distance(from: &str, to: &str) -> usize {
    let mut row: Vec<usize> = (0..=to.len()).collect();
    for (i, a) in from.bytes().enumerate() {
        let mut diagonal = row[0];
        row[0] = i + 1;
        for (j, b) in to.bytes().enumerate() {
            let changed = diagonal + usize::from(a != b);
            diagonal = row[j + 1];
            row[j + 1] = changed.min(row[j] + 1).min(diagonal + 1);
        }
    }
    row[to.len()]
}
