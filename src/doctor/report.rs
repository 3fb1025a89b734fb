//! The findings as people and programs read them.

use std::fmt::Write;

use serde_json::{Value, json};

use crate::finding::{Finding, Verdict};

/// The width of the column of checks; a longer name pushes its own line only.
const CHECK_WIDTH: usize = 22;

/// A finding as a line, and its remedy as another. Coloured where a terminal shows it.
pub fn line(finding: &Finding, colour: bool) -> String {
    let (on, off) = match finding.verdict {
        _ if !colour => ("", ""),
        Verdict::Ok => ("\x1b[32m", "\x1b[0m"),
        Verdict::Note => ("\x1b[36m", "\x1b[0m"),
        Verdict::Warning => ("\x1b[33m", "\x1b[0m"),
        Verdict::Failure => ("\x1b[31m", "\x1b[0m"),
    };
    let mut text =
        format!("{on}{:<7}{off}  {:<CHECK_WIDTH$}  {}", finding.verdict.as_str(), finding.check, finding.found);
    if !finding.at.is_empty() {
        let _ = write!(text, " [{}]", finding.at);
    }
    if !finding.remedy.is_empty() {
        let _ = write!(text, "\n{:9}→ {}", "", finding.remedy);
    }
    text
}

/// How many of each there are, in a line.
pub fn summary(findings: &[Finding]) -> String {
    let count = |verdict| findings.iter().filter(|finding| finding.verdict == verdict).count();
    let (failures, warnings, notes) = (count(Verdict::Failure), count(Verdict::Warning), count(Verdict::Note));
    format!("{failures} failures, {warnings} warnings, {notes} notes, {} ok", count(Verdict::Ok))
}

/// All of them as one document: `{"healthy": …, "findings": [{"check", "at"?, "verdict", "found", "remedy"?}, …]}`.
pub fn document(findings: &[Finding]) -> Value {
    let healthy = findings.iter().all(|finding| finding.verdict < Verdict::Failure);
    json!({ "healthy": healthy, "findings": findings })
}

/// Whether all this lets one sleep; `strict` minds warnings too.
pub fn is_healthy(findings: &[Finding], strict: bool) -> bool {
    let limit = if strict { Verdict::Warning } else { Verdict::Failure };
    findings.iter().all(|finding| finding.verdict < limit)
}
