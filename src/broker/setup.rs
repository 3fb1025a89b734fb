//! What must be true of Redis before a node starts, and what each new connection settles first.

use std::collections::{BTreeSet, HashMap};

use anyhow::{anyhow, bail, ensure};
use redis::{RedisError, RedisResult, Script};
use tracing::warn;
use uuid::Uuid;

use super::keys::{Feed, Keys, slot_of};
use super::link::Prepare;
use super::servers::{Address, Place, Servers};
use super::{Durability, Options, value};
use crate::finding::{Finding, Verdict};

/// Refuses what would lose messages, each time with the remedy.
pub(super) async fn check(servers: &Servers, options: &Options, keys: &Keys, database: Uuid) -> anyhow::Result<()> {
    for primary in &primaries(servers, keys).await? {
        let info = info(servers, primary).await;
        let info = info.map_err(|error| unreached(servers, error, format!("Redis cannot be reached at {primary}")))?;
        check_server(&info, servers, primary, options).await?;
    }
    join_installation(servers, options, keys, database).await
}

/// Every server that holds feeds.
pub(super) async fn primaries(servers: &Servers, keys: &Keys) -> anyhow::Result<BTreeSet<Place>> {
    let mut primaries = BTreeSet::new();
    for feed in keys.feeds() {
        let found = servers.primary(keys.slot(feed)).await;
        primaries.insert(found.map_err(|error| {
            unreached(servers, error, format!("no primary can be found; {}", describe(servers.address())))
        })?);
    }
    Ok(primaries)
}

fn unreached(servers: &Servers, error: RedisError, what: String) -> anyhow::Error {
    let what = match servers.remedy(&error) {
        Some(remedy) => format!("{what}: {remedy}"),
        None => what,
    };
    anyhow!(error).context(what)
}

/// What a server says of itself.
pub(super) async fn info(servers: &Servers, place: &Place) -> RedisResult<Info> {
    let mut connection = servers.of_pool(place).await?;
    redis::cmd("INFO").query_async(&mut connection).await.map(Info)
}

/// What `INFO` says.
pub(super) struct Info(pub(super) String);

impl Info {
    /// The value of a field, or nothing.
    pub(super) fn field(&self, name: &str) -> &str {
        let found = self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':'));
        found.map(str::trim).unwrap_or_default()
    }

    /// The same as a number; 0 where there is none.
    pub(super) fn number(&self, name: &str) -> u64 {
        self.field(name).parse().unwrap_or(0)
    }

    /// How many bytes may be used: what is set, or what the machine has; and which of them.
    pub(super) fn memory_max(&self) -> (u64, &'static str) {
        match self.number("maxmemory") {
            0 => (self.number("total_system_memory"), "the machine has"),
            max => (max, "maxmemory allows"),
        }
    }
}

async fn check_server(info: &Info, servers: &Servers, place: &Place, options: &Options) -> anyhow::Result<()> {
    let appendfsync = match options.durability {
        Durability::Fsync => config(servers, place, &["appendfsync"]).await.ok(),
        _ => None,
    };
    let appendfsync = appendfsync.as_ref().and_then(|config| config.get("appendfsync")).map(String::as_str);
    for finding in fitness(info, appendfsync, servers.address(), options.durability) {
        match finding.verdict {
            Verdict::Failure => bail!("Redis at {place}: {finding}"),
            Verdict::Warning | Verdict::Note => warn!(%place, "{finding}"),
            Verdict::Ok => {}
        }
    }
    Ok(())
}

/// What `CONFIG GET` says of these; refused by some who run Redis for others.
pub(super) async fn config(servers: &Servers, place: &Place, names: &[&str]) -> RedisResult<HashMap<String, String>> {
    let mut connection = servers.of_pool(place).await?;
    redis::cmd("CONFIG").arg("GET").arg(names).query_async(&mut connection).await
}

/// What decides whether a server may hold the log: a start refuses every failure among these.
pub(super) fn fitness(
    info: &Info,
    appendfsync: Option<&str>,
    address: &Address,
    durability: Durability,
) -> [Finding; 4] {
    [kind(info, address), version(info), eviction(info), promise(info, appendfsync, durability)]
}

/// A setting that names another kind of Redis than the one that answers works for a while, and then loses messages.
fn kind(info: &Info, address: &Address) -> Finding {
    const CHECK: &str = "redis kind";
    let found = info.field("redis_mode");
    match (address, found) {
        (Address::Unix(_) | Address::Single(_) | Address::Sentinel { .. }, "cluster") => {
            Finding::failure(CHECK, "this Redis is part of a Cluster", "set PUBSUB_SERVER_MODE=cluster")
        }
        (Address::Unix(_) | Address::Single(_), "sentinel") => Finding::failure(
            CHECK,
            "this is a Sentinel, not a Redis that keeps anything",
            "set PUBSUB_SERVER_MODE=sentinel",
        ),
        _ if info.field("role") != "master" => Finding::failure(
            CHECK,
            "this Redis is a replica and takes no writes",
            "name its primary, or set PUBSUB_SERVER_MODE=sentinel and name the Sentinels",
        ),
        _ => Finding::ok(CHECK, format!("a primary ({found})")),
    }
}

