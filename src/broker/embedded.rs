//! The private Redis of the embedded set-up: found, started, watched, started again, stopped. Not the log itself.
//!
//! Its one door is a Unix socket in a folder of mode 700. It lives in a process group of its own, so that Ctrl-C
//! reaches Burble alone, which stops it last.
//!
//! A Burble that is killed leaves its redis-server behind: nothing short of a second watching process could prevent
//! that, and the orphan does no harm, for whatever it acknowledged is in its AOF. What matters is that two of them
//! never write to one folder. So each redis-server inherits, as its standard input, a file of which it thereby holds
//! the lock for as long as it lives, in whatever state. The next start finds the lock taken, has the orphan shut
//! down, by force if need be, waits for the lock, and only then starts its own on the same AOF.

use std::fs::{self, File, TryLockError};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use sha2::{Digest, Sha256};
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::UnixStream;
use tokio::process::{Child, Command};
use tokio::time::{Instant, sleep, timeout};
use tokio_util::sync::CancellationToken;
use tracing::{error, info, warn};

/// What can serve, by preference, and where it is looked for besides `PATH`.
const PROGRAMS: [&str; 2] = ["redis-server", "valkey-server"];
const FOLDERS: [&str; 3] = ["/usr/bin", "/usr/local/bin", "/opt/homebrew/bin"];
/// A socket's path must fit `sockaddr_un`: 104 bytes on macOS, 108 on Linux. A longer one moves to the temporary folder.
const SOCKET_PATH_BYTES_MAX: usize = 100;
/// The log file is put aside at a start that finds it larger; one old file is kept.
const LOG_BYTES_MAX: u64 = 1 << 20;
/// How much of the log goes into the error of a start that failed.
const LOG_TAIL_LINES: usize = 8;
/// A redis-server that gives no sign of life for so long while it starts has failed; one that loads does give signs.
const SILENCE_MAX: Duration = Duration::from_secs(20);
/// A single answer takes no longer, or counts as none.
const ANSWER_TIMEOUT: Duration = Duration::from_secs(2);
/// A redis-server that has not ended by then, asked or forced, is forced, or given up.
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Between two looks at what has no event: a socket that appears, a lock that another process gives back.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// How long a lock on the data may still be held by one who is letting go of it.
const LET_GO: Duration = Duration::from_millis(500);
/// Between two lines about the loading of a large log.
const PROGRESS_EVERY: Duration = Duration::from_secs(5);
/// The wait before a restart, doubled each time up to the most, and begun anew after a run that lasted.
const RESTART_DELAY_MIN: Duration = Duration::from_millis(100);
const RESTART_DELAY_MAX: Duration = Duration::from_secs(5);
const LASTING_RUN: Duration = Duration::from_secs(30);

/// A running private Redis. Dropped without [`watch`](Self::watch), it takes the redis-server down with it.
#[derive(Debug)]
pub struct Embedded {
    launch: Launch,
    child: Child,
    /// Held as long as this Burble uses the data folder.
    _data_lock: File,
}

/// All that a start needs.
#[derive(Debug)]
struct Launch {
    program: PathBuf,
    folder: PathBuf,
    socket: PathBuf,
    fsync: bool,
    /// Every redis-server on this folder holds its lock, through its standard input.
    lock: File,
}

impl Embedded {
    /// Starts a redis-server in `<data_dir>/redis` and returns once it answers, with all that was ever acknowledged.
    ///
    /// # Errors
    /// No redis-server is installed, another Burble uses the folder, or the redis-server does not come up; the
    /// message names the remedy.
    pub async fn start(data_dir: &Path, fsync: bool) -> anyhow::Result<Self> {
        Self::start_after_orphan(data_dir, fsync, STOP_TIMEOUT).await
    }

    async fn start_after_orphan(data_dir: &Path, fsync: bool, patience: Duration) -> anyhow::Result<Self> {
        let program = find_program()?;
        let data_dir = std::path::absolute(data_dir)?;
        let folder = data_dir.join("redis");
        private_folder(&data_dir, &folder)?;
        let data_lock = lock_data(&data_dir).await?;
        let socket = socket_path(&folder)?;
        let lock = open_lock(&folder.join("lock"))?;
        let launch = Launch { program, folder, socket, fsync, lock };
        launch.end_orphan(patience).await?;
        let child = launch.spawn().await?;
        info!(socket = %launch.socket.display(), "The private redis-server is up");
        Ok(Self { launch, child, _data_lock: data_lock })
    }

