//! The machine: open files, disk, memory, cores, clock, and what a password costs here.

use std::fs;
use std::path::Path;
use std::time::Duration;

use tokio::process::Command;
use tokio::time::{Instant, timeout};

use crate::auth::{Password, Passwords};
use crate::config::{Database, Settings};
use crate::finding::Finding;
use crate::metrics::Metrics;

/// Descriptors of a node beside its connections: Redis, the database, logs, listeners.
const FILES_OF_A_NODE: u64 = 256;
/// The backlog that the listeners ask for; the system gives no more than its own limit.
const BACKLOG: u64 = 1_024;
/// Below it the database or the log soon cannot grow.
const DISK_WARNING_KIB: u64 = 1 << 20;
const DISK_FAILURE_KIB: u64 = 64 << 10;
/// Below it a burst of connections may find none.
const MEMORY_WARNING_KIB: u64 = 256 << 10;
/// Below it a burst of users who come back waits noticeably for the threads that hash.
const SIGN_INS_WARNING: f64 = 2.0;
/// How long a foreign program may take.
const PROGRAM_MAX: Duration = Duration::from_secs(3);
/// How long one hash may take; rounds that take longer turn every sign-in away.
const HASH_MAX: Duration = Duration::from_secs(20);

pub(super) async fn examine(settings: &Settings) -> Vec<Finding> {
    let mut findings = vec![open_files(settings), memory(), backlog()];
    let database = match &settings.server.db {
        Database::Sqlite(path) => path.parent().map(Path::to_owned),
        Database::Postgres(_) => None,
    };
    let mut folders = vec![settings.data_dir.clone()];
    folders.extend(database.filter(|folder| *folder != settings.data_dir));
    for folder in folders {
        findings.push(disk(&folder).await);
    }
    findings.push(clock().await);
    findings.push(passwords(settings).await);
    findings
}

fn open_files(settings: &Settings) -> Finding {
    const CHECK: &str = "open files";
    let limits = fs::read_to_string("/proc/self/limits").unwrap_or_default();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"));
    let soft = line.and_then(|line| line.split_whitespace().next());
    let Some(soft) = soft else {
        return Finding::note(CHECK, "the limit cannot be told here", "compare ulimit -n with LIMIT_CONNECTIONS");
    };
    // "unlimited" is no number.
    let soft: u64 = soft.parse().unwrap_or(u64::MAX);
    let Some(connections) = settings.limit.connections.max() else {
        let found = format!("{soft}, and LIMIT_CONNECTIONS is none");
        return Finding::warning(CHECK, found, "set LIMIT_CONNECTIONS to fewer than the open files there may be");
    };
    let needed = connections as u64 + FILES_OF_A_NODE;
    if soft >= needed {
        return Finding::ok(CHECK, format!("{soft} here, {needed} needed"));
    }
    Finding::warning(
        CHECK,
        format!("{soft} here, but LIMIT_CONNECTIONS={connections} needs {needed}: connections beyond are not accepted"),
        format!(
            "LimitNOFILE={needed} in the systemd unit, or ulimit -n {needed} before the start; or lower LIMIT_CONNECTIONS"
        ),
    )
}

fn memory() -> Finding {
    const CHECK: &str = "memory and cores";
    let info = fs::read_to_string("/proc/meminfo").unwrap_or_default();
    let field = |name| {
        let line = info.lines().find_map(|line: &str| line.strip_prefix(name))?;
        line.trim_start_matches(':').trim().trim_end_matches(" kB").parse::<u64>().ok()
    };
    let cores = std::thread::available_parallelism().map_or(1, std::num::NonZero::get);
    let (Some(available), Some(total)) = (field("MemAvailable"), field("MemTotal")) else {
        return Finding::note(CHECK, format!("{cores} cores; the memory cannot be told here"), "see top");
    };
    let found = format!("{} MiB of {} MiB available, {cores} cores", available >> 10, total >> 10);
    if available >= MEMORY_WARNING_KIB {
        return Finding::ok(CHECK, found);
    }
    Finding::warning(CHECK, found, "free some, or have a larger machine")
}

