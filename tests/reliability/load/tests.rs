//! The load against real servers, with what networks and crashes do to them.

use std::time::Duration;

use super::checker::{Loss, Outcome, Rules};
use super::fault_proxy::{FaultProxy, Flow};
use super::history::History;
use super::{Load, LoadOptions};
use crate::support::redis::Redis;
use crate::support::{LONG_PATIENCE, TestServer, TestUser, eventually, within};

/// Well before the clients, which wait for [3 s](LoadOptions::patience), take the connection for dead: where nothing was
/// under way at the fault, nobody would be told of it.
const FAILS_SOON: (&str, &str) = ("PUBSUB_APPEND_TIMEOUT_MS", "300");

/// Until so many more messages were acknowledged.
async fn acknowledged(load: &Load, more: u64) {
    within(LONG_PATIENCE, "messages are acknowledged", load.until_acknowledged(more)).await.expect("writers");
}

/// Until one more client was told that the log does not answer.
async fn refused(history: &History) {
    let told =
        || ["unavailable", "outcome_unknown"].iter().filter_map(|code| history.lock().codes.get(*code).copied()).sum();
    let before: u64 = told();
    eventually("a client is told of the fault", async || (told() > before).then_some(())).await;
}

#[track_caller]
fn kept_the_promise(outcome: &Outcome) {
    let figures = &outcome.figures;
    println!("{figures:#?}");
    assert_eq!(outcome.violations, []);
    assert_eq!(figures.sent, figures.acknowledged);
    assert_eq!((figures.lost, figures.doubled, figures.reordered), (0, 0, 0));
    assert!(figures.send_to_ok.max >= figures.send_to_ok.p99 && figures.send_to_ok.p99 >= figures.send_to_ok.p50);
    assert!(figures.send_to_delivery.count == figures.delivered && figures.delivered > 0);
}

#[tokio::test]
async fn undisturbed_nothing_is_lost_and_nobody_has_to_come_back() {
    let server = TestServer::start().await;
    let history = History::new();
    let slow = Some(Duration::from_millis(2));
    let load = Load::start(LoadOptions { addresses: vec![server.address], slow, ..Default::default() }, &history).await;
    acknowledged(&load, 100).await;
    load.pause();
    load.go_on();
    acknowledged(&load, 100).await;
    let so_far = history.deliveries(0, history.now());
    assert!(so_far.count > 0 && history.deliveries(history.now(), u64::MAX).count == 0);
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert!(so_far.count <= outcome.figures.send_to_delivery.count);
    assert_eq!((outcome.figures.reconnects, outcome.figures.errors.len()), (0, 0));
    assert!(outcome.figures.longest_silence > Duration::ZERO);
    assert!(outcome.figures.repeated > 10, "some are repeated on purpose");
}

#[tokio::test]
async fn a_killed_node_breaks_no_promise() {
    let (one, mut two) = TestServer::pair().await;
    let history = History::new();
    let addresses = vec![one.address, two.address];
    let load = Load::start(LoadOptions { addresses, ..Default::default() }, &history).await;
    acknowledged(&load, 200).await;
    history.mark("killed");
    two.kill().await;
    acknowledged(&load, 200).await;
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert!(outcome.figures.reconnects > 0);
    let (mark, recovered) = &outcome.figures.recovered[0];
    assert_eq!(mark, "killed");
    assert!(recovered.is_some(), "everybody was served again");
}

#[tokio::test]
async fn broken_connections_break_no_promise() {
    let (one, two) = TestServer::pair().await;
    let (before_one, before_two) = (FaultProxy::start(one.address).await, FaultProxy::start(two.address).await);
    let history = History::new();
    let addresses = vec![before_one.address, before_two.address];
    let patience = Duration::from_secs(1);
    let load = Load::start(LoadOptions { addresses, patience, ..Default::default() }, &history).await;
    acknowledged(&load, 100).await;
    before_one.reset();
    before_two.cut();
    acknowledged(&load, 100).await;
    before_two.refuse(true);
    before_two.reset();
    acknowledged(&load, 100).await;
    before_two.refuse(false);
    for fault in [FaultProxy::to_server, FaultProxy::to_client, FaultProxy::both] {
        for flow in [Flow::Stall, Flow::Blackhole, Flow::Trickle(Duration::from_millis(1))] {
            fault(&before_one, flow);
            acknowledged(&load, 100).await;
            before_one.both(Flow::Pass);
            acknowledged(&load, 50).await;
        }
    }
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert!(outcome.figures.reconnects > 0 && outcome.figures.open > 0);
}

