//! Two nodes on one Redis and one database are one server.

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::redis::Redis;
use crate::support::session::Sent;
use crate::support::{LONG_PATIENCE, Listener, Sender, TestServer, eventually, message, within, without};

#[tokio::test]
async fn a_message_reaches_a_listener_on_another_node() {
    let (one, two) = TestServer::pair().await;
    let (mut ann, mut bob) = (one.session("ann").await, two.session("bob").await);
    assert_eq!((&ann.welcome["node"], &bob.welcome["node"]), (&json!("one"), &json!("two")));
    ann.create_channel("tea").await;
    bob.join("tea").await;
    let sent = ann.send("tea", "hello").await;
    assert_eq!(without(bob.next_message().await, &["at"]), message("tea", &sent.id, "ann", "hello"));
    ann.ok(json!({"op": "typing", "channel": "tea"})).await;
    assert_eq!(bob.next_event().await, json!({"ev": "typing", "channel": "tea", "from": "ann"}));
}

/// More reads than those after which a node counts as alone in the feed.
const ALONE: usize = 100;

#[tokio::test]
async fn a_node_that_was_alone_for_long_hears_of_others_all_the_same() {
    let (one, two) = TestServer::pair().await;
    let (mut ann, mut bob) = (one.session("ann").await, two.session("bob").await);
    ann.create_channel("tea").await;
    let mut carl = one.session("carl").await;
    carl.join("tea").await;
    for number in 0..ALONE {
        let sent = ann.send("tea", &number.to_string()).await;
        assert_eq!(carl.next_message().await["id"], sent.id);
    }
    for number in 0..ALONE {
        let from_two = bob.send("tea", &number.to_string()).await;
        let from_one = ann.send("tea", &number.to_string()).await;
        assert_eq!(carl.next_message().await["id"], from_two.id);
        assert_eq!(carl.next_message().await["id"], from_one.id);
    }
    bob.ok(json!({"op": "typing", "channel": "tea"})).await;
    assert_eq!(carl.next_event().await, json!({"ev": "typing", "channel": "tea", "from": "bob"}));
}

#[tokio::test]
async fn a_node_that_is_alone_hardly_reads_what_it_wrote_itself() {
    let redis = Redis::start(false);
    let one = TestServer::on(&redis, &[]).await;
    let mut ann = one.session("ann").await;
    ann.create_channel("tea").await;
    ann.join("tea").await;
    redis.run(&["CONFIG", "RESETSTAT"]).await;
    for number in 0..5 * ALONE {
        let sent = ann.send("tea", &number.to_string()).await;
        assert_eq!(ann.next_message().await["id"], sent.id);
    }
    let stats: String = redis.ask(&["INFO", "commandstats"]).await.unwrap();
    let line =
        stats.lines().find_map(|line| line.strip_prefix("cmdstat_xreadgroup:calls=")).expect("it reads the feed");
    let reads: usize = line.split(',').next().unwrap().parse().unwrap();
    assert!(reads < 3 * ALONE, "{reads} reads for {} messages", 5 * ALONE);
}

const SENDERS: usize = 5;
const EACH: usize = 200;

#[tokio::test]
async fn all_listeners_on_both_nodes_see_one_dense_order() {
    let (one, two) = TestServer::pair().await;
    let ann = one.user("ann").await;
    ann.create_channel("tea").await;
    let mut listeners = JoinSet::new();
    for node in [&one, &two, &one, &two] {
        let mut listener = Listener::start(ann.at(node), &[node.address], "tea").await;
        listeners.spawn(async move {
            listener.listen(SENDERS * EACH).await;
            listener.seen
        });
    }
    let mut senders = JoinSet::new();
    for number in 0..SENDERS {
        let node = if number % 2 == 0 { &one } else { &two };
        let mut sender = Sender::new(ann.at(node), &[node.address], "tea");
        senders.spawn(async move {
            let mut sent = Vec::new();
            for message in 0..EACH {
                sent.push(sender.send(&format!("{number}-{message}")).await);
            }
            sent
        });
    }
    let sent: Vec<Vec<Sent>> = within(LONG_PATIENCE, "all is sent", senders.join_all()).await;
    let seen = within(LONG_PATIENCE, "all is seen", listeners.join_all()).await;
    let mut acknowledged: Vec<_> = sent.iter().flatten().map(|sent| sent.id.clone()).collect();
    acknowledged.sort_by_key(|id| id.parse::<burble::model::Position>().expect("a position"));
    for seen in &seen {
        assert_eq!(seen.ids, acknowledged, "what was acknowledged, all of it, in this order");
        assert_eq!(seen.gaps, Vec::<String>::new());
    }
    // Each sender's own messages are in the order in which they were sent.
    for sent in &sent {
        assert!(sent.is_sorted_by_key(|sent| sent.id.parse::<burble::model::Position>().expect("a position")));
    }
}

