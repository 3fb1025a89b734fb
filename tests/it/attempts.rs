//! Guessing passwords gets slow, on all nodes together, and locks nobody out whose password it is not.

use serde_json::json;

use crate::support::redis::Redis;
use crate::support::user::PASSWORD;
use crate::support::{Answer, Request, TestServer, TestUser, eventually};

/// Proxies are believed, so that a test may come from anywhere.
const PROXIED: (&str, &str) = ("SERVER_TRUSTED_PROXIES", "127.0.0.1");
const HOME: &str = "198.51.100.7";
const ELSEWHERE: &str = "203.0.113.9";

async fn sign_in(server: &TestServer, address: &str, name: &str, password: &str) -> Answer {
    let body = json!({"name": name, "password": password});
    Request::new("POST", "/login").header("X-Forwarded-For", address).json(&body).send(server.address).await
}

async fn fails(server: &TestServer, address: &str, name: &str) {
    sign_in(server, address, name, "wrong horse").await.refused(401, "bad_credentials");
}

async fn has_to_wait(server: &TestServer, address: &str, name: &str, password: &str) {
    sign_in(server, address, name, password).await.refused(429, "rate_limited");
}

async fn gets_in(server: &TestServer, address: &str, name: &str) {
    sign_in(server, address, name, PASSWORD).await.expect(200);
}

/// The value of a series without labels, or with those that stand in its name.
async fn figure(server: &TestServer, series: &str) -> u64 {
    let metrics = server.metrics().await;
    let value = metrics.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    value.unwrap_or_else(|| panic!("no {series}")).parse().expect("a whole number")
}

#[tokio::test]
async fn each_failure_beyond_the_free_ones_doubles_the_wait() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES", "2")]).await;
    server.user("ann").await;
    for _ in 0..3 {
        fails(&server, ELSEWHERE, "ann").await;
    }
    let hashed = figure(&server, "burble_password_seconds_count").await;
    let refused = sign_in(&server, ELSEWHERE, "ann", PASSWORD).await;
    assert_eq!((refused.status, refused.header("Retry-After")), (429, Some("1")), "even for the right password");
    assert_eq!(figure(&server, "burble_password_seconds_count").await, hashed, "a refusal costs no hash");
    assert_eq!(figure(&server, r#"burble_refused_total{reason="sign_in"}"#).await, 1);
    eventually("the second is over", async || {
        let answer = sign_in(&server, ELSEWHERE, "ann", "wrong horse").await;
        (answer.status == 401).then_some(())
    })
    .await;
    assert_eq!(sign_in(&server, ELSEWHERE, "ann", PASSWORD).await.header("Retry-After"), Some("2"));
}

#[tokio::test]
async fn the_right_password_clears_what_was_counted_for_it() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES", "2")]).await;
    server.user("ann").await;
    for _ in 0..3 {
        fails(&server, HOME, "ann").await;
        fails(&server, HOME, "ann").await;
        gets_in(&server, HOME, "ann").await;
    }
}

#[tokio::test]
async fn a_guesser_keeps_nobody_out_who_is_elsewhere() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES", "1")]).await;
    server.user("ann").await;
    fails(&server, ELSEWHERE, "ann").await;
    fails(&server, ELSEWHERE, "ann").await;
    has_to_wait(&server, ELSEWHERE, "ann", PASSWORD).await;
    gets_in(&server, HOME, "ann").await;
    has_to_wait(&server, ELSEWHERE, "ann", PASSWORD).await;
    fails(&server, ELSEWHERE, "bob").await;
}

#[tokio::test]
async fn guessing_from_many_addresses_makes_strangers_wait_and_not_who_is_known() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES_PER_NAME", "2")]).await;
    server.user("ann").await;
    gets_in(&server, HOME, "ann").await;
    for address in ["203.0.113.1", "203.0.113.2", "203.0.113.3"] {
        fails(&server, address, "ann").await;
    }
    has_to_wait(&server, ELSEWHERE, "ann", PASSWORD).await;
    gets_in(&server, HOME, "ann").await;
    gets_in(&server, ELSEWHERE, "ann").await;
}

#[tokio::test]
async fn guessing_at_many_names_makes_an_address_wait() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES_PER_ADDRESS", "2")]).await;
    server.user("ann").await;
    for name in ["bob", "cid", "no such name"] {
        fails(&server, ELSEWHERE, name).await;
    }
    has_to_wait(&server, ELSEWHERE, "ann", PASSWORD).await;
    gets_in(&server, HOME, "ann").await;
}

#[tokio::test]
async fn who_signs_in_to_an_account_of_their_own_gains_no_guesses_at_others() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES_PER_ADDRESS", "2")]).await;
    server.user("eve").await;
    fails(&server, ELSEWHERE, "ann").await;
    gets_in(&server, ELSEWHERE, "eve").await;
    fails(&server, ELSEWHERE, "ann").await;
    gets_in(&server, ELSEWHERE, "eve").await;
    fails(&server, ELSEWHERE, "ann").await;
    has_to_wait(&server, ELSEWHERE, "eve", PASSWORD).await;
}

