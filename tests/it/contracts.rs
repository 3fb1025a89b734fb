//! The documents that programs read say what the server does, and all of it. What each test of this suite hears is
//! judged by them: see `support/contract.rs`.

use std::collections::BTreeSet;

use burble::metrics::METRICS;
use burble::protocol::Command;
use serde_json::{Value, json};

use crate::support::contract::{asyncapi, openapi};
use crate::support::user::PASSWORD;
use crate::support::{Session, TestServer, TestUser, text};

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// What a metric's label may say, which is all there is of its kind.
fn label(metric: &str, label: &str) -> BTreeSet<&'static str> {
    let metric = METRICS.iter().find(|row| row.name == metric).expect("a metric");
    let (_, values) = metric.labels.iter().find(|(name, _)| *name == label).expect("a label");
    values.iter().copied().collect()
}

#[tokio::test]
async fn the_documents_are_served_as_they_are_checked_in() {
    let server = TestServer::start().await;
    for (path, document) in [("/openapi.json", openapi()), ("/asyncapi.json", asyncapi())] {
        let served = server.get(path).await.expect(200);
        assert_eq!(served, document.json);
        assert_eq!(served["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
}

#[test]
fn the_documents_agree() {
    let [http, socket] = [openapi(), asyncapi()].map(|document| &document.json["components"]["schemas"]);
    let shared: Vec<_> = keys(http).intersection(&keys(socket)).copied().collect();
    assert!(shared.contains(&"Message"), "{shared:?}");
    for name in shared {
        assert_eq!(http[name], socket[name], "{name}");
    }
}

#[test]
fn the_metrics_know_every_route_and_close_code() {
    let mut routes = label("burble_http_request_seconds", "route");
    routes.remove("other");
    assert_eq!(keys(&openapi().json["paths"]), routes);
    let mut closes = label("burble_sessions_closed_total", "code");
    closes.remove("gone");
    let rows = text(&asyncapi().json["channels"]["ws"]["description"]).lines();
    assert_eq!(rows.filter_map(|line| line.strip_prefix("| `")?.split('`').next()).collect::<BTreeSet<_>>(), closes);
}

/// Each with its method and path.
fn operations() -> BTreeSet<String> {
    let paths = openapi().json["paths"].as_object().expect("paths").iter();
    let calls = paths.flat_map(|(path, methods)| keys(methods).into_iter().map(move |method| (method, path)));
    calls.map(|(method, path)| format!("{} {path}", method.to_uppercase())).collect()
}

async fn call(user: &TestUser, call: &str, body: Value, status: u16) {
    let (method, path) = call.split_once(' ').expect("a method and a path");
    let request = user.request(method, &path.replace("{name}", "tea").replace("{user}", "bob"));
    let request = if body.is_null() { request } else { request.json(&body) };
    request.send(user.address).await.expect(status);
}

#[tokio::test]
async fn every_route_answers_as_the_document_says() {
    let server = TestServer::start().await;
    let (ann, _) = (server.user("ann").await, server.user("bob").await);
    let carol = json!({"name": "carol", "password": PASSWORD});
    let tea = json!({"name": "tea", "kind": "public", "topic": "leaves"});
    let hello = json!({"text": "hello", "data": {"warm": true}, "cid": "c-1", "reply_to": "1-1"});
    let walk = [
        ("POST /signup", carol.clone(), 201),
        ("POST /signup", carol.clone(), 409),
        ("POST /signup", json!({}), 400),
        ("POST /login", carol, 200),
        ("POST /login", json!({"name": "carol", "password": "a wrong one"}), 401),
        ("POST /refresh", json!({"refresh_token": ann.refresh}), 200),
        ("POST /refresh", json!({"refresh_token": "no such"}), 401),
        ("GET /me", Value::Null, 200),
        ("PUT /me/password", json!({"current": "a wrong one", "new": "a better one"}), 401),
        ("PUT /me/password", json!({"current": PASSWORD, "new": "a better one"}), 204),
        ("POST /channels", tea.clone(), 201),
        ("POST /channels", tea, 409),
        ("GET /channels", Value::Null, 200),
        ("GET /channels?limit=0", Value::Null, 400),
        ("GET /channels/{name}", Value::Null, 200),
        ("PATCH /channels/{name}", json!({"topic": "green"}), 200),
        ("PUT /channels/{name}/members/{user}", json!({"role": "member"}), 200),
        ("GET /channels/{name}/members?limit=1", Value::Null, 200),
        ("DELETE /channels/{name}/members/{user}", Value::Null, 204),
        ("DELETE /channels/{name}/members/{user}", Value::Null, 404),
        ("POST /channels/{name}/messages", hello.clone(), 201),
        ("POST /channels/{name}/messages", hello, 200),
        ("POST /channels/{name}/messages", json!({"text": "bye", "cid": "c-1"}), 409),
        ("POST /channels/{name}/messages", json!({"text": "bye"}), 201),
        ("GET /channels/{name}/messages?limit=1", Value::Null, 200),
        ("GET /channels/{name}/messages?after=0-0", Value::Null, 200),
        ("GET /channels/{name}", Value::Null, 200),
        ("DELETE /channels/{name}", Value::Null, 204),
        ("GET /channels/{name}", Value::Null, 404),
        ("GET /ws", Value::Null, 400),
        ("GET /address", Value::Null, 200),
        ("GET /openapi.json", Value::Null, 200),
        ("GET /asyncapi.json", Value::Null, 200),
        ("POST /logout", json!({"everywhere": true}), 204),
        ("GET /me", Value::Null, 401),
    ];
    let mut called = BTreeSet::new();
    for (route, body, status) in walk {
        call(&ann, route, body, status).await;
        called.insert(route.split('?').next().unwrap_or_default().to_owned());
    }
    assert_eq!(called, operations());
}

/// The next events are of these kinds.
async fn come(session: &mut Session, events: &[&'static str], seen: &mut BTreeSet<&'static str>) {
    for &event in events {
        session.next_of(event).await;
        seen.insert(event);
    }
}

#[tokio::test]
async fn the_socket_speaks_as_the_document_says() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    for channel in ["tea", "coffee"] {
        ann.create_channel(channel).await;
    }
    let since = json!({"tea": "0-0", "milk": "0-0"});
    let hello = json!({"op": "send", "channel": "tea", "text": "hello", "data": {}, "cid": "c-1", "reply_to": "1-1"});
    let walk: [(Value, &[&'static str]); 12] = [
        (json!({"op": "ping"}), &[]),
        (json!({"op": "join", "channel": "tea", "since": "0-0"}), &["caught_up"]),
        (hello.clone(), &["message"]),
        (hello, &[]),
        (json!({"op": "history", "channel": "tea", "limit": 1}), &[]),
        (json!({"op": "resume", "since": since}), &["message", "caught_up"]),
        (json!({"op": "join", "channel": "coffee", "since": "1-1"}), &["gap", "caught_up"]),
        (json!({"op": "leave", "channel": "coffee"}), &[]),
        (json!({"op": "leave", "channel": "coffee"}), &[]),
        (json!({"op": "join", "channel": "milk"}), &[]),
        (json!({"op": "typing", "channel": "tea"}), &[]),
        (json!({"op": "auth", "token": ann.access}), &["welcome"]),
    ];
    let (mut said, mut seen) = (BTreeSet::new(), BTreeSet::new());
    for (words, events) in walk {
        said.insert(text(&words["op"]).to_owned());
        ann.ask(words).await;
        come(&mut ann, events, &mut seen).await;
    }
    assert_eq!(said, Command::OPS.map(str::to_owned).into());
    bob.ask(json!({"op": "typing", "channel": "tea"})).await;
    come(&mut ann, &["typing"], &mut seen).await;
    ann.delete("/channels/tea").await.expect(204);
    come(&mut ann, &["left"], &mut seen).await;
    server.signal("TERM");
    come(&mut ann, &["reconnect"], &mut seen).await;
    let known = keys(&asyncapi().json["components"]["messages"]);
    let known: BTreeSet<_> = known.into_iter().filter_map(|name| name.strip_prefix("event.")).collect();
    // That one takes as long as a token lives.
    assert_eq!(known.difference(&seen).collect::<Vec<_>>(), [&"expiring"]);
}
