//! `docs/openapi.json`: HTTP for programs, made from what stands beside the handlers and from the wire types. Where
//! they disagree, `make contracts` makes it anew.

mod operation;
mod tests;
mod words;

use serde_json::{Map, Value, json};

pub(super) use self::operation::{Method, Operation};
use self::operation::{Parameter, Refusal};
pub(super) use self::words::*;
use super::{accounts, address, channels, contracts, upgrade};
use crate::protocol::http::ErrorBody;
use crate::protocol::schema::Schemas;

/// What operations share.
struct Components {
    schemas: Schemas,
    parameters: Map<String, Value>,
    responses: Map<String, Value>,
}

impl Components {
    fn parameter(&mut self, parameter: &Parameter) -> Value {
        let Parameter { component, name, place, detail, schema } = parameter;
        let schema = schema(&mut self.schemas);
        let described = json!({"name": name, "in": place, "required": *place == "path", "description": detail,
                               "schema": schema});
        self.parameters.insert((*component).to_owned(), described);
        json!({ "$ref": format!("#/components/parameters/{component}") })
    }

    fn refusal(&mut self, refusal: &Refusal) -> Value {
        let Refusal { component, detail, codes } = refusal;
        let of_these = json!({"properties": {"error": {"properties": {"code": {"enum": codes}}}}});
        let schema = json!({"allOf": [self.schemas.told::<ErrorBody>(), of_these]});
        let mut described = json!({"description": detail, "content": content(schema)});
        match refusal.status() {
            401 => {
                let scheme = json!({"required": true, "schema": {"type": "string", "const": "Bearer"}});
                described["headers"] = json!({ "WWW-Authenticate": scheme });
            }
            429 | 503 => {
                let seconds = json!({"description": "After how many seconds to repeat.", "required": true,
                                     "schema": {"type": "integer", "minimum": 1}});
                described["headers"] = json!({ "Retry-After": seconds });
            }
            _ => {}
        }
        self.responses.insert((*component).to_owned(), described);
        json!({ "$ref": format!("#/components/responses/{component}") })
    }
}

fn content(schema: Value) -> Value {
    json!({"application/json": {"schema": schema}})
}

/// Every operation, by its tag.
fn operations() -> Vec<(&'static str, Operation)> {
    let tagged = |(tag, operations): (&'static str, Vec<Operation>)| operations.into_iter().map(move |it| (tag, it));
    let all = [
        ("accounts", accounts::document::operations()),
        ("channels", channels::document::operations()),
        ("members", channels::document::member_operations()),
        ("messages", channels::document::message_operations()),
        ("socket", upgrade::document::operations()),
        ("socket", address::document::operations()),
        ("contracts", contracts::document::operations()),
    ];
    all.into_iter().flat_map(tagged).collect()
}

fn document() -> Value {
    let mut components = Components { schemas: Schemas::new(), parameters: Map::new(), responses: Map::new() };
    let mut paths = json!({});
    for (tag, operation) in operations() {
        let method = operation.method.as_str().to_lowercase();
        paths[operation.path][method] = operation.described(tag, &mut components);
    }
    let tags = [
        ("accounts", "Signing up, in and out."),
        ("channels", "Chat rooms, public or private."),
        ("members", "Who belongs to a channel, and as what."),
        ("messages", "What was said."),
        ("socket", "The way to `burble.v1`."),
        ("contracts", "These documents."),
    ];
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "Burble",
            "version": env!("CARGO_PKG_VERSION"),
            "license": {"name": "MIT", "identifier": "MIT"},
            "description": "A chat server. This is its HTTP half; the WebSocket's is `/asyncapi.json`.\n\nJSON in, JSON \
                            out. Who is asking is checked before what is asked. No credential is ever accepted in a URL. \
                            Unknown fields in a request are ignored, and one that is null counts as absent; unknown enum \
                            values are `bad_request`. Clients ignore fields that they do not know. `429` and `503` carry \
                            `Retry-After`. Any other path or method is `404 not_found`. To whoever may not see it, a \
                            private channel looks exactly like one that does not exist.",
        },
        "servers": [{"url": "/", "description": "Whichever node served this document; all are alike."}],
        "security": [{"bearer": []}],
        "tags": tags.map(|(name, description)| json!({"name": name, "description": description})),
        "paths": paths,
        "components": {
            "securitySchemes": {
                "bearer": {
                    "type": "http",
                    "scheme": "bearer",
                    "bearerFormat": "JWT",
                    "description": "`Authorization: Bearer <access token>`, in one header.",
                },
            },
            "parameters": components.parameters,
            "responses": components.responses,
            "schemas": components.schemas.components(),
        },
    })
}
