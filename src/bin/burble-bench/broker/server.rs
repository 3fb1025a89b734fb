//! A redis-server of the tool's own, set up as `deploy/redis.conf` advises. It ends with the tool.

use std::net::TcpListener;
use std::path::Path;
use std::process::Stdio;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail};
use tokio::process::{Child, Command};
use tokio::time::sleep;

use super::connect;
use crate::cli::NamedPid;

/// What can serve, by preference.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
/// How long one may take to answer first.
const START_MAX: Duration = Duration::from_secs(10);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// When the append-only file goes to the disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flush {
    /// Once a second, for `PUBSUB_DURABILITY=memory`.
    EverySecond,
    /// Before anything is answered, for `fsync`.
    Always,
}

/// A running server.
pub(crate) struct RedisServer {
    /// By TCP on the loopback, as several nodes reach it.
    pub(crate) port: u16,
    /// By its Unix socket, as the embedded set-up reaches it.
    pub(crate) url: String,
    pub(crate) process: NamedPid,
    _child: Child,
}

impl RedisServer {
    /// Starts one with its data in `folder`, and waits until it answers.
    pub(crate) async fn start(folder: &Path, flush: Flush) -> Result<Self> {
        std::fs::create_dir_all(folder)?;
        let (port, socket) = (free_port()?, folder.join("redis.sock"));
        let mut child = spawn(folder, port, &socket, flush)?;
        let url = format!("redis+unix://{}", socket.display());
        let start = Instant::now();
        while connect(&url).await.is_err() {
            if let Some(status) = child.try_wait()? {
                bail!("the redis-server ended, {status}; its log lies in {}", folder.display());
            }
            if start.elapsed() > START_MAX {
                bail!("the redis-server does not answer within {START_MAX:?}");
            }
            sleep(LOOK_EVERY).await;
        }
        let pid = child.id().context("the redis-server ended")?;
        Ok(Self { port, url, process: NamedPid { name: "redis".into(), pid }, _child: child })
    }
}

fn spawn(folder: &Path, port: u16, socket: &Path, flush: Flush) -> Result<Child> {
    let appendfsync = if flush == Flush::Always { "always" } else { "everysec" };
    let log = std::fs::File::create(folder.join("redis.log"))?;
    for program in PROGRAMS {
        let mut command = Command::new(program);
        command.args(["--bind", "127.0.0.1", "--port", &port.to_string()]);
        command.arg("--unixsocket").arg(socket).arg("--dir").arg(folder);
        command.args(["--appendonly", "yes", "--appendfsync", appendfsync, "--save", "", "--daemonize", "no"]);
        command.args(["--maxmemory-policy", "noeviction", "--stream-node-max-bytes", "1024"]);
        command.args(["--lazyfree-lazy-user-del", "yes", "--lazyfree-lazy-expire", "yes"]);
        command.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log.try_clone()?).kill_on_drop(true);
        match command.spawn() {
            Ok(child) => return Ok(child),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
            Err(error) => return Err(error).context(program),
        }
    }
    bail!("no redis-server is installed; Debian has it in the package redis-server")
}

/// Free a moment ago: redis-server cannot be told to take any.
fn free_port() -> Result<u16> {
    Ok(TcpListener::bind("127.0.0.1:0")?.local_addr()?.port())
}
