//! A real Burble: the binary, on ports of its own, with a database and a Redis prefix of its own.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;

use tokio::process::{Child, ChildStdin, Command};
use tokio::sync::oneshot;

use super::postgres::Postgres;
use super::redis::Redis;
use super::setup::Setup;
use super::{Answer, PATIENCE, Request, Session, TestUser, signal, within};

const READY_LINE: &str = "Burble listens on http://";

pub(crate) struct TestServer {
    pub(crate) address: SocketAddr,
    pub(crate) ops: SocketAddr,
    pub(crate) prefix: String,
    setup: Setup,
    child: Child,
    output: Arc<Mutex<String>>,
    /// Kills the server should the test process be killed first.
    keeper: Child,
    keeper_pipe: Option<ChildStdin>,
    /// Another one has the data folder and its Redis now.
    succeeded: bool,
}

/// A server that ended instead of listening, and all it said.
#[derive(Debug)]
pub(crate) struct Ended {
    pub(crate) status: ExitStatus,
    pub(crate) output: String,
}

impl TestServer {
    /// One node on SQLite and the shared Redis.
    pub(crate) async fn start() -> Self {
        Self::with(&[]).await
    }

    /// The same with other settings.
    pub(crate) async fn with(env: &[(&str, &str)]) -> Self {
        Self::launch(Setup::new().on(Redis::shared()).with(env)).await
    }

    /// The same on a Redis of the test's own.
    pub(crate) async fn on(redis: &Redis, env: &[(&str, &str)]) -> Self {
        Self::launch(Setup::new().on(redis).with(env)).await
    }

    /// One node with a private Redis, which acknowledges what is on the disk.
    pub(crate) async fn embedded() -> Self {
        Self::launch(Setup::new()).await
    }

    /// Two nodes on one database and one Redis.
    pub(crate) async fn pair() -> (Self, Self) {
        Self::pair_with(&[]).await
    }

    /// The same with other settings.
    pub(crate) async fn pair_with(env: &[(&str, &str)]) -> (Self, Self) {
        Self::pair_on(Redis::shared(), env).await
    }

    /// The same on a Redis of the test's own.
    pub(crate) async fn pair_on(redis: &Redis, env: &[(&str, &str)]) -> (Self, Self) {
        Self::pair_apart(redis, env, [&[], &[]]).await
    }

    /// The same, each with settings of its own as well.
    pub(crate) async fn pair_apart(redis: &Redis, env: &[(&str, &str)], own: [&[(&str, &str)]; 2]) -> (Self, Self) {
        let database = Postgres::shared().create_database();
        let one = Setup::new().on(redis).with(env).and("SERVER_DB", &database);
        let prefix = one.get("PUBSUB_PREFIX").to_owned();
        let two = Setup::new().on(redis).with(env).and("SERVER_DB", &database).and("PUBSUB_PREFIX", &prefix);
        // One after the other: the first one prepares the database.
        let one = Self::launch(one.and("NODE_NAME", "one").with(own[0])).await;
        (one, Self::launch(two.and("NODE_NAME", "two").with(own[1])).await)
    }

    /// A start that is to fail.
    pub(crate) async fn refused(env: &[(&str, &str)]) -> Ended {
        match Self::try_launch(Setup::new().on(Redis::shared()).with(env)).await {
            Ok(_) => panic!("it started with {env:?}"),
            Err(ended) => ended,
        }
    }

    /// A second one on the data folder of this one.
    pub(crate) async fn refused_beside(&self) -> Ended {
        match Self::try_launch(self.setup.clone()).await {
            Ok(_) => panic!("it started beside another"),
            Err(ended) => ended,
        }
    }

    /// Any command of the binary.
    pub(crate) async fn run(arguments: &[&str], env: &[(&str, &str)]) -> Ended {
        Self::run_with(&Setup::new().with(env), arguments).await
    }

    /// Any command, with the settings of this server, which runs.
    pub(crate) async fn run_beside(&self, arguments: &[&str], env: &[(&str, &str)]) -> Ended {
        Self::run_with(&self.setup.clone().with(env), arguments).await
    }

    async fn run_with(setup: &Setup, arguments: &[&str]) -> Ended {
        let output = setup.command(arguments).output();
        let output = within(PATIENCE * 3, "the command ends", output).await.expect("the binary runs");
        let text = [output.stdout, output.stderr].concat();
        Ended { status: output.status, output: String::from_utf8_lossy(&text).into_owned() }
    }

