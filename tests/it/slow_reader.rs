//! Who reads slowly is served from the log, at the server's ease.

use serde_json::json;

use crate::support::{Seen, TestServer, eventually};

const MESSAGES: usize = 5_000;
/// Of each text, in bytes.
const SIZE: usize = 1_024;
/// Sends under way at a time.
const IN_FLIGHT: usize = 50;
/// What passes by is 5 MB, and more once it is framed; what a slow reader may cost the server is less than that.
const GROWTH_MAX: u64 = 24 << 20;

#[tokio::test]
async fn a_listener_that_stops_reading_gets_everything_afterwards() {
    let server = TestServer::start().await;
    let (mut ann, mut slow, mut brisk) =
        (server.session("ann").await, server.session("slow").await, server.session("brisk").await);
    ann.create_channel("tea").await;
    for listener in [&mut slow, &mut brisk] {
        listener.join_since("tea", "0-0").await;
        listener.next_of("caught_up").await;
    }
    let before = server.rss_bytes();
    let mut most = before;
    let mut seen = Seen::default();
    for start in (0..MESSAGES).step_by(IN_FLIGHT) {
        let mut refs = Vec::with_capacity(IN_FLIGHT);
        for number in start..start + IN_FLIGHT {
            let text = format!("{number:0SIZE$}");
            refs.push(ann.begin(json!({"op": "send", "channel": "tea", "text": text})).await);
        }
        for reference in refs {
            let answer = ann.answer(reference).await.expect("the server stays up");
            assert_eq!(answer["ev"], "ok", "{answer}");
        }
        brisk.messages(IN_FLIGHT).await.iter().for_each(|message| seen.note(message));
        most = most.max(server.rss_bytes());
    }
    assert!(most - before < GROWTH_MAX, "the server grew by {} KiB", (most - before) / 1024);
    // All this time `slow` has read nothing.
    let mut late = Seen::default();
    for message in slow.messages(MESSAGES).await {
        late.note(&message);
    }
    assert_eq!(late.ids, seen.ids);
    assert_eq!(late.texts[MESSAGES - 1], format!("{:0SIZE$}", MESSAGES - 1));
    slow.expect_silence().await;
}

#[tokio::test]
async fn a_slow_reader_of_more_than_is_retained_is_told_of_the_gap() {
    let server = TestServer::with(&[("CHANNEL_RETENTION_MESSAGES", "100")]).await;
    let (mut ann, mut slow) = (server.session("ann").await, server.session("slow").await);
    ann.create_channel("tea").await;
    slow.join_since("tea", "0-0").await;
    slow.next_of("caught_up").await;
    let text = "x".repeat(8_192);
    // 32 MB: more than the kernel's socket buffers and the ring can hold.
    for _ in 0..80 {
        let mut refs = Vec::new();
        for _ in 0..IN_FLIGHT {
            refs.push(ann.begin(json!({"op": "send", "channel": "tea", "text": text})).await);
        }
        for reference in refs {
            ann.answer(reference).await.expect("the server stays up");
        }
    }
    let last = ann.send("tea", "last").await.id;
    let mut seen = Seen::default();
    while seen.ids.last() != Some(&last) {
        seen.note(&slow.next_event().await);
    }
    assert!(!seen.gaps.is_empty() && seen.gaps.iter().all(|reason| reason == "trimmed"), "{:?}", seen.gaps);
}

#[tokio::test]
async fn a_slow_reader_is_not_in_the_way_of_others() {
    let server = TestServer::start().await;
    let (mut ann, mut slow) = (server.session("ann").await, server.session("slow").await);
    ann.create_channel("tea").await;
    slow.join("tea").await;
    ann.join("tea").await;
    let text = "x".repeat(8_192);
    for _ in 0..1_000 {
        ann.send("tea", &text).await;
        ann.next_message().await;
    }
    let count = async || server.metrics().await.lines().any(|line| line.starts_with("burble_")).then_some(());
    eventually("metrics are still answered", count).await;
    assert_eq!(slow.messages(1_000).await.len(), 1_000);
}
