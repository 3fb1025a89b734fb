//! The settings of a server under test, and the folder they speak of.

use std::ffi::OsStr;
use std::path::PathBuf;
use std::process::Stdio;
use std::sync::Arc;

use tempfile::TempDir;
use tokio::process::Command;

use super::redis::Redis;
use super::token::SECRET;

/// What a test of anything but limits must not meet, and how long a stop may take that nobody looks at.
const UNHINDERED: [(&str, &str); 10] = [
    ("LIMIT_SESSIONS_PER_USER", "0"),
    ("LIMIT_SESSION_COMMANDS_PER_SECOND", "0"),
    ("LIMIT_USER_COMMANDS_PER_SECOND", "0"),
    ("LIMIT_USER_BYTES_PER_SECOND", "0"),
    ("LIMIT_SIGN_IN_FAILURES", "0"),
    ("LIMIT_SIGN_IN_FAILURES_PER_NAME", "0"),
    ("LIMIT_SIGN_IN_FAILURES_PER_ADDRESS", "0"),
    ("LIMIT_SIGN_UPS_PER_ADDRESS", "0"),
    ("LIMIT_PASSWORD_QUEUE", "65536"),
    ("SERVER_DRAIN_SECONDS", "1"),
];
/// The one that was built with the tests.
const BINARY: &str = env!("CARGO_BIN_EXE_burble");

/// The settings of a server, and the folder they speak of.
#[derive(Clone)]
pub(crate) struct Setup {
    env: Vec<(String, String)>,
    /// What is started.
    pub(crate) binary: PathBuf,
    /// A file that gets what it prints too, behind what is there.
    pub(crate) log: Option<PathBuf>,
    pub(crate) data: Arc<TempDir>,
}

impl Setup {
    pub(crate) fn new() -> Self {
        let data = Arc::new(tempfile::Builder::new().prefix("burble-test").tempdir().expect("a temporary folder"));
        let folder = data.path().join("data");
        let own = [
            ("ENV", "development"),
            ("SERVER_PORT", "0"),
            ("OPS_PORT", "0"),
            ("DATA_DIR", folder.to_str().expect("a plain path")),
            ("NODE_NAME", "one"),
            ("AUTH_SECRET", SECRET),
            ("AUTH_PASSWORD_ROUNDS", "1000"),
            ("PUBSUB_PREFIX", &Redis::prefix()),
            ("RUST_BACKTRACE", "1"),
        ];
        Self { env: Vec::new(), binary: BINARY.into(), log: None, data }.with(&own).with(&UNHINDERED)
    }

    pub(crate) fn on(self, redis: &Redis) -> Self {
        self.and("PUBSUB_SERVER_HOST", "127.0.0.1").and("PUBSUB_SERVER_PORT", &redis.port.to_string())
    }

    pub(crate) fn with(self, env: &[(&str, &str)]) -> Self {
        env.iter().fold(self, |setup, (name, value)| setup.and(name, value))
    }

    /// The last word on a setting counts.
    pub(crate) fn and(self, name: &str, value: &str) -> Self {
        let mut setup = self.without(name);
        setup.env.push((name.into(), value.into()));
        setup
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.env.retain(|(known, _)| known != name);
        self
    }

    pub(crate) fn get(&self, name: &str) -> &str {
        self.env.iter().find(|(known, _)| known == name).map_or("", |(_, value)| value)
    }

    /// A shell whose `$0` is the binary.
    pub(crate) fn shell(&self, script: &str) -> Command {
        self.program("/bin/sh", &["-c", script, BINARY])
    }

    pub(crate) fn command(&self, arguments: &[&str]) -> Command {
        self.program(&self.binary, arguments)
    }

    fn program(&self, program: impl AsRef<OsStr>, arguments: &[&str]) -> Command {
        let mut command = Command::new(program);
        command.args(arguments).env_clear().envs(self.env.iter().cloned()).current_dir(self.data.path());
        command.env("PATH", env!("PATH")).stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command.kill_on_drop(true);
        command
    }
}
