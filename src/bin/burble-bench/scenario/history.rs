//! Readers that page through a channel's history, from its end to its beginning, over the socket.

use std::sync::Arc;
use std::time::Instant;

use anyhow::Result;
use serde::Deserialize;
use tokio::task::JoinSet;

use super::sender::Sender;
use super::{ChannelName, Run};
use crate::cli::HistoryArgs;
use crate::failure::Failure;
use crate::latency::{Latency, Recorder};
use crate::order::Clock;
use crate::proc::check_open_files;
use crate::progress::Progress;
use crate::report::{Report, count};
use crate::session::{READ_BUFFER_LARGE, Session};
use crate::stage::{Stage, users_for};
use crate::wire::Position;

/// Messages in flight while the channel is filled.
const IN_FLIGHT: u32 = 64;

/// The answer to `history`, as far as it is looked at.
#[derive(Deserialize)]
struct Page<'a> {
    #[serde(borrow)]
    events: Vec<Event<'a>>,
    more: bool,
}

#[derive(Deserialize)]
struct Event<'a> {
    id: &'a str,
}

/// Fills a channel, has it read, and reports pages and what one costs.
pub(crate) async fn run(run: &Run, args: &HistoryArgs) -> Result<Report> {
    let sessions = args.readers + 1;
    check_open_files(sessions)?;
    let stage = Stage::set(&run.common, &run.targets, "history", users_for(sessions, &run.common), 1).await?;
    fill(run, &stage, args).await?;
    let sessions = stage.for_each("readers", 0..args.readers, |number| {
        let stage = stage.clone();
        async move { stage.open(number, READ_BUFFER_LARGE).await }
    });
    let (sessions, latency) = (sessions.await?, Latency::new());
    let pages = args.messages.div_ceil(args.limit) * args.times * args.readers;
    let progress = Arc::new(Progress::new("pages", u64::from(pages)));

    let watch = run.watch().await?;
    let start = Instant::now();
    let mut reading = JoinSet::new();
    for session in sessions {
        let (channel, limit, times) = (stage.channel(0), args.limit, args.times);
        let reader = Reader { session, channel, limit, latency: latency.recorder(), progress: progress.clone() };
        reading.spawn(reader.read(args.messages, times));
    }
    while let Some(done) = reading.join_next().await {
        done?.unwrap_or_else(|failure| run.tally.add(failure));
    }
    let took = start.elapsed();
    let used = watch.stop(&run.tally).await;

    let mut report = run.report("history");
    report.setting("messages", args.messages).setting("readers", args.readers);
    report.setting("page", args.limit).setting("times", args.times).setting("text bytes", args.size);
    report.latency("page", latency.summary());
    let pages = report.latency_count("page");
    let events = count(u64::from(args.messages) * u64::from(args.readers) * u64::from(args.times));
    report.figure("pages", pages / took.as_secs_f64(), "1/s");
    report.figure("events read", events / took.as_secs_f64(), "1/s");
    report.cost("page", pages, used);
    Ok(report)
}

async fn fill(run: &Run, stage: &Stage, args: &HistoryArgs) -> Result<()> {
    let sender = Sender {
        session: stage.open(args.readers, READ_BUFFER_LARGE).await?,
        channel: stage.channel(0),
        clock: Clock::start(),
        indices: (0..args.messages).step_by(1),
        in_flight_max: IN_FLIGHT,
        size: args.size,
        cid_prefix: run.cid("history", 0),
    };
    Ok(sender.send_all(Latency::new().recorder()).await?)
}

struct Reader {
    session: Session,
    channel: ChannelName,
    limit: u32,
    latency: Recorder,
    progress: Arc<Progress>,
}

impl Reader {
    /// The newest `messages` of the channel, again and again.
    async fn read(mut self, messages: u32, times: u32) -> Result<(), Failure> {
        for _ in 0..times {
            let (mut read, mut before) = (0, None);
            while read < messages {
                let page = self.page(before).await?;
                let Some(first) = page.first() else {
                    return Err(Failure::new("history: too short", format!("{read} of {messages}")));
                };
                before = Some(*first);
                read += u32::try_from(page.len()).expect("a page has few events");
            }
        }
        Ok(())
    }

    /// The positions of a page, which are dense and end where the next page begins.
    async fn page(&mut self, before: Option<Position>) -> Result<Vec<Position>, Failure> {
        let start = Instant::now();
        let answer = self.session.history(&self.channel, before, self.limit).await?;
        self.latency.record(start.elapsed());
        self.progress.advance(1);
        let wrong = |kind: &str| Failure::new(kind, format!("before {before:?}: {answer}"));
        let page: Page<'_> = serde_json::from_str(&answer).map_err(|_| wrong("history: not understood"))?;
        let positions: Option<Vec<Position>> = page.events.iter().map(|event| event.id.parse().ok()).collect();
        let positions = positions.ok_or_else(|| wrong("history: not understood"))?;
        let follows = |pair: [Position; 2]| pair[0].epoch == pair[1].epoch && pair[0].seq + 1 == pair[1].seq;
        let to_next = positions.last().copied().zip(before).map(|(last, before)| [last, before]);
        let pairs = positions.windows(2).map(|pair| [pair[0], pair[1]]).chain(to_next);
        if !pairs.into_iter().all(follows) {
            return Err(wrong("order: hole in a page"));
        }
        if page.more && positions.len() < self.limit as usize {
            return Err(wrong("history: a short page, and more behind it"));
        }
        Ok(positions)
    }
}
