//! How sessions end, and how a token is renewed so that they do not.

use burble::clock::now_ms;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use crate::support::{LONG_PATIENCE, PATIENCE, TestServer, eventually, within};

#[tokio::test]
async fn a_session_ends_with_its_token_and_is_told_before() {
    let server = TestServer::with(&[("AUTH_ACCESS_SECONDS", "2")]).await;
    let mut session = server.session("ann").await;
    let expires_at = session.welcome["expires_at"].clone();
    assert_eq!(session.next_event().await, json!({"ev": "expiring", "expires_at": expires_at}));
    assert_eq!(session.expect_close().await.code, 4401);
    assert!(now_ms() >= expires_at.as_i64().expect("milliseconds"), "not before its time");
    let late = session.user.session_refused().await;
    late.refused(401, "token_expired");
}

#[tokio::test]
async fn a_renewed_token_keeps_the_session_open() {
    let server = TestServer::with(&[("AUTH_ACCESS_SECONDS", "3")]).await;
    let mut session = server.session("ann").await;
    session.next_of("expiring").await;
    let first = session.user.clone();
    let mut latest = first.clone();
    let renewed = eventually("a pair that lives longer", async || {
        latest = latest.refreshed().await;
        Some(latest.clone()).filter(|pair| pair.expires_at > first.expires_at)
    })
    .await;
    let welcome = session.auth(&renewed).await;
    assert_eq!(welcome["expires_at"], json!(renewed.expires_at));
    assert_eq!(session.expect_close().await.code, 4401);
    assert!(now_ms() >= renewed.expires_at, "the old token's end is not the session's");
}

#[tokio::test]
async fn a_session_that_renewed_its_token_ends_with_its_sign_in() {
    let server = TestServer::start().await;
    let mut session = server.session("ann").await;
    let renewed = session.user.refreshed().await;
    session.auth(&renewed).await;
    renewed.request("POST", "/logout").send(server.address).await.expect(204);
    assert_eq!(session.expect_close().await.code, 4403);
}

#[tokio::test]
async fn a_token_is_renewed_with_ones_own_only() {
    let server = TestServer::start().await;
    let (mut ann, bob) = (server.session("ann").await, server.user("bob").await);
    let same = ann.log_in().await;
    ann.auth(&same).await;
    assert_eq!(ann.error(json!({"op": "auth", "token": "nonsense"})).await, "unauthenticated");
    ann.begin(json!({"op": "auth", "token": bob.access})).await;
    assert_eq!(ann.expect_close().await.code, 4406);
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_session() {
    let server = TestServer::start().await;
    let mut session = server.session("ann").await;
    let ping = r#"{"op":"ping","ref":1}"#;
    let frame = |bytes: usize| ping.to_owned() + &" ".repeat(bytes - ping.len());
    session.raw(frame(65_536)).await;
    assert_eq!(session.next_of("ok").await["ref"], 1);
    session.raw(frame(65_537)).await;
    assert_eq!(session.expect_close().await.code, 1009);
}

#[tokio::test]
async fn what_is_no_frame_or_no_utf8_ends_the_session_with_the_codes_of_rfc_6455() {
    let server = TestServer::start().await;
    let ann = server.user("ann").await;
    let unmasked: &[u8] = &[0x81, 1, b'{'];
    let reserved_bit: &[u8] = &[0xc1, 0x80, 0, 0, 0, 0];
    let reserved_opcode: &[u8] = &[0x83, 0x80, 0, 0, 0, 0];
    let not_utf8: &[u8] = &[0x81, 0x81, 0, 0, 0, 0, 0xff];
    for (bytes, code) in [(unmasked, 1002_u16), (reserved_bit, 1002), (reserved_opcode, 1002), (not_utf8, 1007)] {
        let mut stream = ann.session().await.into_stream();
        stream.write_all(bytes).await.expect("it is open");
        let mut said = Vec::new();
        within(PATIENCE, "the server hangs up", stream.read_to_end(&mut said)).await.expect("no reset");
        let (opcode, payload) = frames(&said).pop().expect("a frame");
        assert_eq!((opcode, &payload[..2]), (0x8, &code.to_be_bytes()[..]), "{bytes:x?}");
    }
}

#[tokio::test]
async fn a_connection_that_answers_no_ping_is_dropped_and_one_that_does_is_kept() {
    let server = TestServer::with(&[("SESSION_PING_MS", "100"), ("SESSION_SILENCE_MS", "400")]).await;
    let (dead, mut alive) = (server.session("ann").await, server.session("bob").await);
    assert_eq!(alive.welcome["ping_ms"], 100);
    let mut stream = dead.into_stream();
    let mut bytes = Vec::new();
    tokio::select! {
        read = within(PATIENCE, "the dead connection is dropped", stream.read_to_end(&mut bytes)) => drop(read),
        ended = alive.expect_close() => panic!("it answers every ping, and yet: {ended:?}"),
    }
    let frames = frames(&bytes);
    assert!(frames.iter().any(|(opcode, _)| *opcode == 0x9), "it was pinged");
    let (opcode, payload) = frames.last().expect("a close");
    assert_eq!((*opcode, &payload[..2]), (0x8, &4003_u16.to_be_bytes()[..]));
    alive.expect_silence().await;
}

/// The short frames of a server: opcode and payload.
fn frames(mut bytes: &[u8]) -> Vec<(u8, Vec<u8>)> {
    let mut frames = Vec::new();
    while let [head, length, ..] = *bytes {
        let (start, length) = match length {
            126 => (4, usize::from(u16::from_be_bytes([bytes[2], bytes[3]]))),
            length => (2, usize::from(length)),
        };
        frames.push((head & 0x0f, bytes[start..start + length].to_vec()));
        bytes = &bytes[start + length..];
    }
    frames
}

#[tokio::test]
async fn who_says_goodbye_is_gone_from_the_count() {
    let server = TestServer::start().await;
    let session = server.session("ann").await;
    let open = |metrics: &str| {
        metrics
            .lines()
            .any(|line| line.split(['{', ' ']).next() == Some("burble_sessions_open") && line.ends_with(" 1"))
    };
    eventually("a session is counted", async || open(&server.metrics().await).then_some(())).await;
    within(LONG_PATIENCE, "the goodbye is returned", session.close()).await;
    eventually("none is counted", async || (!open(&server.metrics().await)).then_some(())).await;
}
