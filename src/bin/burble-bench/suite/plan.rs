//! What the suite runs: for each part its loads, how large, on what, and against which yardstick.

use super::results::Results;
use super::system::SetUp;
use crate::cli::{Mode, Part};

/// Where nothing was found out before: about half of what two cores carry.
const HALF_RATE_DEFAULT: f64 = 3000.0;
/// Of the highest rate that one node holds, what three hold on the same cores.
const THREE_NODES_SHARE: f64 = 0.6;

/// A load that is to be run.
pub(crate) struct Load {
    /// Of its row in the table.
    pub(crate) name: String,
    pub(crate) set_up: SetUp,
    pub(crate) work: Work,
    /// The arguments of the load tool.
    pub(crate) line: String,
    pub(crate) against: &'static [Mode],
    pub(crate) rounds: u32,
}

/// What is done beside the load itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Work {
    Load,
    /// No server takes part.
    RedisAlone,
    /// The node is killed under its sessions, and started again.
    DeathAndReturn,
    /// The node is killed under its sessions, which come back to another.
    DeathAndAnother,
    /// Memory is compared before the load, and when all of its sessions are gone.
    Peak,
    /// The load leaves data behind; then the node is stopped or killed, and started, time and again.
    StartAfterStop,
    StartAfterCrash,
}

/// How large the loads are.
#[derive(Clone, Copy)]
pub(crate) struct Scale {
    pub(crate) quick: bool,
    /// Instead of what each load has.
    pub(crate) rounds: Option<u32>,
}

impl Scale {
    /// One of two sizes.
    fn of(self, full: u32, quick: u32) -> u32 {
        if self.quick { quick } else { full }
    }

    fn load(self, name: impl Into<String>, set_up: SetUp, line: impl Into<String>) -> Load {
        let (name, line) = (name.into(), line.into());
        Load { name, set_up, work: Work::Load, line, against: &[], rounds: 1 }.times(self, 1)
    }
}

impl Load {
    fn against(mut self, against: &'static [Mode]) -> Self {
        self.against = against;
        self
    }

    fn doing(mut self, work: Work) -> Self {
        self.work = work;
        self
    }

    fn times(mut self, scale: Scale, rounds: u32) -> Self {
        self.rounds = scale.rounds.unwrap_or(scale.of(rounds, 1));
        self
    }
}

/// The loads of a part; some depend on what was found out before.
pub(crate) fn loads(part: Part, scale: Scale, results: &Results) -> Vec<Load> {
    match part {
        Part::Redis => redis(scale),
        Part::Cases => cases(scale),
        Part::Fanout => fanout(scale),
        Part::Rooms => rooms(scale),
        Part::Load => latency_by_load(scale),
        Part::Durability => durability(scale, results),
        Part::Nodes => nodes(scale, results),
        Part::Idle => idle(scale),
        Part::Peak => peak(scale),
        Part::Resume => resume(scale),
        Part::Channels => channels(scale),
        Part::Joins => {
            let line = format!("joins --visits {}", scale.of(50_000, 5_000));
            vec![scale.load("joins", SetUp::Memory, line).against(&[Mode::Single]).times(scale, 3)]
        }
        Part::History => {
            let line = format!("history --messages {} --times {}", scale.of(10_000, 2_000), scale.of(10, 3));
            vec![scale.load("history", SetUp::Memory, line).times(scale, 3)]
        }
        Part::Start => start(scale),
    }
}

fn redis(scale: Scale) -> Vec<Load> {
    let load = |in_flight: u32, fsync: bool| {
        let messages = in_flight.min(8) * scale.of(10_000, 2_000);
        let (flush, name) = if fsync { (" --fsync", "fsync") } else { ("", "memory") };
        let line = format!("limit redis --in-flight {in_flight} --messages {messages}{flush}");
        let load = scale.load(format!("{name}, {in_flight} in flight"), SetUp::Memory, line);
        load.doing(Work::RedisAlone).times(scale, 3)
    };
    vec![load(1, false), load(64, false), load(1, true), load(64, true)]
}

