//! All that one call of the tool found: tables for people, one JSON document for programs.

use std::collections::BTreeMap;
use std::fmt::{self, Display};

use serde::Serialize;

use crate::proc::Machine;
use crate::report::Report;

/// All reports of one call; where there are two, the first is the yardstick's.
#[derive(Serialize)]
pub(crate) struct Document {
    machine: Machine,
    reports: Vec<Report>,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    ratios_to_yardstick: BTreeMap<String, f64>,
}

impl Document {
    /// Puts them together.
    pub(crate) fn new(reports: Vec<Report>) -> Self {
        let ratios_to_yardstick = match &reports[..] {
            [yardstick, server] => server.ratios_to(yardstick),
            _ => BTreeMap::new(),
        };
        Self { machine: Machine::here(), reports, ratios_to_yardstick }
    }

    /// Whether nothing went wrong anywhere.
    pub(crate) fn is_good(&self) -> bool {
        self.reports.iter().all(|report| report.errors.is_empty())
    }
}

impl Display for Document {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Machine { cores, cpu, kernel, build, .. } = &self.machine;
        for report in &self.reports {
            writeln!(f, "{report}")?;
        }
        if !self.ratios_to_yardstick.is_empty() {
            writeln!(f, "ratios to the yardstick")?;
        }
        for (name, ratio) in &self.ratios_to_yardstick {
            writeln!(f, "  {name:<28} {:>12.3} x", ratio)?;
        }
        write!(f, "machine: {cores} cores, {cpu}, Linux {kernel}; load tool: {build} build")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::failure::Seen;

    fn report(rate: f64) -> Report {
        let mut report = Report::new("cases", "here");
        report.setting("workers", 2).figure("cases", rate, "1/s").figure("zero", 0.0, "1/s");
        report
    }

    #[test]
    fn two_reports_are_set_in_proportion() {
        let document = Document::new(vec![report(200.0), report(100.0)]);
        assert_eq!(document.ratios_to_yardstick, BTreeMap::from([("cases".to_owned(), 0.5)]));
        assert!(document.is_good());
        assert!(Document::new(vec![report(200.0)]).ratios_to_yardstick.is_empty());
    }

    #[test]
    fn an_error_spoils_the_run() {
        let mut bad = report(1.0);
        bad.errors.insert("closed".into(), Seen { count: 1, first: "why".into() });
        assert!(!Document::new(vec![bad]).is_good());
    }
}
