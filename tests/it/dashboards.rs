//! What operators see: every panel shows something, every alert says what to do, and Prometheus's own tools find no fault.

use std::collections::BTreeSet;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use burble::metrics::METRICS;
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::support::prometheus::Prometheus;
use crate::support::{PATIENCE, Request, TestServer, TestUser, items, text};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");
const DASHBOARDS: [&str; 4] = ["service", "node", "log", "security"];
/// What Grafana puts in: the chosen jobs and nodes, and times that fit a scrape each second.
const VARIABLES: [(&str, &str); 4] =
    [("$job", "burble"), ("$instance", ".+"), ("$__rate_interval", "10s"), ("$__range", "1m")];

/// A query of a panel, and where it stands.
struct Query {
    place: String,
    expression: String,
}

fn read(path: impl AsRef<Path>) -> String {
    let path = Path::new(ROOT).join(path);
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn dashboard(name: &str) -> Value {
    serde_json::from_str(&read(format!("grafana/dashboards/{name}.json"))).expect("a dashboard is JSON")
}

fn panels(dashboard: &Value) -> impl Iterator<Item = &Value> {
    items(&dashboard["panels"]).iter().filter(|panel| panel["type"] != "row")
}

fn queries() -> Vec<Query> {
    let mut queries = Vec::new();
    for name in DASHBOARDS {
        for panel in panels(&dashboard(name)) {
            let place = format!("{name}, {}", text(&panel["title"]));
            let expressions = items(&panel["targets"]).iter().map(|target| text(&target["expr"]).to_owned());
            queries.extend(expressions.map(|expression| Query { place: place.clone(), expression }));
        }
    }
    queries
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric() && c != '_' && c != ':')
}

/// What the expressions of these rules ask of nodes, without what rules have recorded.
fn metrics(rules: &str) -> impl Iterator<Item = &str> {
    let code = rules.lines().filter(|line| {
        ["description:", "runbook_url:", "#", "- name:"].iter().all(|prose| !line.trim().starts_with(prose))
    });
    code.flat_map(words).filter(|word| ["burble_", "process_"].iter().any(|prefix| word.starts_with(prefix)))
}

fn substituted(expression: &str) -> String {
    VARIABLES.iter().fold(expression.to_owned(), |expression, (name, value)| expression.replace(name, value))
}

fn run(program: &str, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(program);
    child.args(arguments).current_dir(ROOT).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = child.spawn().unwrap_or_else(|error| panic!("scripts/need.sh installs {program}: {error}"));
    child.stdin.take().expect("it is piped").write_all(input.as_bytes()).expect("it reads what it is given");
    child.wait_with_output().expect("it ends")
}

fn passes(program: &str, arguments: &[&str], input: &str) -> String {
    let done = run(program, arguments, input);
    let said = String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned();
    assert!(done.status.success(), "{program} {arguments:?}:\n{said}");
    said
}

#[tokio::test]
async fn promtool_finds_no_fault_in_the_metrics_of_a_node() {
    let server = TestServer::start().await;
    assert_eq!(passes("promtool", &["check", "metrics"], &server.metrics().await), "");
}

#[test]
fn the_rules_are_valid_and_each_alert_fires_when_it_has_to_and_else_not() {
    let file = |name: &str| format!("deploy/prometheus/{name}");
    passes("promtool", &["check", "config", &file("prometheus.yml")], "");
    passes("promtool", &["test", "rules", &file("burble.test.yml"), &file("burble-days.test.yml")], "");
    let (rules, tests) =
        (read(file("burble.rules.yml")), read(file("burble.test.yml")) + &read(file("burble-days.test.yml")));
    let calm = tests.split("- name: ").nth(1).expect("the first is of a node that does well");
    let unseen: Vec<_> = metrics(&rules).filter(|name| !calm.contains(&format!("'{name}{{"))).collect();
    assert!(unseen.is_empty(), "a node that does well lacks these, so that nothing could fire: {unseen:?}");
    let alerts = rules.lines().filter_map(|line| line.trim().strip_prefix("- alert: "));
    let untested: Vec<_> =
        alerts.filter(|alert| !tests.contains(&format!("\"{alert}\", alertstate=\"firing\""))).collect();
    assert!(untested.is_empty(), "no test has these fire: {untested:?}");
}

#[test]
fn the_dashboards_are_those_of_their_script() {
    passes("python3", &["scripts/dashboards.py", "--check"], "");
}

