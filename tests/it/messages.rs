//! Sending, repeating, typing.

use serde_json::{Value, json};

use crate::support::session::Sent;
use crate::support::{TestServer, message, texts, without};

#[tokio::test]
async fn a_message_reaches_every_listener_as_it_was_sent() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    ann.join("tea").await;
    bob.join("tea").await;
    let sent = ann.send("tea", "hello, wörld \u{1f375}\n\"").await;
    for listener in [&mut ann, &mut bob] {
        let heard = listener.next_message().await;
        assert_eq!(heard["at"], json!(sent.at));
        assert_eq!(without(heard, &["at"]), message("tea", &sent.id, "ann", "hello, wörld \u{1f375}\n\""));
    }
}

#[tokio::test]
async fn everything_a_message_may_bear_arrives() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    bob.join("tea").await;
    let first = ann.send("tea", "first").await;
    bob.next_message().await;
    let data = json!({"kind": "poll", "options": ["green", "black"], "nested": {"n": [1, 2.5, null, true]}});
    let all = json!({"channel": "tea", "text": "x", "data": data, "cid": "c1", "reply_to": first.id});
    let sent = ann.send_with(all).await;
    let mut expected = message("tea", &sent.id, "ann", "x");
    expected["data"] = data.clone();
    expected["cid"] = "c1".into();
    expected["reply_to"] = first.id.into();
    assert_eq!(without(bob.next_message().await, &["at"]), expected);
    let sent = ann.send_with(json!({"channel": "tea", "data": {}})).await;
    let expected = json!({"ev": "message", "channel": "tea", "id": sent.id, "from": "ann", "data": {}});
    assert_eq!(without(bob.next_message().await, &["at"]), expected);
}

#[tokio::test]
async fn a_message_is_measured_as_the_contract_says() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let data = |bytes: usize| json!({"a": "x".repeat(bytes - r#"{"a":""}"#.len())});
    for fits in [
        json!({"text": "x".repeat(8_192)}),
        json!({"text": "ü".repeat(4_096)}),
        json!({"data": data(8_192)}),
        json!({"text": "x", "cid": "c".repeat(64)}),
        json!({"text": "x", "reply_to": "1-18446744073709551615"}),
    ] {
        ann.send_with(in_tea(&fits)).await;
        ann.post_message("tea", fits).await;
    }
    let refused = [
        (json!({}), 400, "bad_request"),
        (json!({"text": ""}), 400, "bad_request"),
        (json!({"text": "", "data": {}}), 400, "bad_request"),
        (json!({"text": 1}), 400, "bad_request"),
        (json!({"data": []}), 400, "bad_request"),
        (json!({"data": "x"}), 400, "bad_request"),
        (json!({"text": "x", "cid": "c".repeat(65)}), 400, "bad_request"),
        (json!({"text": "x", "cid": 1}), 400, "bad_request"),
        (json!({"text": "x", "reply_to": "x"}), 400, "bad_request"),
        (json!({"text": "x", "reply_to": 1}), 400, "bad_request"),
        (json!({"text": "x".repeat(8_193)}), 413, "too_large"),
        (json!({"text": "ü".repeat(4_097)}), 413, "too_large"),
        (json!({"data": data(8_193)}), 413, "too_large"),
    ];
    for (body, status, code) in refused {
        let mut command = in_tea(&body);
        command["op"] = "send".into();
        assert_eq!(ann.error(command).await, code, "{body:.100}");
        ann.post_message("tea", body).await.refused(status, code);
    }
}

fn in_tea(body: &Value) -> Value {
    let mut command = body.clone();
    command["channel"] = "tea".into();
    command
}

#[tokio::test]
async fn data_is_measured_without_its_white_space() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let spaced = format!(r#"{{"op":"send","ref":1,"channel":"tea","data":{{{}"a" : 1}}}}"#, " ".repeat(9_000));
    ann.raw(spaced).await;
    assert_eq!(ann.next_of("ok").await["ref"], 1);
}

#[tokio::test]
async fn one_cid_is_written_once_however_often_it_is_sent() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    ann.create_channel("coffee").await;
    bob.join("tea").await;
    let once = json!({"channel": "tea", "text": "once", "cid": "c1"});
    let first = ann.send_with(once.clone()).await;
    let dup = Sent { dup: true, ..first.clone() };
    assert_eq!((first.dup, ann.send_with(once.clone()).await), (false, dup.clone()));
    let mut another_session = ann.user.session().await;
    assert_eq!(another_session.send_with(once.clone()).await, dup);
    let over_http = ann.post_message("tea", json!({"text": "once", "cid": "c1"})).await.expect(200);
    assert_eq!(Sent::from(&over_http), dup);
    // Another channel and another user have cids of their own.
    assert!(!ann.send_with(json!({"channel": "coffee", "text": "once", "cid": "c1"})).await.dup);
    let bobs = bob.send_with(once).await;
    assert!(!bobs.dup && bobs.id != first.id);
    assert_eq!(bob.next_message().await["id"], json!(first.id));
    assert_eq!(bob.next_message().await["id"], json!(bobs.id));
    bob.expect_silence().await;
}

#[tokio::test]
async fn one_cid_with_other_content_is_a_conflict() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let first =
        ann.send_with(json!({"channel": "tea", "text": "a", "data": {"n": 1}, "cid": "c1", "reply_to": "1-1"})).await;
    for other in [
        json!({"text": "b", "data": {"n": 1}, "cid": "c1", "reply_to": "1-1"}),
        json!({"text": "a", "data": {"n": 2}, "cid": "c1", "reply_to": "1-1"}),
        json!({"text": "a", "data": {"n": 1}, "cid": "c1", "reply_to": "1-2"}),
        json!({"text": "a", "cid": "c1"}),
    ] {
        let mut command = in_tea(&other);
        command["op"] = "send".into();
        assert_eq!(ann.error(command).await, "cid_conflict");
        ann.post_message("tea", other).await.refused(409, "cid_conflict");
    }
    let events = ann.history("tea", "").await["events"].clone();
    assert_eq!((events.as_array().map(Vec::len), &events[0]["id"]), (Some(1), &json!(first.id)));
}

