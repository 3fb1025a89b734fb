//! Writing to the log: one queue and one task per feed, one script call for what waits.

use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Script, Value};
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::keys::{Feed, Keys};
use super::link::{self, Link};
use super::{Durability, Options, value};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{Channel, ChannelId, ClientId, Position, TimeMs, UserId};

/// The most items of one script call. Larger batches save little more per message, and hold up the other feeds.
const BATCH_ITEMS_MAX: usize = 64;
/// The most items that wait for a feed; beyond it, appends are refused with `unavailable`.
const QUEUE_ITEMS_MAX: usize = 4_096;
/// The channels of a feed whose epoch is remembered; for others the script looks it up.
const EPOCHS_MAX: usize = 4_096;
/// How often at most a log's expiry is put off.
const REFRESH: Duration = Duration::from_secs(3_600);

/// A message on its way into a channel's log.
#[derive(Debug)]
pub struct NewEntry {
    channel: ChannelId,
    epoch_floor: u64,
    body: String,
    once: Option<Once>,
}

/// What makes writing again safe: the same key is written once, and must have the same content.
#[derive(Debug)]
struct Once {
    key: String,
    content: String,
}

impl NewEntry {
    /// A message of `from`, its fields being the inside of a JSON object.
    pub fn new(channel: &Channel, from: UserId, body: String, cid: Option<&ClientId>) -> Self {
        let once = cid.map(|cid| Once {
            key: digest(&[&channel.id.to_string(), &from.to_string(), cid.as_str()]),
            content: digest(&[&body]),
        });
        Self { channel: channel.id, epoch_floor: channel.epoch_floor, body, once }
    }

    /// Where it goes.
    pub(super) fn channel(&self) -> ChannelId {
        self.channel
    }
}

/// 128 bits of SHA-256, as text.
pub(super) fn digest(parts: &[&str]) -> String {
    let mut hash = Sha256::new();
    for part in parts {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    }
    URL_SAFE_NO_PAD.encode(&hash.finalize()[..16])
}

/// What became of an item.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Appended {
    /// In the log, at the durability that is set.
    Written(Position, TimeMs),
    /// It was written before, under the same cid.
    Duplicate(Position, TimeMs),
    /// The cid belongs to another content.
    Conflict,
    /// The channel was deleted.
    Gone,
    /// In the feed, at this number.
    Announced(u64),
    /// Something went wrong; it may or may not have been written.
    Failed,
    /// The log is gone; this was its last position, or where it had expired, one of its last epoch. The notice has this
    /// number in the feed.
    Deleted(Option<Position>, u64),
}

/// The answer to an append, once it is there. Dropping it changes nothing: what is queued is written.
pub type Pending = oneshot::Receiver<Result<Appended>>;

/// One item of a batch.
#[derive(Debug)]
pub(super) enum Item {
    /// A message.
    Message(NewEntry),
    /// A notice (its JSON) of a channel or of none.
    Notice(Option<ChannelId>, String),
    /// A notice of a removal: takes the log's head along.
    Removal(ChannelId, String),
    /// Delete the log.
    Delete(ChannelId, String),
}

struct Queued {
    item: Item,
    deadline: Instant,
    queued_at: Instant,
    answer: oneshot::Sender<Result<Appended>>,
}

/// The queues of all feeds.
#[derive(Clone)]
pub(super) struct Appender {
    queues: Vec<mpsc::Sender<Queued>>,
    timeout: Duration,
}

impl Appender {
    /// The queues, and the future of each that writes what is put into it, until the queues are dropped. There is a
    /// link for each feed, or one for all.
    pub(super) fn new(
        links: &[Link],
        keys: &Keys,
        options: &Options,
        metrics: &Metrics,
    ) -> (Self, Vec<impl Future<Output = ()> + Send + use<>>) {
        let (queues, writers) = keys
            .feeds()
            .zip(links.iter().cycle())
            .map(|(feed, link)| {
                let (tx, rx) = mpsc::channel(QUEUE_ITEMS_MAX);
                let writer = Writer {
                    feed,
                    link: link.clone(),
                    keys: keys.clone(),
                    options: options.clone(),
                    metrics: metrics.clone(),
                    script: Script::new(include_str!("append.lua")),
                    epochs: quick_cache::unsync::Cache::new(EPOCHS_MAX),
                };
                (tx, writer.run(rx))
            })
            .unzip();
        (Self { queues, timeout: options.append_timeout }, writers)
    }

