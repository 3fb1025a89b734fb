//! `docs/asyncapi.json`: the socket for programs, made from the wire types. Where they disagree, `make contracts`
//! makes it anew.

mod tests;
mod words;

use serde_json::{Map, Value, json};

use self::words::{Op, REFUSED, answers, closes, example, ops};
use super::schema::Schemas;
use super::{Command, Event, Message, SUBPROTOCOL};
use crate::error::CODES;

/// The document in the making.
struct Document {
    schemas: Schemas,
    messages: Map<String, Value>,
    operations: Map<String, Value>,
}

impl Document {
    fn message(&mut self, key: &str, name: &str, title: &str, schema: (&str, Value), example: &Value) {
        let (component, schema) = schema;
        let description = schema["description"].as_str().unwrap_or_else(|| panic!("{key} is not described"));
        let summary = description.trim_end_matches('.').to_owned();
        let payload = self.schemas.add(component, schema);
        let examples = [json!({ "payload": example })];
        let message =
            json!({"name": name, "title": title, "summary": summary, "payload": payload, "examples": examples});
        self.messages.insert(key.to_owned(), message);
    }

    fn commands(&mut self) {
        let reference = self.schemas.asked::<Option<super::Ref>>();
        let ops = ops();
        for (name, mut schema) in self.schemas.asked_variants::<Command>("op") {
            schema["properties"]["ref"] = reference.clone();
            let op = ops.iter().find(|op| op.name == name).unwrap_or_else(|| panic!("tell more of {name}"));
            let mut example = op.example.clone();
            example["op"] = name.clone().into();
            example["ref"] = 1.into();
            self.message(
                &format!("command.{name}"),
                &name,
                &name,
                (&format!("{}Command", camel(&name)), schema),
                &example,
            );
            self.operation(op);
        }
    }

    fn operation(&mut self, op: &Op) {
        let codes: Vec<&str> = CODES
            .iter()
            .map(|code| code.name)
            .filter(|code| REFUSED.contains(code) || op.refused.contains(code))
            .collect();
        assert_eq!(codes.len(), REFUSED.len() + op.refused.len(), "{} is refused with a code that is none", op.name);
        let refused = codes.iter().map(|code| format!("`{code}`")).collect::<Vec<_>>().join(", ");
        let (_, answer, ..) = answers().into_iter().find(|(variant, ..)| *variant == op.answer).expect("an answer");
        let operation = json!({
            "action": "receive",
            "channel": {"$ref": "#/channels/ws"},
            "summary": self.messages[&format!("command.{}", op.name)]["summary"],
            "description": format!("{} Refused with {refused}.", op.detail).trim_start(),
            "messages": [message_at(&format!("command.{}", op.name))],
            "reply": {
                "channel": {"$ref": "#/channels/ws"},
                "messages": [message_at(&format!("ok.{answer}")), message_at("error")],
            },
            "x-error-codes": codes,
        });
        self.operations.insert(op.name.to_owned(), operation);
    }

    fn events(&mut self) {
        let mut told = Vec::new();
        let message = self.schemas.told::<Message>();
        for (name, schema) in self.schemas.told_variants::<Event<'_>>("ev") {
            match name.as_str() {
                "ok" => self.answers(schema),
                "error" => self.message(&name, &name, &name, ("Failure", schema), &example(&name)),
                _ => {
                    let key = format!("event.{name}");
                    self.message(&key, &name, &name, (&camel(&name), schema), &example(&name));
                    told.push(message_at(&key));
                }
            }
        }
        let summary = "What somebody said; alike live, replayed and in history";
        let said = json!({"name": "message", "title": "message", "summary": summary, "payload": message,
                          "examples": [{"payload": example("message")}]});
        self.messages.insert("event.message".into(), said);
        told.push(message_at("event.message"));
        let operation = json!({
            "action": "send",
            "channel": {"$ref": "#/channels/ws"},
            "summary": "What the server says by itself",
            "description": "Per channel, events come in the order of their positions, `seq` goes up by exactly one and \
                            none comes twice; where the server cannot give the next one, it says `gap` first.",
            "messages": told,
        });
        self.operations.insert("events".into(), operation);
    }

    /// An `ok` for each kind of answer: its own fields beside those of all.
    fn answers(&mut self, mut ok: Value) {
        let Value::Array(variants) = ok["anyOf"].take() else { panic!("there are several answers") };
        ok.as_object_mut().expect("a schema").remove("anyOf");
        let described = answers();
        assert_eq!(variants.len(), described.len());
        for (variant, name, summary, mut example) in described {
            let found = variants.iter().find(|schema| schema["title"] == variant);
            let own = self.schemas.resolved(found.unwrap_or_else(|| panic!("no answer is {variant}")));
            let mut schema = ok.clone();
            schema["description"] = format!("{summary}.").into();
            for (field, of) in own["properties"].as_object().into_iter().flatten() {
                schema["properties"][field] = of.clone();
            }
            let required = schema["required"].as_array_mut().expect("at least ev");
            required.extend(own["required"].as_array().into_iter().flatten().cloned());
            example["ev"] = "ok".into();
            example["ref"] = 1.into();
            let title = if name == "done" { "ok".to_owned() } else { format!("ok to {name}") };
            let component = if name == "done" { "Ok".to_owned() } else { format!("{}Ok", camel(name)) };
            self.message(&format!("ok.{name}"), "ok", &title, (&component, schema), &example);
        }
    }
}

