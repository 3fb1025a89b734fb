//! A node of the suite's own: started, killed, started again, and stopped.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tokio::process::{Child, Command};
use tokio::time::{sleep, timeout};

use crate::http::Target;

/// How long a node may take to be ready, and to stop.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(1);
const READY_LINE: &str = "Burble listens on http://";
/// Nothing but the load itself may limit what is measured. Few rounds of hashing: it is not passwords that are measured.
const SETTINGS: [(&str, &str); 19] = [
    ("ENV", "development"),
    ("AUTH_PASSWORD_ROUNDS", "1000"),
    ("AUTH_SECRET", "a key for measurements alone, of no use to anybody"),
    ("SERVER_PORT", "0"),
    ("OPS_PORT", "0"),
    ("SERVER_DRAIN_SECONDS", "0"),
    ("LIMIT_CONNECTIONS", "0"),
    ("LIMIT_CONNECTIONS_PER_ADDRESS", "0"),
    ("LIMIT_CONNECTIONS_UNSIGNED", "0"),
    ("LIMIT_UPGRADES", "0"),
    ("LIMIT_SESSIONS_PER_USER", "0"),
    ("LIMIT_SESSION_JOINS", "0"),
    ("LIMIT_SESSION_COMMANDS_PER_SECOND", "0"),
    ("LIMIT_USER_COMMANDS_PER_SECOND", "0"),
    ("LIMIT_USER_BYTES_PER_SECOND", "0"),
    ("LIMIT_SIGN_UPS_PER_ADDRESS", "0"),
    ("LIMIT_SIGN_IN_FAILURES", "0"),
    ("LIMIT_PASSWORD_QUEUE", "65536"),
    ("RUST_BACKTRACE", "1"),
];

/// All that a start needs.
#[derive(Clone)]
pub(super) struct Launch {
    burble: PathBuf,
    folder: PathBuf,
    settings: Vec<(&'static str, String)>,
}

impl Launch {
    /// With its data in `folder`.
    pub(super) fn new(burble: &Path, folder: PathBuf, name: &str, settings: &[(&'static str, String)]) -> Self {
        let mut all: Vec<_> = SETTINGS.map(|(name, value)| (name, value.to_owned())).to_vec();
        all.push(("NODE_NAME", name.to_owned()));
        all.extend_from_slice(settings);
        Self { burble: burble.to_owned(), folder, settings: all }
    }
}

/// A node that is ready.
pub(crate) struct Node {
    pub(crate) target: Target,
    pub(crate) pid: u32,
    /// From the start of the process until it said that it is ready.
    pub(crate) ready_after: Duration,
    launch: Launch,
    child: Child,
}

impl Node {
    /// Starts it, and waits until it is ready.
    pub(super) async fn start(launch: Launch) -> Result<Self> {
        fs::create_dir_all(&launch.folder)?;
        let log = launch.folder.join("log");
        let out = File::create(&log)?;
        let start = Instant::now();
        let mut command = Command::new(&launch.burble);
        command.arg("serve").env_clear().envs(launch.settings.iter().cloned()).current_dir(&launch.folder);
        command.stdin(Stdio::null()).stdout(out.try_clone()?).stderr(out).kill_on_drop(true);
        let mut child = command.spawn().with_context(|| format!("{} does not start", launch.burble.display()))?;
        let listening = listening(&mut child, &log);
        let (target, ops) = timeout(PATIENCE, listening).await.context("the server does not listen")??;
        let ready = async {
            while ops.get("/readyz").await.map_or(0, |answer| answer.status) != 200 {
                sleep(LOOK_EVERY).await;
            }
        };
        timeout(PATIENCE, ready).await.context("the server does not become ready")?;
        let pid = child.id().context("the server ended")?;
        Ok(Self { target, pid, ready_after: start.elapsed(), launch, child })
    }

    /// Takes it away as a crash does.
    pub(crate) async fn kill(&mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }

    /// Asks it to stop, and waits until it has.
    pub(crate) async fn stop(&mut self) -> Result<()> {
        let pid = i32::try_from(self.pid).ok().and_then(Pid::from_raw).context("no process")?;
        kill_process(pid, Signal::TERM)?;
        let status = timeout(PATIENCE, self.child.wait()).await.context("the server does not stop")??;
        ensure!(status.success(), "the server stopped with {status}");
        Ok(())
    }

    /// Starts it again on the same data, after it was killed or stopped.
    pub(crate) async fn start_again(&mut self) -> Result<()> {
        *self = Self::start(self.launch.clone()).await?;
        Ok(())
    }

    /// Of its private Redis.
    pub(super) fn redis_url(&self) -> String {
        format!("redis+unix://{}", self.redis_socket().display())
    }

    /// The process behind the socket of its private Redis.
    pub(super) async fn redis_pid(&self) -> Result<u32> {
        let socket = tokio::net::UnixStream::connect(self.redis_socket()).await.context("its Redis does not listen")?;
        let pid = socket.peer_cred()?.pid().context("its Redis is no local process")?;
        Ok(u32::try_from(pid)?)
    }

    fn redis_socket(&self) -> PathBuf {
        self.launch.folder.join("data/redis/redis.sock")
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        let runs = matches!(self.child.try_wait(), Ok(None));
        let _ = self.child.start_kill();
        // A private Redis outlives its server that is killed. One that was killed before has a successor on its data.
        if runs && let Ok(mut redis) = std::os::unix::net::UnixStream::connect(self.redis_socket()) {
            let _ = redis.write_all(b"SHUTDOWN NOSAVE\r\n");
            let _ = redis.read_to_end(&mut Vec::new());
        }
    }
}

/// Where it listens, for everybody and for operators, once it says so.
async fn listening(child: &mut Child, log: &Path) -> Result<(Target, Target)> {
    loop {
        let said = fs::read_to_string(log)?;
        if let Some(urls) = said.lines().find(|line| line.starts_with(READY_LINE)).and_then(urls) {
            let [public, ops] = urls;
            return Ok((Target::resolve(&public).await?, Target::resolve(&ops).await?));
        }
        if let Some(status) = child.try_wait()? {
            bail!("the server ended, {status}; it said:\n{said}");
        }
        sleep(LOOK_EVERY).await;
    }
}

/// The two URLs of the line that a server prints when it listens.
fn urls(line: &str) -> Option<[String; 2]> {
    let mut found = line.match_indices("http://").map(|(at, _)| {
        let rest = &line[at..];
        let end = rest.find([' ', ')']).unwrap_or(rest.len());
        rest[..end].to_owned()
    });
    Some([found.next()?, found.next()?])
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_urls_are_read() {
        let line = "Burble listens on http://127.0.0.1:80 (probes and metrics on http://127.0.0.1:91)";
        assert_eq!(urls(line), Some(["http://127.0.0.1:80".into(), "http://127.0.0.1:91".into()]));
        assert_eq!(urls("Burble listens on http://127.0.0.1:80"), None);
    }
}
