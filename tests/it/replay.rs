//! Joining where one left off: what was missed, `caught_up`, then what is new; and the gaps that are owned up to.

use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::support::client::position;
use crate::support::redis::Redis;
use crate::support::{LONG_PATIENCE, Seen, Sender, Session, TestServer, eventually, items, text, texts, within};

/// A channel with so many messages, "0" and on, and their positions.
async fn channel_of(server: &TestServer, count: usize) -> (Session, Vec<String>) {
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let mut ids = Vec::new();
    for number in 0..count {
        ids.push(ann.send("tea", &number.to_string()).await.id);
    }
    (ann, ids)
}

#[tokio::test]
async fn positions_are_dense_from_zero() {
    let server = TestServer::start().await;
    let (_ann, ids) = channel_of(&server, 5).await;
    let epoch = position(&json!(ids[0])).epoch;
    assert!(epoch > 0);
    assert_eq!(ids, (0..5).map(|seq| format!("{epoch}-{seq}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn a_join_with_since_brings_what_was_missed_then_caught_up_then_what_is_new() {
    let server = TestServer::start().await;
    let (mut ann, ids) = channel_of(&server, 5).await;
    let mut bob = server.session("bob").await;
    let joined = bob.join_since("tea", &ids[1]).await;
    assert_eq!((text(&joined["first"]), text(&joined["last"])), (ids[0].as_str(), ids[4].as_str()));
    let (missed, caught_up) = bob.catch_up().await;
    assert_eq!(texts(&missed), ["2", "3", "4"]);
    assert_eq!(caught_up, json!({"ev": "caught_up", "channel": "tea", "id": ids[4]}));
    ann.send("tea", "new").await;
    assert_eq!(bob.next_message().await["text"], "new");
    bob.expect_silence().await;
}

#[tokio::test]
async fn a_join_without_since_is_live_only() {
    let server = TestServer::start().await;
    let (mut ann, ids) = channel_of(&server, 2).await;
    let mut bob = server.session("bob").await;
    assert_eq!(bob.join("tea").await["last"], json!(ids[1]));
    bob.expect_silence().await;
    ann.send("tea", "new").await;
    assert_eq!(bob.next_message().await["text"], "new");
}

#[tokio::test]
async fn a_join_at_the_head_or_of_an_empty_log_catches_up_at_once() {
    let server = TestServer::start().await;
    let (ann, ids) = channel_of(&server, 1).await;
    ann.create_channel("empty").await;
    let mut bob = server.session("bob").await;
    bob.join_since("tea", &ids[0]).await;
    assert_eq!(bob.next_event().await, json!({"ev": "caught_up", "channel": "tea", "id": ids[0]}));
    bob.join_since("empty", "0-0").await;
    assert_eq!(bob.next_event().await, json!({"ev": "caught_up", "channel": "empty", "id": null}));
}

#[tokio::test]
async fn the_beginning_of_what_is_retained_is_no_gap() {
    let server = TestServer::with(&[("CHANNEL_RETENTION_MESSAGES", "10")]).await;
    let (mut ann, _) = channel_of(&server, 500).await;
    let first = ann.history("tea", "").await["first"].clone();
    assert!(position(&first).seq > 0, "the log was trimmed");
    let joined = ann.join_since("tea", "0-0").await;
    let (events, _) = ann.catch_up().await;
    assert_eq!((&events[0]["ev"], &events[0]["id"]), (&json!("message"), &joined["first"]));
    assert!(events.len() >= 10);
}

#[tokio::test]
async fn what_is_no_longer_retained_is_a_gap() {
    let server = TestServer::with(&[("CHANNEL_RETENTION_MESSAGES", "10")]).await;
    let (mut ann, ids) = channel_of(&server, 500).await;
    let joined = ann.join_since("tea", &ids[0]).await;
    let gap = ann.next_event().await;
    let (first, last) = (joined["first"].clone(), joined["last"].clone());
    assert_eq!(gap, json!({"ev": "gap", "channel": "tea", "reason": "trimmed", "first": first, "last": last}));
    let (events, caught_up) = ann.catch_up().await;
    assert_eq!((&events[0]["id"], &caught_up["id"]), (&first, &json!(ids[499])));
    let mut seen = Seen::default();
    events.iter().for_each(|event| seen.note(event));
}

#[tokio::test]
async fn one_before_the_oldest_misses_nothing() {
    let server = TestServer::with(&[("CHANNEL_RETENTION_MESSAGES", "10")]).await;
    let (mut ann, ids) = channel_of(&server, 500).await;
    let first = position(&ann.history("tea", "").await["first"]);
    let before = usize::try_from(first.seq).expect("a small number") - 1;
    ann.join_since("tea", &ids[before]).await;
    let (events, _) = ann.catch_up().await;
    assert_eq!(events[0]["id"], json!(first.to_string()), "no gap: the next one is there");
}

#[tokio::test]
async fn a_position_ahead_of_the_log_is_rolled_back() {
    let server = TestServer::start().await;
    let (mut ann, ids) = channel_of(&server, 3).await;
    let head = position(&json!(ids[2]));
    let ahead =
        [format!("{}-{}", head.epoch, head.seq + 1), format!("{}-0", head.epoch + 1), format!("{0}-{0}", u64::MAX)];
    for since in ahead {
        ann.join_since("tea", &since).await;
        let gap = ann.next_event().await;
        let expected = json!({"ev": "gap", "channel": "tea", "reason": "rolled_back", "first": ids[0], "last": ids[2]});
        assert_eq!(gap, expected, "{since}");
        assert_eq!(ann.next_event().await, json!({"ev": "caught_up", "channel": "tea", "id": ids[2]}));
        ann.leave("tea").await;
    }
}

#[tokio::test]
async fn a_log_begun_anew_is_a_gap_for_who_knows_the_old_one() {
    let server = TestServer::start().await;
    let (mut ann, ids) = channel_of(&server, 3).await;
    let mut listener = server.session("bob").await;
    listener.join("tea").await;
    forget_logs(&server).await;
    let new = ann.send("tea", "new").await.id;
    assert!(position(&json!(new)).epoch > position(&json!(ids[2])).epoch);
    assert_eq!(position(&json!(new)).seq, 0);
    // Live, too, nothing is skipped in silence.
    let gap = listener.next_of("gap").await;
    assert_eq!(gap, json!({"ev": "gap", "channel": "tea", "reason": "epoch_changed", "first": new, "last": new}));
    assert_eq!(listener.next_message().await["id"], json!(new));
    // And for who comes back.
    ann.join_since("tea", &ids[1]).await;
    let (events, caught_up) = ann.catch_up().await;
    assert_eq!((&events[0]["ev"], &events[0]["reason"]), (&json!("gap"), &json!("epoch_changed")));
    assert_eq!((&events[1]["id"], &caught_up["id"]), (&json!(new), &json!(new)));
}

#[tokio::test]
async fn between_two_epochs_of_one_log_stands_a_gap() {
    let mut server = TestServer::start().await;
    let (ann, ids) = channel_of(&server, 2).await;
    let ann = ann.user.clone();
    server.stop().await;
    let later = begin_epoch(&server).await;
    let server = server.again().await;
    let mut session = ann.at(&server).session().await;
    session.join_since("tea", &ids[0]).await;
    let (events, caught_up) = session.catch_up().await;
    let gap = json!({"ev": "gap", "channel": "tea", "reason": "epoch_changed", "first": ids[0], "last": later});
    assert_eq!((events.len(), &events[0]["id"], &events[1]), (3, &json!(ids[1]), &gap));
    assert_eq!((&events[2]["id"], &caught_up["id"]), (&json!(later), &json!(later)));
    let next = position(&json!(session.send("tea", "next").await.id));
    assert!(next.follows(position(&json!(later))), "the log goes on in its last epoch");
}

#[tokio::test]
async fn a_log_that_has_expired_is_trimmed_and_not_lost() {
    let mut server = TestServer::start().await;
    let (ann, ids) = channel_of(&server, 3).await;
    let ann = ann.user.clone();
    let redis = Redis::shared();
    let log = redis.log_keys(&server.prefix).await.remove(0);
    redis.run(&["PEXPIRE", &log, "1"]).await;
    let gone = async || redis.log_keys(&server.prefix).await.is_empty().then_some(());
    eventually("the log has expired", gone).await;
    // Another start remembers no epoch of its own.
    server.stop().await;
    let server = server.again().await;
    let mut session = ann.at(&server).session().await;
    let head = position(&json!(ids[2]));
    for (since, reason) in [
        (ids[0].clone(), "trimmed"),
        (ids[2].clone(), "trimmed"),
        (format!("{}-0", head.epoch + 1), "rolled_back"),
        ("1-0".to_owned(), "epoch_changed"),
    ] {
        session.join_since("tea", &since).await;
        let gap = json!({"ev": "gap", "channel": "tea", "reason": reason, "first": null, "last": null});
        assert_eq!(session.next_event().await, gap, "since {since}");
        assert_eq!(session.next_event().await, json!({"ev": "caught_up", "channel": "tea", "id": null}));
        session.leave("tea").await;
    }
    session.join_since("tea", "0-0").await;
    assert_eq!(session.next_event().await, json!({"ev": "caught_up", "channel": "tea", "id": null}));
    let new = session.send("tea", "new").await.id;
    assert_eq!(session.next_message().await["id"], json!(new), "without a gap");
    let new = position(&json!(new));
    assert!(new.epoch > head.epoch && new.seq == 0, "{new}: no position is given out twice");
}

/// Writes the only log's newest entry once more, in a later epoch; its new position.
async fn begin_epoch(server: &TestServer) -> String {
    let redis = Redis::shared();
    let keys = redis.log_keys(&server.prefix).await;
    let mut connection = redis.connect().await;
    let newest = redis::cmd("XREVRANGE").arg(&keys[0]).arg("+").arg("-").arg("COUNT").arg(1).to_owned();
    let newest: Vec<(String, Vec<Vec<u8>>)> = newest.query_async(&mut connection).await.expect("a log");
    let (id, fields) = newest.first().expect("an entry");
    let later = format!("{}-0", position(&json!(id)).epoch + 100);
    let add = redis::cmd("XADD").arg(&keys[0]).arg(&later).arg(fields).to_owned();
    add.query_async(&mut connection).await.expect("a later epoch is higher")
}

/// As a Redis that lost its data does.
async fn forget_logs(server: &TestServer) {
    let redis = Redis::shared();
    let keys = redis.log_keys(&server.prefix).await;
    assert!(!keys.is_empty(), "there is a log to forget");
    let mut connection = redis.connect().await;
    redis::cmd("DEL").arg(keys).exec_async(&mut connection).await.expect("the redis-server runs");
}

#[tokio::test]
async fn many_channels_are_resumed_in_one_frame() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    let mut bob = server.session("bob").await;
    let mut since = json!({"none": "0-0", "den": "0-0"});
    ann.create_private("den").await;
    for number in 0..50 {
        let name = format!("c{number}");
        ann.create_channel(&name).await;
        let known = ann.send(&name, "known").await.id;
        ann.send(&name, "missed").await;
        since[name] = known.into();
    }
    let answer = bob.ok(json!({"op": "resume", "since": since})).await;
    assert_eq!(answer["refused"], json!({"none": "channel_not_found", "den": "channel_not_found"}));
    let joined = answer["joined"].as_object().expect("an object");
    assert_eq!(joined.len(), 50);
    assert!(joined.values().all(|ends| ends["first"].is_string() && ends["last"].is_string()), "{joined:?}");
    let (mut missed, mut caught_up) = (Vec::new(), 0);
    while caught_up < 50 {
        match bob.next_event().await {
            event if event["ev"] == "message" => missed.push(event),
            event => {
                assert_eq!(event["ev"], "caught_up");
                assert!(missed.iter().any(|message| message["channel"] == event["channel"]), "first what was missed");
                caught_up += 1;
            }
        }
    }
    assert_eq!(missed.len(), 50);
    assert!(missed.iter().all(|message| message["text"] == "missed"));
    ann.send("c7", "live").await;
    assert_eq!(bob.next_message().await["text"], "live");
}

#[tokio::test]
async fn joining_again_starts_again_from_where_it_says() {
    let server = TestServer::start().await;
    let (_ann, ids) = channel_of(&server, 3).await;
    let mut bob = server.session("bob").await;
    bob.join("tea").await;
    bob.leave("tea").await;
    bob.join_since("tea", &ids[0]).await;
    assert_eq!(texts(&bob.catch_up().await.0), ["1", "2"]);
}

/// How many joins, and how much is written meanwhile at the least.
const JOINS: usize = 200;
const WRITTEN: usize = 2_000;

#[tokio::test]
async fn from_any_point_while_others_write_there_is_no_hole_and_no_double() {
    let server = TestServer::start().await;
    let (ann, _) = channel_of(&server, 1).await;
    let address = server.address;
    let mut tasks = JoinSet::new();
    let writer = ann.user.clone();
    tasks.spawn(async move {
        let mut sender = Sender::new(writer, &[address], "tea");
        for number in 0..WRITTEN {
            sender.send(&format!("w{number}")).await;
        }
    });
    let bob = server.user("bob").await;
    for number in 0..JOINS {
        let bob = bob.clone();
        tasks.spawn(async move { listen_from_somewhere(bob.session().await, number).await });
    }
    let all = async { while tasks.join_next().await.transpose().expect("no task fails").is_some() {} };
    within(LONG_PATIENCE, "all have seen the end", all).await;
}

/// Joins at a point that depends on the number, sees all from there to the last one written.
async fn listen_from_somewhere(mut session: Session, number: usize) {
    let page = session.history("tea", "").await;
    let (first, last) = (position(&page["first"]), position(&page["last"]));
    // A simple generator spreads the points over the log as it is now, short of its end.
    let seq = (number as u64).wrapping_mul(0x9e37_79b9_7f4a_7c15) % last.seq.max(1);
    let head = session.join_since("tea", &format!("{}-{seq}", first.epoch)).await["last"].clone();
    let mut seen = Seen::default();
    let end = format!("w{}", WRITTEN - 1);
    let mut expected = seq + 1;
    while seen.texts.last() != Some(&end) {
        let event = session.next_event().await;
        match text(&event["ev"]) {
            "message" => {
                assert_eq!(position(&event["id"]).seq, expected, "joined since {seq}");
                expected += 1;
            }
            "caught_up" => assert!(position(&event["id"]) >= position(&head), "not before the head that ok told"),
            other => panic!("{other} has no place here: {event}"),
        }
        seen.note(&event);
    }
    if seen.caught_up == 0 {
        session.next_of("caught_up").await;
    } else {
        assert_eq!(seen.caught_up, 1);
    }
}

#[tokio::test]
async fn positions_outlive_the_server() {
    let mut server = TestServer::start().await;
    let (ann, ids) = channel_of(&server, 3).await;
    let ann = ann.user.clone();
    server.stop().await;
    let server = server.again().await;
    let ann = ann.at(&server);
    let mut session = ann.session().await;
    session.join_since("tea", &ids[0]).await;
    assert_eq!(texts(&session.catch_up().await.0), ["1", "2"]);
    let next = position(&json!(session.send("tea", "3").await.id));
    assert!(next.follows(position(&json!(ids[2]))), "a restart of the server begins no epoch");
    let page: Value = ann.history("tea", &format!("?around={}&limit=1", ids[1])).await;
    assert_eq!(texts(items(&page["events"])), ["1"]);
}
