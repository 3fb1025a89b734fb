//! The scenarios. Each sets its stage, measures, checks, and reports; none knows which server it loads.

mod away;
pub(crate) mod cases;
pub(crate) mod fanout;
pub(crate) mod idle;
mod listener;
mod member;
mod outstanding;
pub(crate) mod resume;
pub(crate) mod rooms;
mod search;
mod sender;

use std::sync::Arc;

use anyhow::Result;

use crate::cli::{Common, NamedPid, Scenario};
use crate::failure::Tally;
use crate::http::Target;
use crate::proc::ServerUse;
use crate::report::Report;

/// What every scenario is given.
pub(crate) struct Run {
    pub(crate) common: Common,
    pub(crate) target: Target,
    /// What the load is on, in words.
    pub(crate) against: String,
    pub(crate) pids: Vec<NamedPid>,
    pub(crate) tally: Tally,
}

impl Run {
    /// Runs the scenario to its end.
    pub(crate) async fn scenario(&self, scenario: &Scenario) -> Result<Report> {
        match scenario {
            Scenario::Cases(args) => cases::run(self, args).await,
            Scenario::Fanout(args) => fanout::run(self, args).await,
            Scenario::Rooms(args) => rooms::run(self, args).await,
            Scenario::Idle(args) => idle::run(self, args).await,
        }
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

/// The CPU seconds of all watched processes together.
fn cpu_seconds(servers: &[ServerUse]) -> f64 {
    servers.iter().map(|server| server.cpu_seconds).sum()
}

/// A name that many messages share.
type ChannelName = Arc<str>;
