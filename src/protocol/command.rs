//! From the text of a frame to a command whose every part is checked.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::error::{Error, Result};
use crate::model::{Anchor, ChannelName, ClientId, MessageData, MessageText, NewMessage, PageLimit, Position};

/// The longest `ref`, in bytes.
pub(super) const REF_BYTES_MAX: usize = 64;

/// What a client calls its command: a string or an integer, given back as it came.
#[derive(Clone, Debug, Serialize)]
#[serde(transparent)]
pub struct Ref(Box<RawValue>);

/// One frame from a client.
#[derive(Debug)]
pub struct Request {
    /// Comes back on the answer.
    pub reference: Option<Ref>,
    /// The command, or what is wrong with it.
    pub command: Result<Command>,
}

/// What a client asks of its session.
#[derive(Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(tag = "op", rename_all = "snake_case"))]
pub enum Command {
    /// Sign in, or renew the token on a live session of the same user.
    Auth {
        /// The access token.
        token: String,
    },
    /// Attach this session to a channel.
    Join {
        /// The channel.
        channel: ChannelName,
        /// From where on; without it, live only.
        since: Option<Position>,
    },
    /// Many joins in one frame.
    Resume {
        /// From where on, by channel.
        since: BTreeMap<ChannelName, Position>,
    },
    /// Detach from a channel.
    Leave {
        /// The channel.
        channel: ChannelName,
    },
    /// Say something.
    Send(SendMessage),
    /// Read a page of history.
    History {
        /// The channel.
        channel: ChannelName,
        /// Which page.
        #[cfg_attr(test, schemars(flatten))]
        anchor: Anchor,
        /// How many, at most.
        #[cfg_attr(test, schemars(with = "Option<PageLimit>"))]
        limit: PageLimit,
    },
    /// Tell the others that one is typing.
    Typing {
        /// The channel.
        channel: ChannelName,
    },
    /// Ask for a sign of life.
    Ping,
}

/// A message and where it goes.
#[derive(Debug)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
pub struct SendMessage {
    /// The channel.
    pub channel: ChannelName,
    /// The message.
    #[cfg_attr(test, schemars(flatten))]
    pub message: NewMessage,
}

impl Command {
    /// Every `op`, as metrics label it.
    pub const OPS: [&'static str; 8] = ["auth", "join", "resume", "leave", "send", "history", "typing", "ping"];

    /// The `op` of this command.
    pub fn op(&self) -> &'static str {
        match self {
            Self::Auth { .. } => "auth",
            Self::Join { .. } => "join",
            Self::Resume { .. } => "resume",
            Self::Leave { .. } => "leave",
            Self::Send(_) => "send",
            Self::History { .. } => "history",
            Self::Typing { .. } => "typing",
            Self::Ping => "ping",
        }
    }
}

/// Reads one frame. Unknown fields are ignored; `null` is as good as absent.
pub fn decode(text: &str) -> Request {
    let fields = object::<Fields>(text);
    let reference = match &fields {
        Ok(fields) => Ok(fields.reference),
        // A field stands there twice. Where it is another, the answer bears the ref all the same.
        Err(_) => object::<Reference>(text).map(|found| found.reference),
    };
    match reference.and_then(|raw| raw.map(parse_ref).transpose()) {
        Ok(reference) => Request { reference, command: fields.and_then(|fields| fields.command()) },
        Err(error) => Request { reference: None, command: Err(error) },
    }
}

/// Reads a message from the JSON of an HTTP body.
///
/// # Errors
/// As `send` on the socket.
pub fn new_message(json: &str) -> Result<NewMessage> {
    object::<Fields>(json)?.message()
}

/// Parses a JSON object; tells what is no JSON, be its shape wrong as well, from what has the wrong shape.
pub(super) fn object<'a, T: Deserialize<'a>>(json: &'a str) -> Result<T> {
    let wrong = if json.trim_start_matches([' ', '\t', '\n', '\r']).starts_with('{') {
        match serde_json::from_str(json) {
            Ok(found) => return Ok(found),
            Err(error) => shape_error(&error),
        }
    } else {
        Error::BadRequest("a JSON object is expected".into())
    };
    match serde_json::from_str::<serde::de::IgnoredAny>(json) {
        Ok(_) => Err(wrong),
        Err(error) => Err(shape_error(&error)),
    }
}