    /// Another start on the same data, after this one was killed or stopped.
    pub(crate) async fn again(self) -> Self {
        self.again_with(&[]).await
    }

    /// Another start while the private Redis of this one, which was killed, lives on.
    pub(crate) async fn again_beside_orphan(mut self) -> Self {
        self.succeeded = true;
        Self::launch(self.setup.clone()).await
    }

    /// The same with some settings changed.
    pub(crate) async fn again_with(self, env: &[(&str, &str)]) -> Self {
        let setup = self.setup.clone().with(env);
        drop(self);
        Self::launch(setup).await
    }

    /// Signs a new user up.
    pub(crate) async fn user(&self, name: &str) -> TestUser {
        TestUser::sign_up(self.address, name).await
    }

    /// A new user and a session of theirs.
    pub(crate) async fn session(&self, name: &str) -> Session {
        self.user(name).await.session().await
    }

    /// A socket on which nobody has signed in.
    pub(crate) async fn socket(&self) -> Session {
        let nobody = TestUser {
            address: self.address,
            name: "nobody".into(),
            access: String::new(),
            refresh: String::new(),
            expires_at: 0,
        };
        nobody.upgrade(Request::new("GET", "/ws")).await.expect("a socket to sign in on")
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        Request::new("GET", path).send(self.address).await
    }

    /// From the listener of the operators.
    pub(crate) async fn probe(&self, path: &str) -> Answer {
        Request::new("GET", path).elsewhere().send(self.ops).await
    }

    pub(crate) async fn metrics(&self) -> String {
        let answer = self.probe("/metrics").await;
        assert_eq!(answer.status, 200);
        answer.text()
    }

    /// Asks it to stop and waits until it has.
    pub(crate) async fn stop(&mut self) -> ExitStatus {
        self.signal("TERM");
        self.ended().await
    }

    /// Takes it away as a crash does.
    pub(crate) async fn kill(&mut self) {
        self.child.kill().await.expect("it runs");
    }

    pub(crate) fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    pub(crate) async fn ended(&mut self) -> ExitStatus {
        within(PATIENCE * 3, "the server ends", self.child.wait()).await.expect("a child")
    }

    pub(crate) fn pid(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    /// The process behind the socket of its private Redis.
    pub(crate) async fn redis_pid(&self) -> u32 {
        let socket = tokio::net::UnixStream::connect(self.redis_socket()).await.expect("its Redis listens");
        let pid = socket.peer_cred().ok().and_then(|peer| peer.pid());
        u32::try_from(pid.expect("a local process")).expect("a pid")
    }

    /// Has its private Redis rewrite its append-only file, unless it is at it.
    pub(crate) async fn redis_rewrites(&self) {
        let mut redis = tokio::net::UnixStream::connect(self.redis_socket()).await.expect("its Redis listens");
        tokio::io::AsyncWriteExt::write_all(&mut redis, b"BGREWRITEAOF\r\n").await.expect("it reads");
        let answered = tokio::io::AsyncReadExt::read(&mut redis, &mut [0; 128]).await;
        assert!(answered.expect("it answers") > 0);
    }

    pub(crate) fn rss_bytes(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid())).expect("Linux");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("every process has one");
        line.trim().trim_end_matches(" kB").parse::<u64>().expect("a number") * 1024
    }

    /// What a statement answers that is carried out in its database behind its back.
    pub(crate) async fn sql(&self, statement: &str) -> String {
        let mut asked = Command::new("psql");
        asked.args([self.setup.get("SERVER_DB"), "-v", "ON_ERROR_STOP=1", "-Atc", statement]);
        let done = asked.output().await.expect("psql comes with PostgreSQL");
        assert!(done.status.success(), "{statement}: {}", String::from_utf8_lossy(&done.stderr));
        String::from_utf8(done.stdout).expect("text")
    }

    /// All it has printed so far.
    pub(crate) fn logs(&self) -> String {
        self.output.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The folder that everything of it lies in.
    pub(crate) fn data(&self) -> &Path {
        self.setup.data.path()
    }

    fn redis_socket(&self) -> PathBuf {
        Path::new(self.setup.get("DATA_DIR")).join("redis/redis.sock")
    }

    async fn launch(setup: Setup) -> Self {
        match Self::try_launch(setup).await {
            Ok(server) => server,
            Err(ended) => panic!("the server ended with {}:\n{}", ended.status, ended.output),
        }
    }

    /// Starts it and waits until it listens; what it said where it ended instead.
    pub(crate) async fn try_launch(setup: Setup) -> Result<Self, Ended> {
        let mut child = setup.command(&["serve"]).spawn().expect("the binary runs");
        let (keeper, keeper_pipe) = keep(child.id().expect("it was just started"));
        let output = Arc::new(Mutex::new(String::new()));
        let (ready_tx, ready) = oneshot::channel();
        let stdout = child.stdout.take().and_then(|out| out.into_owned_fd().ok()).expect("it is piped");
        let stderr = child.stderr.take().and_then(|err| err.into_owned_fd().ok()).expect("it is piped");
        let log = setup.log.as_deref().map(append_to);
        collect(std::fs::File::from(stdout), &output, log.as_ref(), Some(ready_tx));
        let errors = collect(std::fs::File::from(stderr), &output, log.as_ref(), None);
        let Ok(line) = within(PATIENCE * 3, "the server listens", ready).await else {
            let status = child.wait().await.expect("a child");
            errors.join().expect("nothing is left to read");
            let output = output.lock().unwrap_or_else(PoisonError::into_inner).clone();
            return Err(Ended { status, output });
        };
        let (address, ops) = addresses(&line);
        let prefix = setup.get("PUBSUB_PREFIX").to_owned();
        Ok(Self { address, ops, prefix, setup, child, output, keeper, keeper_pipe, succeeded: false })
    }
}

