//! Reading a feed: through a consumer group of this node's own, rewound after every error, so that a living node misses
//! nothing.

use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Value};
use tokio::time::{Instant, sleep};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::heard::{Delivery, Heard};
use super::keys::{Feed, Keys};
use super::link::{self, Link, Route};
use super::notice::{RawEntry, entries_of, entry_id};
use super::value;
use crate::clock;
use crate::metrics::Metrics;
use crate::model::Position;

/// The most entries of one reply, each of what was written at once, mostly 1 MiB at most: bounds the memory of a reply.
const READ_ENTRIES_MAX: usize = 16;
/// How long a read waits for something new; a stop is noticed after it.
const BLOCK: Duration = Duration::from_millis(2_000);
/// What a read may take beyond that.
const READ_MARGIN: Duration = Duration::from_secs(3);
/// After so many reads in a row of nothing but what this node wrote itself, it is alone in the feed, hears of nearly all by
/// its answers, and reads less often.
const ALONE_READS: u32 = 32;
/// How long it then waits before the next read, unless somebody wants what is there: the most by which the first message
/// of another node is late.
const ALONE_PAUSE: Duration = Duration::from_millis(5);
/// The first pause after an error; each further one doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause after an error.
const PAUSE_MAX: Duration = Duration::from_millis(1_000);
/// The one consumer of the group.
const CONSUMER: &str = "node";

/// Reads one feed in a task and on a connection of its own.
pub struct FeedReader {
    route: Route,
    group: String,
    heard: Heard,
    metrics: Metrics,
    /// The other connections to the same server.
    links: [Link; 2],
    feed: Feed,
    key: String,
    state: String,
}

impl FeedReader {
    /// Creates the group at the end of the feed: what came before, clients resume from the logs.
    pub(super) async fn begin(
        route: Route,
        keys: &Keys,
        feed: Feed,
        group: &str,
        heard: &Heard,
        links: [Link; 2],
        metrics: &Metrics,
    ) -> RedisResult<Self> {
        let reader = Self {
            route,
            group: group.to_owned(),
            heard: heard.clone(),
            metrics: metrics.clone(),
            links,
            feed,
            key: keys.feed(feed),
            state: keys.state(feed),
        };
        let mut connection = reader.connect().await?;
        reader.start_at_end(&mut connection).await?;
        Ok(reader)
    }

    async fn connect(&self) -> RedisResult<MultiplexedConnection> {
        self.route.servers.connect(self.route.slot, &link::config(BLOCK + READ_MARGIN)).await
    }

    /// Reads until stopped, handing everything over; never returns before, whatever happens to Redis.
    pub async fn run(self, stop: CancellationToken, deliver: impl FnMut(Delivery) + Send + 'static) {
        self.heard.tell(Some(Box::new(deliver)));
        let mut pause = PAUSE_MIN;
        let mut known = true;
        while !stop.is_cancelled() {
            let began = Instant::now();
            match self.read_until_error(&stop, known).await {
                Ok(()) => break,
                Err(error) => warn!(%error, "Reading the feed failed; going back and on"),
            }
            known = false;
            // They would only find out by failing.
            self.links.iter().for_each(Link::suspect);
            self.heard.is_lost();
            self.metrics.feed_reconnects_total.increment(1);
            pause = if began.elapsed() > PAUSE_MAX { PAUSE_MIN } else { (pause * 2).min(PAUSE_MAX) };
            sleep(pause).await;
        }
        self.leave().await;
        self.heard.tell(None);
    }

    async fn read_until_error(&self, stop: &CancellationToken, known: bool) -> RedisResult<()> {
        let mut connection = self.connect().await?;
        if !known {
            self.rewind(&mut connection).await?;
            info!(feed = self.feed.0, "Reading the feed again");
        }
        let mut read = redis::cmd("XREADGROUP");
        read.arg("GROUP").arg(&self.group).arg(CONSUMER).arg("COUNT").arg(READ_ENTRIES_MAX);
        read.arg("BLOCK").arg(BLOCK.as_millis() as u64).arg("NOACK").arg("STREAMS").arg(&self.key).arg(">");
        let mut alone: u32 = 0;
        while !stop.is_cancelled() {
            // The read is never dropped half way: what it had taken would be lost.
            let reply: Value = read.query_async(&mut connection).await?;
            let (mut news, mut of_others) = (Vec::new(), false);
            for raw in entries_of(&reply)? {
                let entry = RawEntry::of(raw)?;
                of_others |= entry.writer != self.group;
                if !self.heard.has(entry.id, entry.last_number()) {
                    news.push(entry.read()?);
                }
            }
            if let Some(oldest) = news.first() {
                self.metrics.feed_lag_seconds.record((clock::now_ms() - oldest.at).max(0) as f64 / 1_000.0);
                self.metrics.feed_entries_read_total.increment(self.heard.hear(news) as u64);
            }
            alone = if of_others { 0 } else { alone.saturating_add(1) };
            if alone > ALONE_READS {
                self.wait_for_others(stop).await;
                // What was heard of meanwhile need not be read.
                self.set_group(&mut connection).await?;
            }
        }
        Ok(())
    }

    async fn wait_for_others(&self, stop: &CancellationToken) {
        tokio::select! {
            () = sleep(ALONE_PAUSE) => {}
            () = self.heard.wanted() => {}
            () = stop.cancelled() => {}
        }
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

    /// Goes back to the last entry that was handed over; the sequence tells afterwards whether something is missing.
    async fn rewind(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let last = self.heard.last_id();
        let newest = newest(connection, &self.key).await?;
        if newest.is_none_or(|newest| newest < last) {
            // This Redis has lost what was handed over already.
            return self.start_at_end(connection).await;
        }
        match self.set_group(connection).await {
            Err(error) if error.code() == Some("NOGROUP") => {
                let last = last.to_string();
                let mut create = redis::cmd("XGROUP");
                create.arg("CREATE").arg(&self.key).arg(&self.group).arg(&last).arg("MKSTREAM");
                create.query_async::<()>(connection).await?;
            }
            other => other?,
        }
        self.heard.goes_on();
        Ok(())
    }

    /// Sets the group to the last entry that was handed over.
    async fn set_group(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let last = self.heard.last_id().to_string();
        let set = redis::cmd("XGROUP").arg("SETID").arg(&self.key).arg(&self.group).arg(&last).to_owned();
        set.query_async(connection).await
    }

    async fn start_at_end(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
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
        let last = newest.first().map(entry_id).transpose()?.unwrap_or(Position::BEGINNING);
        self.heard.is_at(last, seq.unwrap_or(0));
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
