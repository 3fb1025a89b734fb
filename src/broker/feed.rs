//! Reading a feed: through a consumer group of this node's own, rewound after every error, so that a living node misses
//! nothing.

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout_at};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::keys::{Feed, Keys};
use super::link::{self, Link, Route};
use super::notice::{FeedEvent, FeedItem, entry_id, parse_reply};
use super::value;
use crate::clock;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::Position;

/// The most entries of one reply, each of what was written at once, mostly 1 MiB at most: bounds the memory of a reply.
const READ_ENTRIES_MAX: usize = 16;
/// How long a read waits for something new; a stop is noticed after it.
const BLOCK: Duration = Duration::from_millis(2_000);
/// What a read may take beyond that.
const READ_MARGIN: Duration = Duration::from_secs(3);
/// The first pause after an error; each further one doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause after an error.
const PAUSE_MAX: Duration = Duration::from_millis(1_000);
/// The one consumer of the group.
const CONSUMER: &str = "node";

/// What the reader hands over, in the order of the feed.
#[derive(Debug)]
pub enum Delivery {
    /// Something happened.
    Event(FeedEvent),
    /// Entries of this feed may have been missed: whatever is known from it is to be read anew.
    Missed(Feed),
    /// All that was waiting has been handed over.
    BatchEnd,
}

/// How far this node has come in each feed.
#[derive(Clone)]
pub(super) struct Progress {
    handled: Arc<[watch::Sender<u64>]>,
}

impl Progress {
    pub(super) fn new(feeds: usize) -> Self {
        Self { handled: (0..feeds).map(|_| watch::Sender::new(0)).collect() }
    }

    /// Waits until everything up to this number of the feed has been handed over.
    ///
    /// # Errors
    /// `unavailable` where that takes longer than the deadline.
    pub(super) async fn reached(&self, feed: Feed, seq: u64, deadline: Instant) -> Result<()> {
        let mut handled = self.handled[feed.0].subscribe();
        match timeout_at(deadline, handled.wait_for(|handled| *handled >= seq)).await {
            Ok(Ok(_)) => Ok(()),
            _ => Err(Error::Unavailable(anyhow::anyhow!("this node is behind in feed {}", feed.0))),
        }
    }

    /// The number of the last entry of the feed that was handed over; 0 while that is not known.
    pub(super) fn handled(&self, feed: Feed) -> u64 {
        *self.handled[feed.0].borrow()
    }

    fn set(&self, feed: Feed, seq: u64) {
        self.handled[feed.0].send_replace(seq);
    }
}

/// Reads one feed in a task and on a connection of its own.
pub struct FeedReader {
    route: Route,
    group: String,
    progress: Progress,
    metrics: Metrics,
    /// The other connections to the same server.
    links: [Link; 2],
    feed: Feed,
    key: String,
    state: String,
    /// The last entry handed over: its id, and its number.
    last: Position,
    handled: u64,
}

impl FeedReader {
    /// Creates the group at the end of the feed: what came before, clients resume from the logs.
    pub(super) async fn begin(
        route: Route,
        keys: &Keys,
        feed: Feed,
        group: &str,
        progress: &Progress,
        links: [Link; 2],
        metrics: &Metrics,
    ) -> RedisResult<Self> {
        let mut reader = Self {
            route,
            group: group.to_owned(),
            progress: progress.clone(),
            metrics: metrics.clone(),
            links,
            feed,
            key: keys.feed(feed),
            state: keys.state(feed),
            last: Position::BEGINNING,
            handled: 0,
        };
        let mut connection = reader.connect().await?;
        reader.start_at_end(&mut connection).await?;
        reader.progress.set(feed, reader.handled);
        Ok(reader)
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.route.servers.connect(self.route.slot, &link::config(BLOCK + READ_MARGIN)).await
    }

    /// Reads until stopped, handing everything over; never returns before, whatever happens to Redis.
    pub async fn run(mut self, stop: CancellationToken, mut deliver: impl FnMut(Delivery)) {
        let mut pause = PAUSE_MIN;
        let mut known = true;
        while !stop.is_cancelled() {
            let began = Instant::now();
            match self.read_until_error(&stop, known, &mut deliver).await {
                Ok(()) => break,
                Err(error) => warn!(%error, "Reading the feed failed; going back and on"),
            }
            known = false;
            // They would only find out by failing.
            self.links.iter().for_each(Link::suspect);
            // Until it is known again what this Redis holds, nobody is told that the node has come far enough.
            self.progress.set(self.feed, 0);
            self.metrics.feed_reconnects_total.increment(1);
            pause = if began.elapsed() > PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            sleep(pause).await;
        }
        self.leave().await;
    }

