//! The rules of the house, read off the source tree: who imports whom, who speaks which language, which tables are
//! written down twice.

use std::fs;
use std::path::{Path, PathBuf};

use burble::{config, metrics};

/// The rooms, a row for each level, the lowest first. A room knows those of lower rows, and none of its own row.
const ROWS: &[&[&str]] = &[
    &["error", "finding"],
    &["model"],
    &["clock", "config", "metrics", "protocol", "systemd"],
    &["auth", "telemetry"],
    &["broker", "hub", "store"],
    &["chat"],
    &["session"],
    &["admin", "doctor", "http"],
    &["app"],
];

/// What only one room may speak: the crates, and the folders where they may be named.
const LANGUAGES: &[(&[&str], &[&str])] = &[
    (&["redis", "deadpool_redis"], &["src/broker", "src/bin/burble-bench/broker"]),
    (&["sea_orm", "sea_orm_migration", "sqlx", "migrations"], &["src/store", "migrations"]),
];

#[test]
fn imports_go_down_only() {
    let mut problems = Vec::new();
    for file in sources("src") {
        let Some(room) = room_of(&file) else { continue };
        let path = shown(&file);
        let Some(row) = row_of(&room) else {
            problems.push(format!("{path}: the room {room} is in no row of tests/it/house.rs"));
            continue;
        };
        for (line, known) in imports(&code(&file)) {
            match row_of(&known) {
                _ if known == room => {}
                None => problems.push(format!("{path}:{line}: crate::{known} is in no row of tests/it/house.rs")),
                Some(other) if other < row => {}
                Some(other) if other == row => {
                    problems.push(format!("{path}:{line}: {room} imports {known}, which is on its own row"));
                }
                Some(_) => problems.push(format!("{path}:{line}: {room} imports {known}, which goes up")),
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn every_module_of_the_library_has_its_row() {
    let lib = read("src/lib.rs");
    let modules = lib.lines().filter_map(|line| line.strip_prefix("pub mod ")?.strip_suffix(';'));
    let missing: Vec<_> = modules.filter(|module| row_of(module).is_none()).collect();
    assert!(missing.is_empty(), "in src/lib.rs, but in no row of tests/it/house.rs: {missing:?}");
}

#[test]
fn redis_and_sql_are_spoken_in_one_room_each() {
    let mut problems = Vec::new();
    for file in sources("src").into_iter().chain(sources("migrations")) {
        let path = shown(&file);
        for (line, text) in (1..).zip(code(&file).lines()) {
            for (crates, folders) in LANGUAGES {
                let allowed = folders.iter().any(|folder| path.starts_with(&format!("{folder}/")));
                let spoken = crates.iter().filter(|name| !allowed && names_crate(text, name));
                problems
                    .extend(spoken.map(|name| format!("{path}:{line}: {name} belongs into {}", folders.join(", "))));
            }
        }
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn env_example_is_complete() {
    let expected = config::env_example();
    assert!(read(".env.example") == expected, ".env.example differs from the settings; it must be:\n{expected}");
}

#[test]
fn the_table_of_settings_in_the_readme_is_the_one_of_the_code() {
    assert_table("README.md", "settings", &config::settings_markdown());
}

#[test]
fn the_table_of_metrics_in_the_operations_guide_is_the_one_of_the_code() {
    assert_table("docs/operations.md", "metrics", &metrics::metrics_markdown());
}

#[test]
fn every_metric_on_a_dashboard_exists() {
    let dashboards = files("grafana", "json");
    assert!(!dashboards.is_empty(), "there is no dashboard below grafana/");
    let mut problems = Vec::new();
    for file in dashboards {
        let (path, text) = (shown(&file), read(&shown(&file)));
        let names = text.match_indices("burble_").filter(|(at, _)| !text[..*at].ends_with(is_word));
        let names = names.map(|(at, _)| word(&text[at..]));
        problems.extend(names.filter(|name| !is_series(name)).map(|name| format!("{path}: there is no {name}")));
    }
    assert!(problems.is_empty(), "\n{}", problems.join("\n"));
}

#[test]
fn imports_are_found_in_every_form() {
    let code =
        "use crate::model::Ends;\nuse crate::{\n    error::{Error, Result},\n    hub,\n};\nlet x: crate::chat::Chat;";
    let found = |line, name: &str| (line, name.to_owned());
    assert_eq!(imports(code), [found(1, "model"), found(2, "error"), found(2, "hub"), found(6, "chat")]);
    assert!(names_crate("use redis::Value;", "redis") && names_crate("use redis as r;", "redis"));
    assert!(names_crate("fn f(v: &redis::Value) {}", "redis"));
    assert!(!names_crate("use deadpool_redis::Pool;", "redis") && !names_crate("use super::redis::X;", "redis"));
}

/// Fails where what stands between `<!-- name -->` and `<!-- /name -->` is not the table.
fn assert_table(path: &str, name: &str, table: &str) {
    let (begin, end) = (format!("<!-- {name} -->"), format!("<!-- /{name} -->"));
    let text = read(path);
    let found = text.split_once(&begin).and_then(|(_, rest)| rest.split_once(&end));
    let (found, _) = found.unwrap_or_else(|| panic!("{path} has no {begin} … {end}"));
    assert!(found.trim() == table.trim(), "{path}: what stands between {begin} and {end} must be:\n{table}");
}

/// Whether Prometheus has series of this name: a histogram is three of them, and none under its own name.
fn is_series(name: &str) -> bool {
    metrics::METRICS.iter().any(|metric| match name.strip_prefix(metric.name) {
        Some(suffix) if metric.kind == metrics::MetricKind::Histogram => {
            ["_bucket", "_sum", "_count"].contains(&suffix)
        }
        Some(suffix) => suffix.is_empty(),
        None => false,
    })
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn read(path: &str) -> String {
    fs::read_to_string(root().join(path)).unwrap_or_else(|error| panic!("{path}: {error}"))
}

/// All Rust files below a folder.
fn sources(folder: &str) -> Vec<PathBuf> {
    files(folder, "rs")
}

/// All files below a folder that end so, in a fixed order.
fn files(folder: &str, ending: &str) -> Vec<PathBuf> {
    let (mut folders, mut files) = (vec![root().join(folder)], Vec::new());
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display())) {
            let path = entry.expect("a folder can be listed").path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == ending) {
                files.push(path);
            }
        }
    }
    files.sort();
    files
}

/// The path from the root of the project, with `/` between its parts.
fn shown(file: &Path) -> String {
    let path = file.strip_prefix(root()).expect("the file lies in the project");
    path.iter().map(|part| part.to_string_lossy()).collect::<Vec<_>>().join("/")
}

/// The top module that a file belongs to; none for the binaries and the list of modules.
fn room_of(file: &Path) -> Option<String> {
    let path = shown(file);
    let room = path.strip_prefix("src/")?.split('/').next()?.trim_end_matches(".rs");
    (!["bin", "main", "lib"].contains(&room)).then(|| room.to_owned())
}

fn row_of(room: &str) -> Option<usize> {
    ROWS.iter().position(|row| row.contains(&room))
}

/// The text without comment lines, which stay as empty ones.
fn code(file: &Path) -> String {
    let text = fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
    let blanked = text.lines().map(|line| if line.trim_start().starts_with("//") { "" } else { line });
    blanked.collect::<Vec<_>>().join("\n")
}

/// Every module named behind `crate::`, with the line.
fn imports(code: &str) -> Vec<(usize, String)> {
    let mut found = Vec::new();
    for (at, prefix) in code.match_indices("crate::") {
        if code[..at].ends_with(is_word) || code[..at].ends_with('$') {
            continue;
        }
        let line = code[..at].matches('\n').count() + 1;
        let rest = &code[at + prefix.len()..];
        match rest.strip_prefix('{') {
            Some(group) => found.extend(first_words(group).into_iter().map(|word| (line, word))),
            None => found.push((line, word(rest))),
        }
    }
    found
}

/// The first word of each item of a `{…}` group; what is nested in an item does not count.
fn first_words(group: &str) -> Vec<String> {
    let (mut depth, mut words, mut at_item) = (0, Vec::new(), true);
    for (at, c) in group.char_indices() {
        match c {
            '}' if depth == 0 => break,
            '{' => depth += 1,
            '}' => depth -= 1,
            ',' if depth == 0 => at_item = true,
            c if at_item && is_word(c) => {
                words.push(word(&group[at..]));
                at_item = false;
            }
            _ => {}
        }
    }
    words
}

/// Whether a line names the crate: in a path, or in a `use` of all of it.
fn names_crate(line: &str, name: &str) -> bool {
    line.match_indices(name).any(|(at, _)| {
        let (before, after) = (&line[..at], &line[at + name.len()..]);
        let begins = !before.ends_with(is_word) && !before.ends_with("::");
        let used = before.trim_end().ends_with("use") && (after.starts_with(';') || after.starts_with(" as "));
        begins && (after.starts_with("::") || used)
    })
}

fn word(text: &str) -> String {
    text.chars().take_while(|c| is_word(*c)).collect()
}

fn is_word(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}
