//! What must be true of Redis before a node starts, and what each new connection settles first.

use anyhow::{Context, bail, ensure};
use deadpool_redis::{Manager, Pool, Runtime};
use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{Client, ConnectionAddr, ConnectionInfo, IntoConnectionInfo, RedisConnectionInfo, RedisResult, Script};
use tracing::warn;
use uuid::Uuid;

use super::keys::Keys;
use super::{Address, Durability, Options, link};

/// The connections for what nobody waits for in bulk: checks, heartbeats, cleaning up.
const POOL_SIZE: usize = 4;

fn info(address: &Address) -> RedisResult<ConnectionInfo> {
    let (addr, redis) = match address {
        Address::Unix(path) => (ConnectionAddr::Unix(path.clone()), RedisConnectionInfo::default()),
        Address::Tcp(host, port, password) => {
            let redis = RedisConnectionInfo::default();
            let redis = match password {
                Some(password) => redis.set_password(password.expose()),
                None => redis,
            };
            (ConnectionAddr::Tcp(host.clone(), *port), redis)
        }
    };
    // The library leaves Nagle's algorithm on unless told otherwise.
    Ok(addr
        .into_connection_info()?
        .set_redis_settings(redis)
        .set_tcp_settings(TcpSettings::default().set_nodelay(true)))
}

pub(super) fn client(address: &Address) -> anyhow::Result<Client> {
    Ok(Client::open(info(address)?)?)
}

pub(super) fn pool(options: &Options) -> anyhow::Result<Pool> {
    let manager = Manager::new_with_config(info(&options.address)?, link::config(options.append_timeout))?;
    Ok(Pool::builder(manager)
        .max_size(POOL_SIZE)
        .runtime(Runtime::Tokio1)
        .wait_timeout(Some(options.append_timeout))
        .create_timeout(Some(link::CONNECT_TIMEOUT))
        .recycle_timeout(Some(link::CONNECT_TIMEOUT))
        .build()?)
}

/// Refuses what would lose messages, each time with the remedy.
pub(super) async fn check(pool: &Pool, options: &Options, keys: &Keys, database: Uuid) -> anyhow::Result<()> {
    let mut connection =
        pool.get().await.with_context(|| format!("Redis cannot be reached at {}", describe(&options.address)))?;
    let info: String = redis::cmd("INFO").query_async(&mut connection).await?;
    let field = |name: &str| {
        info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map(str::trim).unwrap_or_default()
    };
    let version = field("redis_version");
    let major: u32 = version.split('.').next().unwrap_or_default().parse().unwrap_or(0);
    ensure!(major >= 7, "Redis {version} is too old; Burble needs 7.0 or later, or Valkey");
    let policy = field("maxmemory_policy");
    ensure!(
        policy == "noeviction",
        "Redis may evict the log (maxmemory-policy is {policy}); set it: CONFIG SET maxmemory-policy noeviction"
    );
    if options.durability == Durability::Fsync {
        ensure!(
            field("aof_enabled") == "1",
            "PUBSUB_DURABILITY is fsync, but Redis keeps no append-only file; set appendonly yes and appendfsync always"
        );
        match redis::cmd("CONFIG").arg("GET").arg("appendfsync").query_async::<Vec<String>>(&mut connection).await {
            Ok(found) if found.get(1).is_some_and(|value| value != "always") => {
                bail!(
                    "PUBSUB_DURABILITY is fsync, but Redis has appendfsync {}; set it: CONFIG SET appendfsync always",
                    found[1]
                )
            }
            Ok(_) => {}
            Err(error) => warn!(%error, "Whether Redis has appendfsync always cannot be checked"),
        }
    }
    if let Durability::Replica { replicas } = options.durability {
        let connected: usize = field("connected_slaves").parse().unwrap_or(0);
        if connected < replicas {
            warn!(connected, needed = replicas, "Too few replicas: nothing is acknowledged until there are more");
        }
    }
    join_installation(&mut connection, options, keys, database).await
}

/// What the first node wrote down must hold for all.
async fn join_installation(
    connection: &mut MultiplexedConnection,
    options: &Options,
    keys: &Keys,
    database: Uuid,
) -> anyhow::Result<()> {
    let key = keys.installation();
    let (feeds, found): (u64, String) = redis::pipe()
        .atomic()
        .hset_nx(&key, "feeds", options.feeds)
        .ignore()
        .hset_nx(&key, "database", database.to_string())
        .ignore()
        .hget(&key, "feeds")
        .hget(&key, "database")
        .query_async(connection)
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

/// What a new connection does before anything is appended on it: compare the primary with the one seen last.
pub(super) fn origin(
    keys: &Keys,
    options: &Options,
) -> impl Fn(MultiplexedConnection) -> BoxFuture<'static, RedisResult<()>> + Send + Sync + use<> {
    let states: Vec<String> = keys.feeds().map(|feed| keys.state(feed)).collect();
    let survives_restart = options.durability == Durability::Fsync;
    move |mut connection| {
        let states = states.clone();
        Box::pin(async move {
            let info: String = redis::cmd("INFO").arg("replication").query_async(&mut connection).await?;
            let primary = info.lines().find_map(|line| line.strip_prefix("master_replid:")).unwrap_or_default().trim();
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

fn describe(address: &Address) -> String {
    match address {
        Address::Unix(path) => path.display().to_string(),
        Address::Tcp(host, port, _) => format!("{host}:{port}"),
    }
}
