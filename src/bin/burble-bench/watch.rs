//! What a load costs the processes that carry it: CPU, memory, and commands of Redis.

use std::fs;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use serde::Serialize;
use tokio::time::sleep;

use crate::broker::Meter;
use crate::cli::NamedPid;
use crate::failure::{Failure, Tally};

/// Clock ticks per second in /proc/PID/stat. It is 100 on every Linux that user space sees.
const TICKS_PER_SECOND: f64 = 100.0;
/// A process that uses this much CPU at most in [`QUIET_WINDOW`] has done what it had put off.
const QUIET_CPU_SECONDS: f64 = 0.025;
const QUIET_WINDOW: Duration = Duration::from_millis(500);
/// A process that is still busy by then is not putting anything off, it is never quiet.
const SETTLE_MAX: Duration = Duration::from_secs(15);

/// What a server process used from the start of the measured phase until it had settled after its end.
#[derive(Serialize, Clone, Debug)]
pub(crate) struct ServerUse {
    pub(crate) name: String,
    pub(crate) pid: u32,
    pub(crate) cpu_seconds: f64,
    /// The part of it that was used when the load was over.
    pub(crate) cpu_after_seconds: f64,
    pub(crate) rss_before_kib: u64,
    pub(crate) rss_after_kib: u64,
    /// Since the process began, not only in this run.
    pub(crate) rss_peak_kib: u64,
}

/// What a load cost.
#[derive(Clone, Debug, Default)]
pub(crate) struct Used {
    pub(crate) servers: Vec<ServerUse>,
    /// Where a Redis was named.
    pub(crate) redis_commands: Option<u64>,
}

/// Watches server processes during the measured phase.
pub(crate) struct Watch {
    before: Vec<(NamedPid, Reading)>,
    redis: Option<(Meter, u64)>,
}

impl Watch {
    /// Reads each process once; fails where there is no such process, or no such Redis.
    pub(crate) async fn start(pids: &[NamedPid], redis: Option<&str>) -> Result<Self> {
        let redis = match redis {
            Some(url) => {
                let mut meter = Meter::open(url).await?;
                let commands = meter.commands().await?;
                Some((meter, commands))
            }
            None => None,
        };
        let read = |process: &NamedPid| Ok((process.clone(), Reading::of(process.pid)?));
        Ok(Self { before: pids.iter().map(read).collect::<Result<_>>()?, redis })
    }

    /// What they used since, and until they have settled: what a server puts off belongs to the load as well. A process
    /// that is gone died under the load: that is a failure of the run.
    pub(crate) async fn stop(mut self, tally: &Tally) -> Used {
        let at_end: Vec<_> = self.before.iter().map(|(process, _)| Reading::of(process.pid).ok()).collect();
        let gone = |error: anyhow::Error| tally.add(Failure::new("server: process gone", error));
        if let Err(error) = self.settle().await {
            gone(error);
        }
        let used = |((process, before), at_end): (&(NamedPid, Reading), &Option<Reading>)| {
            used(process, before, at_end.as_ref()).map_err(gone).ok()
        };
        let servers = self.before.iter().zip(&at_end).filter_map(used).collect();
        let redis_commands = match &mut self.redis {
            // One of them is the question itself.
            Some((meter, before)) => meter.commands().await.map_err(gone).ok().map(|now| now - *before - 1),
            None => None,
        };
        Used { servers, redis_commands }
    }

    async fn settle(&self) -> Result<()> {
        let start = Instant::now();
        let mut last = self.cpu_seconds()?;
        while !last.is_empty() && start.elapsed() < SETTLE_MAX {
            sleep(QUIET_WINDOW).await;
            let now = self.cpu_seconds()?;
            let quiet = now.iter().zip(&last).all(|(now, last)| now - last <= QUIET_CPU_SECONDS);
            if quiet {
                break;
            }
            last = now;
        }
        Ok(())
    }

    fn cpu_seconds(&self) -> Result<Vec<f64>> {
        self.before.iter().map(|(process, _)| Ok(Reading::of(process.pid)?.cpu_seconds)).collect()
    }
}

impl Used {
    /// The CPU seconds of all watched processes together.
    pub(crate) fn cpu_seconds(&self) -> f64 {
        self.servers.iter().map(|server| server.cpu_seconds).sum()
    }
}

fn used(process: &NamedPid, before: &Reading, at_end: Option<&Reading>) -> Result<ServerUse> {
    let after = Reading::of(process.pid)?;
    Ok(ServerUse {
        name: process.name.clone(),
        pid: process.pid,
        cpu_seconds: after.cpu_seconds - before.cpu_seconds,
        cpu_after_seconds: at_end.map_or(0.0, |at_end| after.cpu_seconds - at_end.cpu_seconds),
        rss_before_kib: before.rss_kib,
        rss_after_kib: after.rss_kib,
        rss_peak_kib: after.rss_peak_kib,
    })
}

/// What /proc tells of a process now.
pub(crate) struct Reading {
    pub(crate) cpu_seconds: f64,
    pub(crate) rss_kib: u64,
    pub(crate) rss_peak_kib: u64,
}

impl Reading {
    /// Fails where there is no such process.
    pub(crate) fn of(pid: u32) -> Result<Self> {
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
    fn memory_is_read() {
        assert_eq!(status_kib("VmHWM:\t  300 kB\nVmRSS:\t  200 kB\n", "VmRSS:"), Some(200));
    }

    #[tokio::test]
    async fn what_a_process_puts_off_counts() {
        // It works when the load is over, as a server that tidies up.
        let script = "read _; i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done; read _";
        let mut child = std::process::Command::new("sh")
            .args(["-c", script])
            .stdin(std::process::Stdio::piped())
            .spawn()
            .expect("every machine has a shell");
        let watched = [NamedPid { name: "sh".into(), pid: child.id() }];
        let watch = Watch::start(&watched, None).await.expect("it runs");
        std::io::Write::write_all(child.stdin.as_mut().expect("piped"), b"go\n").expect("it reads");
        let used = watch.stop(&Tally::default()).await;
        child.kill().expect("it runs");
        child.wait().expect("it was killed");
        assert!(used.servers[0].cpu_after_seconds >= 0.05, "{used:?}");
        assert!(used.servers[0].rss_after_kib > 0);
    }
}
