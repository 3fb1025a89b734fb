//! Names, ids, positions and texts: parsed once at the edge, then trusted. No I/O, and nothing of the wire.

mod change;
mod last_epoch;
#[cfg(test)]
mod schema;

use std::fmt;
use std::ops::RangeInclusive;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use uuid::Uuid;

pub use change::Change;
pub use last_epoch::LastEpoch;

use crate::error::Error;

/// Milliseconds since the Unix epoch.
pub type TimeMs = i64;

/// The longest `text` of a message, in bytes of UTF-8.
pub const TEXT_BYTES_MAX: usize = 8_192;
/// The largest `data` of a message, in bytes of compact JSON.
pub const DATA_BYTES_MAX: usize = 8_192;
/// The most levels of objects and lists in `data`. Parsers of JSON commonly read 128, and a page of history has a few
/// around it.
pub const DATA_DEPTH_MAX: usize = 100;
/// The longest `cid`, in bytes.
pub const CID_BYTES_MAX: usize = 64;
/// The shortest password that may be chosen, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// The longest password, in characters; nothing longer is ever hashed.
pub const PASSWORD_CHARS_MAX: usize = 256;
/// The longest topic, in characters.
pub const TOPIC_CHARS_MAX: usize = 256;
/// The most items of one page of a list or of history.
pub const PAGE_LIMIT_MAX: u32 = 200;
/// The items of a page where the caller names no limit.
pub const PAGE_LIMIT_DEFAULT: u32 = 50;

macro_rules! id {
    ($(#[$doc:meta])* $name:ident) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A new id; ids of one process ascend with time (UUIDv7).
            pub fn new() -> Self {
                Self(Uuid::now_v7())
            }
        }

        impl Default for $name {
            fn default() -> Self {
                Self::new()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.simple().fmt(f)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                fmt::Display::fmt(self, f)
            }
        }

        impl FromStr for $name {
            type Err = uuid::Error;
            fn from_str(text: &str) -> Result<Self, Self::Err> {
                Uuid::parse_str(text).map(Self)
            }
        }
    };
}

id!(
    /// An account. Names are what the wire knows; ids are what the log and the database know.
    UserId
);
id!(
    /// A channel. One made anew under an old name has another id, and so another log.
    ChannelId
);
id!(
    /// One sign-in: what a login begins and a logout ends, with all its tokens and sessions.
    SignInId
);
id!(
    /// One live connection.
    SessionId
);

macro_rules! name {
    ($(#[$doc:meta])* $name:ident, $len:expr, $extra:expr, $accepted:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name(Arc<str>);

        impl $name {
            const CHARS: RangeInclusive<usize> = $len;
            /// What it may have after the first character beside a-z and 0-9.
            const EXTRA: &str = $extra;

            /// The name as text.
            pub fn as_str(&self) -> &str {
                &self.0
            }

            fn fits(text: &str) -> bool {
                let alphanumeric = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit();
                Self::CHARS.contains(&text.len())
                    && text.starts_with(alphanumeric)
                    && text.chars().all(|c| alphanumeric(c) || Self::EXTRA.contains(c))
            }
        }

        impl FromStr for $name {
            type Err = Error;
            fn from_str(text: &str) -> Result<Self, Error> {
                if Self::fits(text) {
                    Ok(Self(text.into()))
                } else {
                    Err(Error::BadRequest($accepted.into()))
                }
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
                s.serialize_str(&self.0)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
                String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
            }
        }
    };
}

name!(
    /// A user's unique, immutable name: `[a-z0-9][a-z0-9_-]{1,31}`.
    UserName,
    2..=32,
    "_-",
    "a user name has 2 to 32 characters: a-z, 0-9, and after the first also _ and -"
);
name!(
    /// A channel's unique, immutable name: `[a-z0-9][a-z0-9._-]{0,63}`.
    ChannelName,
    1..=64,
    "._-",
    "a channel name has 1 to 64 characters: a-z, 0-9, and after the first also . _ and -"
);

/// Where an entry stands in its channel's log. Orders by epoch, then sequence number.
///
/// Within an epoch the sequence is dense: 0, 1, 2, … On the wire it is the string `"<epoch>-<seq>"`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Position {
    /// Grows by at least one whenever the log was begun anew or lost acknowledged entries; Unix seconds of that moment.
    pub epoch: u64,
    /// The number of the entry within the epoch, from 0.
    pub seq: u64,
}

impl Position {
    /// `"0-0"`: before everything; no entry ever has it.
    pub const BEGINNING: Self = Self { epoch: 0, seq: 0 };

