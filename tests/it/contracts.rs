//! The documents that programs read say what the server does, and all of it.

use std::collections::{BTreeMap, BTreeSet};

use burble::metrics::METRICS;
use burble::protocol::Command;
use http::StatusCode;
use serde_json::{Value, json};

use crate::support::user::PASSWORD;
use crate::support::{Document, Session, TestServer, TestUser, items, text};

async fn served(server: &TestServer, path: &str) -> Document {
    Document(server.get(path).await.expect(200))
}

async fn both(server: &TestServer) -> [Document; 2] {
    [served(server, "/openapi.json").await, served(server, "/asyncapi.json").await]
}

fn keys(object: &Value) -> BTreeSet<&str> {
    object.as_object().expect("an object").keys().map(String::as_str).collect()
}

/// What a metric's label may say, which is all there is of its kind.
fn label(metric: &str, label: &str) -> BTreeSet<&'static str> {
    let metric = METRICS.iter().find(|row| row.name == metric).expect("a metric");
    let (_, values) = metric.labels.iter().find(|(name, _)| *name == label).expect("a label");
    values.iter().copied().collect()
}

/// Code and status of every error, as the server's source pairs them.
fn errors() -> BTreeMap<&'static str, u16> {
    let status = |name: &str| {
        let is_named = |status: &StatusCode| {
            status.canonical_reason().is_some_and(|reason| reason.to_uppercase().replace(' ', "_") == name)
        };
        let found = (400..600).filter_map(|number| StatusCode::from_u16(number).ok()).find(is_named);
        found.unwrap_or_else(|| panic!("no status is named {name}")).as_u16()
    };
    let rows = include_str!("../../src/error.rs").split("=> (\"").skip(1);
    let row = |row: &'static str| {
        let (code, rest) = row.split_once("\", StatusCode::")?;
        Some((code, status(rest.split_once(')')?.0)))
    };
    rows.filter_map(row).collect()
}

/// The first two cells of a table's rows whose first is quoted.
fn table(description: &Value) -> BTreeMap<&str, &str> {
    let rows = text(description).lines().filter_map(|line| line.strip_prefix("| `")?.split_once("` | "));
    rows.map(|(code, rest)| (code, rest.split(" |").next().unwrap_or_default())).collect()
}

#[tokio::test]
async fn the_documents_are_of_this_version_and_agree() {
    let server = TestServer::start().await;
    let [openapi, asyncapi] = both(&server).await.map(|Document(document)| document);
    for document in [&openapi, &asyncapi] {
        assert_eq!(document["info"]["version"], env!("CARGO_PKG_VERSION"));
    }
    let [http, socket] = [&openapi, &asyncapi].map(|document| &document["components"]["schemas"]);
    let shared: Vec<_> = keys(http).intersection(&keys(socket)).copied().collect();
    assert!(shared.contains(&"Message"), "{shared:?}");
    for name in shared {
        assert_eq!(http[name], socket[name], "{name}");
    }
}

#[tokio::test]
async fn the_documents_know_every_error_with_its_status() {
    let server = TestServer::start().await;
    let errors = errors();
    assert_eq!(errors.keys().copied().collect::<BTreeSet<_>>(), label("burble_command_errors_total", "code"));
    for Document(document) in both(&server).await {
        let schema = &document["components"]["schemas"]["ErrorCode"];
        let listed: BTreeSet<_> = items(&schema["enum"]).iter().map(text).collect();
        assert_eq!(listed, errors.keys().copied().collect());
        let told: BTreeMap<_, _> =
            table(&schema["description"]).into_iter().map(|(k, v)| (k, v.parse().ok())).collect();
        assert_eq!(told, errors.iter().map(|(code, status)| (*code, Some(*status))).collect());
    }
}

