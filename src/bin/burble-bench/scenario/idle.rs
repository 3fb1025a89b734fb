//! Many quiet sessions: how long they take to open, what one costs the server, and whether all still hear.

use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

use super::{ChannelName, Run};
use crate::answer::{answer, parse};
use crate::cli::IdleArgs;
use crate::failure::{Failure, Tally};
use crate::latency::{Latency, Recorder};
use crate::order::{Clock, Stamp};
use crate::proc::check_open_files;
use crate::report::{Report, count};
use crate::session::{READ_BUFFER_SMALL, STEP_TIMEOUT, Session};
use crate::stage::{Stage, users_for};
use crate::watch::ServerUse;
use crate::wire::Scan;

/// Opens the sessions, leaves them alone, then sends one message to each channel.
pub(crate) async fn run(run: &Run, args: &IdleArgs) -> Result<Report> {
    check_open_files(args.sessions + 1)?;
    let users = users_for(args.sessions + 1, &run.common);
    let stage = Stage::set(&run.common, &run.targets, "idle", users, args.channels).await?;
    let (connect, delivery) = (Latency::new(), Latency::new());

    let watch = run.watch().await?;
    let start = Instant::now();
    let sessions = open(&stage, args.sessions, &connect).await?;
    let opening = start.elapsed();
    let clock = Clock::start();
    let mut waiting = JoinSet::new();
    for session in sessions {
        waiting.spawn(wait_for_message(session, clock, delivery.recorder()));
    }
    // Being left alone is what is measured.
    sleep(Duration::from_secs(u64::from(args.seconds))).await;
    let used = watch.stop(&run.tally).await;

    let mut sender = stage.open(args.sessions, READ_BUFFER_SMALL).await?;
    let sending = Instant::now();
    for number in 0..args.channels {
        let channel: ChannelName = stage.channel(number);
        let text = Stamp { index: 0, due_ns: clock.now_ns() }.text(0);
        let cid = run.cid("idle", u64::from(number));
        sender.send(&channel, &text, cid.as_deref()).await?;
    }
    let alive = count_alive(waiting, args.sessions, &run.tally).await?;
    let heard_all = sending.elapsed();

    let mut report = run.report("idle");
    report.setting("sessions", args.sessions).setting("channels", args.channels).setting("seconds", args.seconds);
    report.latency("connect", connect.summary()).latency("delivery", delivery.summary());
    report.figure("time to open", opening.as_secs_f64(), "s");
    report.figure("opened", count(u64::from(args.sessions)) / opening.as_secs_f64(), "1/s");
    report.figure("alive at the end", count(alive), "sessions");
    report.figure("time until all heard", heard_all.as_secs_f64(), "s");
    let sessions = count(u64::from(args.sessions));
    // The first one named is the server itself; the others are what stands behind it.
    if let Some(server) = used.servers.first() {
        report.figure("server RSS per session", grown_kib(server) / sessions, "KiB");
    }
    report.cost("session", sessions, used);
    Ok(report)
}

async fn open(stage: &Stage, sessions: u32, connect: &Latency) -> Result<Vec<Session>> {
    let open = |number: u32| {
        let (stage, mut connect) = (stage.clone(), connect.recorder());
        async move {
            let start = Instant::now();
            let mut session = stage.open(number, READ_BUFFER_SMALL).await?;
            connect.record(start.elapsed());
            session.join(&stage.channel(number)).await?;
            Ok(session)
        }
    };
    stage.for_each("sessions", 0..sessions, open).await
}

/// Answers pings, and returns at the first message.
async fn wait_for_message(mut session: Session, clock: Clock, mut delivery: Recorder) -> Result<(), Failure> {
    let mut scan = Scan::default();
    loop {
        let frame = session.next().await?;
        if let Some(heard) = scan.delivery(&frame) {
            delivery.record_ns(clock.now_ns().saturating_sub(heard.stamp.due_ns));
            return Ok(());
        }
        answer("idle", &parse(&frame)?)?;
    }
}

async fn count_alive(mut waiting: JoinSet<Result<(), Failure>>, sessions: u32, tally: &Tally) -> Result<u64> {
    let (mut alive, mut ended) = (0, 0);
    while let Ok(Some(done)) = timeout(STEP_TIMEOUT, waiting.join_next()).await {
        ended += 1;
        match done? {
            Ok(()) => alive += 1,
            Err(failure) => tally.add(failure),
        }
    }
    let silent = Failure::new("delivery: timeout", format!("nothing within {STEP_TIMEOUT:?}"));
    tally.add_many(silent, u64::from(sessions) - ended);
    Ok(alive)
}

/// What it gave back counts too.
fn grown_kib(server: &ServerUse) -> f64 {
    count(server.rss_after_kib) - count(server.rss_before_kib)
}
