//! Signing up, in and out; tokens and what becomes of them.

use serde_json::{Value, json};

use crate::support::user::PASSWORD;
use crate::support::{Request, TestServer, TestUser};

async fn post(server: &TestServer, path: &str, body: Value) -> crate::support::Answer {
    Request::new("POST", path).json(&body).send(server.address).await
}

#[tokio::test]
async fn signing_up_answers_who_one_is_and_a_pair_of_tokens() {
    let server = TestServer::start().await;
    let answer = post(&server, "/signup", json!({"name": "ann", "password": PASSWORD, "unknown": 1})).await.expect(201);
    assert_eq!(answer["user"]["name"], "ann");
    assert!(answer["user"]["created_at"].is_i64());
    assert!(answer["expires_at"].as_i64() > answer["user"]["created_at"].as_i64());
    let ann = TestUser::from(server.address, &answer);
    let me = ann.get("/me").await.expect(200);
    assert_eq!(me, json!({"user": answer["user"]}));
}

#[tokio::test]
async fn signing_up_is_refused_with_what_does_not_fit() {
    let server = TestServer::start().await;
    server.user("ann").await;
    let cases = [
        (json!({"name": "ann", "password": PASSWORD}), 409, "name_taken"),
        (json!({"name": "A", "password": PASSWORD}), 400, "bad_request"),
        (json!({"name": "bob", "password": "7 chars"}), 400, "bad_request"),
        (json!({"name": "bob", "password": "x".repeat(257)}), 400, "bad_request"),
        (json!({"name": "bob"}), 400, "bad_request"),
        (json!({"name": 1, "password": PASSWORD}), 400, "bad_request"),
        (json!([]), 400, "bad_request"),
    ];
    for (body, status, code) in cases {
        post(&server, "/signup", body).await.refused(status, code);
    }
    let longest = json!({"name": "bob", "password": "ü".repeat(256)});
    post(&server, "/signup", longest).await.expect(201);
}

#[tokio::test]
async fn a_body_that_cannot_be_read_is_refused_by_what_is_wrong_with_it() {
    let server = TestServer::start().await;
    let signup = || Request::new("POST", "/signup");
    signup().body("{").send(server.address).await.refused(400, "bad_json");
    signup().body("").send(server.address).await.refused(400, "bad_json");
    signup().send(server.address).await.refused(400, "bad_json");
    signup().body(vec![b'"', 0xff, b'"']).send(server.address).await.refused(400, "bad_json");
    let large = json!({"name": "ann", "password": PASSWORD, "rest": "x".repeat(64 * 1024)}).to_string();
    signup().body(large.clone()).send(server.address).await.refused(413, "too_large");
    signup().body(large).chunked().send(server.address).await.refused(413, "too_large");
    let good = json!({"name": "ann", "password": PASSWORD}).to_string();
    signup().body(good).chunked().send(server.address).await.expect(201);
}

#[tokio::test]
async fn signing_in_takes_the_right_name_and_password_and_tells_no_difference() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    assert_eq!(ann.log_in().await.name, "ann");
    for (name, password) in [("ann", "wrong horse"), ("nobody", PASSWORD), ("No Name", PASSWORD), ("ann", "")] {
        post(&server, "/login", json!({"name": name, "password": password})).await.refused(401, "bad_credentials");
    }
    post(&server, "/login", json!({"name": "ann"})).await.refused(400, "bad_request");
}

#[tokio::test]
async fn a_refresh_gives_a_new_pair_and_the_old_token_lives_until_the_pair_is_used() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let lost = ann.refreshed().await;
    let kept = ann.refreshed().await;
    assert_ne!(lost.refresh, kept.refresh);
    // The first use of the pair, on HTTP, ends the old one.
    kept.get("/me").await.expect(200);
    kept.refreshed().await.get("/me").await.expect(200);
}

#[tokio::test]
async fn a_refresh_token_used_again_after_its_successor_ends_the_sign_in() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let other = ann.log_in().await;
    let next = ann.refreshed().await;
    let mut session = next.session().await; // the first use of the pair, on a socket
    ann.try_refresh().await.refused(401, "unauthenticated");
    assert_eq!(session.expect_close().await.code, 4403);
    next.is_locked_out().await;
    next.try_refresh().await.refused(401, "unauthenticated");
    other.get("/me").await.expect(200);
}

