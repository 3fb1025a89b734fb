//! What must be true of Redis before a node starts, and what each new connection settles first.

use std::collections::BTreeMap;

use anyhow::{Context, bail, ensure};
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{RedisResult, Script};
use tracing::warn;
use uuid::Uuid;

use super::keys::{Feed, Keys, slot_of};
use super::servers::{Address, Place, Servers};
use super::{Durability, Options, value};

/// Refuses what would lose messages, each time with the remedy.
pub(super) async fn check(servers: &Servers, options: &Options, keys: &Keys, database: Uuid) -> anyhow::Result<()> {
    let mut primaries: BTreeMap<Place, Vec<Feed>> = BTreeMap::new();
    for feed in keys.feeds() {
        let found = servers.primary(keys.slot(feed)).await;
        let primary = found.with_context(|| format!("no primary can be found; {}", describe(servers.address())))?;
        primaries.entry(primary).or_default().push(feed);
        if !servers.is_cluster() {
            break;
        }
    }
    for primary in primaries.keys() {
        let reached = async {
            let mut connection = servers.of_pool(primary).await?;
            redis::cmd("INFO").query_async::<String>(&mut connection).await
        };
        let info = reached.await.with_context(|| format!("Redis cannot be reached at {primary}"))?;
        check_server(&Info(info), servers, primary, options).await?;
    }
    join_installation(servers, options, keys, database).await
}

/// What `INFO` says.
pub(super) struct Info(pub(super) String);

impl Info {
    /// The value of a field, or nothing.
    pub(super) fn field(&self, name: &str) -> &str {
        let found = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim).unwrap_or_default()
    }
}

async fn check_server(info: &Info, servers: &Servers, place: &Place, options: &Options) -> anyhow::Result<()> {
    check_kind(info, servers.address())?;
    let version = info.field("redis_version");
    let major: u32 = version.split('.').next().unwrap_or_default().parse().unwrap_or(0);
    ensure!(major >= 7, "Redis {version} at {place} is too old; Burble needs 7.0 or later, or Valkey");
    let policy = info.field("maxmemory_policy");
    ensure!(
        policy == "noeviction",
        "Redis may evict the log (maxmemory-policy is {policy}); set it: CONFIG SET maxmemory-policy noeviction"
    );
    match options.durability {
        Durability::Memory => {}
        Durability::Fsync => check_fsync(info, servers, place).await?,
        Durability::Replica { replicas } => {
            let connected: usize = info.field("connected_slaves").parse().unwrap_or(0);
            if connected < replicas {
                warn!(%place, connected, needed = replicas, "Too few replicas: nothing is acknowledged until there are more");
            }
        }
    }
    Ok(())
}

/// A setting that names another kind of Redis than the one that answers works for a while, and then loses messages.
fn check_kind(info: &Info, address: &Address) -> anyhow::Result<()> {
    let found = info.field("redis_mode");
    match (address, found) {
        (Address::Unix(_) | Address::Single(_) | Address::Sentinel { .. }, "cluster") => {
            bail!("this Redis is part of a Cluster; set PUBSUB_SERVER_MODE=cluster")
        }
        (Address::Unix(_) | Address::Single(_), "sentinel") => {
            bail!("this is a Sentinel, not a Redis that keeps anything; set PUBSUB_SERVER_MODE=sentinel")
        }
        _ => {}
    }
    ensure!(
        info.field("role") == "master",
        "this Redis is a replica and takes no writes; name its primary, or set PUBSUB_SERVER_MODE=sentinel and name the Sentinels"
    );
    Ok(())
}

async fn check_fsync(info: &Info, servers: &Servers, place: &Place) -> anyhow::Result<()> {
    ensure!(
        info.field("aof_enabled") == "1",
        "PUBSUB_DURABILITY is fsync, but Redis keeps no append-only file; set appendonly yes and appendfsync always"
    );
    let mut connection = servers.of_pool(place).await?;
    match redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async::<Vec<String>>(&mut connection).await {
        Ok(found) if found.get(1).is_some_and(|value| value != "always") => bail!(
            "PUBSUB_DURABILITY is fsync, but Redis has appendfsync {}; set it: CONFIG SET appendfsync always",
            found[1]
        ),
        Ok(_) => {}
        Err(error) => warn!(%error, "Whether Redis has appendfsync always cannot be checked"),
    }
    Ok(())
}

/// What the first node wrote down must hold for all.
async fn join_installation(servers: &Servers, options: &Options, keys: &Keys, database: Uuid) -> anyhow::Result<()> {
    let key = keys.installation();
    let mut connection = servers.pooled(slot_of(&key)).await?;
    let (feeds, found): (u64, String) = redis::pipe()
        .atomic()
        .hset_nx(&key, "feeds", options.feeds)
        .ignore()
        .hset_nx(&key, "database", database.to_string())
        .ignore()
        .hget(&key, "feeds")
        .hget(&key, "database")
        .query_async(&mut connection)
        .await?;
    ensure!(
        feeds == options.feeds as u64,
        "this installation has {feeds} feeds, but PUBSUB_FEEDS is {}; the number is fixed: set PUBSUB_FEEDS={feeds}",
        options.feeds
    );
    ensure!(
        found == database.to_string(),
        "this Redis (prefix {}) belongs to another database. SQLite serves one node: several share one Postgres, by \
         SERVER_DB=postgres://…; another installation on the same Redis needs a PUBSUB_PREFIX of its own",
        options.prefix
    );
    Ok(())
}

/// What a new connection does before anything is appended on it: compare the primary with the one that each of these
/// feeds saw last.
pub(super) fn origin(
    keys: &Keys,
    feeds: &[Feed],
    survives_restart: bool,
) -> impl Fn(MultiplexedConnection) -> BoxFuture<'static, RedisResult<()>> + Send + Sync + use<> {
    let states: Vec<String> = feeds.iter().map(|feed| keys.state(*feed)).collect();
    move |mut connection| {
        let states = states.clone();
        Box::pin(async move {
            let info = Info(redis::cmd("INFO").arg("replication").query_async(&mut connection).await?);
            if info.field("role") != "master" {
                return Err(value::unexpected("that it is a primary"));
            }
            let primary = info.field("master_replid");
            let script = Script::new(include_str!("origin.lua"));
            let mut raised = 0;
            for state in states {
                let mut call = script.key(state);
                let call = call.arg(primary).arg(u8::from(survives_restart));
                raised += call.invoke_async::<usize>(&mut connection).await?;
            }
            if raised > 0 {
                warn!(primary, feeds = raised, "Another primary, or a restart that may have lost entries: a new epoch");
            }
            Ok(())
        })
    }
}

fn describe(address: &Address) -> &'static str {
    match address {
        Address::Unix(_) | Address::Single(_) => "is Redis running?",
        Address::Sentinel { .. } => {
            "PUBSUB_SERVER_HOST must name Sentinels that can be reached, and PUBSUB_SENTINEL_NAME what they call the primary"
        }
        Address::Cluster(_) => "PUBSUB_SERVER_HOST must name nodes of a Redis Cluster whose state is ok",
    }
}
