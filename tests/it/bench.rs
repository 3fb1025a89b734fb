//! The load tool measures real servers: the suite starts them, loads them, and writes its report.

use std::fs;
use std::path::Path;
use std::time::Duration;

use serde_json::Value;
use tokio::process::Command;

use crate::support::within;

/// A quick part of the suite takes a few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

#[tokio::test]
async fn the_suite_measures_servers_of_its_own_and_writes_the_report() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let report = folder.path().join("performance.md");
    fs::write(&report, "<!-- by hand -->\nLarger buffers did not help.\n<!-- /by hand -->\n").expect("it is ours");
    let said =
        bench(folder.path(), &["suite", "--quick", "--only", "cases", "--json", "--report", &text(&report)]).await;

    let rows = said["results"]["parts"]["cases"].as_array().expect("a row for each set-up");
    assert_eq!(rows.iter().map(|row| &row["name"]).collect::<Vec<_>>(), ["embedded", "memory"]);
    for row in rows {
        let round = &row["rounds"][0];
        assert_eq!(round["server"]["errors"], serde_json::json!({}));
        let processes = round["server"]["servers"].as_array().expect("what they used").iter();
        assert_eq!(processes.map(|process| &process["name"]).collect::<Vec<_>>(), ["burble", "redis"]);
        assert!(round["yardsticks"]["single"]["figures"].is_array());
    }
    let budget = &said["budgets"][0];
    assert!(budget["compared"].as_f64().expect("a ratio to the yardstick") > 0.0, "{budget}");
    assert!(budget["met"].is_boolean());

    let page = fs::read_to_string(&report).expect("it was written");
    assert!(page.contains("\n| embedded | ") && page.contains("× single |"), "{page}");
    assert!(page.contains("Larger buffers did not help."), "what people wrote stays");
    assert!(!page.contains("What went wrong"), "{page}");
}

#[tokio::test]
async fn the_bare_round_trip_is_measured_on_a_redis_of_its_own() {
    let folder = tempfile::tempdir().expect("a temporary folder");
    let said = bench(folder.path(), &["limit", "redis", "--fsync", "--messages", "200", "--json"]).await;
    let report = &said["reports"][0];
    assert!(report["settings"].as_array().expect("a list").contains(&serde_json::json!(["appendfsync", "always"])));
    let counts: Vec<_> = report["latencies"].as_array().expect("a list").iter().map(|one| &one[1]["count"]).collect();
    assert_eq!(counts, [200, 200]);
}

/// What the tool says on standard output, where all went well.
async fn bench(folder: &Path, arguments: &[&str]) -> Value {
    let mut command = Command::new(env!("CARGO_BIN_EXE_burble-bench"));
    command.args(arguments).env("TMPDIR", folder).kill_on_drop(true);
    let done = within(PATIENCE, "the load tool ends", command.output()).await.expect("it starts");
    let errors = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{errors}\n{}", String::from_utf8_lossy(&done.stdout));
    serde_json::from_slice(&done.stdout).expect("one JSON document")
}

fn text(path: &Path) -> String {
    path.to_str().expect("a plain path").to_owned()
}