#[tokio::test]
async fn one_cid_sent_to_both_nodes_at_once_is_written_once() {
    let (one, two) = TestServer::pair().await;
    let mut ann = one.session("ann").await;
    let mut other = ann.user.at(&two).session().await;
    let mut listener = two.session("bob").await;
    ann.create_channel("tea").await;
    listener.join("tea").await;
    for round in 0..50 {
        let command = json!({"channel": "tea", "text": "once", "cid": format!("c{round}")});
        let (here, there) = tokio::join!(ann.send_with(command.clone()), other.send_with(command));
        assert_eq!((&here.id, here.at), (&there.id, there.at));
        assert!(here.dup != there.dup, "exactly one was the first: {here:?} {there:?}");
        assert_eq!(listener.next_message().await["id"], json!(here.id));
    }
    listener.expect_silence().await;
}

#[tokio::test]
async fn a_removal_on_one_node_ends_what_the_other_delivers() {
    let (one, two) = TestServer::pair().await;
    let mut ann = one.session("ann").await;
    let mut bob = two.session("bob").await;
    ann.create_private("den").await;
    ann.add("den", "bob", "member").await;
    bob.join("den").await;
    let before = ann.send("den", "with bob").await;
    ann.remove("den", "bob").await;
    ann.send("den", "without bob").await;
    assert_eq!(bob.next_message().await["id"], json!(before.id));
    assert_eq!(bob.next_event().await, json!({"ev": "left", "channel": "den", "reason": "removed"}));
    for op in ["join", "send", "history", "typing"] {
        let code = bob.error(json!({"op": op, "channel": "den", "text": "?"})).await;
        assert_eq!(code, "channel_not_found", "{op}");
    }
    bob.expect_silence().await;
}

#[tokio::test]
async fn a_new_member_gets_in_at_the_other_node() {
    let (one, two) = TestServer::pair().await;
    let (ann, mut bob) = (one.user("ann").await, two.session("bob").await);
    ann.create_private("den").await;
    assert_eq!(bob.error(json!({"op": "join", "channel": "den"})).await, "channel_not_found");
    ann.add("den", "bob", "member").await;
    let join = json!({"op": "join", "channel": "den"});
    eventually("bob gets in", async || (bob.ask(join.clone()).await["ev"] == "ok").then_some(())).await;
    let sent = bob.send("den", "hello").await;
    assert_eq!(bob.next_message().await["id"], json!(sent.id));
}

#[tokio::test]
async fn a_channel_deleted_on_one_node_is_gone_on_the_other() {
    let (one, two) = TestServer::pair().await;
    let (ann, mut bob) = (one.user("ann").await, two.session("bob").await);
    ann.create_channel("tea").await;
    bob.join("tea").await;
    ann.delete("/channels/tea").await.expect(204);
    assert_eq!(bob.next_event().await, json!({"ev": "left", "channel": "tea", "reason": "deleted"}));
    bob.get("/channels/tea").await.refused(404, "channel_not_found");
    assert_eq!(bob.error(json!({"op": "send", "channel": "tea", "text": "?"})).await, "channel_not_found");
}

#[tokio::test]
async fn a_token_and_a_position_are_good_on_any_node() {
    let (one, two) = TestServer::pair().await;
    let mut ann = one.session("ann").await;
    ann.create_channel("tea").await;
    let ids = [ann.send("tea", "a").await.id, ann.send("tea", "b").await.id];
    let mut there = ann.user.at(&two).session().await;
    there.join_since("tea", &ids[0]).await;
    assert_eq!(there.next_message().await["id"], json!(ids[1]));
    ann.user.at(&two).get("/me").await.expect(200);
}
