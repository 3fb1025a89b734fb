//! What happens to Redis: it is killed, and comes back, or another one takes over.

use std::time::Duration;

use anyhow::Result;

use super::Scene;

/// How long a killed Redis stays away at the longest. Nothing is acknowledged meanwhile, so that no message can tell when
/// to go on.
const AWAY_MAX: Duration = Duration::from_secs(2);

pub(super) async fn restart(scene: &mut Scene) -> Result<()> {
    for _ in 0..scene.form.choose(2, 12) {
        scene.until_any_time().await?;
        let away = scene.any_pause(AWAY_MAX);
        scene.mark("kill");
        scene.system.redis.members[0].kill();
        tokio::time::sleep(away).await;
        scene.system.redis.members[0].restart();
    }
    Ok(())
}

pub(super) async fn fail_over(scene: &mut Scene) -> Result<()> {
    for _ in 0..scene.form.choose(1, 5) {
        scene.system.redis.until_whole().await?;
        scene.until_any_time().await?;
        let shard = scene.random.usize(..scene.system.redis.shards());
        let former = scene.system.redis.primary(shard).await?;
        scene.mark("kill");
        scene.system.redis.members[former].kill();
        scene.system.redis.until_failed_over(shard, former).await?;
        scene.system.redis.members[former].restart();
    }
    Ok(())
}
