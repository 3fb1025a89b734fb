//! What the server says: answers, events, close codes.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::Serialize;
use serde_json::value::RawValue;
use tokio_tungstenite::tungstenite::Utf8Bytes;

use super::Ref;
use crate::error::Error;
use crate::model::{ChannelName, Ends, Entry, NewMessage, Position, TimeMs, UserName};

/// A frame to a client, apart from `message`, which [`message`] builds.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(tag = "ev", rename_all = "snake_case")]
pub enum Event<'a> {
    /// The session is signed in.
    Welcome {
        /// The session's id, for logs.
        session: String,
        /// Who is signed in.
        user: &'a UserName,
        /// Which node this is, for logs.
        node: &'a str,
        /// The server's version.
        server: &'static str,
        /// When the token runs out, in milliseconds since the Unix epoch.
        expires_at: TimeMs,
        /// What an `ok` to `send` stands for: in Redis's memory, on its disk, or on a replica too.
        #[cfg_attr(test, schemars(extend("enum" = ["memory", "fsync", "replica"])))]
        durability: &'static str,
        /// What the session may do.
        limits: LimitsNotice,
        /// How often the server pings, in milliseconds.
        ping_ms: u64,
    },
    /// The command was carried out; the fields of its op stand beside.
    Ok {
        /// Which command.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(with = "Ref"))]
        reference: Option<&'a Ref>,
        /// What the command asked for.
        #[serde(flatten)]
        answer: Answer<'a>,
    },
    /// The command was not carried out.
    Error {
        /// Which command; absent where it could not be read.
        #[serde(rename = "ref", skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(with = "Ref"))]
        reference: Option<&'a Ref>,
        /// What was wrong, for programs.
        #[cfg_attr(test, schemars(with = "super::schema::ErrorCode"))]
        code: &'static str,
        /// What was wrong, and what is accepted, as a sentence for people.
        message: String,
        /// After how many milliseconds to repeat, where that makes sense.
        #[serde(skip_serializing_if = "Option::is_none")]
        #[cfg_attr(test, schemars(with = "u64"))]
        retry_after_ms: Option<u64>,
    },
    /// Everything up to `id` has been sent.
    CaughtUp {
        /// The channel.
        channel: &'a ChannelName,
        /// The last position sent; null in an empty log.
        id: Option<Position>,
    },
    /// What the client asked for is not all there; events go on from the next one there is.
    Gap {
        /// The channel.
        channel: &'a ChannelName,
        /// Why.
        reason: GapReason,
        /// The ends of the retained log.
        #[serde(flatten)]
        ends: Ends,
    },
    /// The server took this session out of a channel.
    Left {
        /// The channel.
        channel: &'a ChannelName,
        /// Why.
        reason: LeftReason,
    },
    /// Somebody is typing; not logged, never replayed, may be dropped.
    Typing {
        /// The channel.
        channel: &'a ChannelName,
        /// Who.
        from: &'a UserName,
    },
    /// The token runs out within 60 s: send `auth` with a fresh one.
    Expiring {
        /// When, in milliseconds since the Unix epoch.
        expires_at: TimeMs,
    },
    /// This node is leaving: come back then, and resume.
    Reconnect {
        /// After how many milliseconds to come back.
        after_ms: u64,
    },
}

impl<'a> Event<'a> {
    /// The `error` that tells of `error`.
    pub fn error(reference: Option<&'a Ref>, error: &Error) -> Self {
        Self::Error {
            reference,
            code: error.code(),
            message: error.to_string(),
            retry_after_ms: error.retry_after().map(millis),
        }
    }
}

fn millis(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}

/// The fields that an `ok` carries.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(untagged)]
pub enum Answer<'a> {
    /// None; to `auth`, `leave` and `typing`.
    Done {},
    /// To `join`.
    Joined(Ends),
    /// To `resume`.
    Resumed {
        /// What was joined: the ends of the retained log, by channel.
        joined: &'a BTreeMap<ChannelName, Ends>,
        /// What was not, and why, by channel.
        #[cfg_attr(test, schemars(with = "BTreeMap<ChannelName, super::schema::ErrorCode>"))]
        refused: &'a BTreeMap<ChannelName, &'static str>,
    },
    /// To `send`.
    Sent(Sent),
    /// To `history`.
    History(&'a History),
    /// To `ping`.
    Pong {
        /// The server's time, in milliseconds since the Unix epoch.
        at: TimeMs,
    },
}

