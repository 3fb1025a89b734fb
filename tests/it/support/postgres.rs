//! A PostgreSQL server of the tests' own: a folder that goes away again, a Unix socket, no port.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// Where Debian keeps the servers, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The account that Debian's package makes; the server refuses to run as root.
const ACCOUNT: &str = "postgres";
/// The database user of the tests.
const DB_USER: &str = "burble";
/// How long a server may take to answer first.
const START_MAX: Duration = Duration::from_secs(30);
/// Starts the server, does what it is told, and clears up once its standard input ends. That is a pipe which the test
/// process holds: it ends with the process, however that ends. The signals that a terminal sends to all are not for it.
const WATCHDOG: &str = r#"
trap '' INT TERM HUP
folder=$1; shift
"$@" & server=$!
while read -r told; do
    case $told in
        stop) kill -INT $server; wait $server ;;
        start) "$@" & server=$! ;;
    esac
done
kill -QUIT $server 2>/dev/null; wait $server
rm -rf "$folder"
"#;

/// A running server. It stops when this is dropped or the process ends.
#[derive(Debug)]
pub(crate) struct Postgres {
    folder: PathBuf,
    programs: PathBuf,
    watchdog: Child,
    databases: AtomicU32,
}

impl Postgres {
    /// The one server that all tests of this process share.
    pub(crate) fn shared() -> &'static Self {
        static SHARED: OnceLock<Postgres> = OnceLock::new();
        SHARED.get_or_init(Self::start)
    }

    /// Starts a server and waits until it answers.
    pub(crate) fn start() -> Self {
        let programs = programs();
        let folder = tempfile::Builder::new().prefix("burble-postgres-").tempdir().expect("a temporary folder").keep();
        hand_over(&folder);
        initialise(&programs, &folder);
        let watchdog = serve(&programs, &folder);
        let server = Self { folder, programs, watchdog, databases: AtomicU32::new(0) };
        server.wait_until_it_answers();
        server
    }

    /// Makes an empty database and tells its URL.
    pub(crate) fn create_database(&self) -> String {
        let name = format!("burble_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        let done = self.program("createdb").arg(&name).output().expect("createdb starts");
        assert!(done.status.success(), "createdb: {}", String::from_utf8_lossy(&done.stderr));
        format!("postgres://{DB_USER}@localhost/{name}?host={}", self.folder.display())
    }

    /// Takes the server away in good order, for it does not flush what it commits: open connections break, and new ones
    /// are refused until [`resume`](Self::resume).
    pub(crate) fn interrupt(&self) {
        self.tell("stop");
        let started = Instant::now();
        while self.folder.join("data/postmaster.pid").exists() {
            assert!(started.elapsed() < START_MAX, "PostgreSQL does not stop");
            sleep(Duration::from_millis(20));
        }
    }

    /// Brings it back with what it held.
    pub(crate) fn resume(&self) {
        self.tell("start");
        self.wait_until_it_answers();
    }

    fn tell(&self, what: &str) {
        let mut stdin = self.watchdog.stdin.as_ref().expect("it is piped");
        stdin.write_all(format!("{what}\n").as_bytes()).expect("the watchdog listens");
    }

    fn answers(&self) -> bool {
        self.program("pg_isready").stdout(Stdio::null()).status().expect("pg_isready starts").success()
    }

    fn wait_until_it_answers(&self) {
        let started = Instant::now();
        while !self.answers() {
            let log = self.folder.join("log");
            assert!(started.elapsed() < START_MAX, "PostgreSQL does not answer:\n{}", read(&log));
            sleep(Duration::from_millis(20));
        }
    }

    /// A client program of PostgreSQL's, pointed at this server.
    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.arg("-h").arg(&self.folder).args(["-U", DB_USER]);
        command
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.watchdog.stdin.take());
        let _ = self.watchdog.wait();
    }
}

/// The programs of the newest version there is.
fn programs() -> PathBuf {
    let version = |entry: &fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
    fs::read_dir(VERSIONS)
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| entry.path().join("bin/initdb").exists())
        .max_by_key(version)
        .map(|entry| entry.path().join("bin"))
        .expect("these tests need PostgreSQL 15 or newer; install it with: apt-get install postgresql")
}

/// Root gives the folder to the account that the server runs as.
fn hand_over(folder: &Path) {
    if is_root() {
        chown(folder, Some(id_of_account("-u")), Some(id_of_account("-g"))).expect("root may give a folder away");
    }
}

/// Names sort by the rules of a language unless the tables say otherwise: the tables are to say so.
fn initialise(programs: &Path, folder: &Path) {
    let done = unprivileged(&programs.join("initdb"))
        .arg("-D")
        .arg(folder.join("data"))
        .args(["-U", DB_USER, "--auth=trust", "--no-sync", "--encoding=UTF8"])
        .args(["--locale=C.UTF-8", "--locale-provider=icu", "--icu-locale=en-US"])
        .output()
        .expect("initdb starts");
    assert!(done.status.success(), "initdb: {}", String::from_utf8_lossy(&done.stderr));
}

fn serve(programs: &Path, folder: &Path) -> Child {
    let log = fs::File::create(folder.join("log")).expect("the folder is ours");
    let server = unprivileged(&programs.join("postgres"));
    Command::new("sh")
        .args(["-c", WATCHDOG, "sh"])
        .arg(folder)
        .arg(server.get_program())
        .args(server.get_args())
        .arg("-D")
        .arg(folder.join("data"))
        .arg("-k")
        .arg(folder)
        .args(["-c", "listen_addresses=", "-c", "max_connections=200", "-c", "shared_buffers=16MB"])
        .args(["-c", "fsync=off", "-c", "full_page_writes=off", "-c", "synchronous_commit=off", "-c", "autovacuum=off"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("sh starts")
}

/// The program, run by an account that PostgreSQL accepts.
fn unprivileged(program: &Path) -> Command {
    if !is_root() {
        return Command::new(program);
    }
    let mut command = Command::new("setpriv");
    command.args(["--reuid", ACCOUNT, "--regid", ACCOUNT, "--clear-groups", "--"]).arg(program).current_dir("/");
    command
}

fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

fn id_of_account(which: &str) -> u32 {
    let done = Command::new("id").args([which, ACCOUNT]).output().expect("id starts");
    String::from_utf8_lossy(&done.stdout).trim().parse().expect("PostgreSQL's package makes the account postgres")
}

fn read(log: &Path) -> String {
    fs::read_to_string(log).unwrap_or_default()
}
