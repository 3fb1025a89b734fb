//! Many sessions come back to a channel: what they missed is read for all of them, not for each.

use serde_json::json;
use tokio::task::JoinSet;

use crate::support::client::position;
use crate::support::redis::Redis;
use crate::support::{TestServer, TestUser};

/// How many come back.
const SESSIONS: usize = 60;
/// How many messages each of them missed, about: more than a page, and no whole number of them.
const MISSED: u64 = 200;

#[tokio::test]
async fn where_somebody_has_caught_up_already_the_log_is_not_read_at_all() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[]).await;
    let (ann, since) = away(&server, MISSED).await;
    let _first = come_back(ann.clone(), since.clone()).await;
    assert_eq!(reads_of(&redis, ann, since).await, 0);
}

#[tokio::test]
async fn nor_where_the_log_holds_as_much_as_is_retained() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[("CHANNEL_RETENTION_MESSAGES", "100")]).await;
    let (ann, _) = away(&server, 5 * MISSED).await;
    let first = position(&ann.history("tea", "").await["first"]);
    assert!(first.seq > 0, "the log was trimmed");
    let since = first.to_string();
    let _first = come_back(ann.clone(), since.clone()).await;
    assert_eq!(reads_of(&redis, ann, since).await, 0);
}

#[tokio::test]
async fn who_comes_back_together_shares_the_reads() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[]).await;
    let (ann, since) = away(&server, MISSED).await;
    let reads = reads_of(&redis, ann, since).await;
    // The ends of the log, again for those who asked meanwhile, and two pages.
    assert!((1..=2 * 4).contains(&reads), "{reads} for {SESSIONS} sessions");
}

/// A user, and the position after which so many messages were sent; nobody listens.
async fn away(server: &TestServer, missed: u64) -> (TestUser, String) {
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let since = ann.send("tea", "known").await.id;
    for number in 0..missed {
        ann.send("tea", &number.to_string()).await;
    }
    let user = ann.user.clone();
    ann.close().await;
    (user, since)
}

/// Comes back, and stays.
async fn come_back(user: TestUser, since: String) -> crate::support::Session {
    let mut session = user.session().await;
    let joined = session.join_since("tea", &since).await;
    let (missed, caught_up) = session.catch_up().await;
    let (from, to) = (position(&json!(since)), position(&joined["last"]));
    assert_eq!(missed.len() as u64, to.seq - from.seq, "all that was missed");
    assert_eq!(caught_up["id"], joined["last"]);
    session
}

/// How often Redis reads a part of a log while all come back at once.
async fn reads_of(redis: &Redis, user: TestUser, since: String) -> u64 {
    redis.run(&["CONFIG", "RESETSTAT"]).await;
    let mut returning = JoinSet::new();
    for _ in 0..SESSIONS {
        returning.spawn(come_back(user.clone(), since.clone()));
    }
    let back = returning.join_all().await;
    assert_eq!(back.len(), SESSIONS);
    let stats: String = redis.ask(&["INFO", "commandstats"]).await.expect("the redis-server runs");
    let ranges = stats.lines().find_map(|line| line.strip_prefix("cmdstat_xrange:calls="));
    ranges.map_or(0, |rest| rest.split(',').next().and_then(|calls| calls.parse().ok()).expect("a count"))
}
