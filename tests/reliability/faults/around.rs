//! What happens around: the database goes, a disk is full, a clock is wrong.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::time::sleep;

use super::Scene;
use super::commands::rounds;
use crate::support::{Request, TestUser};
use crate::system::SmallDisk;

/// How long the database is away.
const DATABASE_AWAY: Duration = Duration::from_secs(10);
/// How long a disk stays full.
const DISK_FULL: Duration = Duration::from_secs(4);
/// How wrong a clock is.
const HOUR_SECONDS: i64 = 3_600;

/// Sessions and delivery go on, and what needs the database says that it is not there.
pub(super) async fn database(scene: &mut Scene) -> Result<()> {
    for round in 0..rounds(scene.form) {
        let ann = TestUser::sign_up(scene.system.address(), &format!("ann-{round}")).await;
        scene.until_any_time().await?;
        scene.mark("database away");
        scene.system.postgres.interrupt();
        let began = tokio::time::Instant::now();
        let asked = ann.request("GET", "/channels").try_send(scene.system.address()).await?;
        ensure!(asked.status == 503, "a list of channels is answered {} without a database", asked.status);
        let made = ann.request("POST", "/channels").json(&json!({"name": format!("c-{round}"), "kind": "public"}));
        let made = made.try_send(scene.system.address()).await?;
        ensure!(made.status == 503, "a new channel is answered {} without a database", made.status);
        // Messages are still acknowledged, and the load sees them delivered.
        scene.until_sent(100).await?;
        ensure!(began.elapsed() < DATABASE_AWAY, "sending waits for the database");
        sleep(DATABASE_AWAY.saturating_sub(began.elapsed())).await;
        scene.system.postgres.resume();
        scene.mark("database back");
        for node in &scene.system.nodes {
            node.until_ready().await?;
        }
    }
    Ok(())
}

/// The file of Redis cannot grow: it says no or ends, and is started again, as by a service manager, until there is room.
pub(super) async fn disk(scene: &mut Scene) -> Result<()> {
    for _ in 0..rounds(scene.form) {
        scene.until_any_time().await?;
        scene.mark("disk full");
        small_disk(scene)?.fill()?;
        sleep(DISK_FULL).await;
        small_disk(scene)?.free()?;
        scene.mark("room again");
        scene.system.redis.members[0].kill();
        scene.system.redis.members[0].restart();
    }
    Ok(())
}

fn small_disk(scene: &Scene) -> Result<&SmallDisk> {
    scene.system.small_disk.as_ref().context("a run on a small disk")
}

/// One node is an hour ahead, and an hour behind.
pub(super) async fn clock(scene: &mut Scene) -> Result<()> {
    for _ in 0..rounds(scene.form) {
        let node = scene.any_node();
        for off in [HOUR_SECONDS, 0, -HOUR_SECONDS, 0] {
            scene.until_any_time().await?;
            scene.mark(&format!("clock {off:+} s"));
            scene.system.nodes[node].shift_clock(off)?;
            scene.until_sent(200).await?;
            // Whoever signs in at that node can work there, whatever its clock says.
            let address = scene.system.nodes[node].address;
            let ann = TestUser::sign_up(address, &format!("ann-{}", scene.made)).await;
            let me = Request::new("GET", "/me").bearer(&ann.access).try_send(address).await?;
            ensure!(me.status == 200, "a token of the node's own is answered {}", me.status);
        }
    }
    Ok(())
}
