//! The log: every message in a Redis stream per channel, and in a feed that each node reads.
//!
//! The only code that speaks Redis. What is acknowledged here is in the log, at the durability that is set.

mod append;
mod attempts;
pub mod backup;
pub mod doctor;
pub mod embedded;
mod feed;
mod heard;
mod history;
mod janitor;
mod keys;
mod lanes;
mod link;
mod notice;
mod servers;
mod setup;
mod tls;
mod value;
mod watch;
mod writer;

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::{BoxFuture, try_join_all};
use redis::Script;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

pub use append::{Appended, NewEntry, Pending};
pub use attempts::{Attempt, Settled};
pub use feed::FeedReader;
pub use heard::Delivery;
pub use history::{PAGE_ENTRIES, Page};
pub use keys::Feed;
pub use notice::{FeedEvent, Notice};
pub use servers::Address;
pub use tls::Tls;

use crate::config::Secret;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{Change, ChannelId};
use append::{Appender, Item};
use heard::Heard;
use history::Reader;
use keys::Keys;
use lanes::Lanes;
use servers::Servers;

/// What an acknowledged message has survived.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Durability {
    /// It is in the memory of Redis.
    Memory,
    /// It is on the disk of Redis.
    Fsync,
    /// So many replicas have it.
    Replica {
        /// How many.
        replicas: usize,
    },
}

impl Durability {
    /// The word in `welcome`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Memory => "memory",
            Self::Fsync => "fsync",
            Self::Replica { .. } => "replica",
        }
    }
}

/// How the log is kept.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where Redis is.
    pub address: Address,
    /// Its password, where it has one.
    pub password: Option<Secret>,
    /// How it is spoken to in TLS; else in the clear.
    pub tls: Option<Tls>,
    /// What every key begins with.
    pub prefix: String,
    /// How many shards channels are spread over; fixed at installation.
    pub shards: usize,
    /// What an `ok` stands for.
    pub durability: Durability,
    /// How many entries a log keeps, at least.
    pub retention_messages: u64,
    /// For how long a log keeps an entry, at least.
    pub retention: Duration,
    /// For how long a cid is remembered.
    pub dedupe: Duration,
    /// How far back a feed goes.
    pub feed_window: Duration,
    /// The most entries of a feed; a node that is further behind reads the logs.
    pub feed_entries_max: u64,
    /// After how long of silence a node counts as dead, and what it left is removed.
    pub node_dead: Duration,
    /// How long an append or a read may take.
    pub append_timeout: Duration,
    /// How many reads of logs are under way at a time.
    pub page_reads: usize,
    /// The name of this node's consumer group: the node and this start of it.
    pub group: String,
}

/// A handle on the log; clones share it.
#[derive(Clone)]
pub struct Broker {
    shared: Arc<Shared>,
}

struct Shared {
    keys: Keys,
    options: Options,
    appender: Appender,
    reader: Reader,
    read_script: Script,
    /// Of each feed.
    heard: Vec<Heard>,
    page_reads: Semaphore,
    servers: Servers,
    metrics: Metrics,
}

/// What runs beside the handle; the caller gives each a task.
pub struct Upkeep {
    /// Keeps connections, writes the queues, tells that the node lives, cleans up after dead ones.
    pub tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    /// Read the feeds, each its own.
    pub readers: Vec<FeedReader>,
}

