//! Many small rooms at a fixed rate. The load does not wait for the server, and latency counts from when a message
//! was due, so that a pause of the server shows in full.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::sync::mpsc;
use tokio::task::JoinSet;

use super::listener::Listener;
use super::member::{Member, Step};
use super::search::Search;
use super::{Run, cpu_seconds};
use crate::cli::RoomsArgs;
use crate::failure::{Failure, Tally};
use crate::latency::{Latency, Summary};
use crate::order::Clock;
use crate::proc::{ServerUse, Watch, check_open_files};
use crate::progress::Progress;
use crate::report::{Report, count};
use crate::session::READ_BUFFER_SMALL;
use crate::stage::{Stage, users_for};

/// A rate holds while the p99 of its deliveries is below this.
const P99_MS_MAX: f64 = 50.0;
/// How long deliveries may take after the last message was due, beside twice the time of sending.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs one rate, or searches for the highest that holds.
pub(crate) async fn run(run: &Run, args: &RoomsArgs) -> Result<Report> {
    let sessions = args.rooms * args.members;
    check_open_files(sessions)?;
    let users = users_for(sessions, &run.common);
    let stage = Stage::set(&run.common, &run.target, "rooms", users, args.rooms).await?;
    let members = open(&stage, args).await?;
    let mut report = run.report("rooms");
    report.setting("rooms", args.rooms).setting("members", args.members);
    report.setting("seconds", args.seconds).setting("text bytes", args.size);
    if args.search {
        search(run, args, members, &mut report).await?;
    } else {
        let rate = Rate::try_out(run, args, args.rate, members).await?;
        for (kind, seen) in rate.tally.by_kind() {
            run.tally.add_many(Failure::new(kind, seen.first), seen.count);
        }
        rate.tell(&mut report);
    }
    Ok(report)
}

async fn open(stage: &Stage, args: &RoomsArgs) -> Result<Vec<Member>> {
    let in_room = args.members;
    let open = |number: u32| {
        let stage = stage.clone();
        async move {
            let (room, sends) = (number / in_room, number.is_multiple_of(in_room));
            let channel = stage.channel(room);
            let mut session = stage.open(number, READ_BUFFER_SMALL).await?;
            let joined = session.join(&channel).await?;
            Ok(Member::new(Listener::new(session, 1, joined.last), channel, room, sends))
        }
    };
    stage.for_each("members", 0..args.rooms * args.members, open).await
}

async fn search(run: &Run, args: &RoomsArgs, mut members: Vec<Member>, report: &mut Report) -> Result<()> {
    let mut search = Search::from(args.rate);
    let mut best = None;
    while let Some(rate) = search.next() {
        let sessions = members.len();
        let mut outcome = Rate::try_out(run, args, rate, members).await?;
        members = std::mem::take(&mut outcome.members);
        for (kind, seen) in outcome.tally.by_kind() {
            let failure = Failure::new(kind, seen.first);
            if !failure.is_of_overload() {
                run.tally.add_many(failure, seen.count);
            }
        }
        let held = outcome.held();
        report.tried(rate, held, &outcome.delivery);
        if held {
            best = Some(outcome);
        }
        search.tried(held);
        if members.len() < sessions {
            // What these sessions still owe would be counted at the next rate.
            break;
        }
    }
    let (Some(best), Some(held)) = (best, search.held()) else { bail!("no rate had a p99 below {P99_MS_MAX} ms") };
    report.figure("highest rate that held", count(u64::from(held)), "1/s");
    best.tell(report);
    Ok(())
}

/// One rate, tried out.
struct Rate {
    members: Vec<Member>,
    rate: u32,
    delivery: Summary,
    ack: Summary,
    pacer: Summary,
    servers: Vec<ServerUse>,
    tally: Tally,
}