/// The message is numbered and in the log, at the durability that `welcome` announces.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Sent {
    /// Its position.
    pub id: Position,
    /// When it was written, in milliseconds since the Unix epoch.
    pub at: TimeMs,
    /// Only there where it was written before under the same `cid`; `id` and `at` are the first one's.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    #[cfg_attr(test, schemars(extend("const" = true)))]
    pub dup: bool,
}

/// A page of history, ascending.
#[derive(Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct History {
    /// The messages, as on the socket.
    #[cfg_attr(test, schemars(with = "Vec<Message>", length(max = crate::model::PAGE_LIMIT_MAX)))]
    pub events: Vec<Box<RawValue>>,
    /// The ends of the retained log.
    #[serde(flatten)]
    pub ends: Ends,
    /// There are further events in the direction asked; for `around`, in either.
    pub more: bool,
}

/// What a session may do, as `welcome` announces it.
#[derive(Clone, Copy, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Limits"))]
pub struct LimitsNotice {
    /// The largest frame, in bytes.
    pub frame: usize,
    /// The longest text, in bytes.
    pub text: usize,
    /// The most joined channels; 0 is no limit.
    pub joins: usize,
    /// For how long a `cid` is remembered, in milliseconds.
    pub dedupe_ms: u64,
}

/// Why a client does not get all it asked for.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum GapReason {
    /// Older than what is retained; replay goes on from `first`.
    Trimmed,
    /// The log was begun anew.
    EpochChanged,
    /// The client is ahead of the log: acknowledged entries were lost; `last` is what survives.
    RolledBack,
}

impl GapReason {
    /// The reason as text, as metrics label it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Trimmed => "trimmed",
            Self::EpochChanged => "epoch_changed",
            Self::RolledBack => "rolled_back",
        }
    }
}

/// Why the server took a session out of a channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum LeftReason {
    /// The user is no longer a member.
    Removed,
    /// The channel is gone.
    Deleted,
}

/// The text of an event.
pub fn encode(event: &Event<'_>) -> Utf8Bytes {
    serde_json::to_string(event).expect("events hold nothing that JSON cannot").into()
}

// For the documents only: `message` writes it by hand.
/// What somebody said; alike live, replayed and in history.
#[cfg(test)]
#[derive(schemars::JsonSchema)]
#[expect(dead_code, reason = "described, never made")]
pub struct Message {
    #[schemars(extend("const" = "message"))]
    ev: String,
    /// The channel.
    channel: ChannelName,
    /// Its position.
    id: Position,
    /// When it was written, in milliseconds since the Unix epoch. Positions order messages, times do not.
    at: TimeMs,
    /// Who said it.
    from: UserName,
    /// What people read.
    #[schemars(skip_serializing_if = "absent", with = "crate::model::MessageText")]
    text: (),
    /// What programs read.
    #[schemars(skip_serializing_if = "absent", with = "crate::model::MessageData")]
    data: (),
    /// The writer's own id of it.
    #[schemars(skip_serializing_if = "absent", with = "crate::model::ClientId")]
    cid: (),
    /// The position of the message it answers.
    #[schemars(skip_serializing_if = "absent", with = "Position")]
    reply_to: (),
}

