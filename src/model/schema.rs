//! The model on the wire, as JSON Schema: with the limits that its parsers have.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde_json::{Value, json};

use super::{
    Anchor, CID_BYTES_MAX, ChannelName, ClientId, DATA_BYTES_MAX, MessageData, MessageText, PAGE_LIMIT_DEFAULT,
    PAGE_LIMIT_MAX, PageLimit, Position, TEXT_BYTES_MAX, TOPIC_CHARS_MAX, Topic, UserName,
};

macro_rules! schema {
    ($($of:ty: $name:literal, $schema:expr;)*) => {
        $(impl JsonSchema for $of {
            fn schema_name() -> Cow<'static, str> {
                $name.into()
            }

            fn json_schema(_: &mut SchemaGenerator) -> Schema {
                $schema
            }
        })*
    };
}

schema! {
    UserName: "UserName", json_schema!({
        "description": "A user's unique, immutable name.",
        "type": "string",
        "pattern": name(*Self::CHARS.start(), *Self::CHARS.end(), Self::EXTRA),
        "examples": ["ann"],
    });
    ChannelName: "ChannelName", json_schema!({
        "description": "A channel's unique, immutable name.",
        "type": "string",
        "pattern": name(*Self::CHARS.start(), *Self::CHARS.end(), Self::EXTRA),
        "examples": ["tea"],
    });
    Position: "Position", json_schema!({
        "description": "Where an entry stands in a channel's log: `<epoch>-<seq>`, two whole numbers that fit 64 bits. \
                        Ordered by epoch, then seq; within an epoch seq is dense. Good on any node, for as long as the \
                        entry is retained; `0-0` is the beginning.",
        "type": "string",
        "pattern": format!("^[0-9]{{1,{0}}}-[0-9]{{1,{0}}}$", u64::MAX.to_string().len()),
        "examples": ["1763923812-1043"],
    });
    MessageText: "Text", json_schema!({
        "description": format!("1 to {TEXT_BYTES_MAX} bytes of UTF-8."),
        "type": "string",
        "minLength": 1,
        "maxLength": TEXT_BYTES_MAX,
    });
    MessageData: "Data", json_schema!({
        "description": format!("Any JSON object of up to {DATA_BYTES_MAX} bytes, measured as compact JSON."),
        "type": "object",
        "additionalProperties": true,
    });
    ClientId: "ClientId", json_schema!({
        "description": format!(
            "The client's own id of a message, 1 to {CID_BYTES_MAX} bytes. Makes sending safe to repeat: the same user, \
             channel and `cid` is written once, however often it is sent and to whichever node."
        ),
        "type": "string",
        "minLength": 1,
        "maxLength": CID_BYTES_MAX,
    });
    Topic: "Topic", json_schema!({
        "description": format!("What a channel is about; up to {TOPIC_CHARS_MAX} characters, none of them NUL."),
        "type": "string",
        "pattern": "^[^\\u0000]*$",
        "maxLength": TOPIC_CHARS_MAX,
    });
    PageLimit: "Limit", json_schema!({
        "description": "How many, at most.",
        "type": "integer",
        "minimum": 1,
        "maximum": PAGE_LIMIT_MAX,
        "default": PAGE_LIMIT_DEFAULT,
    });
}

fn name(min: usize, max: usize, extra: &str) -> String {
    format!("^[a-z0-9][a-z0-9{extra}]{{{},{}}}$", min - 1, max - 1)
}

/// A message has either, or both; null is neither.
pub(super) fn text_or_data() -> Value {
    json!([
        {"required": ["text"], "properties": {"text": {"type": "string"}}},
        {"required": ["data"], "properties": {"data": {"type": "object"}}},
    ])
}

/// An anchor as it is asked for: one of them at most.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "described, never made")]
struct Anchors {
    /// The page that ends before this position.
    before: Option<Position>,
    /// The page that begins after this position.
    after: Option<Position>,
    /// The page with this position in its middle, and included.
    around: Option<Position>,
}

impl JsonSchema for Anchor {
    fn schema_name() -> Cow<'static, str> {
        "Anchor".into()
    }

    fn json_schema(generator: &mut SchemaGenerator) -> Schema {
        Anchors::json_schema(generator)
    }
}

proptest::proptest! {
    /// Bytes are counted by the parsers, characters by schemas: they agree on ASCII.
    #[test]
    fn a_schema_takes_what_its_parser_takes(text in "[ -~]{0,4}|[a-zA-Z0-9._-]{0,66}|[0-9]{0,21}-[0-9]{0,19}") {
        assert_eq!(takes::<UserName>(text.as_str()), text.parse::<UserName>().is_ok());
        assert_eq!(takes::<ChannelName>(text.as_str()), text.parse::<ChannelName>().is_ok());
        assert_eq!(takes::<ClientId>(text.as_str()), ClientId::try_from(text.clone()).is_ok());
        assert_eq!(takes::<MessageText>(text.as_str()), MessageText::try_from(text.clone()).is_ok());
        assert!(takes::<Position>(text.as_str()) || text.parse::<Position>().is_err() || text.starts_with('0'), "{text}");
    }

    #[test]
    fn a_schema_counts_as_its_parser_counts(topic in "\\PC{250,260}|a{0,2}\0?", limit in 0_u64..300) {
        assert_eq!(takes::<Topic>(topic.as_str()), Topic::try_from(topic.clone()).is_ok());
        assert_eq!(takes::<PageLimit>(limit), PageLimit::try_from(limit).is_ok());
    }
}

fn takes<T: JsonSchema>(value: impl Into<Value>) -> bool {
    let schema = T::json_schema(&mut SchemaGenerator::default());
    jsonschema::is_valid(schema.as_value(), &value.into())
}
