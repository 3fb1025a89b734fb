//! Writing what waits in a queue: one script call for all of it.

use std::str::FromStr;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::{RedisError, RedisResult, Script, ScriptInvocation, Value};
use tokio::sync::mpsc;
use tokio::task::yield_now;
use tokio::time::Instant;

use super::append::{Appended, Item, NewEntry, Queued};
use super::heard::Heard;
use super::keys::{Feed, Keys};
use super::link::{self, Link};
use super::notice::{FeedEntry, FeedEvent};
use super::{Durability, Options, value};
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{ChannelId, Entry, LastEpoch, Position, TimeMs};

/// The most items of one script call. Larger batches save little more per message, and hold up the rest of Redis.
const BATCH_ITEMS_MAX: usize = 256;
/// The most bytes of one script call, unless a single item has more; it becomes one entry of the feed, and those bound what
/// a node reads at a time.
const BATCH_BYTES_MAX: usize = 1024 * 1024;
/// How often at most a log's expiry is put off.
const REFRESH: Duration = Duration::from_secs(3_600);

/// Writes one feed, and the logs of its shards.
pub(super) struct Writer {
    feed: Feed,
    link: Link,
    keys: Keys,
    options: Options,
    heard: Heard,
    metrics: Metrics,
    script: Script,
    /// The highest epoch that was answered: nothing is written below it where Redis has lost all that it knew.
    top: u64,
}

impl Writer {
    pub(super) fn new(
        feed: Feed,
        link: &Link,
        keys: &Keys,
        options: &Options,
        heard: &Heard,
        metrics: &Metrics,
    ) -> Self {
        Self {
            feed,
            link: link.clone(),
            keys: keys.clone(),
            options: options.clone(),
            heard: heard.clone(),
            metrics: metrics.clone(),
            script: Script::new(include_str!("append.lua")),
            top: 0,
        }
    }

