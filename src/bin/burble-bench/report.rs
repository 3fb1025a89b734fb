//! What one scenario found out about one server, and how it is shown.

use std::collections::BTreeMap;
use std::fmt::{self, Display, Write};

use serde::Serialize;

use crate::failure::Seen;
use crate::latency::Summary;
use crate::watch::{ServerUse, Used};

/// The findings of one scenario against one server.
#[derive(Serialize, Clone)]
pub(crate) struct Report {
    scenario: &'static str,
    against: String,
    settings: Vec<(&'static str, String)>,
    figures: Vec<Figure>,
    latencies: Vec<(&'static str, Summary)>,
    servers: Vec<ServerUse>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    tried: Vec<Tried>,
    /// By kind; none in a good run.
    pub(crate) errors: BTreeMap<String, Seen>,
}

#[derive(Serialize, Clone)]
struct Figure {
    name: String,
    value: f64,
    unit: &'static str,
}

/// A rate that was tried out.
#[derive(Serialize, Clone)]
pub(crate) struct Tried {
    pub(crate) rate: u32,
    pub(crate) held: bool,
    pub(crate) delivery: Summary,
}

impl Report {
    /// An empty one.
    pub(crate) fn new(scenario: &'static str, against: &str) -> Self {
        Self {
            scenario,
            against: against.to_owned(),
            settings: Vec::new(),
            figures: Vec::new(),
            latencies: Vec::new(),
            servers: Vec::new(),
            tried: Vec::new(),
            errors: BTreeMap::new(),
        }
    }

    /// Notes what was asked for.
    pub(crate) fn setting(&mut self, name: &'static str, value: impl Display) -> &mut Self {
        self.settings.push((name, value.to_string()));
        self
    }

    /// Adds a figure; its unit belongs to it.
    pub(crate) fn figure(&mut self, name: impl Into<String>, value: f64, unit: &'static str) -> &mut Self {
        self.figures.push(Figure { name: name.into(), value, unit });
        self
    }

    /// Adds a distribution.
    pub(crate) fn latency(&mut self, name: &'static str, summary: Summary) -> &mut Self {
        self.latencies.push((name, summary));
        self
    }

    /// Adds a rate that was tried out.
    pub(crate) fn tried(&mut self, rate: u32, held: bool, delivery: &Summary) {
        self.tried.push(Tried { rate, held, delivery: delivery.clone() });
    }

    /// Adds what the server processes used, and what of it falls to each of `count` such units of work.
    pub(crate) fn cost(&mut self, unit: &str, count: f64, used: Used) -> &mut Self {
        let count = count.max(1.0);
        if !used.servers.is_empty() {
            self.figure(format!("server CPU per {unit}"), used.cpu_seconds() * 1e6 / count, "us");
        }
        let mut by_name: BTreeMap<&str, f64> = BTreeMap::new();
        for server in &used.servers {
            *by_name.entry(&server.name).or_default() += server.cpu_seconds;
        }
        if by_name.len() > 1 {
            for (name, cpu_seconds) in &by_name {
                self.figure(format!("{name} CPU per {unit}"), cpu_seconds * 1e6 / count, "us");
            }
        }
        if let Some(commands) = used.redis_commands {
            self.figure(format!("Redis commands per {unit}"), self::count(commands) / count, "");
        }
        self.servers = used.servers;
        self
    }

    /// The rates that were tried, in their order.
    pub(crate) fn rates_tried(&self) -> &[Tried] {
        &self.tried
    }

    /// A figure, or a percentile of a distribution (`delivery p99`), by name.
    pub(crate) fn value(&self, name: &str) -> Option<f64> {
        self.comparable().get(name).copied()
    }

    /// How many values the distribution of this name has.
    pub(crate) fn latency_count(&self, name: &str) -> f64 {
        self.latencies.iter().find(|(other, _)| *other == name).map_or(0.0, |(_, summary)| count(summary.count))
    }

    /// Everything that can be set in proportion, by name.
    fn comparable(&self) -> BTreeMap<String, f64> {
        let figures = self.figures.iter().map(|figure| (figure.name.clone(), figure.value));
        let latencies = self.latencies.iter().flat_map(|(name, summary)| {
            let percentiles = [("p50", summary.p50_ms), ("p99", summary.p99_ms), ("p99.9", summary.p999_ms)];
            percentiles.map(|(percentile, ms)| (format!("{name} {percentile}"), ms))
        });
        figures.chain(latencies).collect()
    }

    /// Each figure of this report by that of the yardstick.
    pub(crate) fn ratios_to(&self, yardstick: &Self) -> BTreeMap<String, f64> {
        let theirs = yardstick.comparable();
        let ratio = |(name, ours): (String, f64)| {
            let theirs = theirs.get(&name).copied().filter(|value| *value > 0.0)?;
            Some((name, ours / theirs))
        };
        self.comparable().into_iter().filter_map(ratio).collect()
    }
}

/// A count as a figure.
#[expect(clippy::cast_precision_loss, reason = "no run counts to 2^53")]
pub(crate) fn count(count: u64) -> f64 {
    count as f64
}

impl Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{} against {}", self.scenario, self.against)?;
        let settings: Vec<String> = self.settings.iter().map(|(name, value)| format!("{name} {value}")).collect();
        writeln!(f, "  {}\n", settings.join(", "))?;
        for Figure { name, value, unit } in &self.figures {
            writeln!(f, "  {name:<28} {:>12} {unit}", number(*value))?;
        }
        self.latency_table(f)?;
        self.server_table(f)?;
        self.tried_table(f)?;
        self.error_table(f)
    }
}