    /// The position that follows within the epoch.
    pub fn next(self) -> Self {
        Self { epoch: self.epoch, seq: self.seq.saturating_add(1) }
    }

    /// Whether an entry here directly follows one at `before`.
    pub fn follows(self, before: Self) -> bool {
        self.epoch == before.epoch && Some(self.seq) == before.seq.checked_add(1)
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

impl fmt::Debug for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

impl FromStr for Position {
    type Err = Error;
    fn from_str(text: &str) -> Result<Self, Error> {
        fn number(digits: &str) -> Option<u64> {
            if digits.bytes().all(|b| b.is_ascii_digit()) { digits.parse().ok() } else { None }
        }
        text.split_once('-')
            .and_then(|(epoch, seq)| Some(Self { epoch: number(epoch)?, seq: number(seq)? }))
            .ok_or_else(|| {
                Error::BadRequest("a position is \"<epoch>-<seq>\", two whole numbers that fit 64 bits".into())
            })
    }
}

impl Serialize for Position {
    fn serialize<S: Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

impl<'de> Deserialize<'de> for Position {
    fn deserialize<D: Deserializer<'de>>(d: D) -> Result<Self, D::Error> {
        String::deserialize(d)?.parse().map_err(serde::de::Error::custom)
    }
}

/// The ends of the retained log; null where it is empty.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Ends {
    /// The oldest retained entry.
    pub first: Option<Position>,
    /// The newest entry.
    pub last: Option<Position>,
}

/// Who may find and join a channel.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum ChannelKind {
    /// Any user.
    Public,
    /// Members; to all others it looks as if it did not exist.
    Private,
}

/// What a member may do: each role more than the one before.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Debug, Serialize, Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
#[serde(rename_all = "snake_case")]
pub enum Role {
    /// Reads and writes.
    Member,
    /// Also changes the topic, adds and removes members.
    Moderator,
    /// Also changes roles and deletes the channel. A channel always has one.
    Owner,
}

/// An account as others see it.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct User {
    /// Its id.
    pub id: UserId,
    /// Its name.
    pub name: UserName,
    /// When it signed up.
    pub created_at: TimeMs,
}

/// A channel's definition.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Channel {
    /// Its id, which names its log.
    pub id: ChannelId,
    /// Its name.
    pub name: ChannelName,
    /// Public or private.
    pub kind: ChannelKind,
    /// What it is about; may be empty.
    pub topic: Topic,
    /// When it was created.
    pub created_at: TimeMs,
    /// No position of its log has a lower epoch; every position of an earlier channel of the same name has.
    pub epoch_floor: u64,
    /// What this node remembers of its log.
    pub last_epoch: LastEpoch,
}

/// A user's place in a channel.
#[derive(Clone, PartialEq, Eq, Debug, Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Member {
    /// The user.
    pub name: UserName,
    /// What they may do.
    pub role: Role,
    /// Since when they are a member, in milliseconds since the Unix epoch.
    pub added_at: TimeMs,
}

/// One membership of a user in a channel, from being added to being removed.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Membership {
    /// What they may do.
    pub role: Role,
    /// Which of the channel's memberships it is. They are numbered in the order in which they begin, so who is added
    /// again has a higher number than before.
    pub number: u64,
}

/// Who is asking: a verified access token.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Caller {
    /// The user.
    pub user: UserId,
    /// Their name.
    pub name: UserName,
    /// The sign-in that the token belongs to.
    pub sign_in: SignInId,
    /// When the token runs out.
    pub expires_at: TimeMs,
}

/// What a channel is about: up to 256 characters, none of them NUL.
#[derive(Clone, PartialEq, Eq, Debug, Default, Serialize)]
pub struct Topic(String);

impl Topic {
    /// The topic as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Topic {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        // Postgres knows no text with a NUL in it.
        if text.chars().count() > TOPIC_CHARS_MAX || text.contains('\0') {
            return Err(Error::BadRequest(format!("a topic has up to {TOPIC_CHARS_MAX} characters, and no NUL")));
        }
        Ok(Self(text))
    }
}

/// The text of a message: 1 to 8,192 bytes of UTF-8.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageText(String);

impl MessageText {
    /// The text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for MessageText {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        match text.len() {
            0 => Err(Error::BadRequest("text is empty; leave it out or give 1 to 8192 bytes".into())),
            1..=TEXT_BYTES_MAX => Ok(Self(text)),
            _ => Err(Error::TooLarge(format!("text has {} bytes; accepted are 1 to {TEXT_BYTES_MAX}", text.len()))),
        }
    }
}