    /// One call is under way at a time, so that the order of the queue is the order of the log; what comes in meanwhile
    /// makes the next batch.
    pub(super) async fn run(mut self, mut queue: mpsc::Receiver<Queued>) {
        let mut waiting = Vec::new();
        while queue.recv_many(&mut waiting, BATCH_ITEMS_MAX).await > 0 {
            // Who is about to append may do so first, and is in the same call.
            yield_now().await;
            while waiting.len() < BATCH_ITEMS_MAX
                && let Ok(queued) = queue.try_recv()
            {
                waiting.push(queued);
            }
            while !waiting.is_empty() {
                let mut batch = waiting.drain(..batch_len(&waiting)).collect();
                self.write(&mut batch).await;
            }
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
                Ok(written) => self.answer(batch, written),
                Err(error) => {
                    self.link.failed(&open, &error);
                    self.refuse(batch.drain(..), Error::OutcomeUnknown, &error.to_string());
                }
            }
            return;
        }
    }

    async fn script(&self, connection: &mut MultiplexedConnection, batch: &[Queued]) -> RedisResult<Value> {
        let (feed, options) = (self.feed, &self.options);
        let mut call = self.script.prepare_invoke();
        call.key(self.keys.feed(feed)).key(self.keys.state(feed));
        call.arg(options.retention_messages)
            .arg(options.retention.as_millis() as u64)
            .arg(options.retention.as_secs() + 2 * REFRESH.as_secs())
            .arg(REFRESH.as_secs())
            .arg(options.dedupe.as_millis() as u64)
            .arg(options.feed_window.as_millis() as u64)
            .arg(options.feed_entries_max)
            .arg(self.top)
            .arg(&options.group);
        for queued in batch {
            match &queued.item {
                Item::Message(entry) => self.add_message(&mut call, entry),
                Item::Notice(json) => self.add_notice(&mut call, "n", None, json),
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

    fn add_message(&self, call: &mut ScriptInvocation<'_>, entry: &NewEntry) {
        let channel = &entry.channel;
        call.key(self.keys.log(channel.id));
        let seen = channel.last_epoch.get().filter(|(_, refreshed_at)| refreshed_at.elapsed() < REFRESH);
        let epoch = seen.map_or_else(|| format!("f{}", channel.epoch_floor), |(epoch, _)| epoch.to_string());
        call.arg(epoch).arg(&entry.body);
        match &entry.once {
            Some(once) => {
                call.key(self.keys.once(self.keys.shard_of(channel.id), &once.key)).arg(&once.content);
            }
            None => _ = call.arg(""),
        }
    }

    fn add_notice(&self, call: &mut ScriptInvocation<'_>, kind: &str, channel: Option<ChannelId>, json: &str) {
        call.key(channel.map_or_else(|| self.keys.feed(self.feed), |channel| self.keys.log(channel)));
        call.arg(kind).arg(json).arg("");
    }

    /// This node hears of its messages first, and then tells who sent them: both leave in one write.
    fn answer(&mut self, batch: &mut Vec<Queued>, Written { at, number, id, answers }: Written) {
        self.metrics.append_batch_messages.record(batch.len() as f64);
        let now = Instant::now();
        let is_whole = answers.iter().all(Appended::is_of_message);
        let mut told = Vec::with_capacity(batch.len());
        let mut events = Vec::with_capacity(batch.len());
        for (queued, answer) in batch.drain(..).zip(answers) {
            self.metrics.append_seconds.record(now.duration_since(queued.queued_at));
            match (queued.item, answer) {
                (Item::Message(NewEntry { channel, body, .. }), Appended::Written(position, _)) => {
                    self.metrics.messages_appended_total.increment(1);
                    self.top = self.top.max(position.epoch);
                    learn(&channel.last_epoch, position.epoch, now.into_std());
                    events.push(Some(FeedEvent::Message(channel.id, Entry { position, at, body })));
                }
                (_, Appended::Duplicate(..)) => self.metrics.messages_duplicate_total.increment(1),
                _ => {}
            }
            told.push((queued.answer, answer));
        }
        match id {
            Some(id) if is_whole => {
                let messages = events.len() as u64;
                if self.heard.hear_own(FeedEntry { id, number, at, events }) {
                    self.metrics.feed_entries_read_total.increment(messages);
                }
            }
            // Notices are the reader's to bring: they also show that what is written comes back.
            Some(_) => self.heard.want(),
            None => {}
        }
        for (answer, appended) in told {
            let _ = answer.send(match appended {
                Appended::Failed => Err(Error::OutcomeUnknown(anyhow::anyhow!("a part of the script failed"))),
                appended => Ok(appended),
            });
        }
    }

    fn refuse(&self, batch: impl Iterator<Item = Queued>, error: impl Fn(anyhow::Error) -> Error, why: &str) {
        for queued in batch {
            let error = error(anyhow::anyhow!("{why}"));
            self.metrics.append_failures_total.with([error.code()]).increment(1);
            let _ = queued.answer.send(Err(error));
        }
    }
}

/// Where the last time is long ago, this message has put off the expiry.
fn learn(last: &LastEpoch, epoch: u64, now: std::time::Instant) {
    let before = last.get().map(|(_, refreshed_at)| refreshed_at);
    last.set(epoch, before.filter(|before| now.duration_since(*before) < REFRESH).unwrap_or(now));
}

/// How many of those that wait go into one call: at least one.
fn batch_len(waiting: &[Queued]) -> usize {
    let mut bytes = 0;
    let fits = |queued: &&Queued| {
        bytes += queued.item.bytes();
        bytes <= BATCH_BYTES_MAX
    };
    waiting.iter().take_while(fits).count().max(1)
}

/// Whether Redis says by the error's code that it would not write at all.
fn is_refusal(error: &RedisError) -> bool {
    let codes = ["MISCONF", "OOM", "BUSY", "NOAUTH", "NOPERM", "CROSSSLOT"];
    error.code().is_some_and(|code| codes.contains(&code))
}

/// What a call has written.
#[derive(PartialEq, Debug)]
struct Written {
    at: TimeMs,
    /// The number of the first item in the feed, and the id of the entry there, if any.
    number: u64,
    id: Option<Position>,
    answers: Vec<Appended>,
}

fn parse(batch: &[Queued], reply: &Value) -> Result<Written, RedisError> {
    let [at, number, id, answers @ ..] = value::list(reply)? else { return Err(value::unexpected("a time")) };
    let (at, number, id) = (value::number(at)?, value::number(number)?, value::position(id)?);
    if answers.len() != batch.len() * 2 {
        return Err(value::unexpected("two values an item"));
    }
    let answers = answers.chunks_exact(2).map(|answer| {
        let text = value::text(&answer[1])?;
        let (first, second) = text.split_once(' ').unwrap_or((text, ""));
        Ok(match value::number::<u8>(&answer[0])? {
            1 => Appended::Written(parsed(first)?, at),
            2 => Appended::Duplicate(parsed(first)?, parsed(second)?),
            3 => Appended::Conflict,
            4 => Appended::Gone,
            5 => Appended::Announced(parsed(first)?),
            6 => Appended::Deleted(if second.is_empty() { None } else { Some(parsed(second)?) }, parsed(first)?),
            7 => Appended::Failed,
            _ => return Err(value::unexpected("a known status")),
        })
    });
    Ok(Written { at, number, id, answers: answers.collect::<Result<_, RedisError>>()? })
}

fn parsed<T: FromStr>(text: &str) -> Result<T, RedisError> {
    text.parse().map_err(|_| value::unexpected("what became of an item"))
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    fn queued(json: String) -> Queued {
        let now = Instant::now();
        Queued { item: Item::Notice(json), deadline: now, queued_at: now, answer: oneshot::channel().0 }
    }

    #[test]
    fn a_call_takes_what_fits_and_at_least_one_item() {
        let len = |kib: &[usize]| {
            let waiting: Vec<_> = kib.iter().map(|kib| queued("x".repeat(kib * 1024))).collect();
            batch_len(&waiting)
        };
        assert_eq!(len(&[1; 256]), 256);
        assert_eq!(len(&[512, 512, 1]), 2);
        assert_eq!(len(&[600, 600]), 1);
        assert_eq!(len(&[2_000, 1]), 1);
    }

    #[test]
    fn the_reply_says_of_each_item_what_became_of_it() {
        let text = |text: &str| Value::BulkString(text.into());
        let answers = [(1, "5-1"), (2, "5-0 60"), (3, "5-0 60"), (4, ""), (5, "9"), (6, "10 5-1"), (6, "11 "), (7, "")];
        let reply = answers.iter().flat_map(|(status, value)| [Value::Int(*status), text(value)]);
        let reply = Value::Array(["70", "9", "60-1"].map(text).into_iter().chain(reply).collect());
        let batch: Vec<_> = answers.iter().map(|_| queued(String::new())).collect();
        let at = |seq| Position { epoch: 5, seq };
        let answers = vec![
            Appended::Written(at(1), 70),
            Appended::Duplicate(at(0), 60),
            Appended::Conflict,
            Appended::Gone,
            Appended::Announced(9),
            Appended::Deleted(Some(at(1)), 10),
            Appended::Deleted(None, 11),
            Appended::Failed,
        ];
        let id = Some(Position { epoch: 60, seq: 1 });
        assert_eq!(parse(&batch, &reply).unwrap(), Written { at: 70, number: 9, id, answers });
        assert!(parse(&batch[1..], &reply).is_err());
    }
}
