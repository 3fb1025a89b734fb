//! The report as a page, most of it made anew each time. Pure but for what it tells of the machine.

use std::fmt::Write;

use super::budgets::judged;
use super::results::Results;
use super::tables::number;
use super::{charts, tables};
use crate::cli::{Part, SuiteArgs};
use crate::proc::Machine;
use crate::report::Report;

/// What people write on the page, between these, stays.
const BY_HAND: &str = "<!-- by hand -->";
const BY_HAND_END: &str = "<!-- /by hand -->";
const BY_HAND_FIRST: &str = "\n## What was tried and did not help\n\nNothing yet.\n";

const WHAT_IT_IS: &str = "\
# Performance

What Burble costs, and how far it is from what the machine allows. `make bench` makes this page again: all of it but
the part between the marks `by hand`.

The load tool and all servers share the same cores, so absolute figures say little about another machine; ratios say
more. They are to the **yardstick**, a bare server in the load tool: it upgrades, parses no JSON, keeps nothing, and
writes the same frames, framed once, to every member. **single** makes one write per socket and message, **batch** puts
what is waiting into one write. It is run right before the server in each round; each figure is the median of the rounds,
each ratio the median of the ratios of the rounds. CPU counts until the servers have settled after the load, so that
what is put off is in it.
";

const QUICK: &str = "
**This was a quick run**: once each, and with smaller loads than the budgets speak of.
";

/// What the page needs beside the results.
pub(super) struct Frame<'a> {
    /// The name of the folder with the charts.
    pub(super) folder: &'a str,
    pub(super) drawn: &'a [(Part, String)],
    /// The page as it was.
    pub(super) before: &'a str,
    pub(super) args: &'a SuiteArgs,
}

/// The whole page.
pub(super) fn page(results: &Results, frame: &Frame<'_>) -> String {
    let quick = if frame.args.quick { QUICK } else { "" };
    let mut page = format!("{WHAT_IT_IS}{quick}\n{}\n{}", budgets(results), machine(results, frame.args));
    let _ = write!(page, "\n{BY_HAND}{}{BY_HAND_END}\n", by_hand(frame.before));
    for (part, rows) in &results.parts {
        let (title, words) = words(*part);
        let _ = write!(page, "\n## {title}\n\n{}\n\n", wrapped(words));
        if let Some((_, caption)) = frame.drawn.iter().find(|(drawn, _)| drawn == part) {
            let _ = write!(page, "![{caption}]({}/{}.svg)\n\n", frame.folder, charts::file_name(*part));
        }
        let _ = write!(page, "{}\n```sh\n", tables::table(*part, rows));
        for row in rows {
            let rounds = row.rounds.len();
            let _ = writeln!(page, "burble-bench {} # {}, {} on {}", row.command, row.name, times(rounds), row.set_up);
        }
        page.push_str("```\n");
    }
    page + &problems(results)
}

/// The same without what stands around it, for a terminal.
pub(super) fn findings(results: &Results) -> String {
    let mut text = budgets(results);
    for (part, rows) in &results.parts {
        let _ = write!(text, "\n## {}\n\n{}", words(*part).0, tables::table(*part, rows));
    }
    text + &problems(results)
}

fn budgets(results: &Results) -> String {
    let mut table = "## Budgets\n\n| what | measured | compared | budget | met |\n|---|--:|--:|--:|---|\n".to_owned();
    for judged in judged(results) {
        let compared = judged.compared.map_or_else(String::new, |compared| match judged.budget.contains("more") {
            true => format!("{compared:+.2} {}", judged.unit),
            false => format!("{compared:.2} ×"),
        });
        let measured = format!("{} {}", number(judged.measured), judged.unit);
        let met = if judged.met { "yes" } else { "**no**" };
        let _ = writeln!(table, "| {} | {} | {compared} | {} | {met} |", judged.what, measured.trim(), judged.budget);
    }
    table
}

fn machine(results: &Results, args: &SuiteArgs) -> String {
    let Machine { cores, cpu, memory_mib, kernel, build } = Machine::here();
    let mut text = "## The machine\n\n| | |\n|---|---|\n".to_owned();
    let _ = writeln!(text, "| CPU | {cores} cores, {cpu}; load tool and servers share them |");
    let _ = writeln!(text, "| memory | {memory_mib} MiB |\n| kernel | Linux {kernel} |");
    let _ = writeln!(text, "| data on | {} |", results.file_system);
    let _ = writeln!(text, "| build | Burble {}, load tool: {build} build |", env!("CARGO_PKG_VERSION"));
    for program in ["redis-server", "postgres"] {
        let _ = writeln!(text, "| {program} | {} |", version(program));
    }
    let quick = if args.quick { " --quick" } else { "" };
    let _ = write!(text, "\n```sh\nburble-bench suite{quick} --report docs/performance.md\n```\n");
    text
}

fn version(program: &str) -> String {
    let said = std::process::Command::new(program).arg("--version").output();
    let said = said.map(|said| String::from_utf8_lossy(&said.stdout).trim().to_owned());
    said.ok().filter(|said| !said.is_empty()).unwrap_or_else(|| "not on the PATH".to_owned())
}

