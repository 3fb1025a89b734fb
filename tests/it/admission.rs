//! Who gets in while a node is full, or under attack: each has a share of their own, and waits where waiting helps.

use std::time::Duration;

use sea_orm::{ConnectionTrait, Database, DbBackend, Statement, TransactionTrait};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::Instant;

use crate::support::postgres::Postgres;
use crate::support::{
    Answer, LONG_PATIENCE, PATIENCE, Request, Seen, Session, TestServer, TestUser, eventually, within,
};

const PROXIED: (&str, &str) = ("SERVER_TRUSTED_PROXIES", "127.0.0.1");
const HOME: &str = "198.51.100.7";

/// The same server, by way of a proxy that speaks for an address.
async fn session_from(user: &TestUser, forwarded: &str) -> Result<Session, Answer> {
    user.upgrade(user.request("GET", "/ws").header("X-Forwarded-For", forwarded)).await
}

#[tokio::test]
async fn an_address_behind_a_proxy_has_as_many_connections_as_it_may() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_CONNECTIONS_PER_ADDRESS", "2")]).await;
    let ann = server.user("ann").await;
    let one = session_from(&ann, HOME).await.expect("room for one");
    // What the client itself says of its address stands on the left, and is not believed.
    let _two = session_from(&ann, &format!("192.0.2.66, {HOME}")).await.expect("room for two");
    session_from(&ann, HOME).await.err().expect("no third").refused(429, "rate_limited");
    session_from(&ann, &format!("192.0.2.66, {HOME}")).await.err().expect("no third").refused(429, "rate_limited");
    ann.request("GET", "/me").header("X-Forwarded-For", HOME).send(server.address).await.refused(429, "rate_limited");
    ann.request("GET", "/me").header("X-Forwarded-For", "198.51.100.8").send(server.address).await.expect(200);
    one.close().await;
    eventually("there is room again", async || session_from(&ann, HOME).await.ok()).await;
}

#[tokio::test]
async fn an_ipv6_network_counts_as_one_address() {
    let server = TestServer::with(&[PROXIED, ("LIMIT_CONNECTIONS_PER_ADDRESS", "1")]).await;
    let ann = server.user("ann").await;
    let _one = session_from(&ann, "2001:db8:0:1::1").await.expect("room for one");
    session_from(&ann, "2001:db8:0:1:ffff::2").await.err().expect("the same /64").refused(429, "rate_limited");
    let _other = session_from(&ann, "2001:db8:0:2::1").await.expect("another /64");
}

#[tokio::test]
async fn who_connects_directly_counts_from_the_first_byte_and_cannot_lie() {
    let server = TestServer::with(&[("LIMIT_CONNECTIONS_PER_ADDRESS", "2")]).await;
    let ann = server.user("ann").await;
    let silent = eventually("the sign-up has gone", async || {
        let silent = TcpStream::connect(server.address).await.expect("it listens");
        ann.try_session().await.ok().map(|session| (silent, session))
    })
    .await;
    let answer = ann.request("GET", "/me").header("X-Forwarded-For", HOME).send(server.address).await;
    answer.refused(429, "rate_limited");
    drop(silent);
    eventually("there is room again", async || ann.try_session().await.ok()).await;
}

