//! One channel, many listeners: how many deliveries a second, how late, and none lost, doubled or out of order.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::Run;
use super::listener::Listener;
use super::sender::Sender;
use crate::cli::FanoutArgs;
use crate::failure::{Failure, Tally};
use crate::latency::{Latency, Recorder};
use crate::order::Clock;
use crate::proc::check_open_files;
use crate::progress::Progress;
use crate::report::{Report, count};
use crate::session::{READ_BUFFER_LARGE, STEP_TIMEOUT, Session};
use crate::stage::{Stage, users_for};

/// Runs the fan-out and reports deliveries, latencies and the server's work for one.
pub(crate) async fn run(run: &Run, args: &FanoutArgs) -> Result<Report> {
    let sessions = args.listeners + args.senders;
    check_open_files(sessions)?;
    let stage = Stage::set(&run.common, &run.targets, "fanout", users_for(sessions, &run.common), 1).await?;
    let (listeners, senders) = open(&stage, args).await?;
    let (delivery, ack) = (Latency::new(), Latency::new());
    let progress = Arc::new(Progress::new("deliveries", u64::from(args.messages) * u64::from(args.listeners)));
    let listening = Listening { clock: Clock::start(), messages: args.messages, tally: run.tally.clone(), progress };

    let watch = run.watch().await?;
    let start = Instant::now();
    let mut hearing = JoinSet::new();
    for listener in listeners {
        hearing.spawn(listening.clone().listen(listener, delivery.recorder()));
    }
    send(run, args, &stage, listening.clock, senders, &ack).await?;
    // They stay until the server has settled: what it does for those who leave belongs to no delivery.
    let mut listeners = Vec::new();
    while let Some(done) = hearing.join_next().await {
        listeners.push(done?);
    }
    let took = start.elapsed();
    let used = watch.stop(&run.tally).await;
    let delivered: u64 = listeners.iter().map(|listener| u64::from(listener.heard())).sum();
    drop(listening);

    let mut report = run.report("fanout");
    report.setting("listeners", args.listeners).setting("senders", args.senders);
    report.setting("in flight", args.in_flight).setting("messages", args.messages).setting("text bytes", args.size);
    report.latency("delivery", delivery.summary()).latency("send ack", ack.summary());
    let delivered = report.latency_count("delivery").min(count(delivered));
    report.figure("time", took.as_secs_f64(), "s");
    report.figure("deliveries", delivered / took.as_secs_f64(), "1/s");
    report.figure("messages", report.latency_count("send ack") / took.as_secs_f64(), "1/s");
    report.cost("delivery", delivered, used);
    Ok(report)
}

/// Sends everything, from all senders at once.
async fn send(
    run: &Run,
    args: &FanoutArgs,
    stage: &Stage,
    clock: Clock,
    senders: Vec<Session>,
    ack: &Latency,
) -> Result<()> {
    let mut sending = JoinSet::new();
    for (number, session) in (0..).zip(senders) {
        let sender = Sender {
            session,
            channel: stage.channel(0),
            clock,
            indices: (number..args.messages).step_by(args.senders as usize),
            in_flight_max: args.in_flight,
            size: args.size,
            cid_prefix: run.cid("fanout", u64::from(number)),
        };
        sending.spawn(sender.send_all(ack.recorder()));
    }
    while let Some(done) = sending.join_next().await {
        done?.unwrap_or_else(|failure| run.tally.add(failure));
    }
    Ok(())
}

/// Every listener joined, every sender connected.
async fn open(stage: &Stage, args: &FanoutArgs) -> Result<(Vec<Listener>, Vec<Session>)> {
    let senders = args.senders;
    let listeners = stage
        .for_each("listeners", 0..args.listeners, |number| {
            let stage = stage.clone();
            async move {
                let mut session = stage.open(number, READ_BUFFER_LARGE).await?;
                let joined = session.join(&stage.channel(0)).await?;
                Ok(Listener::new(session, senders, joined.last))
            }
        })
        .await?;
    let first = args.listeners;
    let senders = stage.for_each("senders", 0..senders, |number| {
        let stage = stage.clone();
        async move { stage.open(first + number, READ_BUFFER_LARGE).await }
    });
    Ok((listeners, senders.await?))
}

#[derive(Clone)]
struct Listening {
    clock: Clock,
    messages: u32,
    tally: Tally,
    progress: Arc<Progress>,
}

impl Listening {
    /// Listens until every message is there, or none has come for too long.
    async fn listen(self, mut listener: Listener, mut latency: Recorder) -> Listener {
        let mut shown = 0;
        while listener.heard() < self.messages {
            let frame = match listener.session.next_ready() {
                Some(frame) => frame,
                None => {
                    self.progress.advance(u64::from(listener.heard() - shown));
                    shown = listener.heard();
                    quiet_at_most(listener.session.next()).await
                }
            };
            let taken = frame.and_then(|frame| listener.take(&frame, self.clock, &mut latency));
            if let Err(failure) = taken {
                let fatal = !failure.is_of_order();
                self.tally.add(failure);
                if fatal {
                    break;
                }
            }
        }
        let missing = self.messages - listener.heard();
        let failure = Failure::new("delivery: missing", format!("one listener lacks {missing}"));
        self.tally.add_many(failure, u64::from(missing));
        self.progress.advance(u64::from(listener.heard() - shown));
        listener
    }
}

async fn quiet_at_most<T>(next: impl Future<Output = Result<T, Failure>>) -> Result<T, Failure> {
    let quiet = |_| Failure::new("delivery: timeout", format!("nothing for {STEP_TIMEOUT:?}"));
    timeout(STEP_TIMEOUT, next).await.map_err(quiet)?
}
