//! What the suite found: rounds, and the medians over them. Pure: no I/O.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::cli::{Mode, Part};
use crate::report::Report;

/// Everything that was measured.
#[derive(Serialize, Default)]
pub(crate) struct Results {
    pub(crate) parts: BTreeMap<Part, Vec<Row>>,
    /// The file system that the servers' data lay on.
    pub(crate) file_system: String,
    /// Loads that could not be run to their end, and why.
    pub(crate) failures: Vec<String>,
}

/// One load, and what came of it in each round.
#[derive(Serialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    /// What the load tool was asked to do.
    pub(crate) command: String,
    pub(crate) set_up: String,
    pub(crate) rounds: Vec<Round>,
}

/// The yardstick, and then the server, one after the other.
#[derive(Serialize)]
pub(crate) struct Round {
    pub(crate) yardsticks: BTreeMap<Mode, Report>,
    pub(crate) server: Report,
}

impl Results {
    /// A row by its name.
    pub(crate) fn row(&self, part: Part, name: &str) -> Option<&Row> {
        self.parts.get(&part)?.iter().find(|row| row.name == name)
    }

    /// Whether nothing went wrong anywhere.
    pub(crate) fn is_good(&self) -> bool {
        let reports = self.parts.values().flatten().flat_map(|row| &row.rounds);
        let mut reports = reports.flat_map(|round| round.yardsticks.values().chain([&round.server]));
        self.failures.is_empty() && reports.all(|report| report.errors.is_empty())
    }
}

impl Row {
    /// The median of a figure of the server.
    pub(crate) fn value(&self, figure: &str) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.server.value(figure)))
    }

    /// The median of a figure of the yardstick.
    pub(crate) fn yardstick(&self, mode: Mode, figure: &str) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| round.yardsticks.get(&mode)?.value(figure)))
    }

    /// The median of the ratios of the server to the yardstick of the same round.
    pub(crate) fn ratio(&self, mode: Mode, figure: &str) -> Option<f64> {
        median(self.rounds.iter().filter_map(|round| {
            let yardstick = round.yardsticks.get(&mode)?.value(figure).filter(|value| *value > 0.0)?;
            Some(round.server.value(figure)? / yardstick)
        }))
    }

    /// The medians of delivery p50 and p99 in milliseconds at each rate that was tried, of the server or a yardstick.
    pub(crate) fn by_rate(&self, mode: Option<Mode>) -> BTreeMap<u32, (f64, f64)> {
        let mut by_rate: BTreeMap<u32, Vec<(f64, f64)>> = BTreeMap::new();
        for round in &self.rounds {
            let report = mode.map_or(Some(&round.server), |mode| round.yardsticks.get(&mode));
            for tried in report.map(Report::rates_tried).unwrap_or_default() {
                by_rate.entry(tried.rate).or_default().push((tried.delivery.p50_ms, tried.delivery.p99_ms));
            }
        }
        let medians = by_rate.into_iter().filter_map(|(rate, tried)| {
            let p50 = median(tried.iter().map(|(p50, _)| *p50))?;
            Some((rate, (p50, median(tried.iter().map(|(_, p99)| *p99))?)))
        });
        medians.collect()
    }
}

/// The middle one, or the mean of the two in the middle.
pub(crate) fn median(values: impl Iterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    let middle = values.len() / 2;
    match values.len() {
        0 => None,
        odd if odd % 2 == 1 => Some(values[middle]),
        _ => Some(f64::midpoint(values[middle - 1], values[middle])),
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    /// A row whose server and single yardstick reached these deliveries per second, round by round.
    pub(crate) fn row(name: &str, rounds: &[(f64, f64)]) -> Row {
        let report = |rate| {
            let mut report = Report::new("fanout", "here");
            report.figure("deliveries", rate, "1/s");
            report
        };
        let round = |(server, yardstick): &(f64, f64)| Round {
            yardsticks: BTreeMap::from([(Mode::Single, report(*yardstick))]),
            server: report(*server),
        };
        let rounds = rounds.iter().map(round).collect();
        Row { name: name.into(), command: "fanout".into(), set_up: "memory".into(), rounds }
    }

    #[test]
    fn a_median_is_in_the_middle() {
        assert_eq!(median([3.0, 1.0, 2.0].into_iter()), Some(2.0));
        assert_eq!(median([4.0, 1.0, 2.0, 3.0].into_iter()), Some(2.5));
        assert_eq!(median(std::iter::empty()), None);
    }

    #[test]
    fn ratios_are_of_the_same_round() {
        // A machine that is half as fast in the second round changes no ratio.
        let row = row("200", &[(200.0, 100.0), (100.0, 50.0), (210.0, 100.0)]);
        assert_eq!(row.value("deliveries"), Some(200.0));
        assert_eq!(row.yardstick(Mode::Single, "deliveries"), Some(100.0));
        assert_eq!(row.ratio(Mode::Single, "deliveries"), Some(2.0));
        assert_eq!(row.ratio(Mode::Batch, "deliveries"), None);
        assert_eq!(row.value("no such figure"), None);
    }
}