#[tokio::test]
async fn idle_strangers_make_room_for_who_signs_in() {
    let server = TestServer::with(&[("LIMIT_CONNECTIONS_UNSIGNED", "2")]).await;
    let ann = server.user("ann").await;
    let (mut first, mut second) = (server.socket().await, server.socket().await);
    let mut member = ann.session().await;
    assert!(
        server.metrics().await.contains(r#"burble_refused_total{reason="unsigned"} 0"#),
        "members are no strangers"
    );
    let mut third = server.socket().await;
    assert_eq!(first.expect_close().await.code, 1013, "the one that has waited longest");
    third.auth(&ann).await;
    // That left a place, so the next stranger displaces nobody, and the one after it does.
    let mut fourth = server.socket().await;
    let _fifth = server.socket().await;
    assert_eq!(second.expect_close().await.code, 1013);
    for session in [&mut member, &mut third] {
        session.expect_silence().await;
    }
    fourth.auth(&ann).await;
    assert!(server.metrics().await.contains(r#"burble_refused_total{reason="unsigned"} 2"#));
}

#[tokio::test]
async fn upgrades_under_way_are_bounded() {
    let url = Postgres::shared().create_database();
    let server = TestServer::with(&[("SERVER_DB", &url), ("LIMIT_UPGRADES", "1")]).await;
    let (ann, bob) = (server.user("ann").await, server.user("bob").await);
    // Who has a token is looked up once: as long as that hangs, so does the upgrade.
    let database = Database::connect(&url).await.expect("a database");
    let locked = database.begin().await.expect("a transaction");
    locked.execute_unprepared("LOCK TABLE users IN ACCESS EXCLUSIVE MODE").await.expect("a lock");
    let mut slow = JoinSet::new();
    slow.spawn(async move { ann.try_session().await.map(|session| session.welcome) });
    eventually("one is under way", async || {
        let waiting = "SELECT 1 FROM pg_locks WHERE relation = 'users'::regclass AND NOT granted";
        database.query_one_raw(Statement::from_string(DbBackend::Postgres, waiting)).await.expect("an answer")
    })
    .await;
    bob.session_refused().await.refused(503, "unavailable");
    locked.rollback().await.expect("the lock is gone");
    assert_eq!(slow.join_all().await[0].as_ref().expect("let in")["user"], "ann");
    eventually("there is room again", async || bob.try_session().await.ok()).await;
}

/// Says that so many bytes of a body come, and sends some of them.
async fn half_a_body(server: &TestServer, length: usize, sent: usize) -> TcpStream {
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    let head = format!("POST /signup HTTP/1.1\r\nHost: x\r\nContent-Length: {length}\r\n\r\n");
    stream.write_all(head.as_bytes()).await.expect("it reads");
    stream.write_all(&vec![b' '; sent]).await.expect("it reads");
    stream
}

#[tokio::test]
async fn the_bytes_of_all_bodies_are_bounded() {
    let server = TestServer::with(&[("LIMIT_BODIES_BYTES", "1000")]).await;
    let sign_up = async || {
        let body = json!({"name": "ann", "password": "correct horse"});
        Request::new("POST", "/signup").json(&body).send(server.address).await
    };
    let half = eventually("what is held leaves too little", async || {
        // It may come to the server behind the sign-up, and is refused then.
        let half = half_a_body(&server, 1_000, 990).await;
        let answer = sign_up().await;
        assert!([201, 409, 503].contains(&answer.status), "{}", answer.text());
        (answer.status == 503).then(|| {
            answer.refused(503, "unavailable");
            half
        })
    })
    .await;
    drop(half);
    eventually("its bytes are free again", async || (sign_up().await.status != 503).then_some(())).await;
}

#[tokio::test]
async fn a_body_that_trickles_in_is_given_up() {
    let server = TestServer::with(&[("SERVER_REQUEST_MS", "500")]).await;
    let began = Instant::now();
    let (mut from, mut to) = half_a_body(&server, 1_000, 10).await.into_split();
    let mut trickle = JoinSet::new();
    trickle.spawn(async move {
        // Each byte comes well in time; the whole would take a minute.
        while to.write_all(b" ").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(60)).await;
        }
    });
    let mut answer = Vec::new();
    let read = within(PATIENCE, "it is answered", from.read_buf(&mut answer)).await;
    read.expect("an answer");
    assert!(answer.starts_with(b"HTTP/1.1 400 "), "{}", String::from_utf8_lossy(&answer));
    assert!(began.elapsed() >= Duration::from_millis(500), "{:?}", began.elapsed());
    within(PATIENCE, "the connection ends", trickle.join_all()).await;
}

#[tokio::test]
async fn headers_that_trickle_in_are_given_up() {
    let server = TestServer::with(&[("SERVER_REQUEST_MS", "300")]).await;
    let mut stream = TcpStream::connect(server.address).await.expect("it listens");
    stream.write_all(b"GET /me HTTP/1.1\r\nHost: x\r\nX-Slow: ").await.expect("it reads");
    let mut rest = Vec::new();
    within(PATIENCE, "the connection ends", stream.read_to_end(&mut rest)).await.expect("in order");
    assert!(!rest.starts_with(b"HTTP/1.1 2"), "{}", String::from_utf8_lossy(&rest));
}

#[tokio::test]
async fn a_megabyte_in_a_frame_is_refused_before_it_is_kept() {
    const FRAME: usize = 1 << 20;
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    ann.session().await.close().await;
    let before = server.rss_bytes();
    for _ in 0..32 {
        let mut session = ann.session().await;
        session.raw("x".repeat(FRAME)).await;
        assert_eq!(session.expect_close().await.code, 1009);
    }
    // Announced, begun, and never ended: what is kept of each is less than one frame may have.
    let mut announced = Vec::new();
    for _ in 0..100 {
        let mut stream = ann.session().await.into_stream();
        let head = [&[0x81, 0xff][..], &(60u64 << 10).to_be_bytes(), &[0; 4]].concat();
        stream.write_all(&head).await.expect("it reads");
        stream.write_all(&[b'x'; 1_000]).await.expect("it reads");
        announced.push(stream);
    }
    ann.session().await.expect_silence().await;
    let grown = server.rss_bytes().saturating_sub(before);
    assert!(grown < 32 << 20, "the server grew by {} KiB", grown / 1024);
}

#[tokio::test]
async fn deep_nesting_is_refused_and_the_session_goes_on() {
    let server = TestServer::start().await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    ann.join("tea").await;
    let deep = |depth: usize| format!("{}1{}", "[".repeat(depth), "]".repeat(depth));
    for depth in [200, 2_000] {
        let data = format!(r#"{{"op":"send","channel":"tea","data":{{"x":{}}}}}"#, deep(depth));
        assert_eq!(ann.error_raw(&data).await, "bad_json");
    }
    let unclosed = "[".repeat(60_000);
    assert_eq!(ann.error_raw(&unclosed).await, "bad_json");
    assert_eq!(ann.error_raw(&format!(r#"{{"op":{unclosed}"#)).await, "bad_json");
    // Where nobody looks at it, no depth does harm.
    ann.raw(format!(r#"{{"op":"ping","ref":"deep","x":{}}}"#, deep(30_000))).await;
    assert_eq!(ann.next_of("ok").await["ref"], "deep");
    ann.expect_silence().await;
}

#[tokio::test]
async fn who_does_not_read_keeps_nobody_from_what_they_missed() {
    const MESSAGES: usize = 1_500;
    let server = TestServer::with(&[("LIMIT_REPLAYS", "1")]).await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let text = "x".repeat(8_192);
    for _ in 0..MESSAGES / 50 {
        let mut refs = Vec::new();
        for _ in 0..50 {
            refs.push(ann.begin(json!({"op": "send", "channel": "tea", "text": text})).await);
        }
        for reference in refs {
            assert_eq!(ann.answer(reference).await.expect("the server stays up")["ev"], "ok");
        }
    }
    // Joins and reads nothing: 12 MB do not fit into its socket, and the only turn passes on.
    let mut greedy = server.session("greedy").await;
    greedy.join_since("tea", "0-0").await;
    let mut bob = server.session("bob").await;
    bob.join_since("tea", "0-0").await;
    // He gets everything before the other has read anything.
    for session in [&mut bob, &mut greedy] {
        let mut seen = Seen::default();
        within(LONG_PATIENCE, "all is there", async {
            while seen.caught_up == 0 {
                seen.note(&session.next_event().await);
            }
        })
        .await;
        assert_eq!((seen.ids.len(), seen.gaps.len()), (MESSAGES, 0));
    }
}

#[tokio::test]
async fn who_sends_too_many_bytes_is_read_no_further_for_a_moment_and_loses_nothing() {
    const BYTES: usize = 8_000;
    let server = TestServer::with(&[("LIMIT_USER_BYTES_PER_SECOND", &BYTES.to_string())]).await;
    let mut ann = server.session("ann").await;
    ann.create_channel("tea").await;
    let mut again = ann.user.session().await;
    let mut bob = server.session("bob").await;
    let text = "x".repeat(BYTES);
    let began = Instant::now();
    let mut sends = Vec::new();
    for _ in 0..4 {
        sends.push(ann.begin(json!({"op": "send", "channel": "tea", "text": text})).await);
    }
    for send in sends {
        assert_eq!(ann.answer(send).await.expect("it stays open")["ev"], "ok");
    }
    let took = began.elapsed().as_secs_f64();
    // The first is read at once, each other one when the ones before it are paid for, but for a tenth of a second.
    assert!((2.8..4.5).contains(&took), "three times 8 kB at 8 kB a second took {took} s");
    let paused = Instant::now();
    again.ok(json!({"op": "ping"})).await;
    again.ok(json!({"op": "ping"})).await;
    let paused = paused.elapsed().as_secs_f64();
    assert!((0.2..2.0).contains(&paused), "all sessions of a user share what they may send: {paused} s");
    let others = Instant::now();
    bob.ok(json!({"op": "ping"})).await;
    assert!(others.elapsed() < Duration::from_millis(500), "nobody else is held up");
    assert!(server.metrics().await.contains(r#"burble_refused_total{reason="user_bytes"}"#));
}