#[tokio::test]
async fn who_is_removed_hears_no_more_and_the_others_go_on() {
    let (one, two) = TestServer::pair().await;
    let history = History::new();
    let addresses = vec![one.address, two.address];
    let load = Load::start(LoadOptions { addresses, private: true, ..Default::default() }, &history).await;
    acknowledged(&load, 100).await;
    load.remove(0, 0).await;
    load.remove(1, 2).await;
    acknowledged(&load, 200).await;
    kept_the_promise(&load.finish().await);
}

#[tokio::test]
async fn a_redis_that_is_hard_to_reach_costs_nothing_but_time() {
    let redis = format!("127.0.0.1:{}", Redis::shared().port).parse().expect("an address");
    let before_redis = FaultProxy::start(redis).await;
    let port = before_redis.address.port().to_string();
    let env = [("PUBSUB_SERVER_PORT", port.as_str()), FAILS_SOON];
    let (one, two) = TestServer::pair_with(&env).await;
    let history = History::new();
    let addresses = vec![one.address, two.address];
    let load = Load::start(LoadOptions { addresses, ..Default::default() }, &history).await;
    acknowledged(&load, 100).await;
    before_redis.reset();
    acknowledged(&load, 100).await;
    for fault in [FaultProxy::to_server, FaultProxy::to_client, FaultProxy::both] {
        for flow in [Flow::Stall, Flow::Blackhole, Flow::Trickle(Duration::from_millis(10))] {
            history.mark(&format!("{flow:?}"));
            fault(&before_redis, flow);
            refused(&history).await;
            before_redis.both(Flow::Pass);
            acknowledged(&load, 100).await;
        }
    }
    before_redis.refuse(true);
    before_redis.reset();
    refused(&history).await;
    before_redis.refuse(false);
    acknowledged(&load, 100).await;
    kept_the_promise(&load.finish().await);
}

#[tokio::test]
async fn what_a_redis_without_a_disk_loses_is_announced() {
    let mut redis = Redis::start(false);
    let server = TestServer::on(&redis, &[FAILS_SOON]).await;
    let history = History::new();
    let rules = Rules { loss: Loss::Allowed, retention: None };
    let addresses = vec![server.address];
    let load = Load::start(LoadOptions { addresses, rules, ..Default::default() }, &history).await;
    acknowledged(&load, 200).await;
    history.mark("killed");
    redis.kill();
    refused(&history).await;
    redis.restart();
    acknowledged(&load, 200).await;
    let outcome = load.finish().await;
    println!("{:#?}", outcome.figures);
    assert_eq!(outcome.violations, []);
    assert!(outcome.figures.lost >= 200, "all that was acknowledged is gone");
    assert!(!outcome.figures.gaps.is_empty());
}

#[tokio::test]
async fn a_redis_that_keeps_what_it_acknowledged_loses_nothing_in_a_crash() {
    let mut redis = Redis::start(true);
    let server = TestServer::on(&redis, &[("PUBSUB_DURABILITY", "fsync"), FAILS_SOON]).await;
    let history = History::new();
    let load = Load::start(LoadOptions { addresses: vec![server.address], ..Default::default() }, &history).await;
    acknowledged(&load, 200).await;
    redis.kill();
    refused(&history).await;
    redis.restart();
    acknowledged(&load, 200).await;
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert_eq!(outcome.figures.gaps.len(), 0);
}

#[tokio::test]
async fn tokens_are_renewed_in_time_and_a_revoked_sign_in_is_made_anew() {
    // `expiring` comes a minute before the end: here, after a second.
    let server = TestServer::with(&[("AUTH_ACCESS_SECONDS", "61")]).await;
    let history = History::new();
    let load = Load::start(LoadOptions { addresses: vec![server.address], ..Default::default() }, &history).await;
    eventually("a token is renewed", async || (history.lock().renewed > 0).then_some(())).await;
    acknowledged(&load, 100).await;
    for name in ["load-l0", "load-w0"] {
        let (access, refresh) = (String::new(), String::new());
        let user = TestUser { address: server.address, name: name.into(), access, refresh, expires_at: 0 };
        let everywhere = serde_json::json!({"everywhere": true});
        user.log_in().await.post("/logout", everywhere).await.expect(204);
    }
    acknowledged(&load, 100).await;
    let closed = || history.lock().codes.get("closed_4403").copied();
    eventually("sessions end", async || closed().filter(|count| *count >= 2)).await;
    acknowledged(&load, 100).await;
    let outcome = load.finish().await;
    kept_the_promise(&outcome);
    assert!(outcome.figures.renewed > 0 && outcome.figures.reconnects >= 2);
}