    /// Puts an item into the feed's queue. Items of one feed are written in the order of these calls.
    ///
    /// # Errors
    /// `unavailable` where the queue is full: nothing will be written.
    pub(super) fn append(&self, feed: Feed, item: Item) -> Result<Pending> {
        let (answer, pending) = oneshot::channel();
        let now = Instant::now();
        self.queues[feed.0]
            .try_send(Queued { item, deadline: now + self.timeout, queued_at: now, answer })
            .map_err(|_| Error::Unavailable(anyhow::anyhow!("the queue of feed {} is full", feed.0)))?;
        Ok(pending)
    }
}

/// What the node knows of a log without asking.
#[derive(Clone, Copy)]
struct Known {
    epoch: u64,
    refreshed_at: Instant,
}

/// Writes one feed.
struct Writer {
    feed: Feed,
    link: Link,
    keys: Keys,
    options: Options,
    metrics: Metrics,
    script: Script,
    epochs: quick_cache::unsync::Cache<ChannelId, Known>,
}

impl Writer {
    /// One call is under way at a time, so that the order of the queue is the order of the log; what comes in meanwhile
    /// makes the next batch.
    async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        let mut batch = Vec::with_capacity(BATCH_ITEMS_MAX);
        while queue.recv_many(&mut batch, BATCH_ITEMS_MAX).await > 0 {
            self.write(&mut batch).await;
        }
    }

    async fn write(&mut self, batch: &mut Vec<Queued>) {
        loop {
            let Some(open) = self.link.open(batch[0].deadline).await else {
                return self.refuse(batch.drain(..), Error::Unavailable, "Redis cannot be reached");
            };
            let now = Instant::now();
            self.refuse(
                batch.extract_if(.., |queued| queued.deadline <= now),
                Error::Unavailable,
                "Redis could not be reached in time",
            );
            if batch.is_empty() {
                return;
            }
            let mut connection = open.connection.clone();
            let reply = match self.script(&mut connection, batch).await {
                Ok(reply) => reply,
                Err(error) => {
                    self.link.failed(&open, &error);
                    match error {
                        // Nothing was written: the next connection leads to who may write.
                        error if link::is_elsewhere(&error) => continue,
                        error if is_refusal(&error) => {
                            return self.refuse(batch.drain(..), Error::Unavailable, &error.to_string());
                        }
                        error => return self.refuse(batch.drain(..), Error::OutcomeUnknown, &error.to_string()),
                    }
                }
            };
            match self.confirmed(&mut connection).await.and_then(|()| parse(batch, &reply)) {
                Ok(answers) => self.answer(batch, answers),
                Err(error) => {
                    self.link.failed(&open, &error);
                    self.refuse(batch.drain(..), Error::OutcomeUnknown, &error.to_string());
                }
            }
            return;
        }
    }

    async fn script(&mut self, connection: &mut MultiplexedConnection, batch: &[Queued]) -> RedisResult<Value> {
        let mut call = self.script.prepare_invoke();
        let options = &self.options;
        call.key(self.keys.feed(self.feed)).key(self.keys.state(self.feed)).key(self.keys.epochs(self.feed));
        call.arg(options.retention_messages)
            .arg(options.retention.as_millis() as u64)
            .arg(options.retention.as_secs() + 2 * REFRESH.as_secs())
            .arg(options.dedupe.as_millis() as u64)
            .arg(options.feed_window.as_millis() as u64)
            .arg(options.feed_entries_max);
        for queued in batch {
            match &queued.item {
                Item::Message(entry) => {
                    let known = self.epochs.get(&entry.channel).copied();
                    self.add_message(&mut call, entry, known);
                }
                Item::Notice(channel, json) => self.add_notice(&mut call, "n", *channel, json),
                Item::Removal(channel, json) => self.add_notice(&mut call, "r", Some(*channel), json),
                Item::Delete(channel, json) => self.add_notice(&mut call, "d", Some(*channel), json),
            }
        }
        call.invoke_async(connection).await
    }

    /// Waits for the replicas, where they are what an `ok` stands for.
    async fn confirmed(&self, connection: &mut MultiplexedConnection) -> RedisResult<()> {
        let Durability::Replica { replicas } = self.options.durability else { return Ok(()) };
        // Less than the connection's own patience, so that the answer says how many there were.
        let timeout_ms = (self.options.append_timeout / 2).as_millis() as u64;
        let confirmed: usize = redis::cmd("WAIT").arg(replicas).arg(timeout_ms).query_async(connection).await?;
        if confirmed < replicas { Err(value::unexpected("the confirmation of enough replicas")) } else { Ok(()) }
    }

    fn add_message(&self, call: &mut redis::ScriptInvocation<'_>, entry: &NewEntry, known: Option<Known>) {
        let refresh = known.is_none_or(|known| known.refreshed_at.elapsed() >= REFRESH);
        let once = entry.once.as_ref();
        call.key(self.keys.log(entry.channel));
        call.key(once.map_or_else(|| self.keys.feed(self.feed), |o| self.keys.once(self.feed, &o.key)));
        call.arg("m").arg(entry.channel.to_string()).arg(&entry.body).arg(entry.epoch_floor);
        call.arg(known.map_or(0, |known| known.epoch)).arg(once.map_or("", |o| &o.content));
        call.arg(u8::from(refresh));
    }

    fn add_notice(&self, call: &mut redis::ScriptInvocation<'_>, kind: &str, channel: Option<ChannelId>, json: &str) {
        let feed = self.keys.feed(self.feed);
        call.key(channel.map_or_else(|| feed.clone(), |channel| self.keys.log(channel))).key(feed);
        call.arg(kind).arg(channel.map_or_else(String::new, |channel| channel.to_string()));
        call.arg(json).arg(0).arg(0).arg("").arg(0);
    }

    fn answer(&mut self, batch: &mut Vec<Queued>, answers: Vec<Appended>) {
        self.metrics.append_batch_messages.record(batch.len() as f64);
        let now = Instant::now();
        for (queued, answer) in batch.drain(..).zip(answers) {
            self.metrics.append_seconds.record(now.duration_since(queued.queued_at));
            if let (Item::Message(entry), Appended::Written(position, _)) = (&queued.item, answer) {
                self.metrics.messages_appended_total.increment(1);
                self.learn(entry.channel, position.epoch, now);
            } else if let Appended::Duplicate(..) = answer {
                self.metrics.messages_duplicate_total.increment(1);
            }
            let _ = queued.answer.send(match answer {
                Appended::Failed => Err(Error::OutcomeUnknown(anyhow::anyhow!("a part of the script failed"))),
                answer => Ok(answer),
            });
        }
    }

    fn learn(&mut self, channel: ChannelId, epoch: u64, now: Instant) {
        let refreshed_at = match self.epochs.get(&channel) {
            Some(known) if now.duration_since(known.refreshed_at) < REFRESH => known.refreshed_at,
            _ => now,
        };
        self.epochs.insert(channel, Known { epoch, refreshed_at });
    }

    fn refuse(&self, batch: impl Iterator<Item = Queued>, error: impl Fn(anyhow::Error) -> Error, why: &str) {
        for queued in batch {
            let error = error(anyhow::anyhow!("{why}"));
            self.metrics.append_failures_total.with([error.code()]).increment(1);
            let _ = queued.answer.send(Err(error));
        }
    }
}

