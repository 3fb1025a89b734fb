//! Whether this machine can run the suite, and the suite's own tools do what they say: each set-up starts, fails over and
//! heals; a replica that was cut off does lack what came later; a node goes and comes back behind the proxy.

use std::path::Path;
use std::time::Instant;

use anyhow::{Context, Result, ensure};
use redis::Value;
use serde_json::json;

use crate::support::{TestUser, eventually};
use crate::system::{Options, RedisKind, RedisSystem, SmallDisk, System};

/// How fast the clocks go in the end: less than a token is good for.
const SHIFT_SECONDS: i64 = 300;
const DISK_BYTES: u64 = 32 * 1024 * 1024;
/// Belongs to some shard; which one, the set-up says.
const KEY: &str = "{check}";

/// Checks each set-up, and prints a line for what it saw.
pub(crate) async fn check(folder: &Path) -> Result<()> {
    let _ = std::fs::remove_dir_all(folder);
    for kind in [RedisKind::Sentinel, RedisKind::Cluster] {
        let folder = folder.join(kind.name());
        let began = Instant::now();
        let mut redis = RedisSystem::start(kind, 1, &folder, &folder).await?;
        println!("{}: {} members up and in sync after {:.1?}", kind.name(), redis.members.len(), began.elapsed());
        fails_over(&mut redis).await.with_context(|| format!("{}: a failover", kind.name()))?;
        lags(&mut redis).await.with_context(|| format!("{}: a replica that lags", kind.name()))?;
    }
    serves(&folder.join("system")).await.context("the whole system")?;
    fills_up(&folder.join("disk")).await.context("a full disk")
}

/// The primary is killed; what its replica had is there, and writes go on.
async fn fails_over(redis: &mut RedisSystem) -> Result<()> {
    let shard = redis.shard_of(KEY).await?;
    let former = redis.primary(shard).await?;
    redis.members[former].ask::<Value>(&["SET", KEY, "before"]).await?;
    redis.until_in_sync().await?;
    redis.members[former].kill();
    let began = Instant::now();
    let primary = redis.until_failed_over(shard, former).await?;
    let silence = began.elapsed();
    ensure!(redis.members[primary].ask::<String>(&["GET", KEY]).await? == "before", "what was in sync is lost");
    redis.members[primary].ask::<Value>(&["SET", KEY, "after"]).await?;
    redis.members[former].restart();
    redis.until_whole().await?;
    // The former primary follows, and has what was written without it.
    ensure!(redis.primary(shard).await? == primary, "the former primary leads again");
    println!(
        "{}: member {primary} leads instead of {former} after {silence:.1?}; whole again after {:.1?}",
        redis.kind.name(),
        began.elapsed()
    );
    Ok(())
}

/// What was written while a replica was cut off is gone once it leads.
async fn lags(redis: &mut RedisSystem) -> Result<()> {
    let shard = redis.shard_of(KEY).await?;
    let (former, replica) = (redis.primary(shard).await?, redis.replica(shard).await?);
    redis.cut_off(shard, replica).await?;
    redis.members[former].ask::<Value>(&["SET", KEY, "unseen"]).await?;
    redis.members[former].kill();
    redis.members[replica].thaw();
    redis.promote(shard, replica).await?;
    let found: String = redis.members[replica].ask(&["GET", KEY]).await?;
    ensure!(found == "after", "the replica was to lag, but has {found}");
    redis.members[former].restart();
    redis.until_whole().await?;
    let asked = redis.everywhere(&["SCRIPT", "FLUSH"]).await;
    ensure!(asked == redis.members.len(), "only {asked} members carried a command out");
    println!("{}: a replica that lacks the last write was made to lead", redis.kind.name());
    Ok(())
}

/// Messages pass through the proxy, before and after each node was taken away in another way.
async fn serves(folder: &Path) -> Result<()> {
    let began = Instant::now();
    let options = Options { fake_clocks: true, ..Options::default() };
    let mut system = System::start(RedisKind::Single, options, folder).await?;
    println!("system: served through HAProxy from {} nodes after {:.1?}", system.nodes.len(), began.elapsed());
    let ann = TestUser::sign_up(system.address(), "ann").await;
    ann.create_channel("tea").await;
    let sent = ann.session().await.send("tea", "one").await;
    system.redis.members[0].kill();
    system.redis.members[0].restart();
    system.postgres.interrupt();
    system.postgres.resume();
    system.until_whole().await?;
    let page = ann.history("tea", "").await;
    ensure!(page["events"][0]["id"] == json!(sent.id), "a restart of Redis lost {page}");
    for number in 0..system.nodes.len() {
        system.nodes[number].kill().await?;
        system.proxy.until_without(&system.nodes[number].name).await?;
        system.nodes[number].start().await?;
        system.proxy.until_serving(system.nodes.len()).await?;
        ensure!(system.nodes[number].stop().await?.success(), "a stop in good order");
        system.nodes[number].start().await?;
        system.proxy.until_serving(system.nodes.len()).await?;
        system.nodes[number].shift_clock(SHIFT_SECONDS)?;
    }
    system.nodes[0].freeze()?;
    system.proxy.until_without(&system.nodes[0].name).await?;
    system.nodes[0].thaw()?;
    system.proxy.until_serving(system.nodes.len()).await?;
    for node in &system.nodes {
        let ann = TestUser { address: node.address, ..ann.clone() };
        eventually("its clock is fast", async || {
            let shifted = ann.log_in().await.expires_at - ann.expires_at;
            (shifted >= SHIFT_SECONDS * 1_000).then_some(())
        })
        .await;
    }
    println!("system: each node was killed, stopped and started, one was frozen, and all their clocks were set");
    Ok(())
}

/// A Redis that cannot write its file gives up rather than acknowledge, and has all it acknowledged when it is back.
async fn fills_up(folder: &Path) -> Result<()> {
    std::fs::create_dir_all(folder)?;
    let disk = match SmallDisk::mount(folder, DISK_BYTES) {
        Ok(disk) => disk,
        Err(refused) => {
            println!("disk: not possible: {refused}");
            return Ok(());
        }
    };
    let mut redis = RedisSystem::start(RedisKind::Single, 0, folder, disk.path()).await?;
    redis.members[0].ask::<Value>(&["SET", KEY, "before"]).await?;
    disk.fill()?;
    let refused = redis.members[0].ask::<Value>(&["SET", KEY, &"x".repeat(8192)]).await;
    ensure!(refused.is_err(), "a write is acknowledged on a full disk");
    redis.members[0].kill();
    disk.free()?;
    redis.members[0].restart();
    ensure!(redis.members[0].ask::<String>(&["GET", KEY]).await? == "before", "what was acknowledged is lost");
    println!("disk: a full one refuses writes, and loses nothing");
    Ok(())
}
