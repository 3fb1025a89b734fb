//! Pulled plugs: whoever is killed, what was acknowledged is there, and every listener gets it.

use tokio::sync::watch;
use tokio::task::JoinSet;

use crate::support::redis::Redis;
use crate::support::session::Sent;
use crate::support::{
    LONG_PATIENCE, Listener, PATIENCE, Sender, TestServer, TestUser, eventually, items, signal, text, within,
};

const SENDERS: usize = 4;
const EACH: usize = 250;
/// The plug is pulled once so many messages were acknowledged.
const CRASH_AFTER: usize = 300;

/// People who write and listen while things go wrong.
struct Load {
    senders: JoinSet<Vec<Sent>>,
    listeners: JoinSet<Listener>,
    acknowledged: watch::Receiver<usize>,
}

impl Load {
    async fn start(user: &TestUser, nodes: &[std::net::SocketAddr]) -> Self {
        let (count, acknowledged) = watch::channel(0);
        let (mut senders, mut listeners) = (JoinSet::new(), JoinSet::new());
        for _ in 0..4 {
            let mut listener = Listener::start(user.clone(), nodes, "tea").await;
            listeners.spawn(async move {
                listener.listen(SENDERS * EACH).await;
                listener
            });
        }
        for number in 0..SENDERS {
            let mut sender = Sender::new(user.clone(), nodes, "tea");
            let count = count.clone();
            senders.spawn(async move {
                let mut sent = Vec::new();
                for message in 0..EACH {
                    sent.push(sender.send(&format!("{number}-{message}")).await);
                    count.send_modify(|count| *count += 1);
                }
                sent
            });
        }
        Self { senders, listeners, acknowledged }
    }

    async fn half_way(&mut self) {
        let half = self.acknowledged.wait_for(|count| *count >= CRASH_AFTER);
        within(LONG_PATIENCE, "half of it is sent", half).await.expect("the senders are at it");
    }

    /// Everybody saw everything, once and in order, and all of it is in the log.
    async fn end(self, user: &TestUser) -> Vec<Listener> {
        let sent = within(LONG_PATIENCE, "all is acknowledged", self.senders.join_all()).await;
        let listeners = within(LONG_PATIENCE, "all is seen", self.listeners.join_all()).await;
        let log = user.whole_log("tea").await;
        for sent in sent.iter().flatten() {
            assert!(log.contains(&sent.id), "{} was acknowledged and is lost", sent.id);
        }
        assert_eq!(log.len(), SENDERS * EACH, "each cid is written once");
        for listener in &listeners {
            assert_eq!(listener.seen.ids, log);
            assert_eq!(listener.seen.gaps, Vec::<String>::new());
        }
        listeners
    }
}

#[tokio::test]
async fn a_killed_node_costs_nobody_a_message() {
    let (one, mut two) = TestServer::pair().await;
    let ann = one.user("ann").await;
    ann.create_channel("tea").await;
    // All begin at the node that is going to be killed.
    let mut load = Load::start(&ann, &[two.address, one.address]).await;
    load.half_way().await;
    two.kill().await;
    let listeners = load.end(&ann).await;
    assert!(listeners.iter().all(|listener| listener.returns > 0), "they did have to come back");
}

#[tokio::test]
async fn a_killed_private_redis_loses_nothing_that_was_acknowledged() {
    let server = TestServer::embedded().await;
    let ann = server.user("ann").await;
    ann.create_channel("tea").await;
    assert_eq!(ann.session().await.welcome["durability"], "fsync");
    let mut load = Load::start(&ann, &[server.address]).await;
    load.half_way().await;
    let before = server.redis_pid().await;
    signal(before, "KILL");
    load.end(&ann).await;
    assert_ne!(server.redis_pid().await, before);
}

#[tokio::test]
async fn a_killed_burble_comes_up_again_beside_its_orphaned_redis() {
    let mut server = TestServer::embedded().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let sent = ann.send("tea", "survive this").await;
    server.kill().await;
    let server = server.again_beside_orphan().await;
    let page = ann.user.at(&server).history("tea", "").await;
    assert_eq!(text(&page["events"][0]["id"]), sent.id);
}

#[tokio::test]
async fn two_burbles_do_not_share_a_data_folder() {
    let server = TestServer::embedded().await;
    let ended = server.refused_beside().await;
    assert!(!ended.status.success());
    assert!(ended.output.contains("another Burble"), "{}", ended.output);
    server.session("ann").await.expect_silence().await;
}

#[tokio::test]
async fn without_its_redis_a_node_refuses_what_it_cannot_do_and_recovers_by_itself() {
    let mut redis = Redis::start(true);
    let server = TestServer::on(&redis, &[("PUBSUB_DURABILITY", "fsync"), ("PUBSUB_APPEND_TIMEOUT_MS", "500")]).await;
    let mut ann = server.session("ann").await;
    let mut bob = server.session("bob").await;
    ann.create_channel("tea").await;
    bob.join("tea").await;
    ann.send("tea", "before").await;
    redis.kill();
    let answer = ann.ask(serde_json::json!({"op": "send", "channel": "tea", "text": "?", "cid": "c1"})).await;
    assert!(matches!(text(&answer["code"]), "unavailable" | "outcome_unknown"), "{answer}");
    assert!(answer["retry_after_ms"].is_u64(), "{answer}");
    eventually("it is not ready", async || (server.probe("/readyz").await.status == 503).then_some(())).await;
    assert_eq!(server.probe("/livez").await.status, 200);
    redis.restart();
    eventually("it is ready again", async || (server.probe("/readyz").await.status == 200).then_some(())).await;
    let mut sender = Sender::new(ann.user.clone(), &[server.address], "tea");
    let sent = within(PATIENCE, "it can be sent again", sender.send("after")).await;
    assert_eq!(bob.next_message().await["text"], "before");
    let mut last = bob.next_message().await;
    if last["cid"] == "c1" {
        last = bob.next_message().await; // it had been written after all, as outcome_unknown says
    }
    assert_eq!(text(&last["id"]), sent.id, "the listener stayed connected and missed nothing");
}

#[tokio::test]
async fn a_log_that_does_not_answer_leaves_the_outcome_open_and_the_cid_finds_out() {
    let redis = Redis::start(false);
    let server = TestServer::on(&redis, &[("PUBSUB_APPEND_TIMEOUT_MS", "300")]).await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    ann.send("tea", "before").await;
    redis.freeze();
    let code = ann.error(serde_json::json!({"op": "send", "channel": "tea", "text": "late", "cid": "late"})).await;
    assert_eq!(code, "outcome_unknown");
    redis.thaw();
    let mut sender = Sender::new(ann.user.clone(), &[server.address], "tea");
    let sent = within(PATIENCE, "the log answers again", sender.send("late")).await;
    let page = ann.history("tea", "").await;
    let written: Vec<_> = items(&page["events"]).iter().filter(|event| event["cid"] == "late").collect();
    assert_eq!(written.len(), 1, "{page}");
    assert_eq!(text(&written[0]["id"]), sent.id);
}