fn version(info: &Info) -> Finding {
    const CHECK: &str = "redis version";
    let version = info.field("redis_version");
    let major: u32 = version.split('.').next().unwrap_or_default().parse().unwrap_or(0);
    if major >= 7 {
        Finding::ok(CHECK, version)
    } else {
        Finding::failure(CHECK, format!("Redis {version} is too old"), "Burble needs 7.0 or later, or Valkey")
    }
}

fn eviction(info: &Info) -> Finding {
    const CHECK: &str = "redis eviction";
    let policy = info.field("maxmemory_policy");
    if policy == "noeviction" {
        Finding::ok(CHECK, "nothing is evicted")
    } else {
        Finding::failure(
            CHECK,
            format!("Redis may evict the log (maxmemory-policy is {policy})"),
            "set it: CONFIG SET maxmemory-policy noeviction",
        )
    }
}

/// Whether it can keep what an `ok` stands for.
fn promise(info: &Info, appendfsync: Option<&str>, durability: Durability) -> Finding {
    const CHECK: &str = "redis durability";
    let word = durability.as_str();
    match durability {
        Durability::Memory => Finding::ok(CHECK, "memory: an ok outlives Burble, and no crash of Redis"),
        Durability::Fsync if info.field("aof_enabled") != "1" => Finding::failure(
            CHECK,
            "PUBSUB_DURABILITY is fsync, but Redis keeps no append-only file",
            "set appendonly yes and appendfsync always",
        ),
        Durability::Fsync => match appendfsync {
            Some("always") => Finding::ok(CHECK, "fsync: an ok is on the disk"),
            Some(found) => Finding::failure(
                CHECK,
                format!("PUBSUB_DURABILITY is fsync, but Redis has appendfsync {found}"),
                "set it: CONFIG SET appendfsync always",
            ),
            None => Finding::warning(
                CHECK,
                "whether Redis has appendfsync always cannot be checked, since it forbids CONFIG",
                "make sure of it with whoever runs it",
            ),
        },
        Durability::Replica { replicas } => {
            let connected: usize = info.field("connected_slaves").parse().unwrap_or(0);
            let found = format!("{word}: {connected} replicas are connected, an ok needs {replicas}");
            if connected >= replicas {
                return Finding::ok(CHECK, found);
            }
            let remedy = "nothing is acknowledged until there are more: start them, or lower PUBSUB_REPLICAS";
            Finding::warning(CHECK, found, remedy)
        }
    }
}

/// What the first node wrote down must hold for all.
async fn join_installation(servers: &Servers, options: &Options, keys: &Keys, database: Uuid) -> anyhow::Result<()> {
    let key = keys.installation();
    let mut connection = servers.pooled(slot_of(&key)).await?;
    let (shards, found): (u64, String) = redis::pipe()
        .atomic()
        .hset_nx(&key, "feeds", options.shards)
        .ignore()
        .hset_nx(&key, "database", database.to_string())
        .ignore()
        .hget(&key, "feeds")
        .hget(&key, "database")
        .query_async(&mut connection)
        .await?;
    let finding = fits_installation(options, shards, &found, database);
    ensure!(finding.verdict != Verdict::Failure, "{finding}");
    Ok(())
}

/// Whether this node's settings are those of the installation.
pub(super) fn fits_installation(options: &Options, shards: u64, found: &str, database: Uuid) -> Finding {
    const CHECK: &str = "redis installation";
    if shards != options.shards as u64 {
        return Finding::failure(
            CHECK,
            format!("this installation was set up with PUBSUB_FEEDS={shards}, but it is {} now", options.shards),
            format!("the number is fixed: set PUBSUB_FEEDS={shards}"),
        );
    }
    if found != database.to_string() {
        return Finding::failure(
            CHECK,
            format!("this Redis (prefix {}) belongs to another database", options.prefix),
            "SQLite serves one node: several share one Postgres, by SERVER_DB=postgres://…; another installation on the \
             same Redis needs a PUBSUB_PREFIX of its own",
        );
    }
    Finding::ok(CHECK, format!("PUBSUB_FEEDS={shards}, and this database"))
}

/// What a new connection does before anything is appended on it: compare the primary with the one that was seen last.
pub(super) fn origin(keys: &Keys, feed: Feed, options: &Options) -> Prepare {
    let state = keys.state(feed);
    // One Redis that flushes before it answers comes back with all that it acknowledged; any other may not.
    let alone = matches!(options.address, Address::Unix(_) | Address::Single(_));
    let survives_restart = alone && options.durability == Durability::Fsync;
    Box::new(move |mut connection| {
        let state = state.clone();
        Box::pin(async move {
            let info = Info(redis::cmd("INFO").arg("replication").query_async(&mut connection).await?);
            if info.field("role") != "master" {
                return Err(value::unexpected("that it is a primary"));
            }
            let primary = info.field("master_replid");
            let script = Script::new(include_str!("origin.lua"));
            let mut call = script.key(state);
            let call = call.arg(primary).arg(u8::from(survives_restart));
            if call.invoke_async(&mut connection).await? {
                warn!(primary, feed = feed.0, "Another primary, or a restart that may have lost entries: a new epoch");
            }
            Ok(())
        })
    })
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
