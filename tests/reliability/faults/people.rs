//! What people do in the midst of everything: send a thing thrice, lose a membership, lose a sign-in.

use anyhow::{Result, ensure};
use serde_json::{Value, json};

use super::Scene;
use super::commands::rounds;
use crate::support::{Session, TestUser};

/// How many messages are sent thrice.
const THRICE: (usize, usize) = (100, 2_000);
/// How many messages a replay has to get through.
const TO_REPLAY: u64 = 400;

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

/// A sign-in is revoked while its session reads the log from the beginning: it closes in the midst.
pub(super) async fn revoke(scene: &mut Scene) -> Result<()> {
    let ann = TestUser::sign_up(scene.system.nodes[0].address, "reader").await;
    let bob = TestUser::sign_up(scene.system.nodes[0].address, "writer").await;
    bob.create_channel("long").await;
    let mut writer = bob.session().await;
    let text = "x".repeat(8_000);
    for _ in 0..scene.form.choose(2_000, 4_000) {
        writer.send("long", &text).await;
    }
    for round in 0..rounds(scene.form) {
        let away = &scene.system.nodes[(round + 1) % scene.system.nodes.len()];
        let there = TestUser { address: away.address, ..ann.log_in().await };
        let mut reader: Session = there.session().await;
        reader.join_since("long", "0-0").await;
        for _ in 0..100 {
            reader.next_message().await;
        }
        scene.mark("revoked");
        let began = tokio::time::Instant::now();
        let other = TestUser { address: scene.system.nodes[round % scene.system.nodes.len()].address, ..there.clone() };
        other.request("POST", "/logout").send(other.address).await.expect(204);
        let mut seen = 100;
        let closed = loop {
            match reader.try_next().await {
                Ok(event) if event["ev"] == "message" => seen += 1,
                Ok(_) => {}
                Err(closed) => break closed,
            }
        };
        ensure!(closed.code == 4403, "the session ended with {}", closed.code);
        ensure!(began.elapsed().as_secs() < 2, "it took {:?}", began.elapsed());
        ensure!(seen < scene.form.choose(2_000, 4_000), "the session read to the end before it was closed");
    }
    scene.until_any_time().await
}
