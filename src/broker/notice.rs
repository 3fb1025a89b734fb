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

/// One entry of a feed: all that was written in one call.
#[derive(Debug)]
pub(super) struct FeedEntry {
    /// Its id in the stream.
    pub(super) id: Position,
    /// The number of its first item in the feed: they are dense, so that a hole shows.
    pub(super) number: u64,
    /// When it was written.
    pub(super) at: TimeMs,
    /// What happened, by item; `None` where a later version wrote what this one does not know.
    pub(super) events: Vec<Option<FeedEvent>>,
}

impl FeedEntry {
    /// The number of its last item.
    pub(super) fn last_number(&self) -> u64 {
        last_number(self.number, self.events.len())
    }
}

/// An entry of a feed as it was read, whose items nobody has looked at yet.
pub(super) struct RawEntry<'a> {
    pub(super) id: Position,
    number: u64,
    at: TimeMs,
    /// The group of the node that wrote it.
    pub(super) writer: &'a str,
    /// Of each item the log that it is in, if any, a position there, and what it says.
    items: &'a [Value],
}

impl<'a> RawEntry<'a> {
    /// Reads `[id, [number of the first item, time, writer, log, position, payload, …]]`.
    pub(super) fn of(raw: &'a Value) -> Result<Self, RedisError> {
        let id = entry_id(raw)?;
        let [_, fields] = value::list(raw)? else { return Err(value::unexpected("a feed entry")) };
        let [number, at, writer, items @ ..] = value::list(fields)? else { return Err(value::unexpected("a number")) };
        Ok(Self { id, number: value::number(number)?, at: value::number(at)?, writer: value::text(writer)?, items })
    }

    /// The number of its last item.
    pub(super) fn last_number(&self) -> u64 {
        last_number(self.number, self.items().len())
    }

    /// What happened, item by item.
    pub(super) fn read(&self) -> Result<FeedEntry, RedisError> {
        let events = self.items().map(|item| parse_event(item, self.at)).collect::<Result<_, _>>()?;
        Ok(FeedEntry { id: self.id, number: self.number, at: self.at, events })
    }

    /// Behind them may be a field that makes pairs of all.
    fn items(&self) -> impl ExactSizeIterator<Item = &'a [Value]> {
        self.items.chunks_exact(3)
    }
}

fn last_number(first: u64, items: usize) -> u64 {
    (first + items as u64).saturating_sub(1)
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

/// The entries in the reply of a read: `[[feed, [entry, …]]]`, or nil where the time ran out.
pub(super) fn entries_of(reply: &Value) -> Result<&[Value], RedisError> {
    let Value::Array(streams) = reply else { return Ok(&[]) };
    let [stream] = streams.as_slice() else { return Err(value::unexpected("one stream")) };
    let [_, entries] = value::list(stream)? else { return Err(value::unexpected("a stream")) };
    value::list(entries)
}
