//! What is written to the log, and the queues that it waits in: one for each feed.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use sha2::{Digest, Sha256};
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use super::Options;
use super::heard::Heard;
use super::keys::{Feed, Keys};
use super::link::Link;
use super::writer::Writer;
use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{Channel, ChannelId, ClientId, Position, TimeMs, UserId};

/// The most items that wait for a feed; beyond it, appends are refused with `unavailable`.
const QUEUE_ITEMS_MAX: usize = 16_384;

/// A message on its way into a channel's log.
#[derive(Debug)]
pub struct NewEntry {
    pub(super) channel: Arc<Channel>,
    pub(super) body: String,
    pub(super) once: Option<Once>,
}

/// What makes writing again safe: the same key is written once, and must have the same content.
#[derive(Debug)]
pub(super) struct Once {
    pub(super) key: String,
    pub(super) content: String,
}

impl NewEntry {
    /// A message of `from`, its fields being the inside of a JSON object.
    pub fn new(channel: Arc<Channel>, from: UserId, body: String, cid: Option<&ClientId>) -> Self {
        let once = cid.map(|cid| Once {
            key: digest(&[&channel.id.to_string(), &from.to_string(), cid.as_str()]),
            content: digest(&[&body]),
        });
        Self { channel, body, once }
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

impl Appended {
    /// Whether it is the answer to a message, whose place in the feed is thereby known.
    pub(super) fn is_of_message(&self) -> bool {
        matches!(self, Self::Written(..) | Self::Duplicate(..) | Self::Conflict | Self::Gone)
    }
}

/// The answer to an append, once it is there. Dropping it changes nothing: what is queued is written.
pub type Pending = oneshot::Receiver<Result<Appended>>;

/// One item of a batch.
#[derive(Debug)]
pub(super) enum Item {
    /// A message.
    Message(NewEntry),
    /// A notice (its JSON).
    Notice(String),
    /// A notice of a removal: takes the log's head along.
    Removal(ChannelId, String),
    /// Delete the log.
    Delete(ChannelId, String),
}

impl Item {
    /// The bytes of its payload.
    pub(super) fn bytes(&self) -> usize {
        match self {
            Self::Message(entry) => entry.body.len(),
            Self::Notice(json) | Self::Removal(_, json) | Self::Delete(_, json) => json.len(),
        }
    }
}

/// An item that waits to be written.
pub(super) struct Queued {
    pub(super) item: Item,
    pub(super) deadline: Instant,
    pub(super) queued_at: Instant,
    pub(super) answer: oneshot::Sender<Result<Appended>>,
}

/// The queues, one for each feed.
#[derive(Clone)]
pub(super) struct Appender {
    queues: Vec<mpsc::Sender<Queued>>,
    timeout: Duration,
}

impl Appender {
    /// The queues, and the future of each that writes what is put into it, until the queues are dropped. There is a link
    /// for each feed, and where this node hears of it.
    pub(super) fn new(
        links: &[Link],
        keys: &Keys,
        options: &Options,
        heard: &[Heard],
        metrics: &Metrics,
    ) -> (Self, Vec<impl Future<Output = ()> + Send + use<>>) {
        let (queues, writers) = keys
            .feeds()
            .zip(links.iter().zip(heard))
            .map(|(feed, (link, heard))| {
                let (tx, rx) = mpsc::channel(QUEUE_ITEMS_MAX);
                (tx, Writer::new(feed, link, keys, options, heard, metrics).run(rx))
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