fn message_at(key: &str) -> Value {
    json!({ "$ref": format!("#/channels/ws/messages/{key}") })
}

fn camel(name: &str) -> String {
    let capital = |word: &str| word[..1].to_uppercase() + &word[1..];
    name.split('_').map(capital).collect()
}

fn document() -> Value {
    let mut document = Document { schemas: Schemas::new(), messages: Map::new(), operations: Map::new() };
    document.events();
    document.commands();
    let at = |key: &String| (key.clone(), json!({ "$ref": format!("#/components/messages/{key}") }));
    let messages: Map<_, _> = document.messages.keys().map(at).collect();
    let channel = channel(messages);
    json!({
        "asyncapi": "3.0.0",
        "info": {
            "title": "Burble",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT"},
            "description": "A chat server. This is `burble.v1`, its WebSocket half; the HTTP half is `/openapi.json`. Text \
                            frames of at most 64 KiB, one JSON object a frame.\n\nEach command is answered exactly once, \
                            by `ok` or `error`, and commands of one session are carried out and answered in order. Unknown \
                            fields in a command are ignored, and one that is null counts as absent; an op that is not \
                            known is `unknown_op`. Clients ignore fields and events that they do not know.",
        },
        "defaultContentType": "application/json",
        "servers": {
            "node": {
                "host": "{host}",
                "protocol": "wss",
                "description": "Any node; all are alike.",
                "variables": {
                    "host": {"default": "localhost:8080", "description": "Where Burble is reached; behind TLS, as a rule."},
                },
                "security": [{"$ref": "#/components/securitySchemes/bearer"}],
            },
        },
        "channels": {"ws": channel},
        "operations": document.operations,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "On the upgrade. Who cannot set headers, as in a browser, sends `auth` instead.",
                },
            },
            "messages": document.messages,
            "schemas": document.schemas.components(),
        },
    })
}

fn channel(messages: Map<String, Value>) -> Value {
    let row = |(code, meaning, client): (u16, &str, &str)| format!("\n| `{code}` | {meaning} | {client} |");
    let closes: String = closes().into_iter().map(row).collect();
    json!({
        "address": "/ws",
        "title": "A session",
        "description": format!(
            "Signing in is either the `Authorization` header on the upgrade, or the command `auth` as the first frame \
             within 10 s. The server pings every 25 s and drops a connection that has been silent for 60 s; a session \
             whose token runs out closes with 4401.\n\n| close code | meaning | client |\n|---|---|---|{closes}"
        ),
        "servers": [{"$ref": "#/servers/node"}],
        "bindings": {
            "ws": {
                "method": "GET",
                "query": {
                    "type": "object",
                    "properties": {
                        "name": {"type": "string", "description": "Where given, it must be the signed-in user's name."},
                    },
                },
                "headers": {
                    "type": "object",
                    "properties": {
                        "Authorization": {"type": "string", "description": "`Bearer <access token>`."},
                        "Origin": {
                            "type": "string",
                            "description": "Of a browser's page: the server's own, or one on the allow-list.",
                        },
                        "Sec-WebSocket-Protocol": {
                            "type": "string",
                            "description": format!("Where sub-protocols are offered, `{SUBPROTOCOL}` must be among them."),
                        },
                    },
                },
                "bindingVersion": "0.1.0",
            },
        },
        "messages": messages,
    })
}
