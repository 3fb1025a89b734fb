//! Which charts the report has: latency against load, and cost against growth. Pure: no I/O.

use super::chart::{Axis, AxisScale, Chart, Series};
use super::results::{Results, Row};
use crate::cli::{Mode, Part};

/// The charts of the parts that were run.
pub(super) fn charts(results: &Results) -> Vec<(Part, Chart)> {
    let drawn = results.parts.iter().filter_map(|(part, rows)| Some((*part, chart(*part, rows)?)));
    drawn.filter(|(_, chart)| chart.series.iter().any(|series| series.points.len() > 1)).collect()
}

/// Of a part's chart, without its ending.
pub(super) fn file_name(part: Part) -> String {
    format!("{part:?}").to_lowercase()
}

fn chart(part: Part, rows: &[Row]) -> Option<Chart> {
    use AxisScale::{Linear, Log};
    let single = Some(Mode::Single);
    let (title, x, y, series) = match part {
        Part::Load => {
            let y = Axis { label: "delivery p99, ms", scale: Log };
            let lines = rows.iter().map(|row| by_rate(row, &row.name, None));
            let yardstick = rows.iter().map(|row| by_rate(row, "yardstick (single)", single));
            let series = lines.chain(yardstick).filter(|series| !series.points.is_empty()).collect();
            ("Latency against load, 200 rooms of 20", Axis { label: "messages per second", scale: Log }, y, series)
        }
        Part::Fanout => {
            let y = Axis { label: "deliveries per second", scale: Log };
            let of =
                |in_flight: &str| -> Vec<&Row> { rows.iter().filter(|row| row.name.ends_with(in_flight)).collect() };
            let (few, many) = (of(", 8 in flight"), of(", 64 in flight"));
            let series = vec![
                line("8 in flight", &few, "deliveries", None),
                line("64 in flight", &many, "deliveries", None),
                line("single, 8", &few, "deliveries", single),
                line("batch, 64", &many, "deliveries", Some(Mode::Batch)),
            ];
            ("Fan-out: one sender, many listeners", Axis { label: "listeners", scale: Log }, y, series)
        }
        Part::Idle => {
            let all: Vec<&Row> = rows.iter().collect();
            let series = vec![
                line("Burble", &all, "server RSS per session", None),
                line("yardstick", &all, "server RSS per session", single),
            ];
            let y = Axis { label: "KiB per session", scale: Linear };
            ("Memory of a quiet session", Axis { label: "sessions", scale: Linear }, y, series)
        }
        Part::Channels => {
            let all: Vec<&Row> = rows.iter().collect();
            let series = vec![
                line("Burble", &all, "burble CPU per message", None),
                line("Redis", &all, "redis CPU per message", None),
                line("yardstick", &all, "server CPU per message", single),
            ];
            let y = Axis { label: "CPU per message, µs", scale: Linear };
            ("The same traffic over more channels", Axis { label: "channels", scale: Log }, y, series)
        }
        Part::Nodes => {
            let highest: Vec<&Row> = rows.iter().filter(|row| !row.name.contains(',')).collect();
            let series = vec![
                line("Burble", &highest, "burble CPU per message", None),
                line("Redis", &highest, "redis CPU per message", None),
            ];
            let y = Axis { label: "CPU per message, µs", scale: Linear };
            ("Nodes on one Redis, at their highest rate", Axis { label: "nodes", scale: Linear }, y, series)
        }
        _ => return None,
    };
    Some(Chart { title: title.into(), x, y, series })
}

fn by_rate(row: &Row, name: &str, mode: Option<Mode>) -> Series {
    let points = row.by_rate(mode).into_iter().map(|(rate, (_, p99_ms))| (f64::from(rate), p99_ms));
    Series { name: name.to_owned(), points: points.collect() }
}

/// A figure of each row, of the server or of a yardstick, over what the name of the row tells.
fn line(name: &str, rows: &[&Row], figure: &str, mode: Option<Mode>) -> Series {
    let value = |row: &Row| match mode {
        Some(mode) => row.yardstick(mode, figure),
        None => row.value(figure),
    };
    let points = rows.iter().filter_map(|row| Some((size(&row.name)?, value(row)?)));
    Series { name: name.to_owned(), points: points.collect() }
}

/// The number that a row's name begins with, behind `1 →` where that is there.
fn size(name: &str) -> Option<f64> {
    let digits = name.trim_start_matches("1 → ");
    let end = digits.find(|c: char| !c.is_ascii_digit()).unwrap_or(digits.len());
    digits[..end].parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::suite::results::tests::row;

    #[test]
    fn a_name_tells_its_size() {
        assert_eq!(size("1 → 2000, 8 in flight"), Some(2000.0));
        assert_eq!(size("100000 channels"), Some(100_000.0));
        assert_eq!(size("memory"), None);
    }

    #[test]
    fn what_has_points_is_drawn() {
        let rows = vec![row("1 → 200, 8 in flight", &[(9.0, 8.0)]), row("1 → 2000, 8 in flight", &[(7.0, 6.0)])];
        let results = Results { parts: BTreeMap::from([(Part::Fanout, rows)]), ..Results::default() };
        let charts = charts(&results);
        assert_eq!(charts[0].1.series[0].points, [(200.0, 9.0), (2000.0, 7.0)]);
        assert_eq!(charts[0].1.series[2].points, [(200.0, 8.0), (2000.0, 6.0)]);
        assert!(super::charts(&Results::default()).is_empty());
    }
}
