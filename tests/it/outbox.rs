//! What was changed is heard by every node, whoever dies before it could tell, and however often it is told.

use serde_json::json;

use crate::support::client::position;
use crate::support::redis::Redis;
use crate::support::{Answer, PATIENCE, Session, TestServer, TestUser, eventually, text, within};

/// A restart of Redis loses nothing and begins no epoch: no node reads anything anew but for what it is told.
const LASTING: [(&str, &str); 2] = [("PUBSUB_DURABILITY", "fsync"), ("PUBSUB_APPEND_TIMEOUT_MS", "500")];

/// In the database, and not in the feed.
fn is_made_but_not_told(answer: Answer) {
    assert_eq!(answer.status, 503, "{}", answer.text());
    assert!(matches!(answer.code().as_str(), "unavailable" | "outcome_unknown"), "{}", answer.text());
}

async fn is_empty(server: &TestServer) {
    let empty = async || (server.sql("SELECT count(*) FROM outbox").await.trim() == "0").then_some(());
    eventually("nothing waits to be announced", empty).await;
}

fn left(channel: &str, reason: &str) -> serde_json::Value {
    json!({"ev": "left", "channel": channel, "reason": reason})
}

/// Two nodes; Ann owns the private channels den and tea, and Bob listens to both at the second node.
async fn den_and_tea(redis: &Redis) -> (TestServer, TestServer, TestUser, Session) {
    let (one, two) = TestServer::pair_on(redis, &LASTING).await;
    let (ann, mut bob) = (one.user("ann").await, two.session("bob").await);
    for channel in ["den", "tea"] {
        ann.create_private(channel).await;
        ann.add(channel, "bob", "member").await;
        bob.join(channel).await;
    }
    (one, two, ann, bob)
}

#[tokio::test]
async fn what_a_node_could_not_tell_before_it_was_killed_is_heard_all_the_same() {
    let mut redis = Redis::start(true);
    let (mut one, two, ann, mut bob) = den_and_tea(&redis).await;
    let mut eve = two.session("eve").await;
    let mut owner = ann.at(&two).session().await;
    let before = owner.send("den", "before").await;
    assert_eq!(bob.next_message().await["id"], json!(before.id));
    redis.kill();
    let eve_at_one = eve.user.at(&one);
    let (removed, deleted, out) = tokio::join!(
        ann.delete("/channels/den/members/bob"),
        ann.delete("/channels/tea"),
        eve_at_one.request("POST", "/logout").send(one.address),
    );
    is_made_but_not_told(removed);
    is_made_but_not_told(deleted);
    out.expect(204);
    one.kill().await;
    redis.restart();
    let mut heard = [bob.next_event().await, bob.next_event().await];
    heard.sort_by_key(|event| event["channel"].to_string());
    assert_eq!(heard, [left("den", "removed"), left("tea", "deleted")]);
    assert_eq!(eve.expect_close().await.code, 4403);
    owner.send("den", "after").await;
    assert_eq!(bob.error(json!({"op": "join", "channel": "den"})).await, "channel_not_found");
    bob.expect_silence().await;
    is_empty(&two).await;
    let logs = redis.log_keys(&two.prefix).await;
    assert_eq!(logs.iter().filter(|key| !key.ends_with(":gone")).count(), 1, "of den alone: {logs:?}");
}

#[tokio::test]
async fn what_is_told_again_ends_nothing_that_began_since() {
    let redis = Redis::start(true);
    let (one, two, ann, mut bob) = den_and_tea(&redis).await;
    // What is struck out of the outbox is kept, to be told once more later.
    two.sql("CREATE TABLE told AS SELECT * FROM outbox").await;
    two.sql("CREATE RULE keep AS ON DELETE TO outbox DO ALSO INSERT INTO told VALUES (OLD.id, OLD.change)").await;
    ann.remove("den", "bob").await;
    assert_eq!(bob.next_event().await, left("den", "removed"));
    ann.add("den", "bob", "member").await;
    let join = json!({"op": "join", "channel": "den"});
    eventually("bob is in again", async || (bob.ask(join.clone()).await["ev"] == "ok").then_some(())).await;
    ann.delete("/channels/tea").await.expect(204);
    assert_eq!(bob.next_event().await, left("tea", "deleted"));
    ann.create_channel("tea").await;
    bob.join("tea").await;
    let kept = bob.send("tea", "in the channel made anew").await;
    assert_eq!(bob.next_message().await["id"], json!(kept.id));
    let told = two.sql("SELECT count(*) FROM told WHERE change LIKE '%removed%' OR change LIKE '%deleted%'").await;
    assert_eq!(told.trim(), "2");
    two.sql("DROP RULE keep ON outbox").await;
    two.sql("INSERT INTO outbox SELECT * FROM told").await;
    is_empty(&one).await;
    let sent = ann.at(&two).session().await.send("den", "to bob").await;
    assert_eq!(bob.next_message().await["id"], json!(sent.id), "and no `left` before it");
    assert_eq!(ann.history("tea", "").await["last"], json!(kept.id));
    ann.remove("den", "bob").await;
    assert_eq!(bob.next_event().await, left("den", "removed"));
}

#[tokio::test]
async fn the_name_of_a_deleted_channel_is_free_once_its_log_is_gone() {
    let mut redis = Redis::start(true);
    let (_one, two, ann, bob) = den_and_tea(&redis).await;
    let old = ann.at(&two).session().await.send("tea", "old").await.id;
    redis.kill();
    is_made_but_not_told(ann.delete("/channels/tea").await);
    let again = json!({"name": "tea", "kind": "public"});
    ann.at(&two).post("/channels", again.clone()).await.refused(503, "unavailable");
    redis.restart();
    let free = async || (ann.post("/channels", again.clone()).await.status == 201).then_some(());
    eventually("the name is free again", free).await;
    let new = within(PATIENCE, "it can be written to", ann.session()).await.send("tea", "new").await.id;
    assert!(position(&json!(new)).epoch > position(&json!(old)).epoch, "{new} after {old}");
    let mut bob = bob.user.session().await;
    bob.join_since("tea", &old).await;
    assert_eq!(text(&bob.next_of("gap").await["reason"]), "epoch_changed");
}

#[tokio::test]
async fn a_channel_made_anew_begins_above_whatever_the_old_log_held_when_it_went() {
    let mut redis = Redis::start(true);
    let mut server = TestServer::on(&redis, &LASTING).await;
    let ann = server.user("ann").await;
    ann.create_channel("tea").await;
    ann.session().await.send("tea", "1").await;
    redis.kill();
    is_made_but_not_told(ann.delete("/channels/tea").await);
    server.kill().await;
    redis.restart();
    // The channel is gone from the database, and its log goes on into a later epoch.
    let log = redis.log_keys(&server.prefix).await.remove(0);
    let later = burble::clock::now_ms().unsigned_abs() / 1_000 + 1_000;
    redis.run(&["XADD", &log, &format!("{later}-0"), "t", "1", "p", "\"text\":\"2\""]).await;
    let server = server.again().await;
    let ann = ann.at(&server);
    let again = json!({"name": "tea", "kind": "public"});
    let free = async || (ann.post("/channels", again.clone()).await.status == 201).then_some(());
    eventually("the name is free", free).await;
    let new = ann.session().await.send("tea", "3").await.id;
    assert!(position(&json!(new)).epoch > later, "{new}");
}
