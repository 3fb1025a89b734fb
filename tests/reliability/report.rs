//! What is told of the runs: a line each, a JSON document each, and the report.

use std::fmt::Write;
use std::time::Duration;

use serde_json::{Value, json};

use crate::faults::FAULTS;
use crate::run::Verdict;
use crate::system::machine;

const WHAT_IT_IS: &str = "\
# Reliability

What Burble promises, it has to keep while things break. This page tells what was broken, under load, and what came of
it. `cargo test --test reliability` makes all of it again.

Three nodes on one Postgres stand behind HAProxy. Writers send numbered messages, each with a `cid`, and repeat what
stays without an answer; listeners come back and resume. Everything they send, are told and see is recorded. At the end
the logs are read back over HTTP, and a judge compares: what was acknowledged is in the log, once, under the position
that was told; the numbers are dense; every listener saw all of it in order, or was told by a `gap`.
";

const HOW_TO_READ: &str = "\
- **acknowledged**: messages that were answered `ok`. **faults**: how often something was broken.
- **lost, doubled, out of order**: of the acknowledged messages, in the log and at every listener. **gaps**: how often a
  listener was told that something is missing.
- **silence**: the longest time in which one client heard nothing of the server.
- **served again**: the longest time from a fault until every client had something acknowledged or delivered that was
  first sent after it.
";

const NOT_PROMISED: &str = "\
## What Redis cannot promise

- **Replication is asynchronous.** `PUBSUB_DURABILITY=replica` has `WAIT` ask that so many replicas have a message before
  it is acknowledged. This is not consensus: whoever chooses the next primary need not choose a replica that had
  confirmed. Sentinels know how far a replica is from what they asked up to ten seconds ago. So an acknowledged message is
  safe from the loss of a primary where **all** its replicas have to confirm: one replica (as on the Cluster here), or
  `PUBSUB_REPLICAS` set to how many there are (as in `failover` under Sentinels), at the price that nothing is
  acknowledged until the lost server is back. Where one of two has to confirm, service goes on at once, and messages may
  be lost (`failover-one-of-two`). Whatever is lost, Burble begins a new epoch, and every listener that had it is told.
- **What was seen may go before it is acknowledged.** Listeners get a message once the primary has it. If the primary is
  lost before a replica has the message, its sender never hears `ok`, and whoever saw it is told by a `gap`.
- **`appendfsync everysec`**, which the replicated set-ups run with here, may lose the last second or two when a whole
  machine fails. `PUBSUB_DURABILITY=fsync` takes `appendfsync always`.
- **No power failure was simulated.** SIGKILL takes a process away, while the kernel keeps what it had written: it proves
  that a crash of the process costs nothing, and says nothing of a disk that lies about its flushes.
- **One machine.** All programs share one kernel and one clock; what only separate hosts can do to each other was not
  tried, unless the table names it.
";

/// The line of a run.
pub(crate) fn line(verdict: &Verdict) -> String {
    let (figures, name) = (&verdict.figures, format!("{}/{}", verdict.fault, verdict.setup.name()));
    format!(
        "{name:<26}{:>8} acknowledged {:>3} faults {:>3} lost {:>3} doubled {:>3} out of order {:>4} gaps  \
         silence {:>7}  served again {:>7}  {:>5.0?}  {}",
        figures.acknowledged,
        verdict.made,
        figures.lost,
        figures.doubled,
        figures.reordered,
        figures.gaps.values().sum::<usize>(),
        seconds(Some(figures.longest_silence)),
        seconds(verdict.served_again_after()),
        verdict.took,
        word(verdict)
    )
}

