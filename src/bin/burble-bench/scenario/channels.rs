//! The same traffic over few or very many channels, all of them with a listener: whether a channel more makes a
//! message dearer.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, ensure};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::timeout;

use super::plan::{Due, Plan};
use super::{ChannelName, Run};
use crate::answer::{Accepted, answer, parse};
use crate::cli::ChannelsArgs;
use crate::failure::Failure;
use crate::latency::{Latency, Recorder};
use crate::order::{Clock, Order, Stamp};
use crate::proc::check_open_files;
use crate::report::{Report, count};
use crate::session::{READ_BUFFER_LARGE, STEP_TIMEOUT, Session, within};
use crate::stage::{Stage, users_for};
use crate::wire::Scan;

/// Joins, and then first messages, that a session has under way before anything is measured.
const IN_FLIGHT: usize = 64;

/// Prepares all channels, then sends at a fixed rate; each message goes to one of them at random.
pub(crate) async fn run(run: &Run, args: &ChannelsArgs) -> Result<Report> {
    ensure!(args.channels >= args.sessions, "each session needs a channel of its own");
    check_open_files(args.sessions)?;
    let users = users_for(args.sessions, &run.common);
    let stage = Stage::set(&run.common, &run.targets, "channels", users, args.channels).await?;
    let members = prepare(&stage, args).await?;
    let plan = Plan::new(args.rate, args.seconds, args.channels, args.sessions, run.common.seed);
    let (delivery, ack, lateness) = (Latency::new(), Latency::new(), Latency::new());
    let (senders, receivers) = plan.queues();
    let messages = plan.in_queue();

    let watch = run.watch().await?;
    let clock = Clock::start();
    let mut taking_part = JoinSet::new();
    for ((member, due), messages) in members.into_iter().zip(receivers).zip(messages) {
        let due = due.expect("it was just made");
        let time_max = Duration::from_secs(u64::from(args.seconds) * 3) + STEP_TIMEOUT;
        let (delivery, ack) = (delivery.recorder(), ack.recorder());
        taking_part.spawn(async move {
            let mut member = Timed { member, clock, delivery, ack };
            let late = |_| Failure::new("delivery: timeout", format!("not all after {time_max:?}"));
            timeout(time_max, member.exchange(messages, due)).await.map_err(late)??;
            Ok::<_, Failure>(member.member)
        });
    }
    let mut late = lateness.recorder();
    tokio::task::spawn_blocking(move || plan.pace(clock, &senders, |ns| late.record_ns(ns))).await?;
    let mut members = Vec::new();
    while let Some(done) = taking_part.join_next().await {
        match done? {
            Ok(member) => members.push(member),
            Err(failure) => run.tally.add(failure),
        }
    }
    let used = watch.stop(&run.tally).await;

    let mut report = run.report("channels");
    report.setting("channels", args.channels).setting("sessions", args.sessions);
    report.setting("rate", args.rate).setting("seconds", args.seconds).setting("text bytes", args.size);
    report.latency("delivery", delivery.summary()).latency("send ack", ack.summary());
    report.latency("pacer lateness", lateness.summary());
    report.figure("channels", count(u64::from(args.channels)), "");
    report.cost("message", report.latency_count("send ack"), used);
    Ok(report)
}

/// Every session is in its channels, and every channel has its first message: none is new when it counts.
async fn prepare(stage: &Stage, args: &ChannelsArgs) -> Result<Vec<Member>> {
    let (sessions, channels, size) = (args.sessions, args.channels, args.size);
    let prepare = |number: u32| {
        let stage = stage.clone();
        async move {
            let session = stage.open(number, READ_BUFFER_LARGE).await?;
            let own = (number..channels).step_by(sessions as usize).map(|number| Channel::new(stage.channel(number)));
            let mut member = Member::new(session, own.collect(), sessions, size);
            member.join_all().await?;
            member.send_first().await?;
            Ok(member)
        }
    };
    let label = format!("{channels} channels");
    stage.for_each(&label, 0..sessions, prepare).await
}

/// A channel of one session.
struct Channel {
    name: ChannelName,
    order: Order,
    sent: u32,
}

impl Channel {
    fn new(name: ChannelName) -> Self {
        Self { name, order: Order::new(1, None), sent: 0 }
    }
}

