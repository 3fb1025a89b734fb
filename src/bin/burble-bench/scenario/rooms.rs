//! Many small rooms at a fixed rate. The load does not wait for the server, and latency counts from when a message
//! was due, so that a pause of the server shows in full.

use std::time::Duration;

use anyhow::{Result, bail};
use tokio::task::JoinSet;

use super::Run;
use super::listener::Listener;
use super::member::{Member, Step};
use super::plan::Plan;
use super::search::Search;
use crate::cli::RoomsArgs;
use crate::failure::{Failure, Tally};
use crate::latency::{Latency, Summary};
use crate::order::Clock;
use crate::proc::check_open_files;
use crate::report::{Report, count};
use crate::session::READ_BUFFER_SMALL;
use crate::stage::{Stage, users_for};
use crate::watch::Used;

/// How long deliveries may take after the last message was due, beside twice the time of sending.
const DRAIN: Duration = Duration::from_secs(30);

/// Runs one rate, or several until one does not hold, or searches for the highest that holds.
pub(crate) async fn run(run: &Run, args: &RoomsArgs) -> Result<Report> {
    let sessions = args.rooms * args.members;
    check_open_files(sessions)?;
    let users = users_for(sessions, &run.common);
    let stage = Stage::set(&run.common, &run.targets, "rooms", users, args.rooms).await?;
    let members = open(&stage, args).await?;
    let mut report = run.report("rooms");
    report.setting("rooms", args.rooms).setting("members", args.members);
    report.setting("seconds", args.seconds).setting("text bytes", args.size);
    if args.search || !args.rates.is_empty() {
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
            let room = number / in_room;
            let channel = stage.channel(room);
            let mut session = stage.open(number, READ_BUFFER_SMALL).await?;
            let joined = session.join(&channel).await?;
            Ok(Member::new(Listener::new(session, 1, joined.last), channel, room, sends(number, in_room)))
        }
    };
    stage.for_each("members", 0..args.rooms * args.members, open).await
}

/// Whether this session is the one of its room that sends: another with each room, for sessions are shared out to the
/// nodes in turn, and so shall be the senders.
fn sends(number: u32, in_room: u32) -> bool {
    number % in_room == (number / in_room) % in_room
}

async fn search(run: &Run, args: &RoomsArgs, mut members: Vec<Member>, report: &mut Report) -> Result<()> {
    let mut search = match &args.rates[..] {
        [] => Search::from(args.rate),
        rates => Search::through(rates),
    };
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
        let held = outcome.held(f64::from(args.p99));
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
    let (Some(best), Some(held)) = (best, search.held()) else { bail!("no rate had a p99 below {} ms", args.p99) };
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
    used: Used,
    tally: Tally,
}

impl Rate {
    async fn try_out(run: &Run, args: &RoomsArgs, rate: u32, members: Vec<Member>) -> Result<Self> {
        let plan = Plan::new(rate, args.seconds, args.rooms, args.rooms, run.common.seed);
        let (delivery, ack, lateness) = (Latency::new(), Latency::new(), Latency::new());
        let (senders, mut receivers) = plan.queues();
        let in_room = plan.in_queue();
        let watch = run.watch().await?;
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
            taking_part.spawn(member.take_part(step.clone(), in_room[room], due, delivery, ack));
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
        Ok(Self { members, rate, delivery, ack, pacer, used: watch.stop(&run.tally).await, tally: step.tally })
    }

    fn held(&self, p99_ms_max: f64) -> bool {
        self.tally.total() == 0 && self.delivery.p99_ms < p99_ms_max
    }

    fn tell(self, report: &mut Report) {
        report.figure("rate", count(u64::from(self.rate)), "1/s");
        report.figure("deliveries", count(self.delivery.count), "");
        report.cost("message", count(self.ack.count), self.used);
        report.latency("delivery", self.delivery).latency("send ack", self.ack);
        // How late the load tool itself was; it is a part of the other two.
        report.latency("pacer lateness", self.pacer);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_room_has_one_sender_and_each_node_its_share_of_them() {
        for (in_room, nodes) in [(10, 1), (10, 2), (10, 3), (3, 2), (3, 3), (1, 1), (2, 2)] {
            let mut senders_of_node = vec![0; nodes as usize];
            for room in 0..120 {
                let senders: Vec<u32> = (room * in_room..(room + 1) * in_room).filter(|n| sends(*n, in_room)).collect();
                assert_eq!(senders.len(), 1, "room {room} of {in_room}");
                senders_of_node[(senders[0] % nodes) as usize] += 1;
            }
            let (least, most) = (senders_of_node.iter().min(), senders_of_node.iter().max());
            assert!(most.zip(least).is_some_and(|(most, least)| most - least <= 12), "{in_room}: {senders_of_node:?}");
        }
    }
}
