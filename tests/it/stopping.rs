//! How a node takes its leave.

use std::time::{Duration, Instant};

use serde_json::json;

use crate::support::{Request, TestServer, eventually, items, within};

#[tokio::test]
async fn a_node_that_stops_sends_its_clients_away_in_good_order() {
    let mut server = TestServer::with(&[("SERVER_DRAIN_SECONDS", "3")]).await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    ann.join("tea").await;
    server.signal("TERM");
    let reconnect = ann.next_of("reconnect").await;
    assert!(reconnect["after_ms"].is_u64(), "{reconnect}");
    assert_eq!(ann.expect_close().await.code, 1012);
    let status = server.ended().await;
    assert_eq!(status.code(), Some(0), "{}", server.logs());
}

#[tokio::test]
async fn readiness_ends_first() {
    let mut server = TestServer::with(&[("SERVER_DRAIN_SECONDS", "3")]).await;
    let _ann = server.session("ann").await;
    assert_eq!(server.probe("/readyz").await.status, 200);
    server.signal("TERM");
    eventually("it is not ready", async || {
        match Request::new("GET", "/readyz").elsewhere().try_send(server.ops).await {
            Ok(answer) => (answer.status == 503).then_some(()),
            Err(_) => panic!("it was gone before it said that it is not ready"),
        }
    })
    .await;
    assert!(server.ended().await.success());
}

#[tokio::test]
async fn what_was_under_way_is_answered_before_the_end() {
    let mut server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let mut refs = Vec::new();
    for number in 0..100 {
        refs.push(ann.begin(json!({"op": "send", "channel": "tea", "text": number.to_string()})).await);
    }
    // The first answer shows that the server is at it.
    let mut acknowledged = vec![ann.answer(refs[0]).await.expect("an answer")["id"].clone()];
    server.signal("TERM");
    for reference in &refs[1..] {
        match ann.answer(*reference).await {
            Ok(answer) if answer["ev"] == "ok" => acknowledged.push(answer["id"].clone()),
            Ok(answer) => assert_eq!(answer["code"], "unavailable", "{answer}"),
            Err(closed) => {
                assert_eq!(closed.code, 1012);
                break;
            }
        }
    }
    assert!(server.ended().await.success());
    let server = server.again().await;
    let page = ann.user.at(&server).history("tea", "?limit=200").await;
    let log: Vec<_> = items(&page["events"]).iter().map(|event| event["id"].clone()).collect();
    assert_eq!(log[..acknowledged.len()], acknowledged, "what was acknowledged is in the log");
    assert_eq!(log.len(), acknowledged.len(), "and what is in the log was acknowledged");
}

#[tokio::test]
async fn a_second_signal_ends_it_at_once() {
    let mut server = TestServer::with(&[("SERVER_DRAIN_SECONDS", "60")]).await;
    let mut ann = server.session("ann").await;
    server.signal("TERM");
    ann.next_of("reconnect").await;
    let second = Instant::now();
    server.signal("TERM");
    within(Duration::from_secs(5), "it ends", server.ended()).await;
    assert!(second.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn interrupt_is_as_good_as_terminate() {
    let mut server = TestServer::embedded().await;
    let redis = server.redis_pid().await;
    server.signal("INT");
    assert_eq!(server.ended().await.code(), Some(0), "{}", server.logs());
    assert!(!std::path::Path::new(&format!("/proc/{redis}")).exists(), "its Redis has gone with it");
}

#[tokio::test]
async fn a_stop_and_a_start_lose_nothing() {
    let mut server = TestServer::embedded().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let sent = ann.send("tea", "keep this").await;
    assert!(server.stop().await.success());
    let server = server.again().await;
    let ann = ann.user.at(&server);
    let page = ann.history("tea", "").await;
    assert_eq!(page["events"][0]["id"], json!(sent.id));
}