fn cases(scale: Scale) -> Vec<Load> {
    let line = format!("cases --repeat {} --workers 20", scale.of(500, 50));
    [SetUp::Embedded, SetUp::Memory]
        .map(|set_up| scale.load(set_up.words(), set_up, &line).against(&[Mode::Single]).times(scale, 3))
        .into()
}

fn fanout(scale: Scale) -> Vec<Load> {
    let load = |listeners: u32, in_flight: u32, messages: u32| {
        let messages = scale.of(messages, messages / 10);
        let line = format!("fanout --listeners {listeners} --in-flight {in_flight} --messages {messages}");
        let name = format!("1 → {listeners}, {in_flight} in flight");
        let load = scale.load(name, SetUp::Memory, line).against(&[Mode::Single, Mode::Batch]);
        load.times(scale, if listeners < 10_000 { 3 } else { 2 })
    };
    let small = vec![load(200, 8, 10_000), load(200, 64, 20_000), load(2_000, 8, 800), load(2_000, 64, 1_600)];
    let large = if scale.quick { vec![] } else { vec![load(10_000, 8, 160), load(10_000, 64, 320)] };
    small.into_iter().chain(large).collect()
}

fn rooms(scale: Scale) -> Vec<Load> {
    let fixed = format!("rooms --rooms 100 --members 10 --rate 1000 --seconds {}", scale.of(10, 3));
    let search = format!("rooms --rooms 100 --members 10 --rate 4000 --seconds {} --search", scale.of(3, 1));
    let calm = format!("{search} --p99 5");
    vec![
        scale.load("1,000 messages/s", SetUp::Memory, fixed).against(&[Mode::Single]).times(scale, 3),
        scale.load("highest rate, p99 < 5 ms", SetUp::Memory, calm).against(&[Mode::Single]).times(scale, 2),
        scale.load("highest rate", SetUp::Memory, search).against(&[Mode::Single]).times(scale, 2),
    ]
}

fn latency_by_load(scale: Scale) -> Vec<Load> {
    let rates = if scale.quick { "500,2000,8000" } else { "500,1000,2000,3000,4000,6000,8000,12000,16000" };
    let line = format!("rooms --rooms 200 --members 20 --seconds {} --rates {rates}", scale.of(3, 1));
    vec![
        scale.load("memory", SetUp::Memory, &line).against(&[Mode::Single]).times(scale, 2),
        scale.load("fsync", SetUp::Fsync, &line).times(scale, 2),
    ]
}

fn durability(scale: Scale, results: &Results) -> Vec<Load> {
    let half = highest_rate(results).map_or(HALF_RATE_DEFAULT, |highest| (highest / 2.0).round());
    let rate = format!("rooms --rooms 100 --members 10 --seconds {} --rate {half}", scale.of(10, 3));
    let cases = format!("cases --repeat {} --workers 20", scale.of(300, 50));
    let on = |set_up: SetUp| {
        let row = |what: &str, line: &str| scale.load(format!("{what}, {}", set_up.words()), set_up, line);
        [row("half the highest rate", &rate), row("cases", &cases)]
            .map(|load| load.against(&[Mode::Single]).times(scale, 3))
    };
    [SetUp::Memory, SetUp::Fsync].into_iter().flat_map(on).collect()
}

fn highest_rate(results: &Results) -> Option<f64> {
    results.row(Part::Rooms, "highest rate").and_then(|row| row.value("highest rate that held"))
}

