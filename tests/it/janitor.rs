//! What a dead node leaves behind is removed; a node that was only asleep carries on.

use std::collections::BTreeSet;

use redis::{Value, cmd};
use serde_json::json;

use crate::support::redis::Redis;
use crate::support::{TestServer, eventually, texts};

const SOON: [(&str, &str); 1] = [("PUBSUB_NODE_DEAD_SECONDS", "1")];

/// The nodes that have a consumer group on any feed.
async fn nodes_with_groups(redis: &Redis) -> BTreeSet<String> {
    let mut connection = redis.connect().await;
    let feeds: Vec<String> = cmd("KEYS").arg("*:feed").query_async(&mut connection).await.expect("keys");
    let mut nodes = BTreeSet::new();
    for feed in feeds {
        let groups: Vec<Vec<Value>> =
            cmd("XINFO").arg("GROUPS").arg(&feed).query_async(&mut connection).await.expect("groups");
        for group in groups {
            let name: String = redis::from_redis_value(group[1].clone()).expect("the name comes first");
            nodes.insert(name.split_once('-').expect("node and start").0.to_owned());
        }
    }
    nodes
}

async fn has_groups_of(redis: &Redis, expected: &[&str]) {
    let expected: BTreeSet<_> = expected.iter().map(|node| (*node).to_owned()).collect();
    eventually(&format!("there are groups of {expected:?} alone"), async || {
        (nodes_with_groups(redis).await == expected).then_some(())
    })
    .await;
}

#[tokio::test]
async fn the_groups_of_a_killed_node_go_away() {
    let redis = Redis::start(false);
    let (_one, mut two) = TestServer::pair_on(&redis, &SOON).await;
    has_groups_of(&redis, &["one", "two"]).await;
    two.kill().await;
    has_groups_of(&redis, &["one"]).await;
}

#[tokio::test]
async fn a_node_that_was_asleep_until_it_counted_as_dead_carries_on() {
    let redis = Redis::start(false);
    let (one, two) = TestServer::pair_on(&redis, &SOON).await;
    let mut ann = one.session("ann").await;
    ann.create_channel("tea").await;
    let mut bob = two.session("bob").await;
    bob.join("tea").await;
    ann.send("tea", "1").await;
    assert_eq!(texts(&bob.messages(1).await), ["1"]);
    two.signal("STOP");
    has_groups_of(&redis, &["one"]).await;
    ann.send("tea", "2").await;
    ann.send("tea", "3").await;
    two.signal("CONT");
    assert_eq!(texts(&bob.messages(2).await), ["2", "3"], "all of it, in order, without a gap");
    has_groups_of(&redis, &["one", "two"]).await;
    let sent = bob.send("tea", "4").await;
    assert_eq!(bob.next_message().await["id"], json!(sent.id));
}