#[test]
fn every_panel_says_what_it_shows_and_follows_the_variables() {
    for name in DASHBOARDS {
        let dashboard = dashboard(name);
        for variable in ["job", "instance"] {
            let listed = items(&dashboard["templating"]["list"]).iter().find(|it| it["name"] == variable);
            let listed = listed.unwrap_or_else(|| panic!("{name} has no ${variable}"));
            assert!(text(&listed["query"]["query"]).starts_with("label_values("), "{name} ${variable}");
            assert_eq!((&listed["multi"], &listed["includeAll"]), (&json!(true), &json!(true)), "{name} ${variable}");
        }
        let links = &items(&dashboard["links"])[0];
        assert_eq!((&links["keepTime"], &links["includeVars"]), (&json!(true), &json!(true)), "{name}");
        for panel in panels(&dashboard) {
            let place = format!("{name}, {}", panel["title"]);
            for field in [&panel["title"], &panel["description"], &panel["fieldConfig"]["defaults"]["unit"]] {
                assert!(
                    field.as_str().is_some_and(|field| !field.is_empty()),
                    "{place} lacks title, description or unit"
                );
            }
            assert_eq!(panel["datasource"]["uid"], "${datasource}", "{place}");
        }
    }
    for Query { place, expression } in queries() {
        let selectors = expression.matches('{').count();
        assert_eq!(
            expression.matches(r#"{job=~"$job", instance=~"$instance""#).count(),
            selectors,
            "{place}: {expression}"
        );
        let rates = expression.matches("rate(").count();
        let fitting = ["[$__rate_interval]", "[$__range]"].map(|range| expression.matches(range).count());
        assert_eq!(fitting.iter().sum::<usize>(), rates, "{place}: {expression}");
    }
}

#[test]
fn every_metric_is_on_a_dashboard() {
    let shown: String = queries().iter().map(|query| format!("{} ", query.expression)).collect();
    let words: BTreeSet<_> = shown.split(|c: char| !c.is_alphanumeric() && c != '_').collect();
    let is_shown =
        |name: &str| ["", "_bucket", "_sum", "_count"].iter().any(|end| words.contains(&*format!("{name}{end}")));
    let hidden: Vec<_> = METRICS.iter().map(|metric| metric.name).filter(|name| !is_shown(name)).collect();
    assert!(hidden.is_empty(), "on no dashboard: {hidden:?}");
}

/// Does a little of everything, over and over, on both nodes.
async fn live(one: &TestServer, two: &TestServer) {
    let (ann, bob) = (one.user("ann").await, two.user("bob").await);
    let mut listening = bob.session().await;
    let mut sending = ann.session().await;
    sending.create_channel("tea").await;
    ann.create_private("attic").await;
    for round in 0.. {
        listening.join("tea").await;
        sending.send("tea", &format!("round {round}")).await;
        listening.next_message().await;
        listening.leave("tea").await;
        sending.ok(json!({"op": "typing", "channel": "tea"})).await;
        listening.ok(json!({"op": "history", "channel": "tea"})).await;
        // Only of a private one it matters who is a member.
        sending.send("attic", "only for members").await;
        sign_in_with_the_wrong_password(&bob).await;
        bob.log_in().await.session().await.close().await;
        ann.log_in().await.get("/me").await.expect(200);
    }
}

async fn sign_in_with_the_wrong_password(user: &TestUser) {
    let body = json!({"name": user.name, "password": "not the right one"});
    Request::new("POST", "/login").json(&body).send(user.address).await.refused(401, "bad_credentials");
}

/// Those that show nothing now. One that Prometheus does not understand fails.
async fn empty(prometheus: &Prometheus, queries: Vec<Query>) -> Vec<Query> {
    let mut empty = Vec::new();
    for query in queries {
        let values = prometheus.ask(&substituted(&query.expression)).await;
        if !values.iter().any(|value| value.is_finite()) {
            empty.push(query);
        }
    }
    empty
}

#[tokio::test]
async fn every_panel_shows_something_while_two_nodes_are_at_work() {
    let (one, two) = TestServer::pair().await;
    let prometheus = Prometheus::scraping(&[&one, &two]).await;
    let all_show = async {
        let deadline = Instant::now() + PATIENCE * 4;
        let mut left = queries();
        while !left.is_empty() {
            left = empty(&prometheus, left).await;
            let places: Vec<_> = left.iter().map(|query| format!("{}: {}", query.place, query.expression)).collect();
            assert!(Instant::now() < deadline, "these show nothing:\n{}", places.join("\n"));
        }
    };
    tokio::select! {
        () = live(&one, &two) => unreachable!("it goes on for ever"),
        () = all_show => {}
    }
    for name in DASHBOARDS {
        for annotation in items(&dashboard(name)["annotations"]["list"]) {
            prometheus.ask(&substituted(text(&annotation["expr"]))).await;
        }
    }
}

#[tokio::test]
async fn every_alert_is_of_known_metrics_and_says_how_bad_it_is_and_what_to_do() {
    let server = TestServer::start().await;
    let prometheus = Prometheus::scraping(&[&server]).await;
    let (page, guide) = (server.metrics().await + "up 1", read("docs/operations.md"));
    let exported: BTreeSet<_> = page.lines().filter_map(|line| line.split(['{', ' ']).next()).collect();
    let rules = prometheus.rules().await;
    let recorded: BTreeSet<_> =
        rules.iter().filter(|it| it["type"] == "recording").map(|it| text(&it["name"])).collect();
    for rule in &rules {
        let (name, expression) = (text(&rule["name"]), text(&rule["query"]));
        let asked = words(expression).filter(|word| ["burble_", "process_"].iter().any(|part| word.contains(part)));
        let unknown: Vec<_> = asked.filter(|word| !exported.contains(word) && !recorded.contains(word)).collect();
        assert!(unknown.is_empty(), "{name} is of what there is not: {unknown:?}");
        if rule["type"] != "alerting" {
            continue;
        }
        assert!(["page", "ticket"].contains(&text(&rule["labels"]["severity"])), "{name}: {}", rule["labels"]);
        let annotations = &rule["annotations"];
        assert!(!text(&annotations["summary"]).is_empty(), "{name} has no summary");
        assert!(text(&annotations["description"]).contains("$value"), "{name} does not say how bad it is");
        assert_eq!(annotations["runbook_url"], format!("docs/operations.md#{}", name.to_lowercase()));
        assert!(guide.contains(&format!("\n### {name}\n")), "docs/operations.md has no section {name}");
    }
}

#[tokio::test]
async fn what_the_process_shows_is_in_the_guide() {
    let (page, guide) = (TestServer::start().await.metrics().await, read("docs/operations.md"));
    let names = page.lines().filter_map(|line| line.strip_prefix("# HELP ")?.split(' ').next());
    let untold: Vec<_> = names.filter(|name| !guide.contains(&format!("`{name}`"))).collect();
    assert!(untold.is_empty(), "not in docs/operations.md: {untold:?}");
}