impl Drop for TestServer {
    fn drop(&mut self) {
        let _ = self.child.start_kill();
        if !self.succeeded
            && let Ok(mut redis) = std::os::unix::net::UnixStream::connect(self.redis_socket())
        {
            let _ = redis.write_all(b"SHUTDOWN NOSAVE\r\n");
            let _ = redis.read_to_end(&mut Vec::new());
        }
        let _ = self.keeper.start_kill();
        self.keeper_pipe = None;
        if thread::panicking() {
            let logs = self.logs();
            let lines: Vec<_> = logs.lines().collect();
            eprintln!("— the server's last lines —\n{}", lines[lines.len().saturating_sub(40)..].join("\n"));
        }
    }
}

/// A shell that kills the server once the test process is gone.
fn keep(pid: u32) -> (Child, Option<ChildStdin>) {
    let mut keeper = Command::new("/bin/sh");
    keeper.args(["-c", "read _; kill -9 \"$0\"", &pid.to_string()]).stdin(Stdio::piped()).stderr(Stdio::null());
    let mut keeper = keeper.kill_on_drop(true).spawn().expect("every machine has a shell");
    let pipe = keeper.stdin.take();
    (keeper, pipe)
}

fn append_to(log: &Path) -> std::fs::File {
    let opened = std::fs::OpenOptions::new().create(true).append(true).open(log);
    opened.unwrap_or_else(|error| panic!("{}: {error}", log.display()))
}

/// Reads to the end on a thread, so that a test that waits never holds the server up.
fn collect(
    from: std::fs::File,
    output: &Arc<Mutex<String>>,
    log: Option<&std::fs::File>,
    mut ready: Option<oneshot::Sender<String>>,
) -> thread::JoinHandle<()> {
    let output = Arc::clone(output);
    let mut log = log.map(|log| log.try_clone().expect("a file can be opened twice"));
    thread::spawn(move || {
        for line in BufReader::new(from).lines().map_while(Result::ok) {
            let _ = log.as_mut().map(|log| writeln!(log, "{line}"));
            let mut output = output.lock().unwrap_or_else(PoisonError::into_inner);
            output.push_str(&line);
            output.push('\n');
            if line.starts_with(READY_LINE)
                && let Some(ready) = ready.take()
            {
                let _ = ready.send(line);
            }
        }
    })
}

/// Of the public listener and the operators'.
fn addresses(line: &str) -> (SocketAddr, SocketAddr) {
    let mut found = line.split("http://").skip(1).map(|rest| {
        let end = rest.find(|c: char| !c.is_ascii_digit() && c != '.' && c != ':').unwrap_or(rest.len());
        rest[..end].parse().unwrap_or_else(|_| panic!("no address in {line}"))
    });
    (found.next().expect("the public address"), found.next().expect("the operators' address"))
}
