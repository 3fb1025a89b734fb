//! A PostgreSQL server of the suite's own: a folder that goes away again, a Unix socket, no port.

use std::fs::{self, File};
use std::os::unix::fs::{MetadataExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use tempfile::TempDir;
use tokio::process::Child;
use tokio::time::sleep;

/// Where Debian keeps the servers, a folder for each version.
const VERSIONS: &str = "/usr/lib/postgresql";
/// The account that Debian's package makes; the server refuses to run as root.
const ACCOUNT: &str = "postgres";
const DB_USER: &str = "burble";
/// How long a server may take to answer first.
const START_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// A running server.
pub(super) struct Postgres {
    programs: PathBuf,
    _child: Child,
    folder: TempDir,
    databases: AtomicU32,
}

impl Postgres {
    /// Starts one, and waits until it answers.
    pub(super) async fn start() -> Result<Self> {
        let programs = programs()?;
        let folder = tempfile::Builder::new().prefix("burble-bench-postgres-").tempdir()?;
        if is_root() {
            chown(folder.path(), Some(id_of_account("-u")?), Some(id_of_account("-g")?))?;
        }
        let mut initdb = unprivileged(&programs.join("initdb"));
        initdb.arg("-D").arg(folder.path().join("data"));
        run(initdb.args(["-U", DB_USER, "--auth=trust", "--no-sync", "--encoding=UTF8", "--locale=C.UTF-8"]))?;
        let mut server = unprivileged(&programs.join("postgres"));
        server.arg("-D").arg(folder.path().join("data")).arg("-k").arg(folder.path());
        server.args(["-c", "listen_addresses=", "-c", "max_connections=200"]);
        let log = File::create(folder.path().join("log"))?;
        server.stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log);
        let child = tokio::process::Command::from(server).kill_on_drop(true).spawn().context("postgres")?;
        let server = Self { programs, _child: child, folder, databases: AtomicU32::new(0) };
        let start = Instant::now();
        while run(server.program("pg_isready").arg("-q")).is_err() {
            let log = fs::read_to_string(server.folder.path().join("log")).unwrap_or_default();
            ensure!(start.elapsed() < START_MAX, "PostgreSQL does not answer:\n{log}");
            sleep(LOOK_EVERY).await;
        }
        Ok(server)
    }

    /// Makes an empty database and tells its URL.
    pub(super) fn create_database(&self) -> Result<String> {
        let name = format!("burble_{}", self.databases.fetch_add(1, Ordering::Relaxed));
        run(self.program("createdb").arg(&name))?;
        Ok(format!("postgres://{DB_USER}@localhost/{name}?host={}", self.folder.path().display()))
    }

    fn program(&self, name: &str) -> Command {
        let mut command = Command::new(self.programs.join(name));
        command.arg("-h").arg(self.folder.path()).args(["-U", DB_USER]);
        command
    }
}

fn run(command: &mut Command) -> Result<()> {
    let done = command.output().with_context(|| format!("{command:?}"))?;
    ensure!(done.status.success(), "{command:?}: {}", String::from_utf8_lossy(&done.stderr));
    Ok(())
}

/// The folder of the newest version's programs, or that of the `PATH`.
fn programs() -> Result<PathBuf> {
    let version = |entry: &fs::DirEntry| entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
    let installed = fs::read_dir(VERSIONS).into_iter().flatten().flatten();
    let newest = installed.filter(|entry| entry.path().join("bin/initdb").exists()).max_by_key(version);
    if let Some(newest) = newest {
        return Ok(newest.path().join("bin"));
    }
    let found = Command::new("sh").args(["-c", "command -v initdb"]).output()?;
    let path = PathBuf::from(String::from_utf8_lossy(&found.stdout).trim().to_owned());
    ensure!(found.status.success(), "several nodes need PostgreSQL; Debian has it in the package postgresql");
    Ok(path.parent().context("initdb lies in a folder")?.to_owned())
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

fn id_of_account(which: &str) -> Result<u32> {
    let done = Command::new("id").args([which, ACCOUNT]).output()?;
    let id = String::from_utf8_lossy(&done.stdout).trim().parse();
    id.context("PostgreSQL's package makes the account postgres, which is missing")
}
