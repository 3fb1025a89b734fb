//! What people do in the midst of everything: send a thing thrice, lose a membership, lose a sign-in.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Result, anyhow, ensure};
use serde_json::{Value, json};
use tokio::time::Instant;

use super::Scene;
use super::commands::rounds;
use crate::support::{Session, TestUser};

/// How many messages are sent thrice.
const THRICE: (usize, usize) = (100, 2_000);
/// How many messages a replay has to get through.
const TO_REPLAY: u64 = 400;
/// A log that no network swallows at once: 24 MB.
const LONG_LOG: usize = 3_000;
const LONG_TEXT: usize = 8_000;
/// Of those, messages that are under way at a time.
const UNANSWERED_MAX: usize = 64;
/// A second, as the contract has it, and what was on the way.
const REVOKED_WITHIN: Duration = Duration::from_secs(2);

/// Each message goes to all nodes at once, under one `cid`. One of the answers lacks `dup`, and the log has it once.
pub(super) async fn send_thrice(scene: &mut Scene) -> Result<()> {
    let ann = TestUser::sign_up(scene.system.nodes[0].address, "thrice").await;
    ann.create_channel("thrice").await;
    let mut sessions = Vec::new();
    for node in &scene.system.nodes {
        sessions.push(TestUser { address: node.address, ..ann.clone() }.session().await);
    }
    let count = scene.form.choose(THRICE.0, THRICE.1);
    let mut ids = Vec::new();
    for number in 0..count {
        let command =
            json!({"op": "send", "channel": "thrice", "text": format!("{number}"), "cid": format!("c{number}")});
        let asked = sessions.iter_mut().map(|session| session.ask(command.clone()));
        let answers: Vec<Value> = futures_util::future::join_all(asked).await;
        ensure!(answers.iter().all(|answer| answer["ev"] == "ok"), "{number}: {answers:?}");
        ensure!(
            answers.iter().all(|answer| answer["id"] == answers[0]["id"]),
            "{number} stands in two places: {answers:?}"
        );
        ensure!(answers.iter().filter(|answer| answer["dup"] != true).count() == 1, "{number}: {answers:?}");
        ids.push(answers[0]["id"].clone());
        scene.made += 2;
    }
    let mut at = "0-0".to_owned();
    let mut logged = Vec::new();
    loop {
        let page = ann.history("thrice", &format!("?after={at}&limit=200")).await;
        logged.extend(page["events"].as_array().into_iter().flatten().map(|event| event["id"].clone()));
        match (page["more"] == true, logged.last().and_then(Value::as_str)) {
            (true, Some(last)) => at = last.to_owned(),
            _ => break,
        }
    }
    ensure!(logged == ids, "the log has {} messages where {} were sent", logged.len(), ids.len());
    scene.until_any_time().await
}

/// Members are removed while they read the log from its beginning; the judge looks at what they got.
pub(super) async fn remove(scene: &mut Scene) -> Result<()> {
    for round in 0..scene.form.choose(2, 3) {
        scene.until_sent(TO_REPLAY).await?;
        scene.mark("removed");
        scene.load.remove(round, round).await;
    }
    scene.until_any_time().await
}

/// A session that reads a long log from its beginning, on the last node, and how many messages there are. They are more
/// than the network takes, so that the node has read a part of them only.
pub(super) async fn long_replay(scene: &Scene, name: &str) -> Result<(Session, usize)> {
    let (first, last) = (&scene.system.nodes[0], &scene.system.nodes[scene.system.nodes.len() - 1]);
    let ann = TestUser::sign_up(first.address, name).await;
    ann.create_channel(name).await;
    let mut writer = ann.session().await;
    let text = "x".repeat(LONG_TEXT);
    let mut asked = VecDeque::new();
    for number in 0..LONG_LOG + UNANSWERED_MAX {
        if number < LONG_LOG {
            asked.push_back(writer.begin(json!({"op": "send", "channel": name, "text": text})).await);
        }
        // Whoever writes and never reads is read no further.
        if let Some(reference) = asked.pop_front_if(|_| number >= UNANSWERED_MAX) {
            let answer = writer.answer(reference).await;
            let answer = answer.map_err(|closed| anyhow!("the writer was put out: {closed:?}"))?;
            ensure!(answer["ev"] == "ok", "a message is answered {answer}");
        }
    }
    let mut reader = TestUser { address: last.address, ..ann.log_in().await }.session().await;
    reader.join_since(name, "0-0").await;
    Ok((reader, LONG_LOG))
}

/// A sign-in is revoked on another node while its session reads a long log: it is closed in the midst.
pub(super) async fn revoke(scene: &mut Scene) -> Result<()> {
    for round in 0..rounds(scene.form) {
        let (mut reader, count) = long_replay(scene, &format!("reader-{round}")).await?;
        reader.next_message().await;
        scene.mark("revoked");
        let began = Instant::now();
        let there = TestUser { address: scene.system.nodes[0].address, ..reader.user.clone() };
        there.request("POST", "/logout").send(there.address).await.expect(204);
        let mut seen = 1;
        let closed = loop {
            match reader.try_next().await {
                Ok(event) if event["ev"] == "message" => seen += 1,
                Ok(_) => {}
                Err(closed) => break closed,
            }
        };
        ensure!(closed.code == 4403, "the session ended with {}", closed.code);
        ensure!(began.elapsed() < REVOKED_WITHIN, "it took {:?}", began.elapsed());
        ensure!(seen < count, "the session read to the end before it was closed");
    }
    scene.until_any_time().await
}
