//! What the tests knock with: real servers, a real Redis and Postgres, clients that keep a real client's state.

pub(crate) mod client;
pub(crate) mod contract;
pub(crate) mod crowd;
pub(crate) mod diagnosis;
pub(crate) mod http;
pub(crate) mod keeper;
pub(crate) mod ports;
pub(crate) mod postgres;
pub(crate) mod prometheus;
pub(crate) mod proxy;
pub(crate) mod redis;
pub(crate) mod server;
pub(crate) mod session;
pub(crate) mod setup;
pub(crate) mod tls;
pub(crate) mod token;
pub(crate) mod user;

use std::time::Duration;

use serde_json::Value;

pub(crate) use self::client::{Listener, Seen, Sender};
pub(crate) use self::http::{Answer, Request};
pub(crate) use self::server::TestServer;
pub(crate) use self::session::Session;
pub(crate) use self::user::TestUser;

/// No single step takes longer, or it has failed.
pub(crate) const PATIENCE: Duration = Duration::from_secs(10);

/// For what has many steps: a load, a crash in its midst.
pub(crate) const LONG_PATIENCE: Duration = Duration::from_secs(120);

/// Waits for something that gives no event: a metric, `/readyz`.
pub(crate) async fn eventually<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let deadline = tokio::time::Instant::now() + PATIENCE;
    while tokio::time::Instant::now() < deadline {
        if let Some(found) = look().await {
            return found;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("not within {PATIENCE:?}: {what}")
}

/// Waits for an event, but not for ever.
pub(crate) async fn within<T>(patience: Duration, what: &str, future: impl Future<Output = T>) -> T {
    match tokio::time::timeout(patience, future).await {
        Ok(value) => value,
        Err(_) => panic!("not within {patience:?}: {what}"),
    }
}

/// Sends a signal, by its name without `SIG`.
pub(crate) fn signal(pid: u32, name: &str) {
    let sent =
        std::process::Command::new("/bin/sh").args(["-c", "kill -\"$0\" \"$1\"", name, &pid.to_string()]).status();
    assert!(sent.expect("every machine has a shell").success(), "no process {pid} for SIG{name}");
}

/// A message as a listener is to receive it; `at` is left to the caller.
pub(crate) fn message(channel: &str, id: &str, from: &str, text: &str) -> Value {
    serde_json::json!({"ev": "message", "channel": channel, "id": id, "from": from, "text": text})
}

/// The event without the fields that a test cannot know.
pub(crate) fn without(mut event: Value, fields: &[&str]) -> Value {
    for field in fields {
        assert!(event[field].is_i64(), "{field} is an integer in {event}");
        event.as_object_mut().expect("events are objects").remove(*field);
    }
    event
}

/// The texts of a page or of a list of events.
pub(crate) fn texts(events: &[Value]) -> Vec<&str> {
    events.iter().map(|event| event["text"].as_str().unwrap_or_default()).collect()
}

/// The value as text; a test that finds another type fails with it.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_else(|| panic!("a string was expected, not {value}"))
}

/// The array's items.
pub(crate) fn items(value: &Value) -> &[Value] {
    value.as_array().unwrap_or_else(|| panic!("an array was expected, not {value}"))
}

/// The names of a list's items.
pub(crate) fn names(list: &Value) -> Vec<&str> {
    items(list).iter().map(|item| text(&item["name"])).collect()
}
