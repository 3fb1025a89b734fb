//! What the nodes tell each other through a feed, in order with the channel's messages.

use redis::{RedisError, Value, from_redis_value_ref};
use serde::{Deserialize, Serialize};

use super::value;
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

/// One entry of a feed.
#[derive(Debug)]
pub(super) struct FeedEntry {
    /// Its id in the stream.
    pub(super) id: Position,
    /// Its number in the feed: dense, so that a hole shows.
    pub(super) seq: u64,
    /// What happened; `None` where a later version wrote what this one does not know.
    pub(super) event: Option<FeedEvent>,
    /// When it was written.
    pub(super) at: TimeMs,
}

impl FeedEntry {
    /// Reads `[id, [field, value, …]]`.
    pub(super) fn parse(raw: &Value) -> Result<Self, RedisError> {
        let Value::Array(parts) = raw else { return Err(value::unexpected("a feed entry")) };
        let [id, Value::Array(fields)] = parts.as_slice() else { return Err(value::unexpected("a feed entry")) };
        let (mut kind, mut channel, mut position, mut payload) = ("", "", None, "");
        let (mut at, mut seq) = (0, 0);
        for pair in fields.chunks_exact(2) {
            let text = value::text(&pair[1])?;
            match value::text(&pair[0])? {
                "k" => kind = text,
                "c" => channel = text,
                "i" => position = value::position(&pair[1])?,
                "p" => payload = text,
                "t" => at = value::number(&pair[1])?,
                "n" => seq = value::number(&pair[1])?,
                _ => {}
            }
        }
        let event = match (kind, position) {
            ("m", Some(position)) => channel
                .parse()
                .ok()
                .map(|channel| FeedEvent::Message(channel, Entry { position, at, body: payload.to_owned() })),
            _ => serde_json::from_str(payload).ok().map(|notice| FeedEvent::Notice(notice, position)),
        };
        Ok(Self { id: value::position(id)?.unwrap_or(Position::BEGINNING), seq, event, at })
    }
}

/// Reads the reply of a read over several feeds: `[[feed, [entry, …]], …]`, or nil where the time ran out.
pub(super) fn parse_reply(reply: &Value) -> Result<Vec<(String, Vec<FeedEntry>)>, RedisError> {
    let Value::Array(streams) = reply else { return Ok(Vec::new()) };
    streams
        .iter()
        .map(|stream| match stream {
            Value::Array(parts) => match parts.as_slice() {
                [key, Value::Array(entries)] => {
                    Ok((from_redis_value_ref(key)?, entries.iter().map(FeedEntry::parse).collect::<Result<_, _>>()?))
                }
                _ => Err(value::unexpected("a stream")),
            },
            _ => Err(value::unexpected("a stream")),
        })
        .collect()
}
