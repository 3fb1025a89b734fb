//! What an `ok` stands for: that so many replicas have the message, and that Redis is fit to keep it.

use serde_json::json;

use crate::support::redis::Redis;
use crate::support::{TestServer, eventually};

#[tokio::test]
async fn under_replica_an_ok_means_that_a_replica_has_it() {
    // The replica keeps its folder, so that it can come back.
    let (primary, mut replica) = (Redis::start(false), Redis::start(true));
    let port = primary.port.to_string();
    replica.run(&["REPLICAOF", "127.0.0.1", &port]).await;
    let env = [("PUBSUB_DURABILITY", "replica"), ("PUBSUB_APPEND_TIMEOUT_MS", "1000")];
    let server = TestServer::on(&primary, &env).await;
    let mut ann = server.session("ann").await;
    assert_eq!(ann.welcome["durability"], "replica");
    ann.user.create_channel("tea").await;
    eventually("the replica keeps up", async || {
        Some(ann.ask(json!({"op": "send", "channel": "tea", "text": "1", "cid": "1"})).await)
            .filter(|a| a["ev"] == "ok")
    })
    .await;
    assert_eq!(replica.log_keys(&server.prefix).await.len(), 1, "the replica has the log");
    replica.kill();
    let unsure = ann.ask(json!({"op": "send", "channel": "tea", "text": "2", "cid": "2"})).await;
    assert_eq!((&unsure["ev"], &unsure["code"]), (&json!("error"), &json!("outcome_unknown")), "never a false ok");
    replica.restart();
    replica.run(&["REPLICAOF", "127.0.0.1", &port]).await;
    let found_out = eventually("the replica is back", async || {
        Some(ann.ask(json!({"op": "send", "channel": "tea", "text": "2", "cid": "2"})).await)
            .filter(|a| a["ev"] == "ok")
    })
    .await;
    assert_eq!(found_out["dup"], true, "it was written once");
}

#[tokio::test]
async fn a_redis_that_may_evict_the_log_is_refused() {
    let redis = Redis::start(false);
    redis.run(&["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"]).await;
    let port = redis.port.to_string();
    let ended = TestServer::refused(&[("PUBSUB_SERVER_PORT", &port)]).await;
    assert!(!ended.status.success());
    assert!(ended.output.contains("noeviction"), "{}", ended.output);
}