fn backlog() -> Finding {
    const CHECK: &str = "backlog";
    let somaxconn = fs::read_to_string("/proc/sys/net/core/somaxconn");
    match somaxconn.ok().and_then(|text| text.trim().parse::<u64>().ok()) {
        None => Finding::note(CHECK, "net.core.somaxconn cannot be told here", "see that it is at least 1024"),
        Some(found) if found >= BACKLOG => Finding::ok(CHECK, format!("net.core.somaxconn is {found}")),
        Some(found) => Finding::warning(
            CHECK,
            format!("net.core.somaxconn is {found}: when all clients come back at once, some are turned away"),
            format!("sysctl -w net.core.somaxconn={BACKLOG}, and the same in /etc/sysctl.d"),
        ),
    }
}

/// Asks `df`, whose form POSIX fixes: the standard library does not tell.
async fn disk(folder: &Path) -> Finding {
    const CHECK: &str = "disk";
    let absolute = std::path::absolute(folder).unwrap_or_else(|_| folder.to_owned());
    let there = absolute.ancestors().find(|folder| folder.exists()).unwrap_or(Path::new("/"));
    let told = run(Command::new("df").arg("-Pk").arg(there)).await;
    let free: Option<u64> =
        told.as_deref().and_then(|told| told.lines().nth(1)?.split_whitespace().nth(3)?.parse().ok());
    let Some(free) = free else {
        let found = format!("what is free for {} cannot be told", folder.display());
        return Finding::note(CHECK, found, "see that df is installed");
    };
    let found = format!("{} MiB free for {}", free >> 10, folder.display());
    let remedy = "make room there, or move DATA_DIR or SERVER_DB";
    match free {
        ..DISK_FAILURE_KIB => Finding::failure(CHECK, found, remedy),
        DISK_FAILURE_KIB..DISK_WARNING_KIB => Finding::warning(CHECK, found, remedy),
        _ => Finding::ok(CHECK, found),
    }
}

/// Whether something keeps the clock right, as systemd tells.
async fn clock() -> Finding {
    const CHECK: &str = "clock";
    let told = run(Command::new("timedatectl").args(["show", "--property=NTPSynchronized", "--value"])).await;
    match told.as_deref().map(str::trim) {
        Some("yes") => Finding::ok(CHECK, "kept by NTP"),
        Some("no") => Finding::warning(CHECK, "not kept by NTP", "timedatectl set-ntp true"),
        _ => Finding::note(CHECK, "whether NTP keeps it cannot be told here", "have chrony or systemd-timesyncd run"),
    }
}

async fn run(command: &mut Command) -> Option<String> {
    let output = timeout(PROGRAM_MAX, command.kill_on_drop(true).output()).await.ok()?.ok()?;
    output.status.success().then(|| String::from_utf8_lossy(&output.stdout).into_owned())
}

async fn passwords(settings: &Settings) -> Finding {
    const CHECK: &str = "passwords";
    let (rounds, threads) = (settings.auth.password_rounds, settings.auth.password_threads.max(1));
    let hashed = async {
        let passwords = Passwords::new(rounds, 1, 1, Metrics::unobserved())?;
        let began = Instant::now();
        passwords.hash(Password::chosen("correct horse".into())?).await?;
        anyhow::Ok(began.elapsed())
    };
    let remedy = "lower AUTH_PASSWORD_ROUNDS (600000 is the least in production), or have more cores";
    match timeout(HASH_MAX, hashed).await {
        Ok(Ok(time)) => {
            let per_second = threads as f64 / time.as_secs_f64();
            let found = format!("{rounds} rounds take {} ms: {per_second:.0} sign-ins a second", time.as_millis());
            if per_second >= SIGN_INS_WARNING {
                Finding::ok(CHECK, found)
            } else {
                Finding::warning(CHECK, found, remedy)
            }
        }
        Ok(Err(error)) => Finding::failure(CHECK, format!("{error:#}"), "mend AUTH_PASSWORD_ROUNDS"),
        Err(_) => Finding::failure(CHECK, format!("{rounds} rounds take longer than {HASH_MAX:?}"), remedy),
    }
}
