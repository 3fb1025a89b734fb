//! What somebody at a Redis prompt can do: pause it, have it sleep, forget its scripts, its connections, its groups.

use std::time::Duration;

use anyhow::{Context, Result};
use redis::Value;
use tokio::time::sleep;

use super::{Form, Scene};

/// How long Redis does not answer; longer than a node waits for it.
const SLEEP_SECONDS: u64 = 4;
/// After how long without a sign of life a node counts as dead in these runs.
pub(super) const DEAD_AFTER_SECONDS: u64 = 3;

/// At the servers that lead: a replica that sleeps has nothing new, and must not be the one to take over.
pub(super) async fn disturb(scene: &mut Scene) -> Result<()> {
    let (pause, sleep_for) = ((SLEEP_SECONDS * 1_000).to_string(), SLEEP_SECONDS.to_string());
    let commands: [&[&str]; 6] = [
        &["SCRIPT", "FLUSH"],
        &["CLIENT", "KILL", "TYPE", "normal"],
        &["CLIENT", "PAUSE", "1000", "WRITE"],
        &["CLIENT", "PAUSE", &pause, "ALL"],
        &["DEBUG", "SLEEP", "0.5"],
        &["DEBUG", "SLEEP", &sleep_for],
    ];
    for _ in 0..scene.form.choose(1, 3) {
        for command in commands {
            scene.until_any_time().await?;
            let members = leading(scene).await?;
            scene.mark(&command.join(" "));
            for member in members {
                // Whoever sleeps does not answer in time, which is what was asked for.
                let _ = scene.system.redis.members[member].ask::<Value>(command).await;
            }
        }
        sleep(Duration::from_secs(SLEEP_SECONDS)).await;
    }
    Ok(())
}

/// The nodes' consumer groups go, and the keys by which a janitor knows that a node lives; a node stands still for longer
/// than a living one does, so that the others clean up behind it.
pub(super) async fn forget_groups(scene: &mut Scene) -> Result<()> {
    for _ in 0..scene.form.choose(1, 2) {
        scene.until_any_time().await?;
        scene.mark("groups destroyed");
        for member in leading(scene).await? {
            let member = &scene.system.redis.members[member];
            for feed in member.ask::<Vec<String>>(&["KEYS", "*}:feed"]).await? {
                let groups: Vec<Vec<Value>> = member.ask(&["XINFO", "GROUPS", &feed]).await?;
                for group in &groups {
                    let Some(Value::BulkString(name)) = group.get(1) else { continue };
                    let name = std::str::from_utf8(name)?;
                    member.ask::<Value>(&["XGROUP", "DESTROY", &feed, name]).await?;
                }
            }
            for key in member.ask::<Vec<String>>(&["KEYS", "*:node:*"]).await? {
                member.ask::<Value>(&["DEL", &key]).await?;
            }
        }
        scene.until_any_time().await?;
        let node = scene.any_node();
        scene.mark("taken for dead");
        scene.system.nodes[node].freeze()?;
        sleep(Duration::from_secs(3 * DEAD_AFTER_SECONDS)).await;
        scene.system.nodes[node].thaw()?;
        scene.system.nodes[node].until_ready().await?;
    }
    Ok(())
}

/// The members that lead a shard.
pub(super) async fn leading(scene: &Scene) -> Result<Vec<usize>> {
    let mut members = Vec::new();
    for shard in 0..scene.system.redis.shards() {
        members.push(scene.system.redis.primary(shard).await.context("a primary")?);
    }
    Ok(members)
}

/// In the long form so many, in the short one fewer.
pub(super) fn rounds(form: Form) -> usize {
    form.choose(1, 4)
}
