//! What a node is told before it starts: defaults, then `burble.toml`, then the environment. All problems are told at once.

mod layers;
mod secret;
mod setting;
mod table;
#[cfg(test)]
mod tests;
mod value;

use std::ffi::OsString;
use std::fmt::Write;
use std::num::NonZero;
use std::path::Path;
use std::process::Command;
use std::{fs, thread};

use figment::value::{Dict, Value};
use serde_json::json;

pub use layers::ConfigError;
pub use secret::{KEY_FILE, SECRET_BYTES_MIN, Secret, auth_secret};
pub use setting::{Setting, env_example, settings_markdown};
pub use table::{Auth, ChannelSettings, Limits, Log, Ops, PubSub, SETTINGS, Server, SessionSettings, Settings};
pub use value::{
    Database, Durability, Environment, HostPort, Limit, LogFormat, LogOutput, Origin, Origins, RedisMode, Switch,
    TrustedProxies,
};

/// The file that is read where none is named, if it is there.
const FILE: &str = "burble.toml";
/// What OWASP asks of PBKDF2-HMAC-SHA256.
const PASSWORD_ROUNDS_SAFE: u32 = 600_000;
const SECRET_MISSING: &str =
    "not set, and with PUBSUB_SERVER_HOST all nodes must share one; make it with: openssl rand -base64 48";

impl Settings {
    /// Reads `config_file`, or `burble.toml` if there is one, and the environment.
    pub fn load(config_file: Option<&Path>) -> Result<Self, ConfigError> {
        let usual = Some(Path::new(FILE)).filter(|path| path.exists());
        #[expect(clippy::disallowed_methods, reason = "this is the one place that reads the environment")]
        let vars = std::env::vars_os();
        Self::read(config_file.or(usual), vars)
    }

    /// From these variables alone: neither a file nor the environment is read. For tests and tools.
    pub fn from_vars<K: Into<OsString>, V: Into<OsString>>(
        vars: impl IntoIterator<Item = (K, V)>,
    ) -> Result<Self, ConfigError> {
        Self::read(None, vars.into_iter().map(|(name, value)| (name.into(), value.into())))
    }

    fn read(file: Option<&Path>, vars: impl Iterator<Item = (OsString, OsString)>) -> Result<Self, ConfigError> {
        let mut read = layers::read(file, vars);
        read.or_insert("node_name", |_| Some(host_name().into()));
        read.or_insert("server.db", |values| {
            Some(Path::new(values.get("data_dir")?.as_str()?).join("burble.db").to_str()?.into())
        });
        read.or_insert("pubsub.feeds", |values| Some(default_feeds(values).into()));
        read.or_insert("pubsub.durability", |values| Some(default_durability(values).as_str().into()));
        let mut problems = read.problems;
        let mut settings: Self = match Value::from(read.values).deserialize() {
            Ok(settings) => settings,
            Err(error) => {
                problems.push(error.to_string());
                return Err(ConfigError { problems });
            }
        };
        settings.places = read.places;
        if settings.auth.password_threads == 0 {
            settings.auth.password_threads = thread::available_parallelism().map_or(1, NonZero::get).div_ceil(2);
        }
        problems.extend(settings.contradictions());
        if problems.is_empty() { Ok(settings) } else { Err(ConfigError { problems }) }
    }

    /// Whether the settings go together; each alone was checked when it was read.
    pub fn validate(&self) -> Result<(), ConfigError> {
        let problems = self.contradictions();
        if problems.is_empty() { Ok(()) } else { Err(ConfigError { problems }) }
    }