/// The text of a `message`. Called once per entry and node: every session writes the same bytes.
pub fn message(channel: &ChannelName, entry: &Entry) -> Utf8Bytes {
    let Entry { position, at, body } = entry;
    let mut text = String::with_capacity(body.len() + channel.as_str().len() + 80);
    text.push_str(r#"{"ev":"message","channel":""#);
    text.push_str(channel.as_str());
    text.push_str(r#"","id":""#);
    let mut digits = itoa::Buffer::new();
    text.push_str(digits.format(position.epoch));
    text.push('-');
    text.push_str(digits.format(position.seq));
    text.push_str(r#"","at":"#);
    text.push_str(digits.format(*at));
    text.push(',');
    text.push_str(body);
    text.push('}');
    text.into()
}

/// What the log keeps of a message: the fields that its writer chose, as the inside of a JSON object.
pub fn message_body(from: &UserName, message: &NewMessage) -> String {
    let mut body = format!(r#""from":"{from}""#);
    let mut field = |name: &str, json: &str| {
        body.push_str(",\"");
        body.push_str(name);
        body.push_str("\":");
        body.push_str(json);
    };
    let quoted = |text: &str| serde_json::to_string(text).expect("a string is JSON");
    if let Some(text) = &message.text {
        field("text", &quoted(text.as_str()));
    }
    if let Some(data) = &message.data {
        field("data", data.as_json());
    }
    if let Some(cid) = &message.cid {
        field("cid", &quoted(cid.as_str()));
    }
    if let Some(position) = message.reply_to {
        field("reply_to", &quoted(&position.to_string()));
    }
    body
}

/// Why the server closes a connection.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum CloseCode {
    /// The client said goodbye.
    Bye = 1000,
    /// A frame that breaks RFC 6455.
    BadFrame = 1002,
    /// A text that is not UTF-8.
    NotUtf8 = 1007,
    /// A frame over 64 KiB.
    FrameTooLarge = 1009,
    /// The node is restarting: come back, and resume.
    Restart = 1012,
    /// The node carries as much as it can.
    Overloaded = 1013,
    /// A fault of ours.
    Internal = 4000,
    /// No sign of life in time.
    Silent = 4003,
    /// More commands than allowed, again and again.
    Flooding = 4008,
    /// A binary frame, or a command before `auth`.
    ProtocolError = 4400,
    /// Not signed in in time, or the token ran out.
    NotSignedIn = 4401,
    /// The sign-in was revoked.
    Revoked = 4403,
    /// The token of another user.
    OtherUser = 4406,
}

impl CloseCode {
    /// The number on the wire.
    pub fn number(self) -> u16 {
        self as u16
    }

    /// The sentence beside it.
    pub fn reason(self) -> &'static str {
        match self {
            Self::Bye => "bye",
            Self::BadFrame => "a frame that no WebSocket has",
            Self::NotUtf8 => "text is UTF-8",
            Self::FrameTooLarge => "a frame has at most 64 KiB",
            Self::Restart => "this node is restarting; come back and resume",
            Self::Overloaded => "this node is overloaded; come back later",
            Self::Internal => "something went wrong on our side",
            Self::Silent => "no sign of life in time",
            Self::Flooding => "too many commands",
            Self::ProtocolError => "text frames only, and auth first",
            Self::NotSignedIn => "not signed in",
            Self::Revoked => "this sign-in was revoked",
            Self::OtherUser => "the token of another user",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::model::{ClientId, MessageData, MessageText};

    #[test]
    fn a_message_reads_as_the_contract_says() {
        let said = NewMessage {
            text: Some(MessageText::try_from("say \"hi\"".to_owned()).unwrap()),
            data: Some(MessageData::parse(r#"{"a": 1.50}"#).unwrap()),
            cid: Some(ClientId::try_from("c1".to_owned()).unwrap()),
            reply_to: Some(Position { epoch: 7, seq: 1 }),
        };
        let body = message_body(&"ann".parse().unwrap(), &said);
        let entry = Entry { position: Position { epoch: 7, seq: 2 }, at: 99, body };
        assert_eq!(
            message(&"tea".parse().unwrap(), &entry).as_str(),
            r#"{"ev":"message","channel":"tea","id":"7-2","at":99,"from":"ann","text":"say \"hi\"","data":{"a":1.50},"cid":"c1","reply_to":"7-1"}"#
        );
    }

    #[test]
    fn events_read_as_the_contract_says() {
        let channel: ChannelName = "tea".parse().unwrap();
        let ends = Ends { first: None, last: Some(Position { epoch: 1, seq: 2 }) };
        let gap = Event::Gap { channel: &channel, reason: GapReason::RolledBack, ends };
        assert_eq!(
            encode(&gap).as_str(),
            r#"{"ev":"gap","channel":"tea","reason":"rolled_back","first":null,"last":"1-2"}"#
        );
        let ok = Event::Ok { reference: None, answer: Answer::Done {} };
        assert_eq!(encode(&ok).as_str(), r#"{"ev":"ok"}"#);
        let caught_up = Event::CaughtUp { channel: &channel, id: None };
        assert_eq!(encode(&caught_up).as_str(), r#"{"ev":"caught_up","channel":"tea","id":null}"#);
        let error = Event::error(None, &Error::RateLimited(Duration::from_millis(20)));
        assert_eq!(
            encode(&error).as_str(),
            r#"{"ev":"error","code":"rate_limited","message":"too many requests; slow down","retry_after_ms":20}"#
        );
    }
}