impl Broker {
    /// Checks that Redis is fit for its purpose, and joins the installation that the database belongs to.
    ///
    /// # Errors
    /// Says what is wrong with the set-up, and the remedy.
    pub async fn connect(options: Options, database: Uuid, metrics: &Metrics) -> anyhow::Result<(Self, Upkeep)> {
        let keys = Keys::new(&options.prefix, options.shards, options.address.is_cluster());
        let servers = Servers::of(&options);
        setup::check(&servers, &options, &keys, database).await?;

        janitor::announce(&servers, &keys, &options).await?;
        let lanes = Lanes::new(&servers, &keys, &options);
        lanes.settle_origin().await?;
        let heard: Vec<_> = keys.feeds().map(Heard::new).collect();
        let readers = lanes.readers(&heard, metrics).await?;
        let (appender, writers) = Appender::new(&lanes.append, &keys, &options, &heard, metrics);
        let Lanes { read: links, mut tasks, .. } = lanes;
        let shared = Shared {
            reader: Reader { links, options: options.clone() },
            read_script: history::script(),
            page_reads: Semaphore::new(options.page_reads),
            keys,
            options,
            appender,
            heard,
            servers,
            metrics: metrics.clone(),
        };
        let broker = Self { shared: Arc::new(shared) };
        tasks.push(("heartbeat", Box::pin(janitor::heartbeat(broker.clone()))));
        tasks.push(("janitor", Box::pin(janitor::sweep(broker.clone()))));
        tasks.push(("canary", Box::pin(janitor::canary(broker.clone()))));
        tasks.push(("redis watch", Box::pin(watch::watch(broker.clone()))));
        tasks.extend(writers.into_iter().map(|writer| ("append", Box::pin(writer) as BoxFuture<'static, ()>)));
        Ok((broker, Upkeep { tasks, readers }))
    }

    /// Puts a message into the queue of its channel's feed. Those of one channel are written in the order of the calls.
    ///
    /// # Errors
    /// `unavailable` where the queue is full.
    pub fn append(&self, entry: NewEntry) -> Result<Pending> {
        let feed = self.shared.keys.feed_of(entry.channel.id);
        self.shared.appender.append(feed, Item::Message(entry))
    }

    /// Tells every node, without waiting for it.
    ///
    /// # Errors
    /// `unavailable` where the queue is full.
    pub fn announce(&self, notice: &Notice) -> Result<Pending> {
        let json = serde_json::to_string(notice).expect("a notice holds nothing that JSON cannot");
        let item = match *notice {
            Notice::Change(Change::Removed { channel, .. }) => Item::Removal(channel, json),
            Notice::Change(Change::Deleted { channel, .. }) => Item::Delete(channel, json),
            Notice::Typing { .. } | Notice::Canary { .. } | Notice::Change(_) => Item::Notice(json),
        };
        self.shared.appender.append(self.feed_of_notice(notice), item)
    }

    /// Tells every node, and waits until this one has heard it.
    ///
    /// # Errors
    /// `unavailable` and `outcome_unknown`, as an append.
    pub async fn announced(&self, notice: &Notice) -> Result<Appended> {
        let appended = outcome(self.announce(notice)?).await?;
        if let Appended::Announced(seq) | Appended::Deleted(_, seq) = appended {
            let deadline = Instant::now() + self.shared.options.append_timeout;
            self.shared.heard[self.feed_of_notice(notice).0].reached(seq, deadline).await?;
        }
        Ok(appended)
    }

    fn feed_of_notice(&self, notice: &Notice) -> Feed {
        match *notice {
            Notice::Typing { channel, .. }
            | Notice::Change(
                Change::Removed { channel, .. }
                | Change::Role { channel, .. }
                | Change::Changed { channel, .. }
                | Change::Deleted { channel, .. },
            ) => self.feed_of(channel),
            Notice::Change(Change::Revoked { user, .. }) => self.shared.keys.feed_of_user(user),
            Notice::Canary { number, .. } => Feed(number as usize % self.shared.keys.feeds().count()),
        }
    }

    /// Puts an entry into each feed, so that readers which were told to stop need not wait for one.
    pub fn wake_readers(&self) {
        for feed in self.shared.keys.feeds() {
            // Where that fails the reader notices a little later.
            let node = self.shared.options.group.clone();
            let _ = self.announce(&Notice::Canary { node, number: feed.0 as u64 });
        }
    }

    /// The feed of a channel.
    pub fn feed_of(&self, channel: ChannelId) -> Feed {
        self.shared.keys.feed_of(channel)
    }

    /// Whether what is written to each feed comes back to this node in time.
    ///
    /// # Errors
    /// `unavailable`, with the cause.
    pub async fn probe(&self) -> Result<()> {
        let options = &self.shared.options;
        let node = &options.group;
        let echoes = self.shared.keys.feeds().map(|feed| async move {
            self.announced(&Notice::Canary { node: node.clone(), number: feed.0 as u64 }).await.map(drop)
        });
        match timeout(options.append_timeout, try_join_all(echoes)).await {
            Ok(Ok(_)) => Ok(()),
            Ok(Err(error)) => Err(error),
            Err(_) => Err(Error::Unavailable(anyhow::anyhow!("the feeds did not answer in time"))),
        }
    }
}

/// Waits for what became of an append.
///
/// # Errors
/// As the append, or `outcome_unknown` where this node is stopping.
pub async fn outcome(pending: Pending) -> Result<Appended> {
    pending.await.unwrap_or_else(|_| Err(Error::OutcomeUnknown(anyhow::anyhow!("the node is stopping"))))
}
