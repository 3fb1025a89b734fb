//! What happens to the data: Redis loses some, or all; somebody deletes or trims a log. What is gone is announced.

use anyhow::{Context, Result};
use redis::Value;

use super::Scene;
use super::commands::{leading, rounds};

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

/// Under the eyes of listeners that are slow, and of new ones that read from the beginning.
pub(super) async fn trim(scene: &mut Scene) -> Result<()> {
    let kept = KEPT.to_string();
    for _ in 0..scene.form.choose(3, 20) {
        scene.until_any_time().await?;
        let (member, log) = any_log(scene).await?;
        scene.mark("log trimmed");
        scene.system.redis.members[member].ask::<Value>(&["XTRIM", &log, "MAXLEN", &kept]).await?;
    }
    scene.until_any_time().await
}

/// A channel's log, and the member that leads its shard.
async fn any_log(scene: &mut Scene) -> Result<(usize, String)> {
    let mut logs = Vec::new();
    for member in leading(scene).await? {
        let keys: Vec<String> = scene.system.redis.members[member].ask(&["KEYS", "*}:log:*"]).await?;
        logs.extend(keys.into_iter().filter(|key| !key.ends_with(":gone")).map(|key| (member, key)));
    }
    logs.sort();
    let any = scene.random.usize(..logs.len().max(1));
    logs.into_iter().nth(any).context("there is no log yet")
}
