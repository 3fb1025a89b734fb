//! The system under test: Postgres, Redis in one of its set-ups, three nodes, and a reverse proxy before them.

mod disk;
pub(crate) mod machine;
mod node;
mod proxy;
pub(crate) mod redis;
mod redis_cluster;
mod redis_sentinel;
mod redis_single;

use std::error::Error;
use std::fmt;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Result;

pub(crate) use self::disk::SmallDisk;
pub(crate) use self::node::Node;
pub(crate) use self::proxy::Proxy;
pub(crate) use self::redis::{RedisKind, RedisSystem};
use crate::load::fault_proxy::FaultProxy;
use crate::support::postgres::Postgres;
use crate::support::setup::Setup;

/// Two to go on when one is away, and a third to see that they agree.
const NODES: usize = 3;

/// What this machine does not allow, and why: nothing that Burble could answer for.
#[derive(Debug)]
pub(crate) struct Impossible(pub(crate) String);

impl fmt::Display for Impossible {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl Error for Impossible {}

/// What a fault asks of the system it is made in.
#[derive(Default)]
pub(crate) struct Options {
    /// Replicas of each primary, in the set-ups that have any.
    pub(crate) replicas: usize,
    /// What an `ok` stands for; by default a flush to the disk for `single`, and one replica for the others.
    pub(crate) durability: Option<&'static str>,
    /// How large a disk the data of `single` are to lie on, if it is to be filled.
    pub(crate) small_disk: Option<u64>,
    /// The same with nothing on it yet.
    pub(crate) spare_disk: Option<u64>,
    /// Clients come through one of two proxies of the suite's own, which can break connections.
    pub(crate) client_proxies: bool,
    /// Each node reaches Redis through such a proxy; for `single` only.
    pub(crate) redis_proxies: bool,
    /// Further settings of each node.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// The nodes' clocks can be shifted.
    pub(crate) fake_clocks: bool,
    /// The binary of a former version, which the nodes begin with.
    pub(crate) former: Option<PathBuf>,
}

/// All of it, running. It ends with this, or with the process.
pub(crate) struct System {
    pub(crate) redis: RedisSystem,
    pub(crate) nodes: Vec<Node>,
    pub(crate) proxy: Proxy,
    pub(crate) before_clients: Vec<FaultProxy>,
    /// For each node.
    pub(crate) before_redis: Vec<FaultProxy>,
    pub(crate) postgres: Postgres,
    /// Unmounted last.
    pub(crate) small_disk: Option<SmallDisk>,
}

impl System {
    /// Starts everything, with logs and data below `folder`, and waits until each node is ready and served from.
    pub(crate) async fn start(kind: RedisKind, options: Options, folder: &Path) -> Result<Self> {
        let bytes = options.small_disk.or(options.spare_disk);
        let small_disk = bytes.map(|bytes| SmallDisk::mount(folder, bytes)).transpose()?;
        let data = small_disk.as_ref().filter(|_| options.small_disk.is_some()).map_or(folder, SmallDisk::path);
        let redis = RedisSystem::start(kind, options.replicas, folder, data).await?;
        let postgres = Postgres::start();
        let durability = options.durability.unwrap_or(if kind == RedisKind::Single { "fsync" } else { "replica" });
        let mut setup = Setup::new()
            .and("SERVER_DB", &postgres.create_database())
            .and("SERVER_TRUSTED_PROXIES", "127.0.0.1")
            .and("PUBSUB_DURABILITY", durability);
        for (name, value) in redis.settings().into_iter().chain(options.settings) {
            setup = setup.and(name, &value);
        }
        let mut nodes: Vec<Node> = (1..=NODES).map(|number| Node::new(number, setup.clone(), folder)).collect();
        // One after the other: the first one prepares the database.
        let mut before_redis = Vec::new();
        for node in &mut nodes {
            if options.redis_proxies {
                let proxy = FaultProxy::start(([127, 0, 0, 1], redis.members[0].port).into()).await;
                node.set("PUBSUB_SERVER_PORT", &proxy.address.port().to_string());
                before_redis.push(proxy);
            }
            if options.fake_clocks {
                node.fake_clock()?;
            }
            if let Some(former) = &options.former {
                node.begin_as(former).await?;
            }
            node.start().await?;
        }
        let proxy = Proxy::start(&nodes, folder).await?;
        let mut before_clients = Vec::new();
        for _ in 0..if options.client_proxies { 2 } else { 0 } {
            before_clients.push(FaultProxy::start(proxy.address).await);
        }
        Ok(Self { redis, nodes, proxy, before_clients, before_redis, postgres, small_disk })
    }

    /// Where clients go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address
    }

    /// The ways for clients.
    pub(crate) fn addresses(&self) -> Vec<SocketAddr> {
        match self.before_clients.as_slice() {
            [] => vec![self.proxy.address],
            proxies => proxies.iter().map(|proxy| proxy.address).collect(),
        }
    }

    /// Waits until everything runs that should, and every node is ready.
    pub(crate) async fn until_whole(&self) -> Result<()> {
        self.redis.until_whole().await?;
        for node in &self.nodes {
            node.until_ready().await?;
        }
        Ok(())
    }
}