fn shape_error(error: &serde_json::Error) -> Error {
    let place = format!("line {}, column {}", error.line(), error.column());
    if error.is_data() {
        Error::BadRequest(format!("a field is missing, given twice, or not of its type: {place}"))
    } else {
        Error::BadJson(place)
    }
}

/// Every field of every command, unparsed: which of them count, and as what, the `op` says.
#[derive(Deserialize)]
struct Fields<'a> {
    #[serde(borrow)]
    op: Option<&'a RawValue>,
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
    #[serde(borrow)]
    token: Option<&'a RawValue>,
    #[serde(borrow)]
    channel: Option<&'a RawValue>,
    #[serde(borrow)]
    since: Option<&'a RawValue>,
    #[serde(borrow)]
    text: Option<&'a RawValue>,
    #[serde(borrow)]
    data: Option<&'a RawValue>,
    #[serde(borrow)]
    cid: Option<&'a RawValue>,
    #[serde(borrow)]
    reply_to: Option<&'a RawValue>,
    #[serde(borrow)]
    before: Option<&'a RawValue>,
    #[serde(borrow)]
    after: Option<&'a RawValue>,
    #[serde(borrow)]
    around: Option<&'a RawValue>,
    #[serde(borrow)]
    limit: Option<&'a RawValue>,
}

#[derive(Deserialize)]
struct Reference<'a> {
    #[serde(borrow, rename = "ref")]
    reference: Option<&'a RawValue>,
}

impl Fields<'_> {
    fn command(&self) -> Result<Command> {
        let op = string("op", needed("op", self.op)?)?;
        Ok(match op.as_str() {
            "auth" => Command::Auth { token: string("token", needed("token", self.token)?)? },
            "join" => Command::Join { channel: self.channel()?, since: position("since", self.since)? },
            "resume" => Command::Resume { since: positions(needed("since", self.since)?)? },
            "leave" => Command::Leave { channel: self.channel()? },
            "send" => Command::Send(SendMessage { channel: self.channel()?, message: self.message()? }),
            "history" => Command::History { channel: self.channel()?, anchor: self.anchor()?, limit: self.limit()? },
            "typing" => Command::Typing { channel: self.channel()? },
            "ping" => Command::Ping,
            _ => return Err(Error::UnknownOp),
        })
    }

    fn channel(&self) -> Result<ChannelName> {
        string("channel", needed("channel", self.channel)?)?.parse()
    }

    fn message(&self) -> Result<NewMessage> {
        let message = NewMessage {
            text: optional("text", self.text)?.map(MessageText::try_from).transpose()?,
            data: self.data.map(|raw| MessageData::parse(raw.get())).transpose()?,
            cid: optional("cid", self.cid)?.map(ClientId::try_from).transpose()?,
            reply_to: position("reply_to", self.reply_to)?,
        };
        if message.text.is_none() && message.data.is_none() {
            return Err(Error::BadRequest("a message has text or data, or both".into()));
        }
        Ok(message)
    }

    fn anchor(&self) -> Result<Anchor> {
        let before = position("before", self.before)?;
        let after = position("after", self.after)?;
        let around = position("around", self.around)?;
        Anchor::one_of(before, after, around)
    }

    fn limit(&self) -> Result<PageLimit> {
        self.limit.map_or(Ok(PageLimit::default()), |raw| {
            let limit: u64 =
                raw.get().parse().map_err(|_| Error::BadRequest("limit is a whole number, 1 to 200".into()))?;
            limit.try_into()
        })
    }
}

fn parse_ref(raw: &RawValue) -> Result<Ref> {
    let text = raw.get();
    let fits = if text.starts_with('"') {
        string("ref", raw)?.len() <= REF_BYTES_MAX
    } else {
        let digits = text.strip_prefix('-').unwrap_or(text);
        text.len() <= REF_BYTES_MAX && !digits.is_empty() && digits.bytes().all(|b| b.is_ascii_digit())
    };
    if fits {
        Ok(Ref(raw.to_owned()))
    } else {
        Err(Error::BadRequest(format!("ref is a string or an integer of at most {REF_BYTES_MAX} bytes")))
    }
}

fn needed<'a>(field: &str, raw: Option<&'a RawValue>) -> Result<&'a RawValue> {
    raw.ok_or_else(|| Error::BadRequest(format!("{field} is missing")))
}