/// A session that sends to its channels, and alone listens to them.
struct Member {
    session: Session,
    /// The channel with the number `n` of all is the one at `n / sessions`.
    channels: Vec<Channel>,
    sessions: u32,
    size: u32,
    scan: Scan,
    outstanding: VecDeque<(u32, u64)>,
    heard: u32,
}

impl Member {
    fn new(session: Session, channels: Vec<Channel>, sessions: u32, size: u32) -> Self {
        Self { session, channels, sessions, size, scan: Scan::default(), outstanding: VecDeque::new(), heard: 0 }
    }

    async fn join_all(&mut self) -> Result<(), Failure> {
        for channels in self.channels.chunks(IN_FLIGHT) {
            for channel in channels {
                self.session.feed_join(&channel.name).await?;
            }
            self.session.flush().await?;
            let mut joined = 0;
            while joined < channels.len() {
                let text = within("join", self.session.next()).await?;
                joined += usize::from(answer("join", &parse(&text)?)?.is_some());
            }
        }
        Ok(())
    }

    async fn send_first(&mut self) -> Result<(), Failure> {
        let clock = Clock::start();
        let (mut delivery, mut ack) = (Latency::new().recorder(), Latency::new().recorder());
        for first in (0..self.channels.len()).step_by(IN_FLIGHT) {
            let channels = first..self.channels.len().min(first + IN_FLIGHT);
            let goal = self.heard + u32::try_from(channels.len()).expect("few at a time");
            for channel in channels {
                self.feed(channel, 0).await?;
            }
            self.session.flush().await?;
            while self.heard < goal || !self.outstanding.is_empty() {
                let text = within("send", self.session.next()).await?;
                self.take(&text, clock, &mut delivery, &mut ack)?;
            }
        }
        self.heard = 0;
        Ok(())
    }

    async fn feed(&mut self, channel: usize, due_ns: u64) -> Result<(), Failure> {
        let channel = &mut self.channels[channel];
        let text = Stamp { index: channel.sent, due_ns }.text(self.size);
        channel.sent += 1;
        let reference = self.session.feed_send(&channel.name, &text, None).await?;
        self.outstanding.push_back((reference, due_ns));
        Ok(())
    }

    fn take(&mut self, frame: &str, clock: Clock, delivery: &mut Recorder, ack: &mut Recorder) -> Result<(), Failure> {
        if let Some(heard) = self.scan.delivery(frame) {
            delivery.record_ns(clock.now_ns().saturating_sub(heard.stamp.due_ns));
            let number: Option<usize> = self.scan.channel(frame).and_then(|name| name.rsplit('-').next()?.parse().ok());
            let own = number.and_then(|number| self.channels.get_mut(number / self.sessions as usize));
            let own = own.ok_or_else(|| Failure::new("delivery: foreign channel", frame))?;
            self.heard += 1;
            return own.order.accept(heard.position, heard.stamp).map_err(|kind| Failure::new(kind, frame));
        }
        match answer("send", &parse(frame)?)? {
            Some(accepted) => self.answered(accepted, clock, ack),
            None => Ok(()),
        }
    }

    fn answered(&mut self, accepted: Accepted, clock: Clock, ack: &mut Recorder) -> Result<(), Failure> {
        match self.outstanding.pop_front() {
            Some((reference, due_ns)) if reference == accepted.reference => {
                ack.record_ns(clock.now_ns().saturating_sub(due_ns));
                Ok(())
            }
            other => Err(Failure::new("answer: out of order", format!("{accepted:?} for {other:?}"))),
        }
    }
}

/// A member in the measured phase.
struct Timed {
    member: Member,
    clock: Clock,
    delivery: Recorder,
    ack: Recorder,
}

impl Timed {
    /// Sends what is due until it has heard so many messages.
    async fn exchange(&mut self, messages: u32, mut due: mpsc::Receiver<Due>) -> Result<(), Failure> {
        let member = &mut self.member;
        while member.heard < messages || !member.outstanding.is_empty() {
            tokio::select! {
                Some(first) = due.recv() => {
                    let mut next = Some(first);
                    while let Some(Due { ns, channel }) = next {
                        member.feed((channel / member.sessions) as usize, ns).await?;
                        next = due.try_recv().ok();
                    }
                    member.session.flush().await?;
                }
                frame = member.session.next() => {
                    member.take(&frame?, self.clock, &mut self.delivery, &mut self.ack)?;
                }
            }
        }
        Ok(())
    }
}