    fn contradictions(&self) -> Vec<String> {
        let (server, ops, auth, pubsub, session) = (&self.server, &self.ops, &self.auth, &self.pubsub, &self.session);
        let production = self.env == Environment::Production;
        let mut problems = Vec::new();
        let mut check = |broken: bool, env: &str, problem: String| {
            if broken {
                problems.push(format!("{}: {problem}", self.places.written(env)));
            }
        };
        check(
            server.port == ops.port && server.host == ops.host && server.port != 0,
            "OPS_PORT",
            format!("found {}, which SERVER_PORT has; expected another", ops.port),
        );
        check(production && !pubsub.is_embedded() && auth.secret.is_none(), "AUTH_SECRET", SECRET_MISSING.into());
        check(
            production && auth.password_rounds < PASSWORD_ROUNDS_SAFE,
            "AUTH_PASSWORD_ROUNDS",
            format!("found {}, expected at least {PASSWORD_ROUNDS_SAFE} unless ENV=development", auth.password_rounds),
        );
        check(
            pubsub.server_mode != RedisMode::Single && pubsub.is_embedded(),
            "PUBSUB_SERVER_MODE",
            format!("found {}, expected single, or the servers in PUBSUB_SERVER_HOST", pubsub.server_mode),
        );
        check(
            pubsub.server_mode == RedisMode::Single && pubsub.server_host.len() > 1,
            "PUBSUB_SERVER_HOST",
            format!(
                "found {} hosts, expected one, or PUBSUB_SERVER_MODE=sentinel or cluster",
                pubsub.server_host.len()
            ),
        );
        check(
            pubsub.tls == Switch::On && pubsub.is_embedded(),
            "PUBSUB_TLS",
            "found on, expected off, or the servers in PUBSUB_SERVER_HOST: the embedded Redis has no port".into(),
        );
        for (env, file) in [("PUBSUB_TLS_CA", &pubsub.tls_ca), ("PUBSUB_TLS_CERT", &pubsub.tls_cert)] {
            check(pubsub.tls == Switch::Off && file.is_some(), env, "set, and PUBSUB_TLS is off; expected on".into());
        }
        check(
            pubsub.tls_cert.is_some() != pubsub.tls_key.is_some(),
            "PUBSUB_TLS_KEY",
            "PUBSUB_TLS_CERT and it belong together, and one of them is not set".into(),
        );
        check(
            pubsub.is_embedded() && pubsub.durability == Durability::Replica,
            "PUBSUB_DURABILITY",
            "found replica, expected memory or fsync: the embedded Redis has no replicas; set PUBSUB_SERVER_HOST"
                .into(),
        );
        check(
            session.silence_ms <= session.ping_ms,
            "SESSION_SILENCE_MS",
            format!("found {}, expected more than SESSION_PING_MS, which is {}", session.silence_ms, session.ping_ms),
        );
        problems
    }

    /// The settings in force and where each comes from, one a line. Secrets are masked.
    pub fn describe(&self) -> String {
        let mut text = String::new();
        for (setting, value) in self.effective() {
            let value = match value {
                serde_json::Value::String(text) => text,
                serde_json::Value::Array(items) => {
                    items.iter().filter_map(|item| item.as_str()).collect::<Vec<_>>().join(",")
                }
                serde_json::Value::Null => String::new(),
                other => other.to_string(),
            };
            let _ = writeln!(text, "{:<36}{value:<32}{}", setting.env, self.places.of(setting));
        }
        text
    }

    /// The settings in force as JSON, `{"SERVER_PORT": {"value": 8080, "from": "default"}, …}`. Secrets are masked.
    pub fn describe_json(&self) -> serde_json::Value {
        let row = |(setting, value): (&Setting, _)| {
            (setting.env.into(), json!({"value": value, "from": self.places.of(setting)}))
        };
        serde_json::Value::Object(self.effective().map(row).collect())
    }

    fn effective(&self) -> impl Iterator<Item = (&'static Setting, serde_json::Value)> {
        let values = serde_json::to_value(self).expect("settings are plain values with text keys");
        SETTINGS.iter().map(move |setting| {
            let pointer = format!("/{}", setting.path().replace('.', "/"));
            (setting, values.pointer(&pointer).cloned().unwrap_or_default())
        })
    }
}

impl PubSub {
    /// Whether Burble starts a Redis of its own.
    pub fn is_embedded(&self) -> bool {
        self.server_host.is_empty()
    }

    /// The servers named, each with its port; empty for the embedded one.
    pub fn servers(&self) -> Vec<(String, u16)> {
        self.server_host.iter().map(|it| (it.host.clone(), it.port.unwrap_or(self.server_port))).collect()
    }
}

fn default_durability(values: &Dict) -> Durability {
    let hosts = values.get("pubsub").and_then(|it| it.as_dict()?.get("server_host")?.as_array());
    if hosts.is_none_or(<[Value]>::is_empty) { Durability::Fsync } else { Durability::Memory }
}

/// On a Cluster more, so that they spread over its servers.
fn default_feeds(values: &Dict) -> u16 {
    let mode = values.get("pubsub").and_then(|it| it.as_dict()?.get("server_mode")?.as_str());
    if mode == Some(RedisMode::Cluster.as_str()) { 64 } else { 16 }
}

/// The host's name: from Linux, else from the command that every Unix has.
fn host_name() -> String {
    let asked = || Command::new("hostname").output().ok().and_then(|output| String::from_utf8(output.stdout).ok());
    let name = fs::read_to_string("/proc/sys/kernel/hostname").ok().or_else(asked).unwrap_or_default();
    if name.trim().is_empty() { "burble".into() } else { name.trim().into() }
}
