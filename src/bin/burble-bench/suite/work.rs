//! How a load is carried out: the yardsticks first, then the server, each fresh from its start.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use anyhow::{Result, bail, ensure};
use clap::Parser;
use tokio::time::sleep;

use super::plan::{Load, Work};
use super::results::{Round, median};
use super::system::{Place, System};
use crate::broker::trip;
use crate::cli::{Cli, Command, Common, Limit, Scenario, TripArgs};
use crate::report::{Report, count};
use crate::scenario::{Run, on_yardstick, resume};
use crate::watch::Reading;

/// What a server does before its memory is looked at: it has then used everything once.
const WARM_UP: &str = "cases --repeat 20 --workers 10";
/// Memory that has not gone down for so long has gone down as far as it does. A server may let go of what a session had only
/// when its next timer would come; Burble's do so within a minute.
const STILL: Duration = Duration::from_secs(20);
const STILL_MAX: Duration = Duration::from_secs(90);
/// Starts of which the median is taken.
const STARTS: u32 = 5;

/// Carries loads out.
pub(crate) struct Worker<'a> {
    pub(crate) common: &'a Common,
    pub(crate) place: &'a Place,
}

impl Worker<'_> {
    /// One round.
    pub(crate) async fn round(&self, load: &Load) -> Result<Round> {
        let command = parse(&load.line)?;
        let mut yardsticks = BTreeMap::new();
        if let Command::Scenario(scenario) = &command {
            for mode in load.against {
                yardsticks.insert(*mode, on_yardstick(self.common, *mode, scenario).await?);
            }
        }
        let server = match (load.work, command) {
            (Work::RedisAlone, Command::Limit(limit)) => self.redis_alone(&limit.of).await?,
            (work, Command::Scenario(scenario)) => self.on_system(load, work, &scenario).await?,
            _ => bail!("{} is no load", load.line),
        };
        Ok(Round { yardsticks, server })
    }

    async fn redis_alone(&self, of: &Limit) -> Result<Report> {
        let Limit::Redis(args) = of else { bail!("this is not about Redis alone") };
        let args: &TripArgs = args;
        let common = Common { redis: None, pids: Vec::new(), ..self.common.clone() };
        trip::run(&common, args).await
    }

    async fn on_system(&self, load: &Load, work: Work, scenario: &Scenario) -> Result<Report> {
        let mut system = System::start(self.place, load.set_up).await?;
        match work {
            Work::Load => self.run(load, &system).await?.report_on(scenario).await,
            Work::DeathAndReturn | Work::DeathAndAnother => self.death(load, system, scenario).await,
            Work::Peak => self.peak(load, &system, scenario).await,
            Work::StartAfterStop | Work::StartAfterCrash => {
                let mut report = self.run(load, &system).await?.report_on(scenario).await?;
                let ready_ms = starts(&mut system, work).await?;
                report.figure("start to ready", ready_ms, "ms");
                Ok(report)
            }
            Work::RedisAlone => bail!("Redis alone needs no system"),
        }
    }

    async fn run(&self, load: &Load, system: &System) -> Result<Run> {
        system.run(self.common, &format!("Burble, {}", load.set_up.words())).await
    }

    async fn death(&self, load: &Load, mut system: System, scenario: &Scenario) -> Result<Report> {
        let Scenario::Resume(args) = scenario else { bail!("only resume has sessions that come back") };
        let against = format!("Burble, {}", load.name);
        let run = system.run_on(self.common, &against, &system.nodes[..1]).await?;
        let mut survivors = None;
        let death = async || {
            system.nodes[0].kill().await?;
            let nodes = match load.work {
                Work::DeathAndReturn => {
                    system.nodes[0].start_again().await?;
                    &system.nodes[..1]
                }
                _ => &system.nodes[1..],
            };
            let run = system.run_on(self.common, &against, nodes).await?;
            survivors = Some(run.tally.clone());
            Ok(run)
        };
        let mut report = resume::after_death(&run, args, death).await?;
        report.errors = survivors.unwrap_or_default().by_kind();
        Ok(report)
    }

    async fn peak(&self, load: &Load, system: &System, scenario: &Scenario) -> Result<Report> {
        let Command::Scenario(warm_up) = parse(WARM_UP)? else { bail!("the warm-up is a load") };
        let warmed = self.run(load, system).await?.report_on(&warm_up).await?;
        ensure!(warmed.errors.is_empty(), "the warm-up went wrong:\n{warmed}");
        let pid = system.nodes[0].pid;
        let before_kib = still_rss_kib(pid).await?;
        let mut report = self.run(load, system).await?.report_on(scenario).await?;
        let after_kib = still_rss_kib(pid).await?;
        let mib = |kib: u64| count(kib) / 1024.0;
        report.figure("RSS before", mib(before_kib), "MiB").figure("RSS after", mib(after_kib), "MiB");
        report.figure("RSS at the peak", mib(Reading::of(pid)?.rss_peak_kib), "MiB");
        report.figure("RSS after by before", count(after_kib) / count(before_kib).max(1.0), "");
        Ok(report)
    }
}

/// Parses the arguments of the tool itself.
fn parse(line: &str) -> Result<Command> {
    Ok(Cli::try_parse_from(std::iter::once("burble-bench").chain(line.split(' ')))?.command)
}

/// Once it goes down no more.
async fn still_rss_kib(pid: u32) -> Result<u64> {
    let start = Instant::now();
    let (mut lowest, mut since) = (Reading::of(pid)?.rss_kib, Instant::now());
    while since.elapsed() < STILL && start.elapsed() < STILL_MAX {
        sleep(STILL / 40).await;
        let now = Reading::of(pid)?.rss_kib;
        if now < lowest {
            (lowest, since) = (now, Instant::now());
        }
    }
    Ok(lowest)
}

/// The median time from start to ready, in milliseconds.
async fn starts(system: &mut System, work: Work) -> Result<f64> {
    let mut ready_ms = Vec::new();
    for _ in 0..STARTS {
        let node = &mut system.nodes[0];
        match work {
            Work::StartAfterCrash => node.kill().await?,
            _ => node.stop().await?,
        }
        node.start_again().await?;
        ready_ms.push(node.ready_after.as_secs_f64() * 1e3);
    }
    Ok(median(ready_ms.into_iter()).unwrap_or_default())
}
