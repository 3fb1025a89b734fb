//! What a load runs on: nodes, their Redis, their database. All of them are the suite's own, and end with it.

mod node;
mod postgres;

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use serde::Serialize;
use tempfile::TempDir;
use tokio::sync::OnceCell;

use crate::broker::{Flush, RedisServer};
use crate::cli::{Common, NamedPid};
use crate::failure::Tally;
use crate::scenario::Run;
use node::Launch;
use postgres::Postgres;

pub(crate) use node::Node;

/// How servers are set up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum SetUp {
    /// One node with its private Redis, as `make run` starts it: acknowledged when it is on the disk
    Embedded,
    /// One node and a Redis, acknowledged from memory
    Memory,
    /// One node and a Redis, acknowledged from the disk
    Fsync,
    /// Several nodes on one Redis and one Postgres, acknowledged from memory
    Nodes(u8),
}

/// Where systems are started, and from what.
pub(crate) struct Place {
    burble: PathBuf,
    folder: TempDir,
    postgres: OnceCell<Postgres>,
}

impl Place {
    /// Below `folder`, with this server or the one beside the load tool.
    pub(crate) fn new(burble: Option<&Path>, folder: Option<&Path>) -> Result<Self> {
        let burble = match burble {
            Some(burble) => burble.to_owned(),
            None => std::env::current_exe().context("the load tool cannot find itself")?.with_file_name("burble"),
        };
        let burble = std::path::absolute(burble)?;
        ensure!(burble.exists(), "there is no {}; build it, or name one with --burble", burble.display());
        let mut builder = tempfile::Builder::new();
        builder.prefix("burble-bench-");
        let folder = folder.map_or_else(|| builder.tempdir(), |folder| builder.tempdir_in(folder))?;
        Ok(Self { burble, folder, postgres: OnceCell::new() })
    }

    /// Where the data lies.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// The server that is measured.
    pub(crate) fn burble(&self) -> &Path {
        &self.burble
    }

    async fn new_database(&self) -> Result<String> {
        self.postgres.get_or_try_init(Postgres::start).await?.create_database()
    }
}

/// Servers that run.
pub(crate) struct System {
    pub(crate) nodes: Vec<Node>,
    redis: Option<RedisServer>,
    _folder: TempDir,
}

impl System {
    /// Starts everything with no data, and waits until it is ready.
    pub(crate) async fn start(place: &Place, set_up: SetUp) -> Result<Self> {
        let folder = tempfile::tempdir_in(place.folder())?;
        let redis = match set_up {
            SetUp::Embedded => None,
            SetUp::Fsync => Some(RedisServer::start(&folder.path().join("redis"), Flush::Always).await?),
            SetUp::Memory | SetUp::Nodes(_) => {
                Some(RedisServer::start(&folder.path().join("redis"), Flush::EverySecond).await?)
            }
        };
        let mut settings = Vec::new();
        if let Some(redis) = &redis {
            settings.push(("PUBSUB_SERVER_HOST", "127.0.0.1".to_owned()));
            settings.push(("PUBSUB_SERVER_PORT", redis.port.to_string()));
            settings.push(("PUBSUB_DURABILITY", if set_up == SetUp::Fsync { "fsync" } else { "memory" }.to_owned()));
        }
        let count = match set_up {
            SetUp::Nodes(count) => {
                settings.push(("SERVER_DB", place.new_database().await?));
                count
            }
            _ => 1,
        };
        let mut nodes = Vec::new();
        // One after the other: the first one prepares the database.
        for number in 0..count {
            let name = format!("node-{number}");
            let launch = Launch::new(place.burble(), folder.path().join(&name), &name, &settings);
            nodes.push(Node::start(launch).await?);
        }
        Ok(Self { nodes, redis, _folder: folder })
    }

    /// A run on all nodes, with all processes watched.
    pub(crate) async fn run(&self, common: &Common, against: &str) -> Result<Run> {
        self.run_on(common, against, &self.nodes).await
    }

    /// A run on some of the nodes.
    pub(crate) async fn run_on(&self, common: &Common, against: &str, nodes: &[Node]) -> Result<Run> {
        let first = nodes.first().context("a run needs a node")?;
        let (redis, process) = match &self.redis {
            Some(redis) => (redis.url.clone(), redis.process.clone()),
            None => (first.redis_url(), NamedPid { name: "redis".into(), pid: first.redis_pid().await? }),
        };
        let mut pids: Vec<_> = nodes.iter().map(|node| NamedPid { name: "burble".into(), pid: node.pid }).collect();
        pids.push(process);
        Ok(Run {
            common: common.clone(),
            targets: nodes.iter().map(|node| node.target.clone()).collect(),
            against: against.to_owned(),
            pids,
            redis: Some(redis),
            tally: Tally::default(),
        })
    }
}

impl SetUp {
    /// In words.
    pub(crate) fn words(self) -> String {
        match self {
            Self::Embedded => "embedded".into(),
            Self::Memory => "memory".into(),
            Self::Fsync => "fsync".into(),
            Self::Nodes(1) => "1 node".into(),
            Self::Nodes(count) => format!("{count} nodes"),
        }
    }
}