/// What people wrote on the page before.
fn by_hand(before: &str) -> &str {
    let found = before.split_once(BY_HAND).and_then(|(_, rest)| rest.split_once(BY_HAND_END));
    found.map_or(BY_HAND_FIRST, |(by_hand, _)| by_hand)
}

/// Loads that failed, and runs in which a server did not keep what it promises. There should be none.
fn problems(results: &Results) -> String {
    let mut text = String::new();
    for failure in &results.failures {
        let _ = writeln!(text, "- {}", failure.lines().next().unwrap_or_default());
    }
    for (part, rows) in &results.parts {
        for row in rows {
            let reports = row.rounds.iter().flat_map(|round| round.yardsticks.values().chain([&round.server]));
            for (kind, seen) in reports.flat_map(|report: &Report| &report.errors) {
                let _ = writeln!(text, "- {part:?}, {}: {} × {kind}; the first: {}", row.name, seen.count, seen.first);
            }
        }
    }
    if text.is_empty() { text } else { format!("\n## What went wrong\n\n{text}") }
}

fn times(rounds: usize) -> String {
    if rounds == 1 { "once".to_owned() } else { format!("{rounds} times") }
}

/// At most this many characters a line, as the other pages have it.
const LINE_CHARS_MAX: usize = 119;

fn wrapped(words: &str) -> String {
    let (mut text, mut chars) = (String::new(), 0);
    for word in words.split_whitespace() {
        let length = word.chars().count();
        if chars > 0 {
            let fits = chars + 1 + length <= LINE_CHARS_MAX;
            text.push(if fits { ' ' } else { '\n' });
            chars = if fits { chars + 1 } else { 0 };
        }
        text.push_str(word);
        chars += length;
    }
    text
}

/// The title of a part, and what it is about.
fn words(part: Part) -> (&'static str, &'static str) {
    match part {
        Part::Redis => (
            "Redis alone",
            "The bare round trip that every message makes: `XADD`, and a blocking read on another connection. No script, no \
             consumer group, no channel; **fsync** is `appendfsync always`.",
        ),
        Part::Cases => (
            "Cases",
            "A visit: connect, twice join, send and leave, each answer awaited, close. 20 at a time. **embedded** is what \
             `make run` starts: each message is on the disk before its `ok`.",
        ),
        Part::Fanout => (
            "Fan-out",
            "One channel, one sender that keeps 8 or 64 messages in flight, and many listeners, each of which has to get \
             every message, once and in order.",
        ),
        Part::Rooms => (
            "Rooms",
            "100 rooms of 10; messages are due at a fixed rate, whether the server keeps up or not, and latency counts from \
             when a message was due. The highest rate is the last one whose p99 stays below 50 ms, or below what it says.",
        ),
        Part::Load => (
            "Latency against load",
            "200 rooms of 20 at rising rates, up to the first whose p99 passes 50 ms: an open load, in which a pause of the \
             server shows in full.",
        ),
        Part::Durability => (
            "Durability",
            "The same loads, acknowledged from memory and from the disk. Rooms run at half of the highest rate above.",
        ),
        Part::Nodes => (
            "Nodes",
            "One, two and three nodes on one Redis and one Postgres. The members of each room are spread over all nodes, so \
             every node needs every message, and so are those who send. **rooms of 3** instead of 10 are where Redis has \
             most to do: with many listeners the sockets are full before.",
        ),
        Part::Idle => ("Quiet sessions", "Sessions that are joined to one of 100 channels, and quiet."),
        Part::Peak => (
            "Memory after a peak",
            "The server's memory after a few visits, at the peak of a load, and when all of its sessions are gone.",
        ),
        Part::Resume => (
            "Coming back",
            "The node is killed under all of its sessions; 100 messages are sent to each channel; then all sessions come \
             back at once, to the node that was started again or to another, and get what they missed.",
        ),
        Part::Channels => (
            "Channels",
            "1,000 messages per second, spread at random over few or many channels; each has one listener and had a message \
             before.",
        ),
        Part::Joins => ("Joining", "Join and leave, on channels where somebody else listens."),
        Part::History => ("History", "10 readers page through a channel from its end, 200 events a page."),
        Part::Start => (
            "Starting",
            "From the start of the process until `/readyz` says so, on the embedded set-up with the data of the load below. \
             After a crash the private Redis is still there, and is stopped and started first.",
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::suite::results::tests::row;

    #[test]
    fn what_was_written_by_hand_stays() {
        let rows = vec![row("1 → 200, 8 in flight", &[(50.0, 100.0)])];
        let results = Results { parts: BTreeMap::from([(Part::Fanout, rows)]), ..Results::default() };
        let args = SuiteArgs { quick: false, only: vec![], rounds: None, report: None, burble: None, folder: None };
        let made = |before| page(&results, &Frame { folder: "performance", drawn: &[], before, args: &args });
        let first = made("");
        assert!(first.contains("| 0.50 × | ≥ 1 × single | **no** |"), "{first}");
        let edited = first.replace("Nothing yet.", "Larger buffers.");
        assert_eq!(made(&edited), edited);
        assert!(!edited.contains("What went wrong"));
    }
}