/// The data of a message: a JSON object of up to 8,192 bytes, kept compact, its numbers and key order untouched.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct MessageData(String);

impl MessageData {
    /// The object as compact JSON.
    pub fn as_json(&self) -> &str {
        &self.0
    }

    /// Takes the text of one JSON value.
    ///
    /// # Errors
    /// `bad_json` for a lone surrogate or too deep a nesting, `bad_request` for what is no object, `too_large`.
    pub fn parse(json: &str) -> Result<Self, Error> {
        let (compact, depth) = compact(json);
        if depth > DATA_DEPTH_MAX {
            return Err(Error::BadJson(format!("data is nested {depth} levels deep; accepted are {DATA_DEPTH_MAX}")));
        }
        let value: serde_json::Value = serde_json::from_str(json).map_err(|_| {
            Error::BadJson("data holds half of a surrogate pair, or a number that no double can hold".into())
        })?;
        if !value.is_object() {
            return Err(Error::BadRequest("data is a JSON object".into()));
        }
        if compact.len() > DATA_BYTES_MAX {
            let bytes = compact.len();
            return Err(Error::TooLarge(format!("data has {bytes} bytes; accepted are up to {DATA_BYTES_MAX}")));
        }
        Ok(Self(compact))
    }
}

/// Valid JSON without the white space between its tokens, and how deep it is nested.
fn compact(json: &str) -> (String, usize) {
    let (mut in_string, mut escaped) = (false, false);
    let (mut depth, mut deepest) = (0_usize, 0);
    let compact = json
        .chars()
        .filter(|&c| {
            let keep = in_string || !matches!(c, ' ' | '\t' | '\n' | '\r');
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' => in_string = !in_string,
                '{' | '[' if !in_string => {
                    depth += 1;
                    deepest = deepest.max(depth);
                }
                '}' | ']' if !in_string => depth = depth.saturating_sub(1),
                _ => {}
            }
            keep
        })
        .collect();
    (compact, deepest)
}

/// What a client calls its message, to make sending it again safe: 1 to 64 bytes.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct ClientId(String);

impl ClientId {
    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for ClientId {
    type Error = Error;
    fn try_from(text: String) -> Result<Self, Error> {
        if (1..=CID_BYTES_MAX).contains(&text.len()) {
            Ok(Self(text))
        } else {
            Err(Error::BadRequest(format!("cid has 1 to {CID_BYTES_MAX} bytes")))
        }
    }
}

/// How many items a page may have: 1 to 200.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct PageLimit(u32);

impl PageLimit {
    /// The number.
    pub fn get(self) -> usize {
        self.0 as usize
    }
}

impl Default for PageLimit {
    fn default() -> Self {
        Self(PAGE_LIMIT_DEFAULT)
    }
}

impl TryFrom<u64> for PageLimit {
    type Error = Error;
    fn try_from(limit: u64) -> Result<Self, Error> {
        match u32::try_from(limit) {
            Ok(limit @ 1..=PAGE_LIMIT_MAX) => Ok(Self(limit)),
            _ => Err(Error::BadRequest(format!("limit is 1 to {PAGE_LIMIT_MAX}"))),
        }
    }
}

/// Which part of the history is asked for.
#[derive(Clone, Copy, PartialEq, Eq, Debug, Default)]
pub enum Anchor {
    /// The newest entries.
    #[default]
    Latest,
    /// Those before the position, without it.
    Before(Position),
    /// Those after the position, without it.
    After(Position),
    /// Those on both sides, with it.
    Around(Position),
}

impl Anchor {
    /// The anchor that at most one of the three names.
    ///
    /// # Errors
    /// `bad_request` where there is more than one.
    pub fn one_of(before: Option<Position>, after: Option<Position>, around: Option<Position>) -> Result<Self, Error> {
        match (before, after, around) {
            (None, None, None) => Ok(Self::Latest),
            (Some(position), None, None) => Ok(Self::Before(position)),
            (None, Some(position), None) => Ok(Self::After(position)),
            (None, None, Some(position)) => Ok(Self::Around(position)),
            _ => Err(Error::BadRequest("give one of before, after and around, not several".into())),
        }
    }
}

/// One entry of a channel's log.
#[derive(Clone, PartialEq, Eq, Debug)]
pub struct Entry {
    /// Where it stands.
    pub position: Position,
    /// When the log took it.
    pub at: TimeMs,
    /// The fields that its writer chose, as the inside of a JSON object.
    pub body: String,
}

/// What a client wants to say: text or data, or both.
#[derive(Clone, PartialEq, Eq, Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(extend("anyOf" = schema::text_or_data())))]
pub struct NewMessage {
    /// What people read.
    pub text: Option<MessageText>,
    /// What programs read.
    pub data: Option<MessageData>,
    /// Makes sending it again safe.
    pub cid: Option<ClientId>,
    /// The position of the message it answers; whether there is one is not looked at.
    pub reply_to: Option<Position>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_what_the_contract_says() {
        for good in ["ab", "a1", "0-_", &"a".repeat(32)] {
            assert!(good.parse::<UserName>().is_ok(), "{good}");
        }
        for bad in ["", "a", "A1", "-a", "_a", "a b", "ä1", "a.b", &"a".repeat(33)] {
            assert!(bad.parse::<UserName>().is_err(), "{bad}");
        }
        for good in ["a", "a.b", "0.-_", &"a".repeat(64)] {
            assert!(good.parse::<ChannelName>().is_ok(), "{good}");
        }
        for bad in ["", ".a", "A", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<ChannelName>().is_err(), "{bad}");
        }
    }