#[tokio::test]
async fn refreshing_with_the_new_token_is_its_first_use() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let second = ann.refreshed().await;
    let third = second.refreshed().await;
    ann.try_refresh().await.refused(401, "unauthenticated");
    third.is_locked_out().await;
}

#[tokio::test]
async fn a_refresh_without_a_good_token_is_refused() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    for wrong in ["", "nonsense", &ann.access] {
        post(&server, "/refresh", json!({"refresh_token": wrong})).await.refused(401, "unauthenticated");
    }
    post(&server, "/refresh", json!({})).await.refused(400, "bad_request");
    post(&server, "/refresh", json!({"refresh_token": 1})).await.refused(400, "bad_request");
}

#[tokio::test]
async fn signing_out_ends_this_sign_in_and_its_sessions_alone() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let other = ann.log_in().await;
    let (mut here, mut elsewhere) = (ann.session().await, other.session().await);
    ann.request("POST", "/logout").send(server.address).await.expect(204);
    assert_eq!(here.expect_close().await.code, 4403);
    ann.is_locked_out().await;
    ann.try_refresh().await.refused(401, "unauthenticated");
    elsewhere.expect_silence().await;
    other.get("/me").await.expect(200);
}

#[tokio::test]
async fn signing_out_everywhere_closes_sessions_on_every_node_within_a_second() {
    let (one, two) = TestServer::pair().await;
    let ann = one.user("ann").await;
    let other = ann.at(&two).log_in().await;
    let (mut here, mut there) = (ann.session().await, other.session().await);
    let began = std::time::Instant::now();
    ann.post("/logout", json!({"everywhere": true})).await.expect(204);
    for session in [&mut here, &mut there] {
        assert_eq!(session.expect_close().await.code, 4403);
    }
    assert!(began.elapsed().as_millis() < 1_000, "it took {:?}", began.elapsed());
    for user in [&ann, &other] {
        user.is_locked_out().await;
        user.try_refresh().await.refused(401, "unauthenticated");
    }
    ann.log_in().await.get("/me").await.expect(200);
}

#[tokio::test]
async fn a_new_password_ends_all_other_sign_ins() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let other = ann.log_in().await;
    let (mut here, mut elsewhere) = (ann.session().await, other.session().await);
    ann.put("/me/password", json!({"current": "wrong horse", "new": "battery staple"}))
        .await
        .refused(401, "bad_credentials");
    ann.put("/me/password", json!({"current": PASSWORD, "new": "short"})).await.refused(400, "bad_request");
    ann.put("/me/password", json!({"current": PASSWORD})).await.refused(400, "bad_request");
    ann.put("/me/password", json!({"current": PASSWORD, "new": "battery staple"})).await.expect(204);
    assert_eq!(elsewhere.expect_close().await.code, 4403);
    other.is_locked_out().await;
    here.expect_silence().await;
    ann.get("/me").await.expect(200);
    post(&server, "/login", json!({"name": "ann", "password": PASSWORD})).await.refused(401, "bad_credentials");
    post(&server, "/login", json!({"name": "ann", "password": "battery staple"})).await.expect(200);
}

#[tokio::test]
async fn who_asks_is_checked_before_what_is_asked() {
    let server = TestServer::start().await;
    let nobody = [
        ("GET", "/me"),
        ("PUT", "/me/password"),
        ("POST", "/logout"),
        ("GET", "/channels?limit=0"),
        ("POST", "/channels"),
        ("GET", "/channels/none"),
        ("PATCH", "/channels/none"),
        ("DELETE", "/channels/none"),
        ("GET", "/channels/none/members"),
        ("PUT", "/channels/none/members/none"),
        ("DELETE", "/channels/none/members/none"),
        ("GET", "/channels/none/messages?limit=0"),
        ("POST", "/channels/none/messages"),
    ];
    for (method, path) in nobody {
        Request::new(method, path).body("{").send(server.address).await.refused(401, "unauthenticated");
    }
    Request::new("GET", "/nowhere").send(server.address).await.refused(404, "not_found");
}

#[tokio::test]
async fn no_credential_counts_in_an_address() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    for parameter in ["token", "access_token", "authorization"] {
        server.get(&format!("/me?{parameter}={}", ann.access)).await.refused(401, "unauthenticated");
    }
    assert!(!server.logs().contains(&ann.access), "no token is logged");
    assert!(!server.logs().contains(PASSWORD), "no password is logged");
}
