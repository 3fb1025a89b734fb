//! The scenarios. Each sets its stage, measures, checks, and reports; none knows which server it loads.

mod away;
pub(crate) mod cases;
mod channels;
pub(crate) mod fanout;
mod history;
pub(crate) mod idle;
mod joins;
mod listener;
mod member;
mod outstanding;
mod plan;
pub(crate) mod resume;
pub(crate) mod rooms;
mod search;
mod sender;

use std::sync::Arc;

use anyhow::{Result, ensure};

use crate::cli::{Common, Mode, NamedPid, Scenario};
use crate::failure::Tally;
use crate::http::Target;
use crate::report::Report;
use crate::watch::Watch;
use crate::yardstick::Yardstick;

/// What every scenario is given.
pub(crate) struct Run {
    pub(crate) common: Common,
    /// The nodes; sessions are shared out to them in turn.
    pub(crate) targets: Vec<Target>,
    /// What the load is on, in words.
    pub(crate) against: String,
    pub(crate) pids: Vec<NamedPid>,
    /// The URL of the Redis whose commands are counted.
    pub(crate) redis: Option<String>,
    pub(crate) tally: Tally,
}

impl Run {
    /// On the server of `--url`.
    pub(crate) async fn on_server(common: &Common) -> Result<Self> {
        let mut targets = Vec::new();
        for url in &common.urls {
            targets.push(Target::resolve(url).await?);
        }
        Ok(Self {
            common: common.clone(),
            targets,
            against: common.urls.join(", "),
            pids: common.pids.clone(),
            redis: common.redis.clone(),
            tally: Tally::default(),
        })
    }

    /// Runs the scenario to its end, and notes what went wrong.
    pub(crate) async fn report_on(&self, scenario: &Scenario) -> Result<Report> {
        let mut report = self.scenario(scenario).await?;
        report.errors = self.tally.by_kind();
        Ok(report)
    }

    async fn scenario(&self, scenario: &Scenario) -> Result<Report> {
        match scenario {
            Scenario::Cases(args) => cases::run(self, args).await,
            Scenario::Fanout(args) => fanout::run(self, args).await,
            Scenario::Rooms(args) => rooms::run(self, args).await,
            Scenario::Idle(args) => idle::run(self, args).await,
            Scenario::Channels(args) => channels::run(self, args).await,
            Scenario::Joins(args) => joins::run(self, args).await,
            Scenario::History(args) => history::run(self, args).await,
            Scenario::Resume(args) => resume::run(self, args).await,
        }
    }

    /// Begins the measured phase.
    async fn watch(&self) -> Result<Watch> {
        Watch::start(&self.pids, self.redis.as_deref()).await
    }

    /// An empty report of this run.
    fn report(&self, scenario: &'static str) -> Report {
        Report::new(scenario, &self.against)
    }

    /// A `cid` that no other message has, where they are wanted.
    fn cid(&self, scenario: &str, number: u64) -> Option<String> {
        self.common.cid.then(|| format!("{scenario}-{}-{number}", std::process::id()))
    }
}

/// Runs the scenario against a yardstick of its own.
pub(crate) async fn on_yardstick(common: &Common, mode: Mode, scenario: &Scenario) -> Result<Report> {
    ensure!(scenario.fits_yardstick(), "the yardstick keeps no messages to come back for");
    let yardstick = Yardstick::start(mode).await?;
    let run = Run {
        common: common.clone(),
        targets: vec![yardstick.target.clone()],
        against: format!("the yardstick ({})", mode.as_str()),
        pids: vec![yardstick.process.clone()],
        redis: None,
        tally: Tally::default(),
    };
    run.report_on(scenario).await
}

/// A name that many messages share.
type ChannelName = Arc<str>;