    /// Where it listens; the same for all its restarts.
    pub fn socket(&self) -> &Path {
        &self.launch.socket
    }

    /// Brings it up again whenever it ends, calling `restarts` each time it is back; once `stop` is cancelled, has it
    /// write what it holds and end, and returns.
    pub async fn watch(mut self, stop: CancellationToken, restarts: impl Fn()) {
        let mut delay = RESTART_DELAY_MIN;
        loop {
            let began = Instant::now();
            let status = tokio::select! {
                status = self.child.wait() => status,
                () = stop.cancelled() => return self.stop().await,
            };
            if began.elapsed() > LASTING_RUN {
                delay = RESTART_DELAY_MIN;
            }
            error!(status = %describe(status), "The private redis-server ended by itself; it is started again");
            tokio::select! {
                child = self.launch.spawn_until_it_works(&mut delay) => self.child = child,
                () = stop.cancelled() => return,
            }
            info!("The private redis-server is up again");
            restarts();
        }
    }

    /// `SHUTDOWN` over the socket does what SIGTERM does, the AOF is written and flushed, and needs no foreign program.
    async fn stop(mut self) {
        self.launch.request_shutdown().await;
        match timeout(STOP_TIMEOUT, self.child.wait()).await {
            Ok(status) => info!(status = %describe(status), "The private redis-server has stopped"),
            Err(_) => {
                warn!("The private redis-server did not stop in time; it is killed");
                end_by_force(&mut self.child).await;
            }
        }
    }
}

impl Launch {
    /// Starts one and waits until it answers. A child that does not is gone when this returns.
    async fn spawn(&self) -> anyhow::Result<Child> {
        self.put_old_log_aside()?;
        let mut child = Command::new(&self.program)
            .args(self.options())
            .env_clear() // our settings hold secrets
            .stdin(self.lock.try_clone()?)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .process_group(0)
            .kill_on_drop(true)
            .spawn()
            .with_context(|| format!("{} does not start", self.program.display()))?;
        let outcome = tokio::select! {
            status = child.wait() => Err(anyhow::anyhow!("it ended at once, {}", describe(status))),
            outcome = self.ready() => outcome,
        };
        if let Err(cause) = outcome {
            end_by_force(&mut child).await;
            let tail = self.log_tail();
            return Err(cause.context(format!("{} did not come up; its log ends:\n{tail}", self.program.display())));
        }
        Ok(child)
    }

    async fn spawn_until_it_works(&self, delay: &mut Duration) -> Child {
        loop {
            sleep(*delay).await;
            *delay = (*delay * 2).min(RESTART_DELAY_MAX);
            match self.spawn().await {
                Ok(child) => return child,
                Err(cause) => error!("The private redis-server cannot be started: {cause:#}"),
            }
        }
    }