    #[test]
    fn positions_parse_order_and_print() {
        let position: Position = "1763923812-1043".parse().unwrap();
        assert_eq!(position, Position { epoch: 1_763_923_812, seq: 1043 });
        assert_eq!(position.to_string(), "1763923812-1043");
        assert!("2-0".parse::<Position>().unwrap() > "1-9".parse().unwrap());
        assert!(position.next().follows(position));
        for bad in ["", "1", "1-", "-1", "1-2-3", "+1-2", "1-+2", "1-18446744073709551616", " 1-2"] {
            assert!(bad.parse::<Position>().is_err(), "{bad}");
        }
    }

    #[test]
    fn data_is_measured_and_kept_compact() {
        let data = MessageData::parse("{ \"a b\" : [1.0, 12345678901234567890123],\n\"q\\\" \" : 1 }").unwrap();
        assert_eq!(data.as_json(), r#"{"a b":[1.0,12345678901234567890123],"q\" ":1}"#);
        assert!(matches!(MessageData::parse("[1]"), Err(Error::BadRequest(_))));
        assert!(matches!(MessageData::parse(r#"{"a":"\ud800"}"#), Err(Error::BadJson(_))));
        let large = format!(r#"{{"a":"{}"}}"#, "x".repeat(DATA_BYTES_MAX));
        assert!(matches!(MessageData::parse(&large), Err(Error::TooLarge(_))));
    }

    proptest::proptest! {
        #[test]
        fn positions_keep_value_and_order_as_text((a, b) in proptest::arbitrary::any::<((u64, u64), (u64, u64))>()) {
            let position = |(epoch, seq)| Position { epoch, seq };
            let (one, other) = (position(a), position(b));
            assert_eq!(one.to_string().parse::<Position>().unwrap(), one);
            assert_eq!(one.cmp(&other), a.cmp(&b));
        }

        #[test]
        fn only_two_numbers_make_a_position(text in "[-+ 0-9a]{0,24}|\\PC{0,8}") {
            let numbers: Vec<_> = text.split('-').map(|digits| digits.parse::<u64>().ok()).collect();
            match (text.parse::<Position>(), numbers.as_slice()) {
                (Ok(position), [epoch, seq]) => assert_eq!((Some(position.epoch), Some(position.seq)), (*epoch, *seq)),
                (Ok(position), _) => panic!("{text:?} is {position}"),
                (Err(_), [Some(_), Some(_)]) => assert!(text.contains('+'), "{text:?} is none"),
                (Err(_), _) => {}
            }
        }

        #[test]
        fn a_name_is_spoilt_by_one_wrong_character(
            user in "[a-z0-9][a-z0-9_-]{1,31}",
            channel in "[a-z0-9][a-z0-9._-]{0,63}",
            at in 0_usize..32,
            wrong in "[^a-z0-9._-]",
        ) {
            assert_eq!(user.parse::<UserName>().unwrap().as_str(), user);
            assert_eq!(channel.parse::<ChannelName>().unwrap().as_str(), channel);
            let spoilt = |name: &str| {
                let at = at.min(name.len() - 1);
                name[..at].to_owned() + &wrong + &name[at + 1..]
            };
            assert!(spoilt(&user).parse::<UserName>().is_err());
            assert!(spoilt(&channel).parse::<ChannelName>().is_err());
        }
    }
}
