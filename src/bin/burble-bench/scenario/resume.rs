//! Sessions that were away come back at once: how long until each has everything it missed, once and in order.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Result;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use super::Run;
use super::away::Away;
use super::sender::Sender;
use crate::cli::ResumeArgs;
use crate::failure::Failure;
use crate::latency::Latency;
use crate::order::Clock;
use crate::proc::check_open_files;
use crate::progress::Progress;
use crate::report::{Report, count};
use crate::session::{READ_BUFFER_SMALL, Session, within};
use crate::stage::{Stage, users_for};

/// Messages in flight on each channel while nobody listens.
const IN_FLIGHT: u32 = 64;

/// Opens and closes the sessions, sends what they miss, and lets them come back.
pub(crate) async fn run(run: &Run, args: &ResumeArgs) -> Result<Report> {
    let stage = set(run, args).await?;
    let open = open(&stage, args.sessions).await?;
    let close = |(session, away): (Session, Away)| async move { session.close().await.map(|()| away) };
    let away = stage.for_each("closing", open.into_iter(), close).await?;
    come_back(run, &stage, args, away).await
}

/// The same with sessions that do not leave: `death` takes their node away under them, and tells where they may come
/// back to.
pub(crate) async fn after_death(
    run: &Run,
    args: &ResumeArgs,
    death: impl AsyncFnOnce() -> Result<Run>,
) -> Result<Report> {
    let stage = set(run, args).await?;
    let open = open(&stage, args.sessions).await?;
    let run = death().await?;
    let notice = |(mut session, away): (Session, Away)| {
        within("death of the node", async move {
            while session.next().await.is_ok() {}
            Ok(away)
        })
    };
    let stage = stage.moved_to(&run.targets);
    let away = stage.for_each("noticing", open.into_iter(), notice).await?;
    come_back(&run, &stage, args, away).await
}

async fn set(run: &Run, args: &ResumeArgs) -> Result<Stage> {
    check_open_files(args.sessions + args.channels)?;
    let users = users_for(args.sessions + args.channels, &run.common);
    Stage::set(&run.common, &run.targets, "resume", users, args.channels).await
}

async fn come_back(run: &Run, stage: &Stage, args: &ResumeArgs, away: Vec<Away>) -> Result<Report> {
    miss(run, stage, args).await?;
    let (connect, caught_up) = (Latency::new(), Latency::new());
    let progress = Arc::new(Progress::new("caught up", u64::from(args.sessions)));
    let opening = Arc::new(Semaphore::new(run.common.concurrency as usize));

    let watch = run.watch().await?;
    let clock = Clock::start();
    let mut returning = JoinSet::new();
    for away in away {
        let (stage, opening, missed, progress) = (stage.clone(), opening.clone(), args.missed, progress.clone());
        let (connect, mut caught_up) = (connect.recorder(), caught_up.recorder());
        returning.spawn(async move {
            let session = away.come_back(&stage, missed, &opening, connect).await?;
            caught_up.record_ns(clock.now_ns());
            progress.advance(1);
            Ok::<Session, Failure>(session)
        });
    }
    let mut back = Vec::new();
    while let Some(done) = returning.join_next().await {
        match done? {
            Ok(session) => back.push(session),
            Err(failure) => run.tally.add(failure),
        }
    }
    let took = Duration::from_nanos(clock.now_ns());
    let used = watch.stop(&run.tally).await;
    drop(progress);

    let mut report = run.report("resume");
    report.setting("sessions", args.sessions).setting("missed each", args.missed);
    report.setting("channels", args.channels).setting("text bytes", args.size);
    report.latency("connect", connect.summary()).latency("caught up", caught_up.summary());
    let replayed = count(back.len() as u64) * count(u64::from(args.missed));
    report.figure("time until all caught up", took.as_secs_f64(), "s");
    report.figure("sessions back", count(back.len() as u64), "sessions");
    report.figure("replayed messages", replayed / took.as_secs_f64(), "1/s");
    report.cost("session", count(u64::from(args.sessions)), used);
    Ok(report)
}

/// Opens all sessions, and notes where each of them is.
async fn open(stage: &Stage, sessions: u32) -> Result<Vec<(Session, Away)>> {
    let open = |number: u32| {
        let stage = stage.clone();
        async move {
            let channel = stage.channel(number);
            let mut session = stage.open(number, READ_BUFFER_SMALL).await?;
            let since = session.join(&channel).await?.last;
            Ok((session, Away { number, channel, since }))
        }
    };
    stage.for_each("opening", 0..sessions, open).await
}

/// Sends to every channel what its sessions are to miss.
async fn miss(run: &Run, stage: &Stage, args: &ResumeArgs) -> Result<()> {
    let (sessions, missed, size) = (args.sessions, args.missed, args.size);
    let ack = Latency::new();
    let send = |number: u32| {
        let (stage, ack, cid_prefix) = (stage.clone(), ack.recorder(), run.cid("resume", u64::from(number)));
        async move {
            let session = stage.open(sessions + number, READ_BUFFER_SMALL).await?;
            let (channel, clock) = (stage.channel(number), Clock::start());
            let indices = (0..missed).step_by(1);
            Sender { session, channel, clock, indices, in_flight_max: IN_FLIGHT, size, cid_prefix }.send_all(ack).await
        }
    };
    stage.for_each("what is missed", 0..args.channels, send).await?;
    Ok(())
}
