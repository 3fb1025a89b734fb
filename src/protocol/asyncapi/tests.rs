//! The document in `docs/` is the one of the code, and the decoder is of its opinion.

use std::collections::BTreeSet;

use expect_test::expect_file;
use serde_json::{Value, json};

use super::document;
use crate::protocol::schema::{Schemas, assert_checked_in};
use crate::protocol::{Command, decode};

#[test]
fn the_document_of_the_socket_is_the_one_of_the_code() {
    assert_checked_in(&document(), expect_file!["../../../docs/asyncapi.json"]);
}

#[test]
fn every_example_is_as_its_schema_says() {
    let document = document();
    for (key, message) in document["components"]["messages"].as_object().expect("messages") {
        let schema = json!({"$ref": message["payload"]["$ref"], "components": document["components"]});
        if let Err(error) = jsonschema::validate(&schema, &message["examples"][0]["payload"]) {
            panic!("the example of {key}: {error}");
        }
    }
}

/// What the schema of a command requires, the decoder requires; what it knows, the decoder reads; all else it ignores.
#[test]
fn the_decoder_reads_what_the_document_says() {
    let commands = Schemas::new().asked_variants::<Command>("op");
    let fields = |schema: &Value| schema["properties"].as_object().expect("fields").keys().cloned().collect::<Vec<_>>();
    let all: BTreeSet<_> = commands.iter().flat_map(|(_, schema)| fields(schema)).collect();
    for (op, schema) in &commands {
        let required: Vec<_> = schema["required"].as_array().expect("names").iter().filter_map(Value::as_str).collect();
        let mut least: Value = required.iter().map(|field| ((*field).to_owned(), good(op, field))).collect();
        if op == "send" {
            least["text"] = "hello".into();
        }
        let code = |field: &str, value: Option<Value>| {
            let mut frame = least.clone();
            match value {
                Some(value) => frame[field] = value,
                None => drop(frame.as_object_mut().expect("a frame").remove(field)),
            }
            decode(&frame.to_string()).command.map_or_else(|error| error.code(), |command| command.op())
        };
        for field in &all {
            let (known, required) = (fields(schema).contains(field), required.contains(&field.as_str()));
            let refused_or = |is_refused: bool| if is_refused { "bad_request" } else { op };
            assert_eq!(code(field, Some(json!([]))), refused_or(known), "{op} with a wrong {field}");
            assert_eq!(
                code(field, None),
                refused_or(required || (op == "send" && field == "text")),
                "{op} without {field}"
            );
            if known {
                assert_eq!(code(field, Some(good(op, field))), op, "{op} with {field}");
            }
        }
    }
}

/// A value that the field of a command may have.
fn good(op: &str, field: &str) -> Value {
    match (op, field) {
        (_, "op") => op.into(),
        ("resume", "since") => json!({"tea": "1-1"}),
        (_, "since" | "reply_to" | "before" | "after" | "around") => "1-1".into(),
        (_, "channel" | "token" | "text" | "cid") => "tea".into(),
        (_, "data") => json!({}),
        (_, "limit") => 1.into(),
        _ => panic!("what may {field} of {op} be?"),
    }
}
