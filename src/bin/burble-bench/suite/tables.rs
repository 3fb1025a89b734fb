//! The table of each part. Pure: no I/O.

use std::collections::BTreeSet;
use std::fmt::Write;

use super::columns::{Column, Of, columns};
use super::results::Row;
use crate::cli::{Mode, Part};

/// The rows of a part as a Markdown table.
pub(super) fn table(part: Part, rows: &[Row]) -> String {
    match part {
        Part::Load => by_rate(rows),
        _ => by_row(part, rows),
    }
}

fn by_row(part: Part, rows: &[Row]) -> String {
    let cell = |column: &Column, row: &Row| match column.of {
        Of::Server => row.value(column.figure),
        Of::Yardstick(mode) => row.yardstick(mode, column.figure),
        Of::Ratio(mode) => row.ratio(mode, column.figure),
    };
    let columns: Vec<&Column> =
        columns(part).iter().filter(|column| rows.iter().any(|row| cell(column, row).is_some())).collect();
    let mut lines = head("", columns.iter().map(|column| column.head.to_owned()));
    for row in rows {
        let cells = columns.iter().map(|column| shown(cell(column, row)));
        line(&mut lines, &row.name, cells);
    }
    lines
}

/// A row for each rate that was tried, and a pair of columns for each set-up and yardstick.
fn by_rate(rows: &[Row]) -> String {
    let mut all: Vec<_> = rows.iter().map(|row| (row.name.as_str(), row.by_rate(None))).collect();
    all.extend(rows.iter().map(|row| ("single", row.by_rate(Some(Mode::Single)))));
    all.retain(|(_, by_rate)| !by_rate.is_empty());
    let rates: BTreeSet<u32> = all.iter().flat_map(|(_, by_rate)| by_rate.keys().copied()).collect();
    let heads = all.iter().flat_map(|(name, _)| [format!("{name} p50, ms"), format!("{name} p99, ms")]);
    let mut lines = head("messages/s", heads);
    for rate in rates {
        let cells = all.iter().flat_map(|(_, by_rate)| {
            let found = by_rate.get(&rate);
            [shown(found.map(|(p50, _)| *p50)), shown(found.map(|(_, p99)| *p99))]
        });
        line(&mut lines, &rate.to_string(), cells);
    }
    lines
}

fn head(corner: &str, heads: impl Iterator<Item = String>) -> String {
    let heads: Vec<String> = heads.collect();
    format!("| {corner} | {} |\n|---|{}\n", heads.join(" | "), "--:|".repeat(heads.len()))
}

fn line(lines: &mut String, name: &str, cells: impl Iterator<Item = String>) {
    let cells: Vec<String> = cells.collect();
    writeln!(lines, "| {name} | {} |", cells.join(" | ")).expect("a String takes everything");
}

fn shown(value: Option<f64>) -> String {
    value.map_or_else(|| "–".to_owned(), number)
}

/// Three digits that count, thousands apart: `1,234,568`, `98.8`, `0.0123`.
pub(super) fn number(value: f64) -> String {
    let size = value.abs();
    if size >= 100.0 {
        return in_thousands(value);
    }
    let decimals = [10.0, 1.0, 0.1, 0.01].iter().position(|bound| size >= *bound).map_or(4, |at| at + 1);
    let text = format!("{value:.decimals$}");
    if text.bytes().all(|byte| matches!(byte, b'0' | b'.')) { "0".to_owned() } else { text }
}

fn in_thousands(value: f64) -> String {
    let digits = format!("{value:.0}");
    let mut text = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && digit.is_ascii_digit() && (digits.len() - at) % 3 == 0 && !text.ends_with('-') {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::suite::results::tests::row;

    #[test]
    fn a_table_has_the_columns_that_have_values() {
        let table = table(Part::Fanout, &[row("200", &[(50.0, 100.0)])]);
        let expected =
            "|  | deliveries, /s | single, /s | × single |\n|---|--:|--:|--:|\n| 200 | 50.0 | 100 | 0.500 |\n";
        assert_eq!(table, expected);
    }

    #[test]
    fn numbers_have_three_digits_that_count() {
        let numbers = [1_234_567.8, 1000.0, 999.6, 98.76, 5.0, 0.4567, 0.01234, 0.0, -1.5, -1234.0];
        let texts = ["1,234,568", "1,000", "1,000", "98.8", "5.00", "0.457", "0.0123", "0", "-1.50", "-1,234"];
        assert_eq!(numbers.map(number), texts);
    }
}