fn string(field: &str, raw: &RawValue) -> Result<String> {
    if !raw.get().starts_with('"') {
        return Err(Error::BadRequest(format!("{field} is a string")));
    }
    // The grammar was checked with the frame; what is left to fail is a lone surrogate.
    serde_json::from_str(raw.get()).map_err(|_| Error::BadJson(format!("{field} holds half of a surrogate pair")))
}

fn optional(field: &str, raw: Option<&RawValue>) -> Result<Option<String>> {
    raw.map(|raw| string(field, raw)).transpose()
}

fn position(field: &str, raw: Option<&RawValue>) -> Result<Option<Position>> {
    optional(field, raw)?.map(|text| text.parse()).transpose()
}

fn positions(raw: &RawValue) -> Result<BTreeMap<ChannelName, Position>> {
    object::<BTreeMap<String, &RawValue>>(raw.get())?
        .into_iter()
        .map(|(channel, since)| Ok((channel.parse()?, string("since", since)?.parse()?)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn code(text: &str) -> (&'static str, Option<String>) {
        let request = decode(text);
        let code = request.command.map_or_else(|e| e.code(), |c| c.op());
        (code, request.reference.map(|r| r.0.get().to_owned()))
    }

    #[test]
    fn a_frame_is_told_apart_by_what_is_wrong_with_it() {
        for (text, expected) in [
            (r#"{"op":"ping"}"#, ("ping", None)),
            (r#"{"op":"ping","ref":"a","more":[1]}"#, ("ping", Some(r#""a""#))),
            (r#"{"op":"ping","ref":-12345678901234567890}"#, ("ping", Some("-12345678901234567890"))),
            (r#"{"op":"ping","ref":1.5}"#, ("bad_request", None)),
            (r#"{"op":"ping","ref":{}}"#, ("bad_request", None)),
            (r#"{"op":"ping","ref":null}"#, ("ping", None)),
            (r#"{"op":"fly","ref":1}"#, ("unknown_op", Some("1"))),
            (r#"{"op":7,"ref":1}"#, ("bad_request", Some("1"))),
            (r#"{"ref":1}"#, ("bad_request", Some("1"))),
            (r#"{"op":"ping","op":"ping","ref":1}"#, ("bad_request", Some("1"))),
            (r#"{"op":"ping","op":"ping","ref":1,}"#, ("bad_json", None)),
            (r#"{"op":"ping","ref":1,"ref":1}"#, ("bad_request", None)),
            (r#"{"op":"ping","ref":1,"ref":1"#, ("bad_json", None)),
            ("[]", ("bad_request", None)),
            (r#"["ping"]"#, ("bad_request", None)),
            ("{", ("bad_json", None)),
            ("", ("bad_json", None)),
            (r#"{"op":"join","ref":1}"#, ("bad_request", Some("1"))),
            (r#"{"op":"join","ref":1,"channel":"Tea"}"#, ("bad_request", Some("1"))),
            (r#"{"op":"join","ref":1,"channel":"tea","since":"x"}"#, ("bad_request", Some("1"))),
            (r#"{"op":"join","ref":1,"channel":"tea","since":"1-2"}"#, ("join", Some("1"))),
            (r#"{"op":"send","ref":1,"channel":"tea"}"#, ("bad_request", Some("1"))),
            (r#"{"op":"send","ref":1,"channel":"tea","text":""}"#, ("bad_request", Some("1"))),
            (r#"{"op":"send","ref":1,"channel":"tea","text":"\ud800"}"#, ("bad_json", Some("1"))),
            (r#"{"op":"send","ref":1,"channel":"tea","data":[]}"#, ("bad_request", Some("1"))),
            (r#"{"op":"send","ref":1,"channel":"tea","data":{"a":1}}"#, ("send", Some("1"))),
            (r#"{"op":"history","ref":1,"channel":"tea","limit":0}"#, ("bad_request", Some("1"))),
            (r#"{"op":"history","ref":1,"channel":"tea","limit":201}"#, ("bad_request", Some("1"))),
            (r#"{"op":"history","ref":1,"channel":"tea","before":"1-1","after":"1-1"}"#, ("bad_request", Some("1"))),
            (r#"{"op":"resume","ref":1,"since":{"tea":"1-1"}}"#, ("resume", Some("1"))),
            (r#"{"op":"resume","ref":1,"since":["tea"]}"#, ("bad_request", Some("1"))),
        ] {
            assert_eq!(code(text), (expected.0, expected.1.map(str::to_owned)), "{text}");
        }
    }
}