    fn options(&self) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let options = [
            ("port", "0".into()),
            ("unixsocket", path(&self.socket)),
            ("unixsocketperm", "700".into()),
            ("dir", path(&self.folder)),
            ("appendonly", "yes".into()),
            ("appendfsync", if self.fsync { "always" } else { "everysec" }.into()),
            ("save", String::new()),
            ("maxmemory-policy", "noeviction".into()),
            ("stream-node-max-bytes", "1024".into()),
            ("loglevel", "notice".into()),
            ("logfile", path(&self.log_file())),
            ("daemonize", "no".into()),
        ];
        options.into_iter().flat_map(|(name, value)| [format!("--{name}"), value]).collect()
    }

    /// Returns once PING is answered. Loading a large AOF may take its time; silence may not.
    async fn ready(&self) -> anyhow::Result<()> {
        let (mut heard, mut told) = (Instant::now(), Instant::now());
        loop {
            match self.ask("PING").await {
                Ok(answer) if answer == "+PONG" => return Ok(()),
                Ok(answer) if answer.starts_with("-LOADING") => {
                    heard = Instant::now();
                    if told.elapsed() >= PROGRESS_EVERY {
                        told = heard;
                        let percent = self.loaded_percent().await;
                        info!(%percent, "The private redis-server loads its log");
                    }
                }
                Ok(answer) => bail!("it answers PING with {answer}"),
                Err(_) if heard.elapsed() < SILENCE_MAX => {}
                Err(cause) => return Err(cause).context("it gives no answer"),
            }
            sleep(LOOK_AGAIN).await;
        }
    }

    async fn loaded_percent(&self) -> String {
        let info = self.ask("INFO persistence").await.unwrap_or_default();
        let percent = info.lines().find_map(|line| line.strip_prefix("loading_loaded_perc:"));
        percent.unwrap_or("?").to_owned()
    }

    /// Ends the redis-server that a killed Burble left behind, and returns holding the lock of the folder.
    async fn end_orphan(&self, patience: Duration) -> anyhow::Result<()> {
        if try_lock(&self.lock)? {
            return Ok(());
        }
        info!("A redis-server of an earlier run is still there; it is stopped first");
        self.request_shutdown().await;
        if locked_within(&self.lock, patience).await? {
            return Ok(());
        }
        warn!("The redis-server of an earlier run does not stop; it is killed");
        self.kill_listener().await;
        let folder = self.folder.display();
        let gone = locked_within(&self.lock, STOP_TIMEOUT).await?;
        ensure!(gone, "a redis-server still uses {folder} and does not end; stop it by hand");
        Ok(())
    }

    /// The kernel knows who listens on the socket, so that no number in a file needs to be believed.
    async fn kill_listener(&self) {
        let Ok(stream) = UnixStream::connect(&self.socket).await else { return };
        if let Some(pid) = stream.peer_cred().ok().and_then(|peer| peer.pid()) {
            // `kill` is built into every shell; not every container has it as a program.
            let _ = Command::new("/bin/sh").args(["-c", "kill -9 \"$0\"", &pid.to_string()]).status().await;
        }
    }

    /// Asks for the end. That goes well where the connection ends without an answer.
    async fn request_shutdown(&self) {
        if let Ok(answer) = self.ask("SHUTDOWN").await
            && !answer.is_empty()
        {
            warn!(%answer, "The private redis-server refuses to shut down");
        }
    }

    async fn ask(&self, command: &str) -> io::Result<String> {
        ask(&self.socket, command).await
    }

    fn log_file(&self) -> PathBuf {
        self.folder.join("redis.log")
    }

    fn put_old_log_aside(&self) -> io::Result<()> {
        let log = self.log_file();
        match fs::metadata(&log) {
            Ok(file) if file.len() > LOG_BYTES_MAX => fs::rename(&log, self.folder.join("redis.log.1")),
            _ => Ok(()),
        }
    }

    fn log_tail(&self) -> String {
        let log = fs::read(self.log_file()).unwrap_or_default();
        let log = String::from_utf8_lossy(&log);
        let lines: Vec<_> = log.lines().collect();
        lines[lines.len().saturating_sub(LOG_TAIL_LINES)..].join("\n")
    }
}

/// One inline command on a connection of its own; the first line of the answer, or the whole of a bulk string.
pub(super) async fn ask(socket: &Path, command: &str) -> io::Result<String> {
    let asking = async {
        let mut stream = BufReader::new(UnixStream::connect(socket).await?);
        stream.write_all(format!("{command}\r\n").as_bytes()).await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        let line = line.trim_end();
        let Some(bytes) = line.strip_prefix('$').and_then(|bytes| bytes.parse().ok()) else {
            return Ok(line.to_owned());
        };
        let mut bulk = String::new();
        stream.take(bytes).read_to_string(&mut bulk).await?;
        Ok(bulk)
    };
    timeout(ANSWER_TIMEOUT, asking).await?
}

/// The socket of the one that runs on the data folder now, if any; starts none.
pub async fn running(data_dir: &Path) -> Option<PathBuf> {
    let folder = std::path::absolute(data_dir).ok()?.join("redis");
    if !folder.is_dir() {
        return None;
    }
    let socket = socket_path(&folder).ok()?;
    UnixStream::connect(&socket).await.ok().map(|_| socket)
}

/// The program that would be started, and its version.
///
/// # Errors
/// There is none, or it does not run; names the remedy.
pub async fn installed() -> anyhow::Result<(PathBuf, String)> {
    let program = find_program()?;
    let told = timeout(ANSWER_TIMEOUT, Command::new(&program).arg("--version").kill_on_drop(true).output()).await;
    let told = told.with_context(|| format!("{} does not answer", program.display()))??;
    let told = String::from_utf8_lossy(&told.stdout);
    let version = told.split_whitespace().find_map(|word| word.strip_prefix("v=")).unwrap_or("of unknown version");
    Ok((program, version.to_owned()))
}

