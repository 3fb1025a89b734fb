//! What the logs tell, and how they are told to tell more or less.

use std::fs;

use serde_json::{Value, json};

use crate::support::redis::Redis;
use crate::support::setup::Setup;
use crate::support::{Answer, Request, TestServer, eventually, text};

/// The first line of JSON with this message.
async fn line(server: &TestServer, message: &str) -> Value {
    eventually(message, async || {
        let logs = server.logs();
        let mut lines = logs.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        lines.find(|line| line["message"] == message)
    })
    .await
}

async fn mistaken(server: &TestServer, id: &str) -> Answer {
    let body = json!({"name": "ann", "password": "not the right one"});
    Request::new("POST", "/login").header("X-Request-Id", id).json(&body).send(server.address).await
}

#[tokio::test]
async fn a_session_that_is_over_leaves_one_line_with_its_code_and_what_it_did() {
    let server = TestServer::with(&[("LOG_FORMAT", "json")]).await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    ann.join("tea").await;
    for number in 0..3 {
        ann.send("tea", &number.to_string()).await;
    }
    ann.messages(3).await;
    let session = ann.welcome["session"].clone();
    ann.user.post("/logout", json!({})).await;
    assert_eq!(ann.expect_close().await.code, 4403);
    let closed = line(&server, "Session closed").await;
    assert_eq!((&closed["session"], &closed["user"], &closed["code"]), (&session, &json!("ann"), &json!("4403")));
    assert_eq!((&closed["commands"], &closed["delivered"]), (&json!(4), &json!(3)));
    assert!(closed["seconds"].as_f64().is_some_and(|seconds| seconds > 0.0), "{closed}");
    assert!(closed["timestamp"].is_string() && closed["level"] == "INFO", "{closed}");
    server.session("bob").await.close().await;
    eventually("bob's line", async || server.logs().contains(r#""user":"bob""#).then_some(())).await;
    assert_eq!(server.logs().matches("Session closed").count(), 2, "{}", server.logs());
}

#[tokio::test]
async fn a_line_about_a_request_has_the_id_that_its_answer_has() {
    let server = TestServer::with(&[("LOG_FORMAT", "json")]).await;
    let answer = mistaken(&server, "somebody-elses").await;
    let id = answer.header("X-Request-Id").expect("every answer has one").to_owned();
    answer.refused(401, "bad_credentials");
    assert_ne!(id, "somebody-elses", "only a proxy that is trusted names requests");
    let refused = line(&server, "A sign-in was refused").await;
    assert_eq!(refused["span"], json!({"name": "request", "id": id, "method": "POST", "route": "/login"}));
}

#[tokio::test]
async fn a_proxy_that_is_trusted_names_requests() {
    let env = [("LOG_FORMAT", "json"), ("SERVER_TRUSTED_PROXIES", "127.0.0.1")];
    let server = TestServer::with(&env).await;
    let answer = mistaken(&server, "4bf92f3577b34da6").await;
    assert_eq!(answer.header("X-Request-Id"), Some("4bf92f3577b34da6"));
    assert_eq!(text(&line(&server, "A sign-in was refused").await["span"]["id"]), "4bf92f3577b34da6");
}

#[tokio::test]
async fn lines_for_people_say_the_same() {
    let server = TestServer::start().await;
    let ann = server.session("ann").await;
    let session = text(&ann.welcome["session"]).to_owned();
    ann.close().await;
    let closed = format!("Session closed session={session} user=\"ann\" code=\"gone\" seconds=");
    eventually("ann's line", async || server.logs().contains(&closed).then_some(())).await;
    let answer = mistaken(&server, "").await;
    let id = answer.header("X-Request-Id").expect("every answer has one").to_owned();
    let refused = |line: &str| line.contains(" INFO ") && line.contains(&id) && line.contains("A sign-in was refused");
    eventually("the refusal", async || server.logs().lines().any(refused).then_some(())).await;
}

#[tokio::test]
async fn a_hangup_changes_the_level_of_the_logs_and_nothing_else() {
    let setup = Setup::new().on(Redis::shared());
    let file = setup.data.path().join("burble.toml");
    fs::write(&file, "[log]\nconsole_level = \"error\"\n").expect("a file");
    let Ok(mut server) = TestServer::try_launch(setup).await else { panic!("it starts") };
    assert!(!server.logs().contains(" INFO "), "{}", server.logs());
    fs::write(&file, "[log]\nconsole_level = \"info\"\n").expect("a file");
    server.signal("HUP");
    let line = async |part: &str| server.logs().contains(part).then_some(());
    eventually("it says so", async || line("Read the settings again").await).await;
    fs::write(&file, "[log]\nloudness = 11\n").expect("a file");
    server.signal("HUP");
    eventually("it goes on", async || line("nothing has changed").await).await;
    server.user("ann").await;
    assert!(server.stop().await.success());
}
