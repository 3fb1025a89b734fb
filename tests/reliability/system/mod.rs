//! The system under test: Postgres, Redis in one of its set-ups, three nodes, and a reverse proxy before them.

mod disk;
pub(crate) mod machine;
mod node;
mod proxy;
pub(crate) mod redis;
mod redis_cluster;
mod redis_sentinel;
mod redis_single;

use std::net::SocketAddr;
use std::path::Path;

use anyhow::Result;

pub(crate) use self::disk::SmallDisk;
pub(crate) use self::node::Node;
pub(crate) use self::proxy::Proxy;
pub(crate) use self::redis::{RedisKind, RedisSystem};
use crate::support::postgres::Postgres;
use crate::support::setup::Setup;

/// Two to go on when one is away, and a third to see that they agree.
const NODES: usize = 3;

/// What a fault asks of the system it is made in.
#[derive(Default)]
pub(crate) struct Options {
    /// Replicas of each primary, in the set-ups that have any.
    pub(crate) replicas: usize,
    /// What an `ok` stands for; by default a flush to the disk for `single`, and one replica for the others.
    pub(crate) durability: Option<&'static str>,
    /// Where the data of `single` lie, if they are to have a disk that can be filled.
    pub(crate) small_disk: Option<SmallDisk>,
    /// Further settings of each node.
    pub(crate) settings: Vec<(&'static str, String)>,
    /// The nodes' clocks can be shifted.
    pub(crate) fake_clocks: bool,
}

/// All of it, running. It ends with this, or with the process.
pub(crate) struct System {
    pub(crate) redis: RedisSystem,
    pub(crate) nodes: Vec<Node>,
    pub(crate) proxy: Proxy,
    pub(crate) postgres: &'static Postgres,
    /// Unmounted last.
    pub(crate) small_disk: Option<SmallDisk>,
}

impl System {
    /// Starts everything, with logs and data below `folder`, and waits until each node is ready and served from.
    pub(crate) async fn start(kind: RedisKind, options: Options, folder: &Path) -> Result<Self> {
        let redis = RedisSystem::start(kind, &options, folder).await?;
        let postgres = Postgres::shared();
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
        for node in &mut nodes {
            if options.fake_clocks {
                node.fake_clock()?;
            }
            node.start().await?;
        }
        let proxy = Proxy::start(&nodes, folder).await?;
        Ok(Self { redis, nodes, proxy, postgres, small_disk: options.small_disk })
    }

    /// Where clients go.
    pub(crate) fn address(&self) -> SocketAddr {
        self.proxy.address
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
