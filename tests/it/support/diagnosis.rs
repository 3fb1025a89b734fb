//! What `burble doctor` finds wrong.

use serde_json::Value;

use super::server::Ended;
use super::{items, text};

/// What depends on the machine that the tests run on; it is not set up by them.
const OF_THE_MACHINE: [&str; 4] = ["disk", "memory and cores", "backlog", "clock"];
/// So few that every machine has the open files for them.
pub(crate) const FEW: (&str, &str) = ("LIMIT_CONNECTIONS", "100");
pub(crate) const DOCTOR: [&str; 2] = ["doctor", "--json"];

/// What is wrong, or may be: the checks, each with what was found and the remedy.
pub(crate) struct Diagnosis(pub(crate) Vec<(String, String)>);

impl Diagnosis {
    pub(crate) fn of(ended: &Ended) -> Self {
        let document: Value =
            serde_json::from_str(&ended.output).unwrap_or_else(|_| panic!("no document: {}", ended.output));
        let failed = items(&document["findings"]).iter().any(|finding| finding["verdict"] == "failure");
        assert_eq!(ended.status.success(), !failed, "{}", ended.output);
        assert_eq!(document["healthy"], !failed);
        let mut problems = Vec::new();
        for finding in items(&document["findings"]) {
            let (check, verdict) = (text(&finding["check"]), text(&finding["verdict"]));
            assert_eq!(finding.get("remedy").is_none(), verdict == "ok", "{finding}");
            // How quick the log is, is that of the machine too; whether it flows is not.
            let slow = (verdict, check) == ("warning", "round trip");
            if ["warning", "failure"].contains(&verdict) && !OF_THE_MACHINE.contains(&check) && !slow {
                let said = format!("{}; {}", text(&finding["found"]), text(&finding["remedy"]));
                problems.push((format!("{verdict} {check}"), said));
            }
        }
        Self(problems)
    }

    /// Nothing is wrong.
    pub(crate) fn healthy(&self) {
        assert!(self.0.is_empty(), "{:#?}", self.0);
    }

    /// This is wrong, and nothing else; the line says all of `said`.
    pub(crate) fn only(&self, check: &str, said: &[&str]) {
        assert_eq!(self.0.iter().map(|(check, _)| check.as_str()).collect::<Vec<_>>(), [check], "{:#?}", self.0);
        self.says(check, said);
    }

    pub(crate) fn says(&self, check: &str, said: &[&str]) {
        let found = self.0.iter().find(|(known, _)| known == check);
        let (_, line) = found.unwrap_or_else(|| panic!("{check} is not in {:#?}", self.0));
        for part in said {
            assert!(line.contains(part), "no {part} in {line}");
        }
    }
}