/// Each at its highest rate; where few listen too, which is when Redis has most to do; and all at the same.
fn nodes(scale: Scale, results: &Results) -> Vec<Load> {
    let same = highest_rate(results).map_or(2.0 * HALF_RATE_DEFAULT, |highest| (highest * THREE_NODES_SHARE).round());
    let search = |members: u32| {
        format!("rooms --rooms 100 --members {members} --rate 4000 --seconds {} --search", scale.of(2, 1))
    };
    let fixed = format!("rooms --rooms 100 --members 10 --rate {same} --seconds {}", scale.of(5, 1));
    let rows = |suffix: &'static str, line: String| {
        (1..=3).map(SetUp::Nodes).map(move |set_up| scale.load(format!("{}{suffix}", set_up.words()), set_up, &line))
    };
    let all = rows("", search(10)).chain(rows(", rooms of 3", search(3))).chain(rows(", same rate", fixed));
    all.map(|load| load.times(scale, 2)).collect()
}

fn idle(scale: Scale) -> Vec<Load> {
    let sizes: &[u32] = if scale.quick { &[1_000, 5_000] } else { &[1_000, 5_000, 10_000, 15_000] };
    let load = |sessions: &u32| {
        let line = format!("idle --sessions {sessions} --channels 100 --seconds {}", scale.of(5, 1));
        scale.load(format!("{sessions} sessions"), SetUp::Memory, line).against(&[Mode::Single])
    };
    sizes.iter().map(load).collect()
}

fn peak(scale: Scale) -> Vec<Load> {
    let sessions = format!("idle --sessions {} --channels 100 --seconds 0", scale.of(10_000, 2_000));
    let rooms = format!("channels --channels {} --seconds 3", scale.of(20_000, 2_000));
    let messages = format!("fanout --listeners 200 --in-flight 64 --messages {}", scale.of(20_000, 5_000));
    let load = |name: &str, line: String| scale.load(name, SetUp::Memory, line).doing(Work::Peak);
    vec![load("sessions", sessions), load("rooms", rooms), load("messages", messages)]
}

fn resume(scale: Scale) -> Vec<Load> {
    let line = format!("resume --sessions {} --missed 100 --channels 100", scale.of(10_000, 1_000));
    vec![
        scale.load("started again", SetUp::Embedded, &line).doing(Work::DeathAndReturn).times(scale, 2),
        scale.load("another node", SetUp::Nodes(2), &line).doing(Work::DeathAndAnother).times(scale, 2),
    ]
}

fn channels(scale: Scale) -> Vec<Load> {
    let sizes: &[u32] = if scale.quick { &[100, 1_000] } else { &[100, 1_000, 10_000, 100_000] };
    let load = |channels: &u32| {
        let line = format!("channels --channels {channels} --rate 1000 --seconds {}", scale.of(10, 2));
        scale.load(format!("{channels} channels"), SetUp::Memory, line).against(&[Mode::Single])
    };
    sizes.iter().map(load).collect()
}

fn start(scale: Scale) -> Vec<Load> {
    let line = format!("fanout --listeners 1 --in-flight 64 --messages {}", scale.of(50_000, 5_000));
    [("after a stop", Work::StartAfterStop), ("after a crash", Work::StartAfterCrash)]
        .map(|(name, work)| scale.load(name, SetUp::Embedded, &line).doing(work))
        .into()
}

#[cfg(test)]
mod tests {
    use clap::{Parser, ValueEnum};

    use super::*;
    use crate::cli::Cli;

    #[test]
    fn every_line_is_one_that_the_tool_understands() {
        for quick in [false, true] {
            for part in Part::value_variants() {
                let loads = loads(*part, Scale { quick, rounds: None }, &Results::default());
                assert!(!loads.is_empty(), "{part:?}");
                for load in loads {
                    let line = std::iter::once("burble-bench").chain(load.line.split(' '));
                    Cli::try_parse_from(line).unwrap_or_else(|error| panic!("{}: {error}", load.line));
                }
            }
        }
    }

    #[test]
    fn names_tell_the_loads_of_a_part_apart() {
        for part in Part::value_variants() {
            let loads = loads(*part, Scale { quick: false, rounds: Some(1) }, &Results::default());
            let mut names: Vec<_> = loads.iter().map(|load| &load.name).collect();
            names.sort();
            names.dedup();
            assert_eq!(names.len(), loads.len(), "{part:?}");
        }
    }
}