#[tokio::test]
async fn every_refusal_stands_under_the_status_of_its_code() {
    let server = TestServer::start().await;
    let openapi = served(&server, "/openapi.json").await;
    let errors = errors();
    for (call, operation) in operations(&openapi) {
        for (status, answer) in operation["responses"].as_object().expect("answers") {
            let schema = &openapi.resolve(answer)["content"]["application/json"]["schema"];
            let codes = schema.pointer("/allOf/1/properties/error/properties/code/enum");
            assert_eq!(codes.is_some(), status.as_str() >= "400", "{call} {status}");
            for code in codes.map_or(&[][..], items) {
                assert_eq!(errors[text(code)].to_string(), *status, "{call} {code}");
            }
        }
    }
}

#[tokio::test]
async fn the_documents_know_every_route_command_event_and_close_code() {
    let server = TestServer::start().await;
    let [openapi, asyncapi] = both(&server).await.map(|Document(document)| document);
    let mut routes = label("burble_http_request_seconds", "route");
    routes.remove("other");
    assert_eq!(keys(&openapi["paths"]), routes);

    let messages = &asyncapi["channels"]["ws"]["messages"];
    let of = |kind: &str| keys(messages).into_iter().filter_map(|name| name.strip_prefix(kind)).collect();
    let ops: BTreeSet<_> = Command::OPS.into();
    assert_eq!(ops, of("command."));
    let received = |(_, operation): &(&String, &Value)| operation["action"] == "receive";
    let operations = asyncapi["operations"].as_object().expect("operations").iter().filter(received);
    assert_eq!(operations.map(|(name, _)| name.as_str()).collect::<BTreeSet<_>>(), ops);
    let events: BTreeSet<String> = events().into_iter().filter(|event| !["ok", "error"].contains(&&**event)).collect();
    assert_eq!(events.iter().map(String::as_str).collect::<BTreeSet<_>>(), of("event."));

    let mut closes = label("burble_sessions_closed_total", "code");
    closes.remove("gone");
    let told: BTreeSet<_> = table(&asyncapi["channels"]["ws"]["description"]).into_keys().collect();
    assert_eq!(told, closes);
}

/// Every `ev`, as the server's source names them; `message` is written by hand there.
fn events() -> Vec<String> {
    let source = include_str!("../../src/protocol/event.rs");
    let (_, rest) = source.split_once("pub enum Event<'a> {\n").expect("the events");
    let (body, _) = rest.split_once("\n}\n").expect("their end");
    let variants = body.lines().filter_map(|line| line.strip_prefix("    ")?.strip_suffix(" {"));
    let variants = variants.filter(|name| name.starts_with(char::is_uppercase)).chain(["Message"]);
    variants.map(snake_case).collect()
}

fn snake_case(name: &str) -> String {
    let underscored = name.replace(char::is_uppercase, "_");
    let letters = underscored.chars().zip(name.chars());
    let letters = letters.flat_map(|(mark, letter)| (mark == '_').then_some('_').into_iter().chain([letter]));
    letters.collect::<String>().to_lowercase().trim_start_matches('_').to_owned()
}

#[tokio::test]
async fn every_example_is_as_its_schema_says() {
    let server = TestServer::start().await;
    let asyncapi = served(&server, "/asyncapi.json").await;
    for (name, message) in asyncapi.0["components"]["messages"].as_object().expect("messages") {
        for example in items(&message["examples"]) {
            asyncapi.check(&message["payload"], &example["payload"], name);
        }
    }
}

/// Each with its method and path.
fn operations(openapi: &Document) -> Vec<(String, &Value)> {
    let paths = openapi.0["paths"].as_object().expect("paths").iter();
    let methods = paths.flat_map(|(path, methods)| methods.as_object().into_iter().flatten().map(move |it| (path, it)));
    let methods = methods.filter(|(_, (method, _))| *method != "parameters");
    methods.map(|(path, (method, operation))| (format!("{} {path}", method.to_uppercase()), operation)).collect()
}

