//! The wire types as JSON Schema, which both documents of the contract have among their components.

use std::borrow::Cow;
use std::fmt::Write;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Serialize, Serializer};
use serde_json::{Map, Value, json};

use super::Ref;
use super::command::REF_BYTES_MAX;
use crate::error::CODES;

/// Where both kinds of documents keep their schemas.
const COMPONENTS: &str = "/components/schemas";

/// The keys that come first in a document, in this order; all others follow by name.
const FIRST: &[&str] = &[
    "openapi",
    "asyncapi",
    "info",
    "title",
    "operationId",
    "name",
    "in",
    "action",
    "summary",
    "description",
    "type",
    "$ref",
    "tags",
    "servers",
    "security",
    "paths",
    "channels",
    "operations",
    "parameters",
    "requestBody",
    "required",
    "properties",
];

/// What clients ask and what the server tells: schemas by name.
pub(crate) struct Schemas {
    asked: SchemaGenerator,
    told: SchemaGenerator,
    others: Map<String, Value>,
}

impl Schemas {
    pub(crate) fn new() -> Self {
        let mut settings = SchemaSettings::draft2020_12();
        settings.definitions_path = COMPONENTS.into();
        settings.meta_schema = None;
        settings.untagged_enum_variant_titles = true;
        Self {
            asked: settings.clone().for_deserialize().into_generator(),
            told: settings.for_serialize().into_generator(),
            others: Map::new(),
        }
    }

    /// The schema of what a client sends.
    pub(crate) fn asked<T: JsonSchema>(&mut self) -> Value {
        self.asked.subschema_for::<T>().into()
    }

    /// The schema of what the server sends.
    pub(crate) fn told<T: JsonSchema>(&mut self) -> Value {
        self.told.subschema_for::<T>().into()
    }

    /// The variants of what a client sends, by the tag.
    pub(super) fn asked_variants<T: JsonSchema>(&mut self, tag: &str) -> Vec<(String, Value)> {
        variants(T::json_schema(&mut self.asked), tag)
    }

    /// The variants of what the server sends, by the tag.
    pub(super) fn told_variants<T: JsonSchema>(&mut self, tag: &str) -> Vec<(String, Value)> {
        variants(T::json_schema(&mut self.told), tag)
    }

    /// What the server sends, once more, under no name.
    pub(super) fn resolved(&self, schema: &Value) -> Value {
        let name = schema["$ref"].as_str().and_then(|path| path.rsplit('/').next());
        name.map_or_else(|| schema.clone(), |name| self.told.definitions()[name].clone())
    }

    /// A schema of its own; where it is found.
    pub(crate) fn add(&mut self, name: &str, schema: Value) -> Value {
        assert!(self.others.insert(name.to_owned(), schema).is_none(), "there are two of {name}");
        json!({ "$ref": format!("#{COMPONENTS}/{name}") })
    }

    /// All that were asked for, and all that those rest on.
    pub(crate) fn components(mut self) -> Value {
        let parts = [self.asked.take_definitions(true), self.told.take_definitions(true), self.others];
        let mut all = Map::new();
        for (name, schema) in parts.into_iter().flatten() {
            if let Some(other) = all.insert(name.clone(), schema.clone()) {
                assert_eq!(schema, other, "{name} is not the same for those who ask and those who tell");
            }
        }
        all.into()
    }
}

fn variants(schema: Schema, tag: &str) -> Vec<(String, Value)> {
    let of = Value::from(schema)["oneOf"].take();
    let Value::Array(variants) = of else { panic!("{tag} tells no variants apart") };
    let name = |schema: &Value| schema["properties"][tag]["const"].as_str().expect("its name").to_owned();
    variants.into_iter().map(|schema| (name(&schema), schema)).collect()
}

/// Every code, with what it means.
pub(crate) struct ErrorCode;

impl JsonSchema for ErrorCode {
    fn schema_name() -> Cow<'static, str> {
        "ErrorCode".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let mut description = "What went wrong, as programs read it.\n".to_owned();
        description.push_str("\n| code | status | repeat? | meaning |\n|---|---|---|---|");
        for code in CODES {
            let (status, meaning) = (code.status.as_u16(), code.meaning.trim());
            let _ = write!(description, "\n| `{}` | {status} | {} | {meaning} |", code.name, code.repeat);
        }
        let names: Vec<_> = CODES.iter().map(|code| code.name).collect();
        json_schema!({"type": "string", "description": description, "enum": names})
    }
}

impl JsonSchema for Ref {
    fn schema_name() -> Cow<'static, str> {
        "Ref".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "description": format!("What the client calls its command, at most {REF_BYTES_MAX} bytes; comes back on the \
                                    answer."),
            "oneOf": [{"type": "string", "maxLength": REF_BYTES_MAX}, {"type": "integer"}],
        })
    }
}

/// Fails where the document in `docs/` is another than the one that was made. `make contracts` puts it there.
pub(crate) fn assert_checked_in(document: &Value, file: expect_test::ExpectFile) {
    let mut text = serde_json::to_string_pretty(&Ordered(document)).expect("a document is JSON");
    text.push('\n');
    file.assert_eq(&text);
}

/// A value with its keys in an order that people like to read.
struct Ordered<'a>(&'a Value);

impl Serialize for Ordered<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.0 {
            Value::Object(fields) => {
                let rank = |key: &str| FIRST.iter().position(|first| *first == key).unwrap_or(FIRST.len());
                let mut fields: Vec<_> = fields.iter().collect();
                fields.sort_by_key(|(key, _)| rank(key));
                serializer.collect_map(fields.into_iter().map(|(key, value)| (key, Ordered(value))))
            }
            Value::Array(items) => serializer.collect_seq(items.iter().map(Ordered)),
            plain => plain.serialize(serializer),
        }
    }
}
