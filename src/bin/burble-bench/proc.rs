//! What this machine is, and how many files may be open.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result, bail};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use serde::Serialize;

/// Open files beside the sessions: the runtime's, the standard streams, and some room.
const FILES_SPARE: u64 = 64;

/// Allows as many open files as this process may allow itself; servers that it starts inherit them.
pub(crate) fn raise_open_files() -> Result<()> {
    let limit = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: limit.maximum, ..limit }).context("the limit of open files")
}

/// Fails early, with the remedy, where this many sessions cannot be open in one process.
pub(crate) fn check_open_files(sessions: u32) -> Result<()> {
    let needed = u64::from(sessions) + FILES_SPARE;
    match getrlimit(Resource::Nofile).current {
        Some(limit) if limit < needed => bail!(
            "{sessions} sessions need {needed} open files, but only {limit} are allowed here; run \
             \"ulimit -n {needed}\" before (and see that the server has as many)"
        ),
        _ => Ok(()),
    }
}

/// What the figures were measured on.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
    pub(crate) memory_mib: u64,
    pub(crate) kernel: String,
    pub(crate) build: &'static str,
}

impl Machine {
    /// This one; what cannot be found out is "unknown".
    pub(crate) fn here() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        let or_unknown = |text: &str| {
            if text.is_empty() { "unknown".to_owned() } else { text.to_owned() }
        };
        Self {
            cores: std::thread::available_parallelism().map_or(0, usize::from),
            cpu: or_unknown(cpu_model(&read("/proc/cpuinfo"))),
            memory_mib: memory_mib(&read("/proc/meminfo")).unwrap_or(0),
            kernel: or_unknown(read("/proc/sys/kernel/osrelease").trim()),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

/// The file system that a folder lies on; what flushes to it takes as long as that takes.
pub(crate) fn file_system(folder: &Path) -> String {
    let mounts = fs::read_to_string("/proc/self/mounts").unwrap_or_default();
    file_system_in(&mounts, folder).unwrap_or("unknown").to_owned()
}

/// Each line: what is mounted, where, and as which file system. The longest path that holds the folder counts.
fn file_system_in<'a>(mounts: &'a str, folder: &Path) -> Option<&'a str> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split(' ').skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let holding = mounts.filter(|(mount, _)| folder.starts_with(mount));
    holding.max_by_key(|(mount, _)| mount.len()).map(|(_, file_system)| file_system)
}

fn cpu_model(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']).trim())
}

fn memory_mib(meminfo: &str) -> Option<u64> {
    let total = meminfo.lines().find_map(|line| line.strip_prefix("MemTotal:"))?;
    Some(total.trim().strip_suffix("kB")?.trim().parse::<u64>().ok()? / 1024)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_machine_is_read() {
        assert_eq!(memory_mib("MemTotal:   2048 kB\nMemFree: 1 kB\n"), Some(2));
        let mounts = "/dev/a / ext4 rw 0 0\ntmpfs /tmp tmpfs rw 0 0\n";
        assert_eq!(file_system_in(mounts, Path::new("/tmp/x")), Some("tmpfs"));
        assert_eq!(file_system_in(mounts, Path::new("/tmpx")), Some("ext4"));
        assert_eq!(cpu_model("processor : 0\nmodel name\t: Fast One\n"), "Fast One");
    }
}
