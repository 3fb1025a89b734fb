//! What /proc tells: what a server process used, what this machine is, how many files may be open.

use std::fs;

use anyhow::{Context, Result, bail};
use serde::Serialize;

use crate::cli::NamedPid;
use crate::failure::{Failure, Tally};

/// Clock ticks per second in /proc/PID/stat. It is 100 on every Linux that user space sees.
const TICKS_PER_SECOND: f64 = 100.0;
/// Open files beside the sessions: the runtime's, the standard streams, and some room.
const FILES_SPARE: u64 = 64;

/// What a server process used between the start and the end of the measured phase.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct ServerUse {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_after_kib: u64,
    /// Since the process began, not only in this run.
    pub(crate) rss_peak_kib: u64,
}

/// Watches server processes during the measured phase.
pub(crate) struct Watch {
    before: Vec<(NamedPid, Reading)>,
}

impl Watch {
    /// Reads each process once; fails where there is no such process.
    pub(crate) fn start(pids: &[NamedPid]) -> Result<Self> {
        let read = |process: &NamedPid| Ok((process.clone(), Reading::of(process.pid)?));
        Ok(Self { before: pids.iter().map(read).collect::<Result<_>>()? })
    }

    /// What they used since. A process that is gone died under the load: that is a failure of the run.
    pub(crate) fn stop(&self, tally: &Tally) -> Vec<ServerUse> {
        let gone = |error: anyhow::Error| tally.add(Failure::new("server: process gone", error));
        let read = |(process, before): &(NamedPid, Reading)| used(process, before).map_err(gone).ok();
        self.before.iter().filter_map(read).collect()
    }
}

fn used(process: &NamedPid, before: &Reading) -> Result<ServerUse> {
    let after = Reading::of(process.pid)?;
    Ok(ServerUse {
        name: process.name.clone(),
        pid: process.pid,
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        rss_before_kib: before.rss_kib,
        rss_after_kib: after.rss_kib,
        rss_peak_kib: after.rss_peak_kib,
    })
}

struct Reading {
    cpu_seconds: f64,
    rss_kib: u64,
    rss_peak_kib: u64,
}

impl Reading {
    fn of(pid: u32) -> Result<Self> {
        let read = |file| {
            fs::read_to_string(format!("/proc/{pid}/{file}"))
                .with_context(|| format!("process {pid} cannot be read; is it (still) running?"))
        };
        let (stat, status) = (read("stat")?, read("status")?);
        Ok(Self {
            cpu_seconds: cpu_seconds(&stat).context("/proc/PID/stat has an unknown form")?,
            rss_kib: status_kib(&status, "VmRSS:").unwrap_or(0),
            rss_peak_kib: status_kib(&status, "VmHWM:").unwrap_or(0),
        })
    }
}

/// User and system time: the 14th and 15th field, counted from behind the name, which may hold anything.
fn cpu_seconds(stat: &str) -> Option<f64> {
    let (_, fields) = stat.rsplit_once(") ")?;
    let ticks: Vec<u32> = fields.split(' ').skip(11).take(2).flat_map(str::parse).collect();
    let [user, system] = ticks[..] else {
        return None;
    };
    Some((f64::from(user) + f64::from(system)) / TICKS_PER_SECOND)
}

fn status_kib(status: &str, key: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(key))?;
    line.trim().strip_suffix("kB")?.trim().parse().ok()
}

/// Fails early, with the remedy, where this many sessions cannot be open in one process.
pub(crate) fn check_open_files(sessions: u32) -> Result<()> {
    let limits = fs::read_to_string("/proc/self/limits").context("/proc/self/limits cannot be read")?;
    let needed = u64::from(sessions) + FILES_SPARE;
    match open_files(&limits) {
        Some(limit) if limit < needed => bail!(
            "{sessions} sessions need {needed} open files, but only {limit} are allowed here; run \
             \"ulimit -n {needed}\" before (and see that the server has as many)"
        ),
        _ => Ok(()),
    }
}

/// The soft limit; nothing where there is none.
fn open_files(limits: &str) -> Option<u64> {
    let line = limits.lines().find_map(|line| line.strip_prefix("Max open files"))?;
    line.split_whitespace().next()?.parse().ok()
}

/// What the figures were measured on.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct Machine {
    pub(crate) cores: usize,
    pub(crate) cpu: String,
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
            kernel: or_unknown(read("/proc/sys/kernel/osrelease").trim()),
            build: if cfg!(debug_assertions) { "debug" } else { "release" },
        }
    }
}

fn cpu_model(cpuinfo: &str) -> &str {
    let model = cpuinfo.lines().find_map(|line| line.strip_prefix("model name"));
    model.map_or("", |rest| rest.trim_start_matches([' ', '\t', ':']).trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cpu_time_is_read_behind_any_name() {
        let stat = "7 (a) b (c) S 1 7 7 0 -1 4194304 500 0 0 0 150 50 9 9 20 0 3 0 100 1000 10";
        assert_eq!(cpu_seconds(stat), Some(2.0));
        assert_eq!(cpu_seconds("7 (a) S 1"), None);
    }

    #[test]
    fn memory_and_limits_are_read() {
        assert_eq!(status_kib("VmHWM:\t  300 kB\nVmRSS:\t  200 kB\n", "VmRSS:"), Some(200));
        let limits = "Limit  Soft Limit  Hard Limit  Units\nMax open files            20000   20000   files\n";
        assert_eq!(open_files(limits), Some(20_000));
        assert_eq!(open_files("Max open files  unlimited unlimited files"), None);
        assert_eq!(cpu_model("processor : 0\nmodel name\t: Fast One\n"), "Fast One");
    }

    #[test]
    fn this_process_can_be_watched() {
        let pids = [NamedPid { name: "self".into(), pid: std::process::id() }];
        let used = Watch::start(&pids).expect("it runs").stop(&Tally::default());
        assert!(used[0].rss_after_kib > 0);
    }
}
