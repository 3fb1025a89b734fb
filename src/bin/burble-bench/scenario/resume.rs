//! Sessions that were away come back at once: how long until each has everything it missed, once and in order.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Result;
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::sender::Sender;
use super::{ChannelName, Run, cpu_seconds};
use crate::answer::{answer, parse};
use crate::cli::ResumeArgs;
use crate::failure::Failure;
use crate::latency::{Latency, Recorder};
use crate::order::{Clock, Order};
use crate::proc::{Watch, check_open_files};
use crate::progress::Progress;
use crate::report::{Report, count};
use crate::session::{READ_BUFFER_LARGE, READ_BUFFER_SMALL, Session};
use crate::stage::{Stage, users_for};
use crate::wire::{Position, Scan};

/// How long one session may take to catch up.
const CATCH_UP_MAX: Duration = Duration::from_secs(120);
/// Messages in flight on each channel while nobody listens.
const IN_FLIGHT: u32 = 64;

/// Opens and closes the sessions, sends what they miss, and lets them come back.
pub(crate) async fn run(run: &Run, args: &ResumeArgs) -> Result<Report> {
    check_open_files(args.sessions + args.channels)?;
    let users = users_for(args.sessions + args.channels, &run.common);
    let stage = Stage::set(&run.common, &run.target, "resume", users, args.channels).await?;
    let away = go_away(&stage, args.sessions).await?;
    miss(run, &stage, args).await?;
    let (connect, caught_up) = (Latency::new(), Latency::new());
    let progress = Arc::new(Progress::new("caught up", u64::from(args.sessions)));
    let opening = Arc::new(Semaphore::new(run.common.concurrency as usize));

    let watch = Watch::start(&run.pids)?;
    let clock = Clock::start();
    let mut returning = JoinSet::new();
    for away in away {
        let (stage, opening, missed, progress) = (
            stage.clone(),
            opening.clone(),
            args.missed,
            progress.clone(),
        );
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
    let servers = watch.stop()?;
    drop(progress);

    let mut report = run.report("resume");
    report
        .setting("sessions", args.sessions)
        .setting("missed each", args.missed);
    report
        .setting("channels", args.channels)
        .setting("text bytes", args.size);
    report
        .latency("connect", connect.summary())
        .latency("caught up", caught_up.summary());
    let replayed = count(back.len() as u64) * count(u64::from(args.missed));
    report.figure("time until all caught up", took.as_secs_f64(), "s");
    report.figure("sessions back", count(back.len() as u64), "sessions");
    report.figure("replayed messages", replayed / took.as_secs_f64(), "1/s");
    if !servers.is_empty() {
        let cpu_ms = cpu_seconds(&servers) * 1e3;
        report.figure(
            "server CPU per session",
            cpu_ms / count(u64::from(args.sessions)),
            "ms",
        );
    }
    report.servers(servers);
    Ok(report)
}

/// Opens all sessions at the same time, and closes them; where each of them was.
async fn go_away(stage: &Stage, sessions: u32) -> Result<Vec<Away>> {
    let open = |number: u32| {
        let stage = stage.clone();
        async move {
            let channel = stage.channel(number);
            let mut session = stage.open(number, READ_BUFFER_SMALL).await?;
            let since = session.join(&channel).await?.last;
            Ok((
                session,
                Away {
                    number,
                    channel,
                    since,
                },
            ))
        }
    };
    let open = stage.for_each("opening", 0..sessions, open).await?;
    let close =
        |(session, away): (Session, Away)| async move { session.close().await.map(|()| away) };
    stage.for_each("closing", open.into_iter(), close).await
}

/// Sends to every channel what its sessions are to miss.
async fn miss(run: &Run, stage: &Stage, args: &ResumeArgs) -> Result<()> {
    let (sessions, missed, size) = (args.sessions, args.missed, args.size);
    let ack = Latency::new();
    let send = |number: u32| {
        let (stage, ack, cid_prefix) = (
            stage.clone(),
            ack.recorder(),
            run.cid("resume", u64::from(number)),
        );
        async move {
            let session = stage.open(sessions + number, READ_BUFFER_SMALL).await?;
            let (channel, clock) = (stage.channel(number), Clock::start());
            let indices = (0..missed).step_by(1);
            Sender {
                session,
                channel,
                clock,
                indices,
                in_flight_max: IN_FLIGHT,
                size,
                cid_prefix,
            }
            .send_all(ack)
            .await
        }
    };
    stage
        .for_each("what is missed", 0..args.channels, send)
        .await?;
    Ok(())
}

/// A session that is not there, and where it was.
struct Away {
    number: u32,
    channel: ChannelName,
    /// Nothing, where the log was empty.
    since: Option<Position>,
}

impl Away {
    async fn come_back(
        self,
        stage: &Stage,
        missed: u32,
        opening: &Semaphore,
        mut connect: Recorder,
    ) -> Result<Session, Failure> {
        let permit = opening.acquire().await.expect("it is never closed");
        let start = Instant::now();
        let mut session = stage.open(self.number, READ_BUFFER_LARGE).await?;
        connect.record(start.elapsed());
        drop(permit);
        let late = |_| {
            Failure::new(
                "resume: timeout",
                format!("not caught up within {CATCH_UP_MAX:?}"),
            )
        };
        timeout(CATCH_UP_MAX, self.catch_up(&mut session, missed))
            .await
            .map_err(late)??;
        Ok(session)
    }

    async fn catch_up(&self, session: &mut Session, missed: u32) -> Result<(), Failure> {
        let reference = session
            .join_since(&self.channel, self.since.unwrap_or(Position::BEGINNING))
            .await?;
        let (mut scan, mut order) = (Scan::default(), Order::new(1, self.since));
        let (mut answered, mut heard, mut last) = (false, 0, self.since);
        loop {
            let text = session.next().await?;
            if let Some(delivery) = scan.delivery(&text) {
                let broken = |kind| Failure::new(kind, format!("since {:?}: {text}", self.since));
                order
                    .accept(delivery.position, delivery.stamp)
                    .map_err(broken)?;
                heard += 1;
                last = Some(delivery.position);
                continue;
            }
            let frame = parse(&text)?;
            if let Some(accepted) = answer("resume", &frame)? {
                answered = accepted.reference == reference;
            }
            if frame.ev == "caught_up" {
                let id = frame.id.and_then(|id| id.parse().ok());
                let right = answered
                    && heard == missed
                    && id == last
                    && frame.channel == Some(&*self.channel);
                let wrong = || {
                    Failure::new(
                        "order: caught_up too early or wrong",
                        format!("{heard} of {missed}: {text}"),
                    )
                };
                return right.then_some(()).ok_or_else(wrong);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use futures_util::{SinkExt, StreamExt};
    use tokio::net::TcpListener;
    use tokio_tungstenite::accept_hdr_async;
    use tokio_tungstenite::tungstenite::Message;
    use tokio_tungstenite::tungstenite::handshake::server::{Request, Response};
    use tokio_tungstenite::tungstenite::http::HeaderValue;

    use super::*;
    use crate::http::Target;
    use crate::order::Stamp;

    fn message(seq: u64, index: u32) -> String {
        let text = Stamp { index, due_ns: 0 }.text(0);
        format!(
            r#"{{"ev":"message","channel":"tea","id":"1-{seq}","from":"a","at":1,"text":"{text}"}}"#
        )
    }

    fn caught_up(seq: u64) -> String {
        format!(r#"{{"ev":"caught_up","channel":"tea","id":"1-{seq}"}}"#)
    }

    /// Greets one client, answers its first command, then says the lines whatever comes.
    async fn say(listener: TcpListener, lines: Vec<String>) {
        let (stream, _) = listener.accept().await.expect("a client");
        #[expect(clippy::result_large_err, reason = "the callback's form is not ours")]
        let protocol = |_: &Request, mut response: Response| {
            response.headers_mut().insert(
                "sec-websocket-protocol",
                HeaderValue::from_static("burble.v1"),
            );
            Ok(response)
        };
        let mut socket = accept_hdr_async(stream, protocol)
            .await
            .expect("an upgrade");
        socket
            .send(Message::text(r#"{"ev":"welcome"}"#))
            .await
            .expect("sent");
        socket.next().await.expect("a command").expect("a frame");
        let ok = r#"{"ev":"ok","ref":10000000,"first":"1-0","last":"1-6"}"#.to_owned();
        for line in std::iter::once(ok).chain(lines) {
            socket.feed(Message::text(line)).await.expect("fed");
        }
        socket.flush().await.expect("sent");
        // Until the client has heard enough.
        while let Some(Ok(_)) = socket.next().await {}
    }

    /// Comes back after 1-4, having missed two messages.
    async fn come_back(lines: Vec<String>) -> Result<(), String> {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("an address");
        let target = Target {
            host: address.to_string(),
            address,
        };
        let away = Away {
            number: 0,
            channel: "tea".into(),
            since: Some(Position { epoch: 1, seq: 4 }),
        };
        let returning = async {
            let mut session = Session::open(&target, "token", READ_BUFFER_SMALL).await?;
            away.catch_up(&mut session, 2).await
        };
        let (result, ()) = tokio::join!(returning, say(listener, lines));
        result.map_err(|failure| failure.kind)
    }

    #[tokio::test]
    async fn a_session_has_caught_up_when_it_has_everything_it_missed() {
        assert_eq!(
            come_back(vec![message(5, 0), message(6, 1), caught_up(6)]).await,
            Ok(())
        );
    }

    #[tokio::test]
    async fn what_is_lost_or_doubled_is_noticed() {
        let early = vec![message(5, 0), caught_up(5)];
        assert_eq!(
            come_back(early).await,
            Err("order: caught_up too early or wrong".into())
        );
        assert_eq!(
            come_back(vec![message(6, 1)]).await,
            Err("order: hole in seq".into())
        );
        let twice = vec![message(5, 0), message(5, 0)];
        assert_eq!(come_back(twice).await, Err("order: position twice".into()));
    }
}
