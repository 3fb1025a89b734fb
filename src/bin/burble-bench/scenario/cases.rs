//! Short visits: connect, twice join - send - leave with each answer awaited, close.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;

use super::{ChannelName, Run};
use crate::cli::CasesArgs;
use crate::failure::Failure;
use crate::latency::{Latency, Recorder};
use crate::order::Stamp;
use crate::proc::check_open_files;
use crate::progress::Progress;
use crate::report::Report;
use crate::session::{READ_BUFFER_SMALL, Session};
use crate::stage::Stage;

/// Join, send and leave, how often in one case.
const ROUNDS: u32 = 2;

/// The steps of a case and the case itself, in the order of the report.
const STEPS: [&str; 6] = ["connect", "join", "send", "leave", "close", "case"];

/// Runs the cases and reports their rate, the latency of each step, and what one costs the server.
pub(crate) async fn run(run: &Run, args: &CasesArgs) -> Result<Report> {
    check_open_files(args.workers)?;
    let channels = args.channels.unwrap_or(args.workers);
    let stage = Stage::set(&run.common, &run.targets, "cases", args.workers, channels).await?;
    let latencies = STEPS.map(|_| Latency::new());
    let cases = u64::from(args.repeat) * u64::from(args.workers);
    let progress = Arc::new(Progress::new("cases", cases));

    let watch = run.watch().await?;
    let start = Instant::now();
    let mut workers = JoinSet::new();
    for number in 0..args.workers {
        let worker = Worker::new(number, run, args, &stage, &latencies);
        workers.spawn(worker.work(args.repeat, run.tally.clone(), progress.clone()));
    }
    while let Some(done) = workers.join_next().await {
        done?;
    }
    let took = start.elapsed();
    let used = watch.stop(&run.tally).await;
    drop(progress);

    let mut report = run.report("cases");
    report.setting("cases", cases).setting("workers", args.workers).setting("channels", channels);
    report.setting("text bytes", args.size);
    for (step, latency) in STEPS.into_iter().zip(&latencies) {
        report.latency(step, latency.summary());
    }
    let whole = report.latency_count("case");
    report.figure("time", took.as_secs_f64(), "s");
    report.figure("cases", whole / took.as_secs_f64(), "1/s");
    report.cost("case", whole, used);
    Ok(report)
}

struct Worker {
    stage: Stage,
    number: u32,
    channel: ChannelName,
    size: u32,
    cids: Vec<Option<String>>,
    steps: [Recorder; 6],
}

impl Worker {
    fn new(number: u32, run: &Run, args: &CasesArgs, stage: &Stage, latencies: &[Latency; 6]) -> Self {
        let sends = u64::from(args.repeat) * u64::from(ROUNDS);
        let first = u64::from(number) * sends;
        let cids = match run.common.cid {
            true => (first..first + sends).map(|number| run.cid("cases", number)).collect(),
            false => Vec::new(),
        };
        Self {
            stage: stage.clone(),
            number,
            channel: stage.channel(number),
            size: args.size,
            cids,
            steps: latencies.each_ref().map(Latency::recorder),
        }
    }

    async fn work(mut self, repeat: u32, tally: crate::failure::Tally, progress: Arc<Progress>) {
        for number in 0..repeat {
            let start = Instant::now();
            match self.case(number).await {
                Ok(()) => self.record("case", start.elapsed()),
                Err(failure) => tally.add(failure),
            }
            progress.advance(1);
        }
    }

    async fn case(&mut self, number: u32) -> Result<(), Failure> {
        let step = Instant::now();
        let mut session =
            Session::open(self.stage.target(self.number), self.stage.token(self.number), READ_BUFFER_SMALL).await?;
        self.record("connect", step.elapsed());
        for round in 0..ROUNDS {
            self.round(&mut session, number * ROUNDS + round).await?;
        }
        let step = Instant::now();
        session.close().await?;
        self.record("close", step.elapsed());
        Ok(())
    }

    async fn round(&mut self, session: &mut Session, index: u32) -> Result<(), Failure> {
        let step = Instant::now();
        session.join(&self.channel).await?;
        self.record("join", step.elapsed());

        let text = Stamp { index, due_ns: 0 }.text(self.size);
        let cid = self.cids.get(index as usize).and_then(Option::as_deref);
        let step = Instant::now();
        session.send(&self.channel, &text, cid).await?;
        self.record("send", step.elapsed());

        let step = Instant::now();
        session.leave(&self.channel).await?;
        self.record("leave", step.elapsed());
        Ok(())
    }

    fn record(&mut self, step: &str, took: Duration) {
        let at = STEPS.iter().position(|name| *name == step).expect("every step has a name");
        self.steps[at].record(took);
    }
}