#[tokio::test]
async fn guesses_at_once_are_counted_before_they_are_made() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES", "5")]).await;
    let address = server.address;
    let mut guesses = tokio::task::JoinSet::new();
    for _ in 0..60 {
        let body = json!({"name": "ann", "password": "wrong horse"});
        guesses.spawn(async move { Request::new("POST", "/login").json(&body).send(address).await.status });
    }
    let answers = guesses.join_all().await;
    let made = answers.iter().filter(|status| **status == 401).count();
    // Six, and one more after one second and after three, should this machine be as slow as that.
    assert!((6..=8).contains(&made), "{made} guesses were made: {answers:?}");
    assert!(answers.iter().all(|status| [401, 429].contains(status)), "{answers:?}");
}

#[tokio::test]
async fn nodes_share_what_they_count() {
    let (one, two) = TestServer::pair_with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES", "2")]).await;
    one.user("ann").await;
    fails(&one, ELSEWHERE, "ann").await;
    fails(&two, ELSEWHERE, "ann").await;
    fails(&one, ELSEWHERE, "ann").await;
    for node in [&one, &two] {
        has_to_wait(node, ELSEWHERE, "ann", PASSWORD).await;
    }
    gets_in(&two, HOME, "ann").await;
}

#[tokio::test]
async fn a_wrong_current_password_counts_too() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_IN_FAILURES", "1")]).await;
    let ann = server.user("ann").await;
    let change = async |current: &str| {
        let request = ann.request("PUT", "/me/password").header("X-Forwarded-For", ELSEWHERE);
        request.json(&json!({"current": current, "new": "battery staple"})).send(server.address).await
    };
    change("wrong horse").await.refused(401, "bad_credentials");
    change("wrong horse").await.refused(401, "bad_credentials");
    change(PASSWORD).await.refused(429, "rate_limited");
    has_to_wait(&server, ELSEWHERE, "ann", PASSWORD).await;
    gets_in(&server, HOME, "ann").await;
}

#[tokio::test]
async fn sign_ups_from_one_address_get_slow() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_SIGN_UPS_PER_ADDRESS", "2")]).await;
    let sign_up = async |address: &str, name: &str| {
        let body = json!({"name": name, "password": PASSWORD});
        Request::new("POST", "/signup").header("X-Forwarded-For", address).json(&body).send(server.address).await
    };
    sign_up(ELSEWHERE, "ann").await.expect(201);
    sign_up(ELSEWHERE, "ann").await.refused(409, "name_taken");
    sign_up(ELSEWHERE, "bob").await.expect(201);
    sign_up(ELSEWHERE, "cid").await.refused(429, "rate_limited");
    sign_up(HOME, "cid").await.expect(201);
    assert_eq!(figure(&server, r#"burble_refused_total{reason="sign_up"}"#).await, 1);
}

#[tokio::test]
async fn what_is_counted_expires_and_shows_neither_names_nor_addresses() {
    let limits = ["LIMIT_SIGN_IN_FAILURES", "LIMIT_SIGN_IN_FAILURES_PER_NAME", "LIMIT_SIGN_IN_FAILURES_PER_ADDRESS"];
    let [a, b, c] = limits.map(|limit| (limit, "1"));
    let server = TestServer::with(&[PROXIED, a, b, c, ("LIMIT_SIGN_UPS_PER_ADDRESS", "1")]).await;
    server.user("ann").await;
    gets_in(&server, HOME, "ann").await;
    for _ in 0..3 {
        sign_in(&server, ELSEWHERE, "ann", "wrong horse").await;
    }
    sign_in(&server, "2001:db8::9", &"long name ".repeat(5_000), "wrong horse").await.refused(401, "bad_credentials");
    let mut connection = Redis::shared().connect().await;
    let keys: Vec<String> = redis::cmd("KEYS")
        .arg(format!("{}:*:attempts:*", server.prefix))
        .query_async(&mut connection)
        .await
        .expect("the redis-server runs");
    // Of the sign-up, of what is known of ann, and three for each of the two who failed.
    assert_eq!(keys.len(), 8, "{keys:?}");
    for key in keys {
        let left_ms: i64 = redis::cmd("PTTL").arg(&key).query_async(&mut connection).await.expect("a number");
        assert!(left_ms > 0, "{key} never expires");
        let said = key.strip_prefix(&server.prefix).expect("all keys of a server begin with its prefix");
        assert!(key.len() < 100 && !said.contains("ann") && !said.contains("203"), "{key}");
    }
}

#[tokio::test]
async fn where_attempts_cannot_be_counted_nobody_guesses() {
    let mut redis = Redis::start(true);
    let limits = [("LIMIT_SIGN_IN_FAILURES", "10"), ("PUBSUB_APPEND_TIMEOUT_MS", "500")];
    let server = TestServer::on(&redis, &limits).await;
    let ann: TestUser = server.user("ann").await;
    redis.kill();
    sign_in(&server, HOME, "ann", PASSWORD).await.refused(503, "unavailable");
    ann.refreshed().await.get("/me").await.expect(200);
    redis.restart();
    eventually("Redis is back", async || (sign_in(&server, HOME, "ann", PASSWORD).await.status == 200).then_some(()))
        .await;
}
