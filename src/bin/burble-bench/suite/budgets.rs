//! The budgets: what was to be reached, and whether it is. Pure: no I/O.

use serde::Serialize;

use super::results::Results;
use crate::cli::{Mode, Part};

/// What a figure may be at most, or has to be at least.
struct Budget {
    what: &'static str,
    part: Part,
    row: &'static str,
    figure: &'static str,
    unit: &'static str,
    /// What of the figure is judged.
    of: Of,
    bound: Bound,
}

enum Of {
    Itself,
    /// By that of the yardstick in the same round.
    Yardstick(Mode),
    /// By that of another row of the part.
    Row(&'static str),
    /// How much more it is than that of another row.
    Beyond(&'static str),
}

enum Bound {
    AtMost(f64),
    AtLeast(f64),
    /// So many times what the disk takes to flush, as Redis alone shows it.
    Flushes(f64),
}

const BUDGETS: &[Budget] = &[
    Budget {
        what: "one case: CPU of server and Redis, on the disk before it is acknowledged",
        part: Part::Cases,
        row: "embedded",
        figure: "server CPU per case",
        unit: "µs",
        of: Of::Yardstick(Mode::Single),
        bound: Bound::AtMost(2.5),
    },
    Budget {
        what: "the same, later",
        part: Part::Cases,
        row: "embedded",
        figure: "server CPU per case",
        unit: "µs",
        of: Of::Yardstick(Mode::Single),
        bound: Bound::AtMost(2.0),
    },
    Budget {
        what: "deliveries per second, 1 → 200, 8 in flight",
        part: Part::Fanout,
        row: "1 → 200, 8 in flight",
        figure: "deliveries",
        unit: "/s",
        of: Of::Yardstick(Mode::Single),
        bound: Bound::AtLeast(1.0),
    },
    Budget {
        what: "the same, 64 in flight",
        part: Part::Fanout,
        row: "1 → 200, 64 in flight",
        figure: "deliveries",
        unit: "/s",
        of: Of::Yardstick(Mode::Batch),
        bound: Bound::AtLeast(0.3),
    },
    Budget {
        what: "deliveries per second, 1 → 2,000, 8 in flight",
        part: Part::Fanout,
        row: "1 → 2000, 8 in flight",
        figure: "deliveries",
        unit: "/s",
        of: Of::Yardstick(Mode::Single),
        bound: Bound::AtLeast(1.0),
    },
    Budget {
        what: "delivery p99, 100 rooms of 10 at 1,000 messages/s, from memory",
        part: Part::Rooms,
        row: "1,000 messages/s",
        figure: "delivery p99",
        unit: "ms",
        of: Of::Yardstick(Mode::Single),
        bound: Bound::AtMost(4.0),
    },
    Budget {
        what: "highest rate in those rooms with p99 < 50 ms",
        part: Part::Rooms,
        row: "highest rate",
        figure: "highest rate that held",
        unit: "/s",
        of: Of::Yardstick(Mode::Single),
        bound: Bound::AtLeast(0.6),
    },
    Budget {
        what: "delivery p99 at half of that rate, from memory",
        part: Part::Durability,
        row: "half the highest rate, memory",
        figure: "delivery p99",
        unit: "ms",
        of: Of::Itself,
        bound: Bound::AtMost(5.0),
    },
    Budget {
        what: "the same from the disk, beyond that from memory",
        part: Part::Durability,
        row: "half the highest rate, fsync",
        figure: "delivery p99",
        unit: "ms",
        of: Of::Beyond("half the highest rate, memory"),
        bound: Bound::Flushes(2.0),
    },
    Budget {
        what: "CPU of Redis per message at full load, one node, rooms of 3",
        part: Part::Nodes,
        row: "1 node, rooms of 3",
        figure: "redis CPU per message",
        unit: "µs",
        of: Of::Itself,
        bound: Bound::AtMost(5.0),
    },
    Budget {
        what: "the same in rooms of 10, where the sockets are what is full",
        part: Part::Nodes,
        row: "1 node",
        figure: "redis CPU per message",
        unit: "µs",
        of: Of::Itself,
        bound: Bound::AtMost(5.0),
    },
    Budget {
        what: "a second node, rooms of 3",
        part: Part::Nodes,
        row: "2 nodes, rooms of 3",
        figure: "redis CPU per message",
        unit: "µs",
        of: Of::Beyond("1 node, rooms of 3"),
        bound: Bound::AtMost(1.0),
    },
    Budget {
        what: "a third node, rooms of 3",
        part: Part::Nodes,
        row: "3 nodes, rooms of 3",
        figure: "redis CPU per message",
        unit: "µs",
        of: Of::Beyond("2 nodes, rooms of 3"),
        bound: Bound::AtMost(1.0),
    },
    Budget {
        what: "memory of the server per idle session at 10,000",
        part: Part::Idle,
        row: "10000 sessions",
        figure: "server RSS per session",
        unit: "KiB",
        of: Of::Itself,
        bound: Bound::AtMost(6.0),
    },
    Budget {
        what: "memory after 10,000 sessions, by before",
        part: Part::Peak,
        row: "sessions",
        figure: "RSS after by before",
        unit: "×",
        of: Of::Itself,
        bound: Bound::AtMost(1.2),
    },
    Budget {
        what: "memory after 20,000 rooms, by before",
        part: Part::Peak,
        row: "rooms",
        figure: "RSS after by before",
        unit: "×",
        of: Of::Itself,
        bound: Bound::AtMost(1.2),
    },
    Budget {
        what: "memory after 20,000 messages to 200, by before",
        part: Part::Peak,
        row: "messages",
        figure: "RSS after by before",
        unit: "×",
        of: Of::Itself,
        bound: Bound::AtMost(1.2),
    },
    Budget {
        what: "10,000 sessions back at once after a crash, 100 missed messages each",
        part: Part::Resume,
        row: "started again",
        figure: "time until all caught up",
        unit: "s",
        of: Of::Itself,
        bound: Bound::AtMost(5.0),
    },
    Budget {
        what: "the same on another node",
        part: Part::Resume,
        row: "another node",
        figure: "time until all caught up",
        unit: "s",
        of: Of::Itself,
        bound: Bound::AtMost(5.0),
    },
    Budget {
        what: "commands of Redis for each session that is back",
        part: Part::Resume,
        row: "another node",
        figure: "Redis commands per session",
        unit: "",
        of: Of::Itself,
        bound: Bound::AtMost(0.1),
    },
    Budget {
        what: "cost per message at 100,000 channels, by that at 100",
        part: Part::Channels,
        row: "100000 channels",
        figure: "server CPU per message",
        unit: "µs",
        of: Of::Row("100 channels"),
        bound: Bound::AtMost(1.2),
    },
    Budget {
        what: "commands of Redis for a join and a leave where others listen",
        part: Part::Joins,
        row: "joins",
        figure: "Redis commands per visit",
        unit: "",
        of: Of::Itself,
        bound: Bound::AtMost(0.01),
    },
    Budget {
        what: "start to ready with an existing data folder",
        part: Part::Start,
        row: "after a stop",
        figure: "start to ready",
        unit: "ms",
        of: Of::Itself,
        bound: Bound::AtMost(300.0),
    },
];

/// A budget, and what came of it.
#[derive(Serialize)]
pub(crate) struct Judged {
    pub(crate) what: &'static str,
    pub(crate) measured: f64,
    pub(crate) unit: &'static str,
    /// What is judged, where that is not the figure itself.
    pub(crate) compared: Option<f64>,
    pub(crate) compared_to: &'static str,
    pub(crate) budget: String,
    pub(crate) met: bool,
}

/// All budgets whose figures were measured.
pub(crate) fn judged(results: &Results) -> Vec<Judged> {
    BUDGETS.iter().filter_map(|budget| budget.judge(results)).collect()
}

impl Budget {
    fn judge(&self, results: &Results) -> Option<Judged> {
        let row = results.row(self.part, self.row)?;
        let measured = row.value(self.figure)?;
        let other = |name| results.row(self.part, name).and_then(|row| row.value(self.figure));
        let (compared, compared_to) = match self.of {
            Of::Itself => (None, ""),
            Of::Yardstick(mode) => (Some(row.ratio(mode, self.figure)?), mode.as_str()),
            Of::Row(name) => (Some(measured / other(name)?), name),
            Of::Beyond(name) => (Some(measured - other(name)?), name),
        };
        let judged = compared.unwrap_or(measured);
        let (met, sign, bound) = match self.bound {
            Bound::AtMost(most) => (judged <= most, '≤', most),
            Bound::AtLeast(least) => (judged >= least, '≥', least),
            Bound::Flushes(times) => {
                let most = times * flush_ms(results)?;
                (judged <= most, '≤', most)
            }
        };
        let budget = match self.of {
            Of::Itself => format!("{sign} {bound} {}", self.unit),
            Of::Yardstick(mode) => format!("{sign} {bound} × {}", mode.as_str()),
            Of::Row(_) => format!("{sign} {bound} ×"),
            Of::Beyond(_) => format!("{sign} {bound:.2} {} more", self.unit),
        };
        let (what, unit, budget) = (self.what, self.unit, budget.trim().to_owned());
        Some(Judged { what, measured, unit, compared, compared_to, budget, met })
    }
}

/// What a flush to the disk adds to an append of Redis alone, at the p99.
fn flush_ms(results: &Results) -> Option<f64> {
    let append = |name| results.row(Part::Redis, name)?.value("append p99");
    Some(append("fsync, 1 in flight")? - append("memory, 1 in flight")?)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::suite::plan::{Scale, loads};
    use crate::suite::results::tests::row;

    #[test]
    fn every_budget_is_of_a_row_that_is_run() {
        for budget in BUDGETS {
            let loads = loads(budget.part, Scale { quick: false, rounds: None }, &Results::default());
            let run = |name: &str| loads.iter().any(|load| load.name == name);
            assert!(run(budget.row), "{}", budget.what);
            match budget.of {
                Of::Row(name) | Of::Beyond(name) => assert!(run(name), "{}", budget.what),
                Of::Yardstick(mode) => {
                    let load = loads.iter().find(|load| load.name == budget.row).expect("it was found before");
                    assert!(load.against.contains(&mode), "{}", budget.what);
                }
                Of::Itself => {}
            }
        }
    }

    #[test]
    fn a_budget_is_met_or_not() {
        let judge = |server, yardstick| {
            let rows = vec![row("1 → 200, 8 in flight", &[(server, yardstick)])];
            let results = Results { parts: BTreeMap::from([(Part::Fanout, rows)]), ..Results::default() };
            let judged = judged(&results);
            assert_eq!(judged.len(), 1, "the others were not measured");
            (judged[0].compared, judged[0].budget.clone(), judged[0].met)
        };
        assert_eq!(judge(100.0, 100.0), (Some(1.0), "≥ 1 × single".into(), true));
        assert_eq!(judge(50.0, 100.0), (Some(0.5), "≥ 1 × single".into(), false));
    }
}