/// A request that is as the document says, and so is its answer.
async fn call(openapi: &Document, user: &TestUser, call: &str, body: Value, status: u16) -> Value {
    let (route, _) = call.split_once('?').unwrap_or((call, ""));
    let (_, operation) = operations(openapi).into_iter().find(|(known, _)| known == route).expect("a known route");
    if status != 400 && !body.is_null() {
        openapi.check(&operation["requestBody"]["content"]["application/json"]["schema"], &body, call);
    }
    let (method, path) = call.split_once(' ').expect("a method and a path");
    let request = user.request(method, &path.replace("{name}", "tea").replace("{user}", "bob"));
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer = request.send(user.address).await.expect(status);
    let documented = openapi.resolve(&operation["responses"][status.to_string()]);
    assert!(documented["description"].is_string(), "{call} is not known to answer {status}");
    match documented.get("content") {
        Some(content) => openapi.check(&content["application/json"]["schema"], &answer, call),
        None => assert!(answer.is_null(), "{call} is known to answer nothing, not {answer}"),
    }
    answer
}

#[tokio::test]
async fn every_route_answers_as_the_document_says() {
    let server = TestServer::start().await;
    let openapi = served(&server, "/openapi.json").await;
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
        call(&openapi, &ann, route, body, status).await;
        called.insert(route.split('?').next().unwrap_or_default().to_owned());
    }
    let known: BTreeSet<_> = operations(&openapi).into_iter().map(|(call, _)| call).collect();
    assert_eq!(called, known);
}

/// A command and its answer, both as the document says.
async fn command(asyncapi: &Document, session: &mut Session, command: Value) -> Value {
    let op = text(&command["op"]).to_owned();
    let operation = &asyncapi.0["operations"][&op];
    let payload = |message: &Value| asyncapi.resolve(message)["payload"].clone();
    asyncapi.check(&payload(&operation["messages"][0]), &command, &op);
    let answer = session.ask(command).await;
    let answers = items(&operation["reply"]["messages"]);
    let known = answers.iter().find(|message| asyncapi.resolve(message)["name"] == answer["ev"]);
    asyncapi.check(&payload(known.expect("a known answer")), &answer, &op);
    answer
}

/// The next events, each as the document says.
async fn events_come(asyncapi: &Document, session: &mut Session, events: &[&str]) {
    for event in events {
        let came = session.next_of(event).await;
        check_event(asyncapi, &came);
    }
}

fn check_event(asyncapi: &Document, event: &Value) {
    let name = format!("event.{}", text(&event["ev"]));
    asyncapi.check(&asyncapi.0["components"]["messages"][&name]["payload"], event, &name);
}

#[tokio::test]
async fn the_socket_speaks_as_the_document_says() {
    let server = TestServer::start().await;
    let asyncapi = served(&server, "/asyncapi.json").await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    check_event(&asyncapi, &ann.welcome);
    for channel in ["tea", "coffee"] {
        ann.create_channel(channel).await;
    }
    let since = json!({"tea": "0-0", "milk": "0-0"});
    let hello = json!({"op": "send", "channel": "tea", "text": "hello", "data": {}, "cid": "c-1", "reply_to": "1-1"});
    let walk: [(Value, &[&str]); 12] = [
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
    let mut said = BTreeSet::new();
    for (words, events) in walk {
        said.insert(text(&words["op"]).to_owned());
        command(&asyncapi, &mut ann, words).await;
        events_come(&asyncapi, &mut ann, events).await;
    }
    assert_eq!(said, Command::OPS.map(str::to_owned).into());
    command(&asyncapi, &mut bob, json!({"op": "typing", "channel": "tea"})).await;
    events_come(&asyncapi, &mut ann, &["typing"]).await;
    ann.delete("/channels/tea").await.expect(204);
    events_come(&asyncapi, &mut ann, &["left"]).await;
    server.signal("TERM");
    events_come(&asyncapi, &mut ann, &["reconnect"]).await;
}
