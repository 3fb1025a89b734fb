//! A real Redis for the tests. It ends with the test process, however that ends.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use redis::aio::MultiplexedConnection;

use super::{PATIENCE, signal};

/// Starts a redis-server and says its pid; once the pipe to this shell closes, kills it and removes its folder.
const KEEPER: &str = r#"redis-server --port "$1" --bind 127.0.0.1 --dir "$2" --save '' --maxmemory-policy noeviction \
  --stream-node-max-bytes 1024 --appendonly "$3" --appendfsync always --daemonize no >"$2/redis.log" 2>&1 &
pid=$!; echo $pid; read _; kill -9 $pid 2>/dev/null; wait $pid 2>/dev/null; [ "$4" = keep ] || rm -rf "$2""#;

pub(crate) struct Redis {
    pub(crate) port: u16,
    durable: bool,
    folder: std::path::PathBuf,
    keeper: Option<Keeper>,
}

struct Keeper {
    shell: Child,
    pipe: Option<ChildStdin>,
    pid: u32,
}

impl Redis {
    /// The one that all tests of this process share; it keeps its data in memory.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Redis> = OnceLock::new();
        SHARED.get_or_init(|| Self::start(false))
    }

    /// One of one's own, to be killed; `durable` with an AOF that is flushed before each answer.
    pub(crate) fn start(durable: bool) -> Self {
        let folder = tempfile::Builder::new().prefix("burble-test-redis").tempdir().expect("a temporary folder").keep();
        for _ in 0..10 {
            // The port is free now; should another take it first, the next one will do.
            let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr());
            let mut redis =
                Self { port: free.expect("a free port").port(), durable, folder: folder.clone(), keeper: None };
            if redis.up() {
                return redis;
            }
        }
        panic!("no redis-server could be started; is it installed?")
    }

    /// A prefix that no other test has.
    pub(crate) fn prefix() -> String {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        format!("test-{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
    }

    /// Takes it away as a crash does.
    pub(crate) fn kill(&mut self) {
        let mut keeper = self.keeper.take().expect("it runs");
        signal(keeper.pid, "KILL");
        keeper.end();
    }

    /// Brings it back on the same port, with what it had flushed.
    pub(crate) fn restart(&mut self) {
        assert!(self.up(), "the redis-server comes back");
    }

    /// Freezes it: it takes commands and answers none.
    pub(crate) fn freeze(&self) {
        signal(self.keeper.as_ref().expect("it runs").pid, "STOP");
    }

    /// Undoes [`freeze`](Self::freeze).
    pub(crate) fn thaw(&self) {
        signal(self.keeper.as_ref().expect("it runs").pid, "CONT");
    }

    /// A connection for a test that looks behind the server's back, or acts there.
    pub(crate) async fn connect(&self) -> MultiplexedConnection {
        let client = redis::Client::open(("127.0.0.1", self.port)).expect("an address");
        client.get_multiplexed_async_connection().await.expect("the redis-server runs")
    }

    /// Carries out one command behind the server's back.
    pub(crate) async fn run(&self, command: &[&str]) {
        let mut connection = self.connect().await;
        let done = redis::cmd(command[0]).arg(&command[1..]).query_async::<redis::Value>(&mut connection).await;
        done.unwrap_or_else(|error| panic!("{command:?}: {error}"));
    }

    /// The keys of all channel logs under the prefix.
    pub(crate) async fn log_keys(&self, prefix: &str) -> Vec<String> {
        let mut connection = self.connect().await;
        let keys = redis::cmd("KEYS").arg(format!("{prefix}:*:log:*")).query_async(&mut connection).await;
        keys.expect("the redis-server runs")
    }

    fn up(&mut self) -> bool {
        std::fs::create_dir_all(&self.folder).expect("a temporary folder");
        let folder = self.folder.to_str().expect("a plain path");
        let (port, durable) = (self.port.to_string(), if self.durable { "yes" } else { "no" });
        let keep = if self.durable { "keep" } else { "" };
        let shell = Command::new("/bin/sh")
            .args(["-c", KEEPER, "redis", &port, folder, durable, keep])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn();
        let mut shell = shell.expect("every machine has a shell");
        let mut line = String::new();
        let out = shell.stdout.take().expect("it is piped");
        BufReader::new(out).read_line(&mut line).expect("the shell says the pid");
        let pid = line.trim().parse().expect("a pid");
        let pipe = shell.stdin.take();
        self.keeper = Some(Keeper { shell, pipe, pid });
        let up = answers(self.port);
        if !up {
            self.keeper = None;
        }
        up
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.keeper = None;
        let _ = std::fs::remove_dir_all(&self.folder);
    }
}

impl Keeper {
    fn end(&mut self) {
        self.pipe = None;
        let _ = self.shell.wait();
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.end();
    }
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