fn find_program() -> anyhow::Result<PathBuf> {
    #[expect(clippy::disallowed_methods, reason = "where programs are is no setting of ours")]
    let path = std::env::var_os("PATH").unwrap_or_default();
    let folders: Vec<_> = std::env::split_paths(&path).chain(FOLDERS.map(PathBuf::from)).collect();
    let is_program =
        |file: &PathBuf| fs::metadata(file).is_ok_and(|file| file.is_file() && file.permissions().mode() & 0o111 != 0);
    PROGRAMS.iter().flat_map(|program| folders.iter().map(move |folder| folder.join(program))).find(is_program).context(
        "no redis-server found. Without PUBSUB_SERVER_HOST, Burble starts one of its own: install it \
         (`apt-get install redis-server` or `brew install redis`), or name a running Redis in PUBSUB_SERVER_HOST",
    )
}

/// Creates both, where they are not there, for this user alone.
fn private_folder(data_dir: &Path, folder: &Path) -> anyhow::Result<()> {
    fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(folder)
        .and_then(|()| fs::set_permissions(folder, fs::Permissions::from_mode(0o700)))
        .with_context(|| format!("the data folder {} cannot be used", data_dir.display()))
}

/// Waits a moment where it is taken: a Burble that is just ending, or a program that it is just starting, lets go of it
/// at once.
async fn lock_data(data_dir: &Path) -> anyhow::Result<File> {
    let lock = open_lock(&data_dir.join("lock"))?;
    let folder = data_dir.display();
    ensure!(
        locked_within(&lock, LET_GO).await?,
        "another Burble uses the data folder {folder}; stop it, or set another DATA_DIR"
    );
    Ok(lock)
}

fn open_lock(path: &Path) -> anyhow::Result<File> {
    let file = File::options().create(true).truncate(false).write(true).read(true).open(path);
    file.with_context(|| format!("{} cannot be opened", path.display()))
}

async fn locked_within(file: &File, patience: Duration) -> io::Result<bool> {
    let deadline = Instant::now() + patience;
    while Instant::now() < deadline {
        if try_lock(file)? {
            return Ok(true);
        }
        sleep(LOOK_AGAIN).await;
    }
    Ok(false)
}

fn try_lock(file: &File) -> io::Result<bool> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(cause)) => Err(cause),
    }
}

/// In the folder itself; where that makes the path too long, in one of the temporary folder that belongs to this user
/// alone and is always the same for the same data.
fn socket_path(folder: &Path) -> anyhow::Result<PathBuf> {
    let socket = folder.join("redis.sock");
    if socket.as_os_str().len() <= SOCKET_PATH_BYTES_MAX {
        return Ok(socket);
    }
    let digest = Sha256::digest(folder.as_os_str().as_bytes());
    let name: String = digest.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    let short = std::env::temp_dir().join(format!("burble-{name}"));
    match fs::DirBuilder::new().mode(0o700).create(&short) {
        Err(cause) if cause.kind() != io::ErrorKind::AlreadyExists => return Err(cause.into()),
        _ => {}
    }
    let found = fs::symlink_metadata(&short)?;
    let ours = found.is_dir() && found.uid() == fs::metadata(folder)?.uid() && found.mode() & 0o077 == 0;
    ensure!(ours, "{} belongs to somebody else; remove it, or use a shorter DATA_DIR", short.display());
    let socket = short.join("redis.sock");
    let bytes = socket.as_os_str().len();
    ensure!(bytes <= SOCKET_PATH_BYTES_MAX, "no room for a socket: {} is too long", socket.display());
    Ok(socket)
}

async fn end_by_force(child: &mut Child) {
    if let Err(cause) = child.kill().await {
        warn!(%cause, "The private redis-server cannot be killed");
    }
}

fn describe(status: io::Result<ExitStatus>) -> String {
    status.map_or_else(|cause| cause.to_string(), |status| status.to_string())
}

#[cfg(test)]
#[path = "embedded_tests.rs"]
mod tests;
