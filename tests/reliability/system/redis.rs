//! The Redis behind the nodes, whatever its set-up: its members, who leads, and what faults do to it.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, bail, ensure};
use redis::{FromRedisValue, Value};
use tokio::time::{Instant, sleep};

use super::redis_cluster::Cluster;
use super::redis_sentinel::Sentinels;
use super::redis_single;
use crate::support::ports::fixed_port;
use crate::support::redis::Redis;

/// How long a set-up may take to be whole again: Sentinel makes a returned primary a replica after eight seconds at the
/// soonest, and looks for replicas only every ten.
const WHOLE_MAX: Duration = Duration::from_secs(60);
/// Between two looks at what gives no event.
const LOOK_EVERY: Duration = Duration::from_millis(25);

/// How Redis is set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, clap::ValueEnum)]
pub(crate) enum RedisKind {
    /// One server, which flushes each message to its append-only file before it answers
    Single,
    /// A primary and replicas, and three sentinels that choose another primary
    Sentinel,
    /// Three primaries, with replicas each
    Cluster,
}

impl RedisKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Single => "single",
            Self::Sentinel => "sentinel",
            Self::Cluster => "cluster",
        }
    }
}

/// Who knows who leads.
enum Guide {
    Nobody,
    Sentinels(Sentinels),
    Cluster(Cluster),
}

/// The servers that hold the data, and whoever watches over them. They end with the process.
pub(crate) struct RedisSystem {
    pub(crate) kind: RedisKind,
    /// First those that led at the start, one for each shard, then their replicas in the same order, again and again.
    pub(crate) members: Vec<Redis>,
    shards: usize,
    guide: Guide,
}

impl RedisSystem {
    /// Starts all servers below `folder`, and waits until every replica is in sync and nobody sees anything amiss.
    /// `data` is where those of `single` lie.
    pub(crate) async fn start(kind: RedisKind, replicas: usize, folder: &Path, data: &Path) -> Result<Self> {
        let system = match kind {
            RedisKind::Single => {
                let member = redis_single::start(folder, data, "always");
                Self { kind, members: vec![member], shards: 1, guide: Guide::Nobody }
            }
            RedisKind::Sentinel => {
                let members = redis_single::with_replicas(folder, replicas).await?;
                let mut system = Self { kind, members, shards: 1, guide: Guide::Nobody };
                system.until_in_sync().await?;
                let sentinels = Sentinels::start(folder, system.members[0].port, replicas).await?;
                system.guide = Guide::Sentinels(sentinels);
                system
            }
            RedisKind::Cluster => {
                let (cluster, members) = Cluster::start(folder, replicas).await?;
                Self { kind, members, shards: Cluster::SHARDS, guide: Guide::Cluster(cluster) }
            }
        };
        system.until_whole().await.with_context(|| format!("the set-up {} does not come about", kind.name()))?;
        Ok(system)
    }

    /// What a node is told about it.
    pub(crate) fn settings(&self) -> Vec<(&'static str, String)> {
        let address = |port: u16| format!("127.0.0.1:{port}");
        let list = |servers: &[Redis]| servers.iter().map(|one| address(one.port)).collect::<Vec<_>>().join(",");
        let host = match &self.guide {
            Guide::Nobody => {
                let port = self.members[0].port.to_string();
                return vec![("PUBSUB_SERVER_HOST", "127.0.0.1".into()), ("PUBSUB_SERVER_PORT", port)];
            }
            Guide::Sentinels(sentinels) => list(&sentinels.members),
            Guide::Cluster(_) => list(&self.members),
        };
        let mut settings = vec![("PUBSUB_SERVER_MODE", self.kind.name().to_owned()), ("PUBSUB_SERVER_HOST", host)];
        if self.kind == RedisKind::Sentinel {
            settings.push(("PUBSUB_SENTINEL_NAME", Sentinels::GROUP.to_owned()));
        }
        settings
    }

    pub(crate) fn shards(&self) -> usize {
        self.shards
    }

    /// The members that hold a shard: whoever led it at the start, and the replicas.
    pub(crate) fn holders(&self, shard: usize) -> impl Iterator<Item = usize> + use<> {
        (shard..self.members.len()).step_by(self.shards)
    }

    /// The shard that a key, or a feed's tag in braces, belongs to.
    pub(crate) async fn shard_of(&self, key: &str) -> Result<usize> {
        match &self.guide {
            Guide::Cluster(_) => Ok(Cluster::shard_of_slot(self.any_member(&["CLUSTER", "KEYSLOT", key]).await?)),
            _ => Ok(0),
        }
    }

    /// Who leads a shard, as most of those say who answer.
    pub(crate) async fn primary(&self, shard: usize) -> Result<usize> {
        let votes = self.votes(shard).await;
        let most = votes.iter().max_by_key(|(_, count)| **count).context("nobody says who leads")?;
        self.members.iter().position(|member| member.port == *most.0).context("a stranger leads")
    }

    /// Another holder of the shard than its primary: the first in order.
    pub(crate) async fn replica(&self, shard: usize) -> Result<usize> {
        let primary = self.primary(shard).await?;
        self.holders(shard).find(|member| *member != primary).context("the shard has no replica")
    }

    /// Has a replica take over, whether it is in sync or not.
    pub(crate) async fn promote(&self, shard: usize, replica: usize) -> Result<()> {
        match &self.guide {
            Guide::Nobody => bail!("one server alone has no replica"),
            Guide::Sentinels(sentinels) => sentinels.promote(&self.members, replica).await?,
            Guide::Cluster(_) => self.members[replica].ask(&["CLUSTER", "FAILOVER", "TAKEOVER"]).await?,
        }
        let promoted = async || (self.agreed(shard).await == Some(replica)).then_some(());
        until(&format!("member {replica} leads"), promoted).await
    }

