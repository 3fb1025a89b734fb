//! A real Redis for the tests. It ends with the test process, however that ends.

use std::fs;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, RedisResult};

use super::PATIENCE;
use super::keeper::Keeper;
use super::ports::fixed_port;

/// Of every redis-server whose arguments the test does not choose.
const ARGUMENTS: &str =
    "--bind 127.0.0.1 --maxmemory-policy noeviction --stream-node-max-bytes 1024 --appendfsync always";

pub(crate) struct Redis {
    pub(crate) port: u16,
    arguments: Vec<String>,
    /// Where it prints to.
    log: PathBuf,
    /// Its data, where they are not to be kept.
    temporary: Option<PathBuf>,
    keeper: Option<Keeper>,
}

impl Redis {
    /// The one that all tests of this process share; it keeps its data in memory.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(false))
    }

    /// One of one's own, to be killed; `durable` with an AOF that is flushed before each answer.
    pub(crate) fn start(durable: bool) -> Self {
        Self::in_folder(own_folder(), durable, &[])
    }

    /// A durable one that begins with a copy of this append-only file.
    pub(crate) fn with_log(log: &Path) -> Self {
        let folder = own_folder();
        let to = folder.join("appendonlydir");
        fs::create_dir(&to).expect("the folder is new");
        for part in fs::read_dir(log).expect("a folder").map(|part| part.expect("it can be read")) {
            fs::copy(part.path(), to.join(part.file_name())).expect("it can be copied");
        }
        Self::in_folder(folder, true, &[])
    }

    /// One with these arguments as well, in a folder that goes with it.
    pub(crate) fn with_arguments(folder: PathBuf, more: &[String]) -> Self {
        Self::in_folder(folder, false, more)
    }

    fn in_folder(folder: PathBuf, durable: bool, more: &[String]) -> Self {
        let port = fixed_port();
        let own = [("--port", port.to_string()), ("--dir", folder.display().to_string()), ("--save", String::new())];
        let aof = ["--appendonly", if durable { "yes" } else { "no" }];
        let own = own.into_iter().flat_map(|(name, value)| [name.to_owned(), value]);
        let common = ARGUMENTS.split(' ').chain(aof).map(str::to_owned);
        let arguments = own.chain(common).chain(more.iter().cloned()).collect();
        Self::configured(port, arguments, folder.join("redis.log"), Some(folder))
    }

    /// One with its own arguments, which give it this port; of its data, what lies in `temporary` goes with it.
    pub(crate) fn configured(port: u16, arguments: Vec<String>, log: PathBuf, temporary: Option<PathBuf>) -> Self {
        let mut redis = Self { port, arguments, log, temporary, keeper: None };
        redis.restart();
        redis
    }

    /// A prefix that no other test has.
    pub(crate) fn prefix() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes it away as a crash does.
    pub(crate) fn kill(&mut self) {
        self.keeper.take().expect("it runs").kill();
    }

    /// Brings it back on the same port, with what it had flushed.
    pub(crate) fn restart(&mut self) {
        let program = std::iter::once("redis-server").chain(self.arguments.iter().map(String::as_str));
        self.keeper = Some(Keeper::start(&program.collect::<Vec<_>>(), &self.log, self.temporary.as_deref()));
        assert!(answers(self.port), "redis-server is installed, and answers; it said: {}", self.said());
    }

    /// Freezes it: it takes commands and answers none.
    pub(crate) fn freeze(&self) {
        self.signal("STOP");
    }

    /// Undoes [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) {
        self.signal("CONT");
    }

    fn signal(&self, name: &str) {
        self.keeper.as_ref().expect("it runs").signal(name);
    }

    /// A connection for a test that looks behind the server's back, or acts there.
    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("an address");
        client.get_multiplexed_async_connection().await.expect("the redis-server runs")
    }

    /// Carries out one command behind the server's back.
    pub(crate) async fn run(&self, command: &[&str]) {
        self.ask::<redis::Value>(command).await.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    }

    /// What one command is answered; an error too where nobody answers for half a second.
    pub(crate) async fn ask<T: FromRedisValue>(&self, command: &[&str]) -> RedisResult<T> {
        let client = redis::Client::open(("127.0.0.1", self.port))?;
        let mut connection = client.get_multiplexed_async_connection().await?;
        redis::cmd(command[0]).arg(&command[1..]).query_async(&mut connection).await
    }

    /// The keys of all channel logs under the prefix.
    pub(crate) async fn log_keys(&self, prefix: &str) -> Vec<String> {
        let mut connection = self.connect().await;
        let keys = redis::cmd("KEYS").arg(format!("{prefix}:*:log:*")).query_async(&mut connection).await;
        keys.expect("the redis-server runs")
    }

    fn said(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.keeper = None;
        let _ = self.temporary.as_ref().map(fs::remove_dir_all);
    }
}

/// For the data of one, with which it goes.
pub(crate) fn own_folder() -> PathBuf {
    tempfile::Builder::new().prefix("burble-test-redis").tempdir().expect("a temporary folder").keep()
}

fn answers(port: u16) -> bool {
    let deadline = Instant::now() + PATIENCE;
    while Instant::now() < deadline {
        let mut answer = [0; 7];
        if let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port))
            && stream.set_read_timeout(Some(Duration::from_secs(1))).is_ok()
            && stream.write_all(b"PING\r\n").is_ok()
            && stream.read_exact(&mut answer).is_ok()
            && &answer == b"+PONG\r\n"
        {
            return true;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    false
}