    async fn read_until_error(
        &mut self,
        stop: &CancellationToken,
        known: bool,
        deliver: &mut impl FnMut(Delivery),
    ) -> RedisResult<()> {
        let mut connection = self.connect().await?;
        if !known {
            self.rewind(&mut connection, deliver).await?;
            info!(feed = self.feed.0, "Reading the feed again");
        }
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(CONSUMER).arg("COUNT").arg(READ_ENTRIES_MAX);
        read.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("NOACK").arg("STREAMS").arg(&self.key).arg(">");
        while !stop.is_cancelled() {
            // The read is never dropped half way: what it had taken would be lost.
            let reply: Value = read.query_async(&mut connection).await?;
            let items = parse_reply(&reply)?;
            let Some(oldest) = items.first() else { continue };
            self.metrics.feed_entries_read_total.increment(items.len() as u64);
            self.metrics.feed_lag_seconds.record((clock::now_ms() - oldest.at).max(0) as f64 / 1_000.0);
            self.hand_over(items, deliver);
        }
        Ok(())
    }

    /// Takes the group along on a clean stop, as far as Redis can be reached.
    async fn leave(&self) {
        let Ok(mut connection) = self.connect().await else { return };
        let mut destroy = redis::cmd("XGROUP");
        destroy.arg("DESTROY").arg(&self.key).arg(&self.group);
        if let Err(error) = destroy.query_async::<Value>(&mut connection).await {
            warn!(%error, "The consumer group stays behind; the janitor of another node will remove it");
        }
    }

    fn hand_over(&mut self, items: Vec<FeedItem>, deliver: &mut impl FnMut(Delivery)) {
        for item in items {
            if item.seq != self.handled + 1 {
                let (feed, expected, found) = (self.feed.0, self.handled + 1, item.seq);
                warn!(feed, expected, found, "A part of the feed was missed");
                deliver(Delivery::Missed(self.feed));
            }
            (self.last, self.handled) = (item.id, item.seq);
            if let Some(event) = item.event {
                deliver(Delivery::Event(event));
            }
        }
        deliver(Delivery::BatchEnd);
        // Only now: who waits for this number finds everything up to it carried out.
        self.progress.set(self.feed, self.handled);
    }

    /// Goes back to the last entry that was handed over; the sequence tells afterwards whether something is missing.
    async fn rewind(
        &mut self,
        connection: &mut MultiplexedConnection,
        deliver: &mut impl FnMut(Delivery),
    ) -> RedisResult<()> {
        let newest = newest(connection, &self.key).await?;
        if newest.is_none_or(|newest| newest < self.last) {
            // This Redis has lost what was handed over already.
            self.start_at_end(connection).await?;
            deliver(Delivery::Missed(self.feed));
            deliver(Delivery::BatchEnd);
            self.progress.set(self.feed, self.handled);
            return Ok(());
        }
        let last = self.last.to_string();
        let set = redis::cmd("XGROUP").arg("SETID").arg(&self.key).arg(&self.group).arg(&last).to_owned();
        match set.query_async::<()>(connection).await {
            Err(error) if error.code() == Some("NOGROUP") => {
                let mut create = redis::cmd("XGROUP");
                create.arg("CREATE").arg(&self.key).arg(&self.group).arg(&last).arg("MKSTREAM");
                create.query_async::<()>(connection).await?;
            }
            other => other?,
        }
        self.progress.set(self.feed, self.handled);
        Ok(())
    }

    async fn start_at_end(&mut self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let _: RedisResult<Value> =
            redis::cmd("XGROUP").arg("DESTROY").arg(&self.key).arg(&self.group).query_async(connection).await;
        // Number and end belong together: asked in one transaction.
        let (_, seq, newest): (Value, Option<u64>, Vec<Value>) = redis::pipe()
            .atomic()
            .cmd("XGROUP")
            .arg("CREATE")
            .arg(&self.key)
            .arg(&self.group)
            .arg("$")
            .arg("MKSTREAM")
            .cmd("HGET")
            .arg(&self.state)
            .arg("seq")
            .cmd("XREVRANGE")
            .arg(&self.key)
            .arg("+")
            .arg("-")
            .arg("COUNT")
            .arg(1)
            .query_async(connection)
            .await?;
        self.last = newest.first().map(entry_id).transpose()?.unwrap_or(Position::BEGINNING);
        self.handled = seq.unwrap_or(0);
        Ok(())
    }
}

/// The last id that the stream gave out; `None` where there is no stream.
async fn newest(connection: &mut MultiplexedConnection, key: &str) -> Result<Option<Position>, RedisError> {
    match redis::cmd("XINFO").arg("STREAM").arg(key).query_async::<Value>(connection).await {
        Ok(info) => {
            let fields = value::list(&info)?;
            let found =
                fields.chunks_exact(2).find(|pair| value::text(&pair[0]).is_ok_and(|f| f == "last-generated-id"));
            found.map_or(Ok(None), |pair| value::position(&pair[1]))
        }
        Err(error) if error.to_string().contains("no such key") => Ok(None),
        Err(error) => Err(error),
    }
}
