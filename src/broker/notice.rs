//! What the nodes tell each other through a feed, in order with the channel's messages.

use redis::{RedisError, Value};
use serde::{Deserialize, Serialize};

use super::{keys, value};
use crate::model::{Change, ChannelId, Entry, Position, SessionId, TimeMs, UserName};

/// Something that happened in a feed.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum FeedEvent {
    /// A message was written to a channel's log.
    Message(ChannelId, Entry),
    /// Something that is in no log.
    Notice(Notice, Option<Position>),
}

/// What is in no log. Those of a channel come in order with its messages; a removal or deletion with the last
/// position written before it.
#[derive(Clone, PartialEq, Eq, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Notice {
    /// Somebody is typing.
    Typing {
        /// Where.
        channel: ChannelId,
        /// Who.
        from: UserName,
        /// The session that told so.
        session: SessionId,
    },
    /// A node makes sure that what it writes comes back.
    Canary {
        /// The start of the node.
        node: String,
        /// Ascends.
        number: u64,
    },
    /// Something was changed in the database.
    #[serde(untagged)]
    Change(Change),
}

/// One item of a feed.
#[derive(Debug)]
pub(super) struct FeedItem {
    /// The id in the stream of the entry that it is in, with whatever was written in the same call.
    pub(super) id: Position,
    /// Its number in the feed: dense, so that a hole shows.
    pub(super) seq: u64,
    /// What happened; `None` where a later version wrote what this one does not know.
    pub(super) event: Option<FeedEvent>,
    /// When it was written.
    pub(super) at: TimeMs,
}

impl FeedItem {
    /// Reads `[id, [number, time, log, position, payload, …]]`: the number of the first item, and of each item the log that it
    /// is in, if any, and a position there.
    pub(super) fn parse_entry(raw: &Value) -> Result<Vec<Self>, RedisError> {
        let id = entry_id(raw)?;
        let [_, fields] = value::list(raw)? else { return Err(value::unexpected("a feed entry")) };
        let [number, time, items @ ..] = value::list(fields)? else { return Err(value::unexpected("a number")) };
        let at = value::number(time)?;
        let numbers = value::number::<u64>(number)?..;
        let items = numbers.zip(items.chunks_exact(3));
        items.map(|(seq, item)| Ok(Self { id, seq, event: parse_event(item, at)?, at })).collect()
    }
}

fn parse_event(item: &[Value], at: TimeMs) -> Result<Option<FeedEvent>, RedisError> {
    let (log, position, payload) = (value::text(&item[0])?, value::position(&item[1])?, value::text(&item[2])?);
    Ok(match (keys::channel_of(log), position) {
        (Some(channel), Some(position)) => {
            Some(FeedEvent::Message(channel, Entry { position, at, body: payload.to_owned() }))
        }
        _ => serde_json::from_str(payload).ok().map(|notice| FeedEvent::Notice(notice, position)),
    })
}

/// The id of an entry.
pub(super) fn entry_id(raw: &Value) -> Result<Position, RedisError> {
    let [id, _] = value::list(raw)? else { return Err(value::unexpected("a feed entry")) };
    value::position(id)?.ok_or_else(|| value::unexpected("a feed entry"))
}

/// Reads the reply of a read: `[[feed, [entry, …]]]`, or nil where the time ran out.
pub(super) fn parse_reply(reply: &Value) -> Result<Vec<FeedItem>, RedisError> {
    let Value::Array(streams) = reply else { return Ok(Vec::new()) };
    let [stream] = streams.as_slice() else { return Err(value::unexpected("one stream")) };
    let [_, entries] = value::list(stream)? else { return Err(value::unexpected("a stream")) };
    let mut items = Vec::new();
    for entry in value::list(entries)? {
        items.extend(FeedItem::parse_entry(entry)?);
    }
    Ok(items)
}