impl Report {
    fn latency_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.latencies.is_empty() {
            let heads = ["count", "p50", "p90", "p99", "p99.9", "max"];
            writeln!(f, "\n  {:<14}{}", "latency, ms", row(&heads.map(str::to_owned)))?;
        }
        for (name, summary) in &self.latencies {
            let times = [summary.p50_ms, summary.p90_ms, summary.p99_ms, summary.p999_ms, summary.max_ms];
            let mut cells = vec![summary.count.to_string()];
            cells.extend(times.map(|ms| format!("{ms:.3}")));
            writeln!(f, "  {name:<14}{}", row(&cells))?;
        }
        Ok(())
    }

    fn server_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.servers.is_empty() {
            let heads = ["pid", "CPU s", "late CPU", "RSS before", "RSS after", "RSS peak"];
            writeln!(f, "\n  {:<14}{}  (KiB)", "process", row(&heads.map(str::to_owned)))?;
        }
        for server in &self.servers {
            let mut cells = vec![server.pid.to_string()];
            cells.extend([server.cpu_seconds, server.cpu_after_seconds].map(|cpu| format!("{cpu:.2}")));
            let memory = [server.rss_before_kib, server.rss_after_kib, server.rss_peak_kib];
            cells.extend(memory.map(|kib| kib.to_string()));
            writeln!(f, "  {:<14}{}", server.name, row(&cells))?;
        }
        Ok(())
    }

    fn tried_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !self.tried.is_empty() {
            writeln!(f, "\n  {:<15}{:>11}{:>11}", "rate tried, 1/s", "p50, ms", "p99, ms")?;
        }
        for Tried { rate, held, delivery } in &self.tried {
            let verdict = if *held { "held" } else { "not held" };
            writeln!(f, "  {rate:<15}{:>11.3}{:>11.3}  {verdict}", delivery.p50_ms, delivery.p99_ms)?;
        }
        Ok(())
    }

    fn error_table(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.errors.is_empty() {
            return writeln!(f, "\n  errors: none");
        }
        writeln!(f, "\n  errors:")?;
        for (kind, seen) in &self.errors {
            writeln!(f, "  {:>8} x {kind}; the first: {}", seen.count, seen.first)?;
        }
        Ok(())
    }
}

fn row(cells: &[String]) -> String {
    cells.iter().fold(String::new(), |mut row, cell| {
        write!(row, "{cell:>11}").expect("a String takes everything");
        row
    })
}

/// Three or four digits that count; whole numbers as they are.
pub(crate) fn number(value: f64) -> String {
    match value.abs() {
        whole if whole.fract() < 1e-9 => format!("{value:.0}"),
        large if large >= 1000.0 => format!("{value:.0}"),
        middle if middle >= 10.0 => format!("{value:.1}"),
        small if small >= 0.1 => format!("{value:.3}"),
        _ => format!("{value:.5}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_are_shown() {
        let mut bad = Report::new("cases", "here");
        bad.errors.insert("send: rate_limited".into(), Seen { count: 3, first: "slow down".into() });
        assert!(bad.to_string().contains("3 x send: rate_limited; the first: slow down"));
    }

    #[test]
    fn costs_are_shared_out_by_process_and_unit() {
        let server = |name: &str, pid, cpu_seconds| ServerUse {
            name: name.into(),
            pid,
            cpu_seconds,
            cpu_after_seconds: 0.0,
            rss_before_kib: 1,
            rss_after_kib: 2,
            rss_peak_kib: 3,
        };
        let servers = vec![server("burble", 1, 1.0), server("burble", 2, 2.0), server("redis", 3, 1.0)];
        let mut report = Report::new("cases", "here");
        report.cost("case", 1e6, Used { servers, redis_commands: Some(2_000_000) });
        let values = ["server CPU per case", "burble CPU per case", "redis CPU per case", "Redis commands per case"];
        assert_eq!(values.map(|name| report.value(name)), [Some(4.0), Some(3.0), Some(1.0), Some(2.0)]);
    }

    #[test]
    fn numbers_have_four_digits() {
        assert_eq!([12_345.6, 99.94, 0.5, 0.0123, 300.0].map(number), ["12346", "99.9", "0.500", "0.01230", "300"]);
    }
}