#[tokio::test]
async fn a_refused_message_uses_no_cid_up() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    ann.error(json!({"op": "send", "channel": "tea", "text": "", "cid": "c1"})).await;
    assert!(!ann.send_with(json!({"channel": "tea", "text": "x", "cid": "c1"})).await.dup);
}

#[tokio::test]
async fn a_message_over_http_is_as_good_as_one_over_the_socket() {
    let server = TestServer::start().await;
    let (ann, mut bob) = (server.user("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    bob.join("tea").await;
    let answer = ann.post_message("tea", json!({"text": "hello", "cid": "c1"})).await.expect(201);
    assert_eq!(answer.get("dup"), None);
    let mut expected = message("tea", answer["id"].as_str().expect("a position"), "ann", "hello");
    expected["cid"] = "c1".into();
    let heard = bob.next_message().await;
    assert_eq!(heard["at"], answer["at"]);
    assert_eq!(without(heard, &["at"]), expected);
    ann.post_message("none", json!({"text": "hello"})).await.refused(404, "channel_not_found");
}

#[tokio::test]
async fn sending_and_typing_need_no_join() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    bob.join("tea").await;
    ann.ok(json!({"op": "typing", "channel": "tea"})).await;
    assert_eq!(bob.next_event().await, json!({"ev": "typing", "channel": "tea", "from": "ann"}));
    ann.send("tea", "hello").await;
    bob.next_message().await;
    ann.expect_silence().await;
    assert_eq!(
        texts(ann.history("tea", "").await["events"].as_array().expect("events")),
        ["hello"],
        "typing is not logged"
    );
}

#[tokio::test]
async fn a_hundred_sends_in_flight_are_answered_and_logged_in_order() {
    let server = TestServer::start().await;
    let (mut ann, mut bob) = (server.session("ann").await, server.session("bob").await);
    ann.create_channel("tea").await;
    bob.join("tea").await;
    let mut refs = Vec::new();
    for number in 0..100 {
        refs.push(ann.begin(json!({"op": "send", "channel": "tea", "text": number.to_string()})).await);
    }
    let mut ids = Vec::new();
    for reference in refs {
        ids.push(ann.answer(reference).await.expect("an answer")["id"].clone());
    }
    let heard = bob.messages(100).await;
    assert_eq!(texts(&heard), (0..100).map(|number| number.to_string()).collect::<Vec<_>>());
    assert_eq!(heard.iter().map(|message| message["id"].clone()).collect::<Vec<_>>(), ids);
}
