//! What Redis, the database and the scheduler do to a node that lives: groups that vanish, scripts forgotten, connections
//! killed, all lost, minutes missed.

use std::time::{Duration, Instant};

use redis::{Value, cmd};
use serde_json::json;

use crate::support::postgres::Postgres;
use crate::support::redis::Redis;
use crate::support::session::Session;
use crate::support::{TestServer, eventually, texts};

/// Ann, who has joined tea and heard one message.
async fn listener(server: &TestServer) -> Session {
    let mut ann = server.session("ann").await;
    ann.user.create_channel("tea").await;
    ann.join("tea").await;
    ann.send("tea", "1").await;
    assert_eq!(texts(&ann.messages(1).await), ["1"]);
    ann
}

async fn destroy_groups(redis: &Redis) -> usize {
    let mut connection = redis.connect().await;
    let feeds: Vec<String> = cmd("KEYS").arg("*:feed").query_async(&mut connection).await.expect("keys");
    let mut destroyed = 0;
    for feed in feeds {
        let groups: Vec<Vec<Value>> =
            cmd("XINFO").arg("GROUPS").arg(&feed).query_async(&mut connection).await.expect("groups");
        for group in groups {
            let name: String = redis::from_redis_value(group[1].clone()).expect("the name comes first");
            destroyed += cmd("XGROUP")
                .arg("DESTROY")
                .arg(&feed)
                .arg(name)
                .query_async::<usize>(&mut connection)
                .await
                .expect("destroyed");
        }
    }
    destroyed
}

#[tokio::test]
async fn a_node_whose_groups_were_destroyed_carries_on() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[]).await;
    let mut ann = listener(&server).await;
    assert!(destroy_groups(&redis).await > 0);
    ann.send("tea", "2").await;
    assert_eq!(texts(&ann.messages(1).await), ["2"], "in order, once, without a gap");
}

#[tokio::test]
async fn forgotten_scripts_and_killed_connections_disturb_no_listener() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[]).await;
    let mut ann = listener(&server).await;
    redis.run(&["SCRIPT", "FLUSH"]).await;
    ann.send("tea", "2").await;
    redis.run(&["CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"]).await;
    let mut numbers = 0..;
    // An append that was under way may be answered with outcome_unknown: the cid makes repeating it safe.
    loop {
        let number: u32 = numbers.next().expect("endless");
        let answer = ann.ask(json!({"op": "send", "channel": "tea", "text": "3", "cid": "3"})).await;
        if answer["ev"] == "ok" {
            break;
        }
        assert!(number < 100, "still refused: {answer}");
    }
    assert_eq!(texts(&ann.messages(2).await), ["2", "3"]);
    ann.expect_silence().await;
}

#[tokio::test]
async fn when_all_is_lost_listeners_are_told_and_service_goes_on() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[]).await;
    let mut ann = listener(&server).await;
    let before = ann.send("tea", "2").await;
    ann.messages(1).await;
    redis.run(&["FLUSHALL"]).await;
    let gap = json!({"ev": "gap", "channel": "tea", "reason": "rolled_back", "first": null, "last": null});
    assert_eq!(ann.next_event().await, gap);
    let after = ann.send("tea", "3").await;
    assert_eq!(texts(&ann.messages(1).await), ["3"]);
    let epoch = |id: &str| id.split('-').next().and_then(|epoch| epoch.parse::<u64>().ok());
    assert!(epoch(&after.id) > epoch(&before.id), "no position is handed out twice");
}

#[tokio::test]
async fn a_node_that_missed_a_removal_delivers_nothing_past_it() {
    let (one, two) = TestServer::pair_with(&[("PUBSUB_FEED_SECONDS", "1")]).await;
    let ann = one.user("ann").await;
    ann.create_private("tea").await;
    let bob = one.user("bob").await;
    ann.add("tea", "bob", "member").await;
    let mut bob = bob.at(&two).session().await;
    bob.join("tea").await;
    let mut ann = ann.session().await;
    two.signal("STOP");
    // The read that is under way takes this one; the removal is behind it.
    ann.send("tea", "before the removal").await;
    ann.user.remove("tea", "bob").await;
    // Until the feed no longer holds the removal: it goes back a second, in whole pieces of the stream.
    let began = Instant::now();
    while began.elapsed() < Duration::from_millis(2_500) {
        ann.send("tea", "after the removal").await;
    }
    two.signal("CONT");
    let left = loop {
        let event = bob.next_event().await;
        assert_ne!(event["text"], "after the removal", "{event}");
        if event["ev"] == "left" {
            break event;
        }
    };
    assert_eq!(left, json!({"ev": "left", "channel": "tea", "reason": "removed"}));
    bob.expect_silence().await;
    eventually("the node counts that it missed a part of the feed", async || {
        let metrics = two.metrics().await;
        let refills = metrics.lines().find_map(|line| line.strip_prefix("burble_feed_refills_total "))?;
        (refills != "0").then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_database_that_is_away_for_a_while_holds_up_no_message() {
    let database = Postgres::start();
    let server = TestServer::with(&[("SERVER_DB", &database.create_database())]).await;
    let mut ann = listener(&server).await;
    database.interrupt();
    eventually("it is not ready", async || (server.probe("/readyz").await.status == 503).then_some(())).await;
    ann.send("tea", "2").await;
    assert_eq!(texts(&ann.messages(1).await), ["2"], "who is in a channel needs no database");
    database.resume();
    eventually("it is ready again", async || (server.probe("/readyz").await.status == 200).then_some(())).await;
    assert_eq!(ann.user.log_in().await.name, "ann");
}
