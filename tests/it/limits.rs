//! What a user, a session and a node may use, and what is answered beyond.

use serde_json::json;

use crate::support::{Request, TestServer, TestUser, eventually, text};

#[tokio::test]
async fn a_session_that_sends_too_fast_is_told_when_to_go_on() {
    let server = TestServer::with(&[("LIMIT_SESSION_COMMANDS_PER_SECOND", "10")]).await;
    let mut ann = server.session("ann").await;
    let mut refs = Vec::new();
    for _ in 0..40 {
        refs.push(ann.begin(json!({"op": "ping"})).await);
    }
    let mut limited = Vec::new();
    for reference in refs {
        let answer = ann.answer(reference).await.expect("a little too fast is no reason to close");
        if answer["ev"] == "error" {
            assert_eq!(answer["code"], "rate_limited");
            limited.push(answer["retry_after_ms"].as_u64().expect("when to repeat"));
        }
    }
    assert!(!limited.is_empty() && limited.len() < 40, "{} of 40", limited.len());
    assert!(limited.iter().all(|after_ms| (1..=2_000).contains(after_ms)), "{limited:?}");
}

#[tokio::test]
async fn all_sessions_of_a_user_share_what_the_user_may_send() {
    let server = TestServer::with(&[("LIMIT_USER_COMMANDS_PER_SECOND", "10")]).await;
    let ann = server.user("ann").await;
    let mut sessions = [ann.session().await, ann.session().await, ann.session().await];
    let mut refs = Vec::new();
    for session in &mut sessions {
        for _ in 0..15 {
            refs.push(session.begin(json!({"op": "ping"})).await);
        }
    }
    let mut limited = 0;
    for (number, reference) in refs.into_iter().enumerate() {
        let answer = sessions[number / 15].answer(reference).await.expect("no reason to close");
        if answer["ev"] == "error" {
            assert_eq!(answer["code"], "rate_limited");
            assert!((1..=1_000).contains(&answer["retry_after_ms"].as_u64().expect("when to repeat")), "{answer}");
            limited += 1;
        }
    }
    // Ten in each second, and the 45 may spread over two of them, or three on a busy machine.
    assert!((15..=35).contains(&limited), "{limited} of 45");
    eventually("HTTP counts among them", async || {
        let answer = ann.get("/me").await;
        (answer.status == 429).then(|| answer.refused(429, "rate_limited"))
    })
    .await;
    let mut bob = server.session("bob").await;
    bob.ok(json!({"op": "ping"})).await;
    eventually("the next second", async || (sessions[0].ask(json!({"op": "ping"})).await["ev"] == "ok").then_some(()))
        .await;
}

#[tokio::test]
async fn a_session_joins_as_many_channels_as_it_may() {
    let server = TestServer::with(&[("LIMIT_SESSION_JOINS", "2")]).await;
    let mut ann = server.session("ann").await;
    for name in ["a", "b", "c"] {
        ann.create_channel(name).await;
    }
    ann.join("a").await;
    ann.join("b").await;
    let answer = ann.ask(json!({"op": "join", "channel": "c"})).await;
    assert_eq!((text(&answer["ev"]), text(&answer["code"])), ("error", "too_many_joins"));
    assert!(answer["retry_after_ms"].is_u64());
    ann.leave("a").await;
    ann.join("c").await;
    let resumed = ann.ok(json!({"op": "resume", "since": {"a": "0-0"}})).await;
    assert_eq!(resumed["refused"], json!({"a": "too_many_joins"}));
    assert_eq!(server.session("bob").await.welcome["limits"]["joins"], 2);
}

#[tokio::test]
async fn a_user_has_as_many_sessions_as_they_may() {
    let server = TestServer::with(&[("LIMIT_SESSIONS_PER_USER", "2")]).await;
    let ann = server.user("ann").await;
    let (one, _two) = (ann.session().await, ann.session().await);
    ann.session_refused().await.refused(429, "too_many_sessions");
    let mut late = server.socket().await;
    assert_eq!(late.error(json!({"op": "auth", "token": ann.access})).await, "too_many_sessions");
    server.session("bob").await;
    one.close().await;
    eventually("there is room again", async || ann.try_session().await.ok()).await;
}

#[tokio::test]
async fn a_node_that_is_full_refuses_further_connections() {
    let server = TestServer::with(&[("LIMIT_CONNECTIONS", "2")]).await;
    let ann: TestUser = server.user("ann").await;
    // The connection of the sign-up may still be counted.
    let one = eventually("there is room for one", async || ann.try_session().await.ok()).await;
    let _two = eventually("there is room for two", async || ann.try_session().await.ok()).await;
    server.get("/openapi.json").await.refused(503, "unavailable");
    ann.upgrade(Request::new("GET", "/ws")).await.err().expect("no socket").refused(503, "unavailable");
    assert_eq!(server.probe("/livez").await.status, 200, "the operators get in");
    one.close().await;
    eventually("there is room again", async || ann.try_session().await.ok()).await;
}

#[tokio::test]
async fn a_flood_of_sign_ins_is_turned_away_and_messages_pass() {
    let server = TestServer::with(&[
        ("AUTH_PASSWORD_ROUNDS", "200000"),
        ("AUTH_PASSWORD_THREADS", "1"),
        ("LIMIT_PASSWORD_QUEUE", "1"),
    ])
    .await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let mut flood = tokio::task::JoinSet::new();
    for _ in 0..20 {
        let address = server.address;
        let body = json!({"name": "ann", "password": "wrong horse"});
        flood.spawn(async move { Request::new("POST", "/login").json(&body).send(address).await });
    }
    for _ in 0..20 {
        ann.send("tea", "still quick").await;
    }
    let mut turned_away = 0;
    for answer in flood.join_all().await {
        match answer.status {
            429 => {
                turned_away += 1;
                answer.refused(429, "rate_limited");
            }
            _ => answer.refused(401, "bad_credentials"),
        }
    }
    assert!(turned_away > 0);
}
