//! What happens around: the database goes, a disk is full, a clock is wrong.

use std::time::Duration;

use anyhow::{Context, Result, anyhow, ensure};
use serde_json::json;
use tokio::time::{Instant, sleep, timeout};

use super::Scene;
use super::commands::rounds;
use crate::load::history::History;
use crate::load::{Load, LoadOptions};
use crate::support::setup::Setup;
use crate::support::{Request, TestServer, TestUser};
use crate::system::SmallDisk;

/// How long the database is away.
const DATABASE_AWAY: Duration = Duration::from_secs(10);
/// How long a disk stays full.
const DISK_FULL: Duration = Duration::from_secs(4);
/// How long a node may take to work again, and to notice that it cannot.
const RECOVERY_MAX: Duration = Duration::from_secs(30);
/// Between two looks at what gives no event.
const LOOK_AGAIN: Duration = Duration::from_millis(20);
/// How wrong a clock is.
const HOUR_SECONDS: i64 = 3_600;

/// Sessions and delivery go on, and what needs the database says that it is not there.
pub(super) async fn database(scene: &mut Scene) -> Result<()> {
    for round in 0..rounds(scene.form) {
        let ann = TestUser::sign_up(scene.system.address(), &format!("ann-{round}")).await;
        scene.until_any_time().await?;
        scene.mark("database away");
        scene.system.postgres.interrupt();
        let began = Instant::now();
        let asked = ann.request("GET", "/channels").elsewhere().try_send(scene.system.address()).await?;
        ensure!(asked.status == 503, "a list of channels is answered {} without a database", asked.status);
        let made =
            ann.request("POST", "/channels").elsewhere().json(&json!({"name": format!("c-{round}"), "kind": "public"}));
        let made = made.try_send(scene.system.address()).await?;
        ensure!(made.status == 503, "a new channel is answered {} without a database", made.status);
        // Messages are still acknowledged, and the load sees them delivered.
        scene.until_sent(100).await?;
        ensure!(began.elapsed() < DATABASE_AWAY, "sending waits for the database");
        sleep(DATABASE_AWAY.saturating_sub(began.elapsed())).await;
        scene.system.postgres.resume();
        scene.mark("database back");
        scene.system.until_whole().await?;
        scene.system.proxy.until_serving(scene.system.nodes.len()).await?;
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

/// A node of its own, with SQLite and the Redis that it starts itself, both on a disk that is full for a while. Its load
/// is judged as all others are.
pub(super) async fn data_folder(scene: &mut Scene) -> Result<()> {
    let disk = small_disk(scene)?;
    let setup = Setup::new().and("DATA_DIR", disk.path().join("data").to_str().context("a plain path")?);
    let mut setup = setup.and("CHANNEL_RETENTION_MESSAGES", "100000000");
    setup.log = Some(disk.path().with_extension("log"));
    let server = TestServer::try_launch(setup).await.map_err(|ended| anyhow!("it does not start: {}", ended.output))?;
    let (history, addresses) = (History::new(), vec![server.address]);
    let load =
        Load::start(LoadOptions { addresses, name: "embedded".into(), ..LoadOptions::default() }, &history).await;
    let ann = TestUser::sign_up(server.address, "ann").await;
    for round in 0..rounds(scene.form) {
        until(&load, 200).await?;
        scene.mark("disk full");
        small_disk(scene)?.fill()?;
        until_refused(&history).await?;
        let made = ann.request("POST", "/channels").json(&json!({"name": format!("c-{round}"), "kind": "public"}));
        let made = made.try_send(server.address).await?;
        // What fits into what SQLite has of the disk already is kept; all else is refused.
        ensure!(matches!(made.status, 201 | 503), "a new channel is answered {} on a full disk", made.status);
        small_disk(scene)?.free()?;
        scene.mark("room again");
        until(&load, 200).await?;
        let found = ann.get(&format!("/channels/c-{round}")).await.status;
        ensure!(found == if made.status == 201 { 200 } else { 404 }, "the channel was a lie: {found}");
    }
    let outcome = load.finish().await;
    let (figures, broken) = (&outcome.figures, &outcome.violations);
    ensure!(broken.is_empty(), "the node on the full disk: {broken:?}");
    let told: u64 = figures.errors.values().sum();
    scene.note = Some(format!(
        "{} messages were acknowledged by the node on that disk, {told} errors told",
        figures.acknowledged
    ));
    Ok(())
}

async fn until(load: &Load, more: u64) -> Result<()> {
    let reached = timeout(RECOVERY_MAX, load.until_acknowledged(more)).await;
    reached.context("nothing is acknowledged any more")?.context("the writers are gone")
}

/// Until a writer is told so, since the disk fills only with what is written.
async fn until_refused(history: &History) -> Result<()> {
    let told = || {
        let recorded = history.lock();
        let of = |code| recorded.codes.get(code).copied().unwrap_or(0);
        of("unavailable") + of("outcome_unknown")
    };
    let (before, deadline) = (told(), Instant::now() + RECOVERY_MAX);
    while told() == before {
        ensure!(Instant::now() < deadline, "nobody is told that the disk is full");
        sleep(LOOK_AGAIN).await;
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