    /// Has a replica lose touch now: it is frozen, and its connection is cut, so that not even the kernel keeps for it
    /// what comes. [`Redis::thaw`] ends it.
    pub(crate) async fn cut_off(&self, shard: usize, replica: usize) -> Result<()> {
        self.members[replica].freeze();
        let primary = self.primary(shard).await?;
        self.members[primary].ask::<Value>(&["CLIENT", "KILL", "TYPE", "replica"]).await?;
        Ok(())
    }

    /// Waits until somebody else than `former` leads the shard, and everybody who answers says so.
    pub(crate) async fn until_failed_over(&self, shard: usize, former: usize) -> Result<usize> {
        until("another member leads", async || self.agreed(shard).await.filter(|primary| *primary != former)).await
    }

    /// Waits until each replica that runs has all that its primary had when it was asked.
    pub(crate) async fn until_in_sync(&self) -> Result<()> {
        for shard in 0..self.shards {
            until("the replicas are in sync", async || self.in_sync(shard).await.ok()).await?;
        }
        Ok(())
    }

    /// Waits until all members run and are in sync, and whoever watches over them sees nothing amiss.
    pub(crate) async fn until_whole(&self) -> Result<()> {
        until("every shard has a primary", async || {
            for shard in 0..self.shards {
                self.agreed(shard).await?;
            }
            match &self.guide {
                Guide::Nobody => Some(()),
                Guide::Sentinels(sentinels) => sentinels.are_content(self.members.len() - 1).await.then_some(()),
                Guide::Cluster(_) => Cluster::is_content(&self.members).await.then_some(()),
            }
        })
        .await?;
        self.until_in_sync().await
    }

    /// The same command at every member that answers; how many those were.
    pub(crate) async fn everywhere(&self, command: &[&str]) -> usize {
        let mut done = 0;
        for member in &self.members {
            done += usize::from(member.ask::<Value>(command).await.is_ok());
        }
        done
    }

    async fn any_member<T: FromRedisValue>(&self, command: &[&str]) -> Result<T> {
        for member in &self.members {
            if let Ok(answer) = member.ask(command).await {
                return Ok(answer);
            }
        }
        bail!("no member answers")
    }

    /// The primary that all name who answer, and that knows it is one.
    async fn agreed(&self, shard: usize) -> Option<usize> {
        let votes = self.votes(shard).await;
        let (1, Some(port)) = (votes.len(), votes.keys().next()) else { return None };
        let primary = self.members.iter().position(|member| member.port == *port)?;
        let role: Vec<Value> = self.members[primary].ask(&["ROLE"]).await.ok()?;
        (role.first() == Some(&Value::BulkString(b"master".to_vec()))).then_some(primary)
    }

    async fn votes(&self, shard: usize) -> BTreeMap<u16, usize> {
        match &self.guide {
            Guide::Nobody => BTreeMap::from([(self.members[0].port, 1)]),
            Guide::Sentinels(sentinels) => sentinels.votes().await,
            Guide::Cluster(_) => Cluster::votes(&self.members, shard).await,
        }
    }

    async fn in_sync(&self, shard: usize) -> Result<()> {
        // Before there is anybody to ask, the first one leads.
        let primary = if matches!(self.guide, Guide::Nobody) { 0 } else { self.primary(shard).await? };
        let target = Info::of(&self.members[primary]).await?.offset();
        for replica in self.holders(shard).filter(|member| *member != primary) {
            let info = Info::of(&self.members[replica]).await?;
            ensure!(info.field("master_link_status") == "up", "member {replica} is not connected");
            ensure!(info.offset() >= target, "member {replica} lags");
        }
        Ok(())
    }
}

/// What a server says about its replication.
pub(crate) struct Info(String);

impl Info {
    pub(crate) async fn of(member: &Redis) -> Result<Self> {
        Ok(Self(member.ask(&["INFO", "replication"]).await?))
    }

    pub(crate) fn field(&self, name: &str) -> &str {
        self.0.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).map_or("", str::trim)
    }

    /// How many bytes of the stream of replication it has written or read.
    pub(crate) fn offset(&self) -> u64 {
        let replica = self.field("slave_repl_offset");
        let offset = if replica.is_empty() { self.field("master_repl_offset") } else { replica };
        offset.parse().unwrap_or(0)
    }
}

/// Waits for what gives no event, for as long as a set-up may take to be whole.
pub(super) async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> Result<T> {
    let deadline = Instant::now() + WHOLE_MAX;
    while Instant::now() < deadline {
        if let Some(found) = look().await {
            return Ok(found);
        }
        sleep(LOOK_EVERY).await;
    }
    bail!("not within {WHOLE_MAX:?}: {what}")
}

/// Starts a server by a configuration file, which it may rewrite, in a folder of its own below `folder`.
pub(super) fn launch(folder: &Path, name: &str, data: Option<&Path>, configure: impl Fn(u16) -> String) -> Redis {
    let own = folder.join(name);
    std::fs::create_dir_all(&own).expect("the folder of the run is ours");
    let (port, file) = (fixed_port(), own.join("redis.conf"));
    let data: PathBuf = data.map_or_else(|| own.clone(), Path::to_owned);
    let common = format!(
        "port {port}\nbind 127.0.0.1\nprotected-mode no\ndir \"{}\"\ndaemonize no\nenable-debug-command yes\n",
        data.display()
    );
    std::fs::write(&file, common + &configure(port)).expect("the folder of the run is ours");
    let mut arguments = vec![file.to_str().expect("a plain path").to_owned()];
    if name.starts_with("sentinel") {
        arguments.push("--sentinel".into());
    }
    Redis::configured(port, arguments, own.join("log"), None)
}