/// Whether Redis says by the error's code that it would not write at all.
fn is_refusal(error: &RedisError) -> bool {
    let codes = ["MISCONF", "OOM", "BUSY", "NOAUTH", "NOPERM", "CROSSSLOT"];
    error.code().is_some_and(|code| codes.contains(&code))
}

fn parse(batch: &[Queued], reply: &Value) -> Result<Vec<Appended>, RedisError> {
    let answers = value::list(reply)?;
    if answers.len() != 1 + batch.len() * 3 {
        return Err(value::unexpected("three values an item"));
    }
    answers[1..]
        .chunks_exact(3)
        .map(|answer| {
            let written = || {
                let position = value::position(&answer[1])?.ok_or_else(|| value::unexpected("a position"))?;
                Ok::<_, RedisError>((position, value::number(&answer[2])?))
            };
            Ok(match value::number::<u8>(&answer[0])? {
                1 => written().map(|(position, at)| Appended::Written(position, at))?,
                2 => written().map(|(position, at)| Appended::Duplicate(position, at))?,
                3 => Appended::Conflict,
                4 => Appended::Gone,
                5 => Appended::Announced(value::number(&answer[1])?),
                6 => Appended::Deleted(value::position(&answer[1])?, value::number(&answer[2])?),
                7 => Appended::Failed,
                _ => return Err(value::unexpected("a known status")),
            })
        })
        .collect()
}