/// The same and all problems, as a document.
pub(crate) fn document(verdict: &Verdict) -> Value {
    let figures = &verdict.figures;
    let gaps: serde_json::Map<_, _> =
        figures.gaps.iter().map(|(reason, count)| (format!("{reason:?}"), json!(count))).collect();
    let served =
        figures.recovered.iter().map(|(mark, wait)| json!({ mark.as_str(): wait.map(|wait| wait.as_millis()) }));
    json!({
        "fault": verdict.fault,
        "setup": verdict.setup.name(),
        "sent": figures.sent,
        "acknowledged": figures.acknowledged,
        "delivered": figures.delivered,
        "repeated": figures.repeated,
        "reconnects": figures.reconnects,
        "errors": figures.errors,
        "faults": verdict.made,
        "lost": figures.lost,
        "doubled": figures.doubled,
        "reordered": figures.reordered,
        "gaps": gaps,
        "longest_silence_ms": figures.longest_silence.as_millis(),
        "served_again_after_ms": served.collect::<Vec<_>>(),
        "ok_p99_ms": figures.send_to_ok.p99.as_millis(),
        "delivery_p99_ms": figures.send_to_delivery.p99.as_millis(),
        "took_ms": verdict.took.as_millis(),
        "note": verdict.note,
        "impossible": verdict.impossible,
        "kept": verdict.is_kept(),
        "problems": verdict.problems,
    })
}

/// The page in `docs/`.
pub(crate) fn page(verdicts: &[Verdict], command: &str) -> String {
    let mut page = format!("{WHAT_IT_IS}\n## What was run\n\n```sh\n{command}\n```\n\n| | |\n|---|---|\n");
    for (what, which) in machine::describe() {
        let _ = writeln!(page, "| {what} | {which} |");
    }
    page.push_str("\n## What came of it\n\n");
    page.push_str("| fault | set-up | acknowledged | faults | lost | doubled | out of order | gaps | silence | served again | |\n");
    page.push_str("|---|---|--:|--:|--:|--:|--:|--:|--:|--:|---|\n");
    for verdict in verdicts {
        let _ = writeln!(page, "{}", row(verdict));
    }
    let (runs, all) = (verdicts.len(), verdicts.iter().map(|verdict| verdict.figures.acknowledged).sum::<usize>());
    let kept = verdicts.iter().filter(|verdict| verdict.is_kept() && verdict.impossible.is_none()).count();
    let _ =
        write!(page, "\n{all} messages were acknowledged in {runs} runs; {kept} of the runs kept every promise.\n\n");
    page.push_str(HOW_TO_READ);
    notes(&mut page, verdicts);
    broken(&mut page, verdicts);
    page.push_str("\n## The faults\n\n");
    for fault in FAULTS.iter().filter(|fault| verdicts.iter().any(|verdict| verdict.fault == fault.name)) {
        let _ = writeln!(page, "- **{}**: {}", fault.name, fault.sentence);
    }
    let _ = write!(page, "\n{NOT_PROMISED}");
    page
}

fn row(verdict: &Verdict) -> String {
    let figures = &verdict.figures;
    let cells = [
        verdict.fault.to_owned(),
        verdict.setup.name().to_owned(),
        figures.acknowledged.to_string(),
        verdict.made.to_string(),
        figures.lost.to_string(),
        figures.doubled.to_string(),
        figures.reordered.to_string(),
        figures.gaps.values().sum::<usize>().to_string(),
        seconds(Some(figures.longest_silence)),
        seconds(verdict.served_again_after()),
        word(verdict).to_owned(),
    ];
    format!("| {} |", cells.join(" | "))
}

/// What the columns have no room for.
fn notes(page: &mut String, verdicts: &[Verdict]) {
    let noted =
        verdicts.iter().filter_map(|verdict| Some((verdict, verdict.note.as_ref().or(verdict.impossible.as_ref())?)));
    for (number, (verdict, note)) in noted.enumerate() {
        if number == 0 {
            page.push_str("\n### Further\n\n");
        }
        let _ = writeln!(page, "- **{}** on {}: {note}.", verdict.fault, verdict.setup.name());
    }
}

fn broken(page: &mut String, verdicts: &[Verdict]) {
    for verdict in verdicts.iter().filter(|verdict| !verdict.is_kept()) {
        let _ = write!(page, "\n### Broken: {} on {}\n\n", verdict.fault, verdict.setup.name());
        for problem in &verdict.problems {
            let _ = writeln!(page, "- {}", problem.lines().next().unwrap_or_default());
        }
    }
}

fn word(verdict: &Verdict) -> &'static str {
    match (&verdict.impossible, verdict.is_kept()) {
        (Some(_), _) => "not made",
        (None, true) => "kept",
        (None, false) => "BROKEN",
    }
}

fn seconds(time: Option<Duration>) -> String {
    time.map_or_else(|| "–".to_owned(), |time| format!("{:.2} s", time.as_secs_f64()))
}
