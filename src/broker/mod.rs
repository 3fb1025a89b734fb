//! The log: every message in a Redis stream per channel, and in one of a few feeds that each node reads.
//!
//! The only code that speaks Redis. What is acknowledged here is in the log, at the durability that is set.

mod append;
mod attempts;
pub mod embedded;
mod feed;
mod history;
mod janitor;
mod keys;
mod link;
mod notice;
mod setup;
mod value;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use deadpool_redis::Pool;
use futures_util::future::{BoxFuture, try_join_all};
use redis::Script;
use tokio::sync::Semaphore;
use tokio::time::{Instant, timeout};
use uuid::Uuid;

pub use append::{Appended, NewEntry, Pending};
pub use attempts::{Attempt, Settled};
pub use feed::{Delivery, FeedReader};
pub use history::{PAGE_ENTRIES, Page};
pub use keys::Feed;
pub use notice::{FeedEvent, Notice};

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{ChannelId, Position};
use append::{Appender, Item};
use feed::Progress;
use history::Reader;
use keys::Keys;

/// Where Redis is.
#[derive(Clone, Debug)]
pub enum Address {
    /// A socket in the file system.
    Unix(PathBuf),
    /// A host, a port, and the password where one is needed.
    Tcp(String, u16, Option<crate::config::Secret>),
}

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
    /// What every key begins with.
    pub prefix: String,
    /// How many feeds there are; fixed at installation.
    pub feeds: usize,
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
    progress: Progress,
    page_reads: Semaphore,
    pool: Pool,
    metrics: Metrics,
}

/// What runs beside the handle; the caller gives each a task.
pub struct Upkeep {
    /// Keeps connections, writes the queues, tells that the node lives, cleans up after dead ones.
    pub tasks: Vec<(&'static str, BoxFuture<'static, ()>)>,
    /// Reads the feeds.
    pub reader: FeedReader,
}

impl Broker {
    /// Checks that Redis is fit for its purpose, and joins the installation that the database belongs to.
    ///
    /// # Errors
    /// Says what is wrong with the set-up, and the remedy.
    pub async fn connect(options: Options, database: Uuid, metrics: &Metrics) -> anyhow::Result<(Self, Upkeep)> {
        let keys = Keys::new(&options.prefix, options.feeds);
        let client = setup::client(&options.address)?;
        let pool = setup::pool(&options)?;
        setup::check(&pool, &options, &keys, database).await?;

        let progress = Progress::new(options.feeds);
        let mut reader = FeedReader {
            client: client.clone(),
            keys: keys.clone(),
            group: options.group.clone(),
            progress: progress.clone(),
            metrics: metrics.clone(),
            links: Vec::new(),
            last: vec![(Position::BEGINNING, 0); options.feeds],
        };
        janitor::announce(&pool, &keys, &options.group).await?;
        reader.begin(&mut *pool.get().await?).await?;

        let (append_link, keep_append) =
            link::Link::new("append", client.clone(), options.append_timeout, setup::origin(&keys, &options));
        let (read_link, keep_read) = link::Link::new("read", client, options.append_timeout, link::unprepared);
        reader.links = vec![append_link.clone(), read_link.clone()];
        let (appender, writers) = Appender::new(&append_link, &keys, &options, metrics);
        let shared = Shared {
            reader: Reader { link: read_link, options: options.clone() },
            read_script: history::script(),
            page_reads: Semaphore::new(options.page_reads),
            keys,
            options,
            appender,
            progress,
            pool,
            metrics: metrics.clone(),
        };
        let broker = Self { shared: Arc::new(shared) };
        let mut tasks: Vec<(&'static str, BoxFuture<'static, ()>)> = vec![
            ("append link", Box::pin(keep_append)),
            ("read link", Box::pin(keep_read)),
            ("heartbeat", Box::pin(janitor::heartbeat(broker.clone()))),
            ("janitor", Box::pin(janitor::sweep(broker.clone()))),
            ("canary", Box::pin(janitor::canary(broker.clone()))),
        ];
        tasks.extend(writers.into_iter().map(|writer| ("append", Box::pin(writer) as BoxFuture<'static, ()>)));
        Ok((broker, Upkeep { tasks, reader }))
    }

    /// Puts a message into the queue of its channel's feed. Those of one channel are written in the order of the calls.
    ///
    /// # Errors
    /// `unavailable` where the queue is full.
    pub fn append(&self, entry: NewEntry) -> Result<Pending> {
        let feed = self.shared.keys.feed_of(entry.channel());
        self.shared.appender.append(feed, Item::Message(entry))
    }

    /// Tells every node, without waiting for it.
    ///
    /// # Errors
    /// `unavailable` where the queue is full.
    pub fn announce(&self, notice: &Notice) -> Result<Pending> {
        let json = serde_json::to_string(notice).expect("a notice holds nothing that JSON cannot");
        let item = match *notice {
            Notice::Removed { channel, .. } => Item::Removal(channel, json),
            Notice::Deleted { channel, .. } => Item::Delete(channel, json),
            Notice::Typing { channel, .. } | Notice::Role { channel, .. } | Notice::Changed { channel, .. } => {
                Item::Notice(Some(channel), json)
            }
            Notice::Revoked { .. } | Notice::Canary { .. } => Item::Notice(None, json),
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
            self.shared.progress.reached(self.feed_of_notice(notice), seq, deadline).await?;
        }
        Ok(appended)
    }

    fn feed_of_notice(&self, notice: &Notice) -> Feed {
        match *notice {
            Notice::Removed { channel, .. }
            | Notice::Deleted { channel, .. }
            | Notice::Typing { channel, .. }
            | Notice::Role { channel, .. }
            | Notice::Changed { channel, .. } => self.feed_of(channel),
            Notice::Revoked { user, .. } => self.shared.keys.feed_of_user(user),
            Notice::Canary { number, .. } => Feed(number as usize % self.shared.options.feeds),
        }
    }

    /// Puts an entry into a feed, so that a reader which was told to stop need not wait for one.
    pub fn wake_reader(&self) {
        let node = self.shared.options.group.clone();
        // Where that fails the reader notices a little later.
        let _ = self.announce(&Notice::Canary { node, number: 0 });
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
        let echoes = (0..options.feeds as u64).map(|number| async move {
            self.announced(&Notice::Canary { node: node.clone(), number }).await.map(drop)
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
