//! Visits to channels where somebody is: join and leave, nothing else.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;

use super::Run;
use crate::cli::JoinsArgs;
use crate::failure::Failure;
use crate::latency::{Latency, Recorder};
use crate::proc::check_open_files;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::{READ_BUFFER_SMALL, Session};
use crate::stage::{Stage, users_for};

/// Runs the visits and reports what one costs.
pub(crate) async fn run(run: &Run, args: &JoinsArgs) -> Result<Report> {
    let sessions = args.channels + args.workers;
    check_open_files(sessions)?;
    let stage = Stage::set(&run.common, &run.targets, "joins", users_for(sessions, &run.common), args.channels).await?;
    let residents = open(&stage, 0..args.channels, true).await?;
    let visitors = open(&stage, args.channels..sessions, false).await?;
    let (join, leave) = (Latency::new(), Latency::new());
    let visits = args.visits.div_ceil(args.workers);
    let progress = Arc::new(Progress::new("visits", u64::from(visits * args.workers)));

    let watch = run.watch().await?;
    let start = Instant::now();
    let mut visiting = JoinSet::new();
    for (number, session) in (0..).zip(visitors) {
        let visitor = Visitor { stage: stage.clone(), session, join: join.recorder(), leave: leave.recorder() };
        visiting.spawn(visitor.visit(number, visits, progress.clone()));
    }
    while let Some(done) = visiting.join_next().await {
        done?.unwrap_or_else(|failure| run.tally.add(failure));
    }
    let took = start.elapsed();
    let used = watch.stop(&run.tally).await;
    drop(residents);

    let mut report = run.report("joins");
    report.setting("visits", visits * args.workers).setting("workers", args.workers);
    report.setting("channels", args.channels);
    report.latency("join", join.summary()).latency("leave", leave.summary());
    let visits = report.latency_count("leave");
    report.figure("visits", visits / took.as_secs_f64(), "1/s");
    report.cost("visit", visits, used);
    Ok(report)
}

/// Sessions that have been in each channel; residents stay in one of them.
async fn open(stage: &Stage, numbers: std::ops::Range<u32>, resident: bool) -> Result<Vec<Session>> {
    let open = |number: u32| {
        let stage = stage.clone();
        async move {
            let mut session = stage.open(number, READ_BUFFER_SMALL).await?;
            session.join(&stage.channel(number)).await?;
            if !resident {
                session.leave(&stage.channel(number)).await?;
            }
            Ok(session)
        }
    };
    stage.for_each("opening", numbers, open).await
}

struct Visitor {
    stage: Stage,
    session: Session,
    join: Recorder,
    leave: Recorder,
}

impl Visitor {
    async fn visit(mut self, number: u32, visits: u32, progress: Arc<Progress>) -> Result<(), Failure> {
        for visit in 0..visits {
            let channel = self.stage.channel(number + visit);
            let step = Instant::now();
            self.session.join(&channel).await?;
            self.join.record(step.elapsed());
            let step = Instant::now();
            self.session.leave(&channel).await?;
            self.leave.record(step.elapsed());
            progress.advance(1);
        }
        Ok(())
    }
}