impl Rate {
    async fn try_out(run: &Run, args: &RoomsArgs, rate: u32, members: Vec<Member>) -> Result<Self> {
        let plan = Plan::new(args, rate, run.common.seed);
        let (delivery, ack, lateness) = (Latency::new(), Latency::new(), Latency::new());
        let (senders, mut receivers) = plan.queues();
        let watch = Watch::start(&run.pids)?;
        let step = Step {
            clock: Clock::start(),
            size: args.size,
            time_max: Duration::from_secs(u64::from(args.seconds) * 3) + DRAIN,
            cid_prefix: run.cid("rooms", u64::from(rate)),
            tally: Tally::default(),
        };
        let mut taking_part = JoinSet::new();
        for member in members {
            let room = member.room as usize;
            let due = if member.sends { receivers[room].take() } else { None };
            let (delivery, ack) = (delivery.recorder(), ack.recorder());
            taking_part.spawn(member.take_part(step.clone(), plan.in_room[room], due, delivery, ack));
        }
        let (clock, mut late) = (step.clock, lateness.recorder());
        let pacing = tokio::task::spawn_blocking(move || {
            plan.pace(clock, &senders, |ns| late.record_ns(ns));
        });
        pacing.await?;
        let mut members = Vec::new();
        while let Some(member) = taking_part.join_next().await {
            members.extend(member?);
        }
        let (delivery, ack, pacer) = (delivery.summary(), ack.summary(), lateness.summary());
        Ok(Self { members, rate, delivery, ack, pacer, servers: watch.stop(&run.tally), tally: step.tally })
    }

    fn held(&self) -> bool {
        self.tally.total() == 0 && self.delivery.p99_ms < P99_MS_MAX
    }

    fn tell(self, report: &mut Report) {
        report.figure("rate", count(u64::from(self.rate)), "1/s");
        report.figure("deliveries", count(self.delivery.count), "");
        if !self.servers.is_empty() {
            let cpu_us = cpu_seconds(&self.servers) * 1e6;
            report.figure("server CPU per message", cpu_us / count(self.ack.count.max(1)), "us");
        }
        report.latency("delivery", self.delivery).latency("send ack", self.ack);
        // How late the load tool itself was; it is a part of the other two.
        report.latency("pacer lateness", self.pacer).servers(self.servers);
    }
}

/// Which room each message goes to; they are due at even distances.
struct Plan {
    rate: u32,
    rooms: Vec<u32>,
    /// Messages for each room.
    in_room: Vec<u32>,
}

impl Plan {
    fn new(args: &RoomsArgs, rate: u32, seed: u64) -> Self {
        let messages = u64::from(rate) * u64::from(args.seconds);
        let pick = |number| u32::try_from(mixed(seed ^ number) % u64::from(args.rooms)).expect("below a u32");
        let rooms: Vec<u32> = (0..messages).map(pick).collect();
        let mut in_room = vec![0; args.rooms as usize];
        rooms.iter().for_each(|room| in_room[*room as usize] += 1);
        Self { rate, rooms, in_room }
    }

    /// A queue for each room that holds all of its messages, so that the pacer never waits.
    fn queues(&self) -> (Vec<mpsc::Sender<u64>>, Vec<Option<mpsc::Receiver<u64>>>) {
        let queue = |messages: &u32| mpsc::channel((*messages).max(1) as usize);
        self.in_room.iter().map(queue).map(|(sender, receiver)| (sender, Some(receiver))).unzip()
    }

    /// Hands each message out when it is due. Blocks: the runtime's timer counts in milliseconds.
    fn pace(&self, clock: Clock, queues: &[mpsc::Sender<u64>], mut late: impl FnMut(u64)) {
        let progress = Progress::new(&format!("{} messages/s", self.rate), self.rooms.len() as u64);
        for (number, room) in (0_u64..).zip(&self.rooms) {
            let due_ns = number * 1_000_000_000 / u64::from(self.rate);
            if let Some(wait_ns) = due_ns.checked_sub(clock.now_ns()) {
                std::thread::sleep(Duration::from_nanos(wait_ns));
            }
            late(clock.now_ns().saturating_sub(due_ns));
            // A room whose sender is lost has said so itself.
            let _ = queues[*room as usize].try_send(due_ns);
            progress.advance(1);
        }
    }
}

/// SplitMix64 (Steele, Lea, Flood 2014): the same numbers for the same seed.
fn mixed(seed: u64) -> u64 {
    let mut z = seed.wrapping_add(1).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    z ^ (z >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_plan_is_even_and_the_same_for_the_same_seed() {
        let args = RoomsArgs { rooms: 10, members: 2, rate: 1000, seconds: 10, search: false, size: 64 };
        let plan = Plan::new(&args, 1000, 7);
        assert_eq!(plan.rooms, Plan::new(&args, 1000, 7).rooms);
        assert_eq!(plan.in_room.iter().sum::<u32>(), 10_000);
        assert!(plan.in_room.iter().all(|messages| (800..1200).contains(messages)), "{:?}", plan.in_room);
    }
}
