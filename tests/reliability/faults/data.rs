//! What happens to the data: Redis loses some, or all; somebody deletes or trims a log. What is gone is announced.

use anyhow::{Context, Result, anyhow, ensure};
use burble::model::Position;
use redis::Value;

use super::commands::{leading, rounds};
use super::{Scene, people};

/// What a trimmed log keeps.
pub(super) const KEPT: usize = 100;
/// What is written while a replica lags, and lost with it.
const LOST: u64 = 100;

/// A replica that lacks the last messages is made to lead.
pub(super) async fn lag(scene: &mut Scene) -> Result<()> {
    for _ in 0..rounds(scene.form) {
        scene.system.redis.until_whole().await?;
        scene.until_any_time().await?;
        let shard = scene.random.usize(..scene.system.redis.shards());
        let redis = &mut scene.system.redis;
        let (former, replica) = (redis.primary(shard).await?, redis.replica(shard).await?);
        redis.cut_off(shard, replica).await?;
        scene.until_sent(LOST).await?;
        scene.mark("lagging replica leads");
        let redis = &mut scene.system.redis;
        redis.members[former].kill();
        redis.members[replica].thaw();
        redis.promote(shard, replica).await?;
        redis.members[former].restart();
    }
    scene.until_any_time().await
}

pub(super) async fn flush(scene: &mut Scene) -> Result<()> {
    for _ in 0..rounds(scene.form) {
        scene.until_any_time().await?;
        scene.mark("FLUSHALL");
        for member in leading(scene).await? {
            scene.system.redis.members[member].ask::<Value>(&["FLUSHALL"]).await?;
        }
    }
    scene.until_any_time().await
}

pub(super) async fn delete_log(scene: &mut Scene) -> Result<()> {
    for _ in 0..rounds(scene.form) {
        scene.until_any_time().await?;
        let (member, log) = any_log(scene).await?;
        scene.mark("log deleted");
        scene.system.redis.members[member].ask::<Value>(&["DEL", &log]).await?;
    }
    scene.until_any_time().await
}

/// Under the eyes of listeners that are slow, and of one that has read a part of a long log and comes back to it.
pub(super) async fn trim(scene: &mut Scene) -> Result<()> {
    let kept = KEPT.to_string();
    for _ in 0..scene.form.choose(2, 10) {
        scene.until_any_time().await?;
        let (member, log) = any_log(scene).await?;
        scene.mark("log trimmed");
        scene.system.redis.members[member].ask::<Value>(&["XTRIM", &log, "MAXLEN", &kept]).await?;
    }
    trim_in_the_midst(scene, &kept).await?;
    scene.until_any_time().await
}

/// What the reader gets: messages without a hole, a `gap`, and then the rest without a hole, from what is left on.
async fn trim_in_the_midst(scene: &mut Scene, kept: &str) -> Result<()> {
    let before = logs(scene).await?;
    let (mut reader, count) = people::long_replay(scene, "trimmed").await?;
    let mut seen = vec![position(&reader.next_message().await)?];
    let after = logs(scene).await?;
    let (member, log) = after.into_iter().find(|log| !before.contains(log)).context("the long log")?;
    scene.mark("log trimmed in the midst");
    scene.system.redis.members[member].ask::<Value>(&["XTRIM", &log, "MAXLEN", kept]).await?;
    let (mut told, mut gaps) = (false, 0);
    loop {
        let event = reader.try_next().await.map_err(|closed| anyhow!("the reader was put out: {closed:?}"))?;
        match event["ev"].as_str() {
            Some("message") => {
                let (last, next) = (seen[seen.len() - 1], position(&event)?);
                ensure!(next.follows(last) || told && next > last, "{next} came after {last}, with {gaps} gaps");
                told = false;
                seen.push(next);
            }
            Some("gap") => {
                ensure!(event["reason"] == "trimmed", "the gap is {event}");
                (told, gaps) = (true, gaps + 1);
            }
            Some("caught_up") => break,
            _ => {}
        }
    }
    ensure!(gaps == 1, "the reader had {} of {count} messages, and was told of {gaps} gaps", seen.len());
    Ok(())
}

fn position(event: &serde_json::Value) -> Result<Position> {
    event["id"].as_str().and_then(|id| id.parse().ok()).with_context(|| format!("no position in {event}"))
}

/// A channel's log, and the member that leads its shard.
async fn any_log(scene: &mut Scene) -> Result<(usize, String)> {
    let logs = logs(scene).await?;
    let any = scene.random.usize(..logs.len().max(1));
    logs.into_iter().nth(any).context("there is no log yet")
}

/// All of them, in order.
async fn logs(scene: &Scene) -> Result<Vec<(usize, String)>> {
    let mut logs = Vec::new();
    for member in leading(scene).await? {
        let keys: Vec<String> = scene.system.redis.members[member].ask(&["KEYS", "*}:log:*"]).await?;
        logs.extend(keys.into_iter().filter(|key| !key.ends_with(":gone")).map(|key| (member, key)));
    }
    logs.sort();
    Ok(logs)
}
