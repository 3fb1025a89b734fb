//! Judges whatever a test hears: each answer and each event is as the documents of the contract say, to the letter. So
//! is each request and each command that was carried out.

use std::collections::HashMap;
use std::sync::{Arc, LazyLock, Mutex, PoisonError};

use jsonschema::Validator;
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::{Answer, items, text};

static OPENAPI: LazyLock<Document> = LazyLock::new(|| Document::new(include_str!("../../../docs/openapi.json")));
static ASYNCAPI: LazyLock<Document> = LazyLock::new(|| Document::new(include_str!("../../../docs/asyncapi.json")));

/// One of the two, and what was compiled of it.
pub(crate) struct Document {
    pub(crate) json: Value,
    /// The same, but no object may have a field that is not spoken of.
    strict: Value,
    compiled: Mutex<HashMap<(String, bool), Arc<Validator>>>,
}

/// HTTP.
pub(crate) fn openapi() -> &'static Document {
    &OPENAPI
}

/// The socket.
pub(crate) fn asyncapi() -> &'static Document {
    &ASYNCAPI
}

impl Document {
    fn new(document: &str) -> Self {
        let json: Value = serde_json::from_str(document).expect("the documents are JSON");
        let mut strict = json.clone();
        close(&mut strict["components"]["schemas"]);
        Self { json, strict, compiled: Mutex::default() }
    }

    /// Whoever asks may say more than the document knows.
    fn asked(&self, schema: &Value, value: &Value, what: &str) {
        self.check(schema, false, value, what);
    }

    /// The server says nothing that the document does not know.
    fn told(&self, schema: &Value, value: &Value, what: &str) {
        self.check(schema, true, value, what);
    }

    fn check(&self, schema: &Value, strict: bool, value: &Value, what: &str) {
        if let Err(wrong) = self.compiled(schema, strict).validate(value) {
            panic!("{what} is not as the document says: at {:?} {wrong}: {value}", wrong.instance_path().as_str());
        }
    }

    fn compiled(&self, schema: &Value, strict: bool) -> Arc<Validator> {
        let mut compiled = self.compiled.lock().unwrap_or_else(PoisonError::into_inner);
        let validator = compiled.entry((schema.to_string(), strict)).or_insert_with(|| {
            let document = if strict { &self.strict } else { &self.json };
            let whole = json!({"allOf": [schema], "components": {"schemas": document["components"]["schemas"]}});
            Arc::new(jsonschema::validator_for(&whole).unwrap_or_else(|wrong| panic!("{schema} is no schema: {wrong}")))
        });
        Arc::clone(validator)
    }

    /// What a reference points to; anything else is itself.
    fn resolve<'a>(&'a self, value: &'a Value) -> &'a Value {
        let Some(reference) = value.get("$ref") else { return value };
        let pointer = text(reference).strip_prefix('#').expect("references stay within the document");
        self.resolve(self.json.pointer(pointer).unwrap_or_else(|| panic!("{pointer} leads nowhere")))
    }

    /// The operation of HTTP that a request is for; none where there is none.
    fn operation(&self, method: &str, path: &str) -> Option<&Value> {
        let path = path.split('?').next().unwrap_or_default();
        let fits = |template: &str| {
            let (known, asked) = (template.split('/'), path.split('/'));
            known.clone().count() == asked.clone().count()
                && known.zip(asked).all(|(known, asked)| known == asked || known.starts_with('{') && !asked.is_empty())
        };
        let mut paths = self.json["paths"].as_object().expect("paths").iter();
        paths.find_map(|(template, methods)| methods.get(method.to_lowercase()).filter(|_| fits(template)))
    }

    fn payload(&self, message: &str) -> &Value {
        &self.json["components"]["messages"][message]["payload"]
    }
}

fn close(schema: &mut Value) {
    if let Value::Object(fields) = schema {
        if fields.get("type").is_some_and(|kind| kind == "object") && fields.contains_key("properties") {
            fields.entry("additionalProperties").or_insert(false.into());
        }
        fields.values_mut().for_each(close);
    }
}

/// An answer over HTTP, and the request where it was granted.
pub(crate) fn check_answer(method: &str, path: &str, body: Option<&[u8]>, answer: &Answer) {
    let what = format!("{} to {method} {path}", answer.status);
    let document = openapi();
    let Some(operation) = document.operation(method, path) else {
        assert_eq!((answer.status, answer.code().as_str()), (404, "not_found"), "{what} is not documented");
        return;
    };
    let response = &operation["responses"][answer.status.to_string()];
    assert!(!response.is_null(), "{what} is not documented: {}", answer.text());
    let response = document.resolve(response);
    for (name, header) in response["headers"].as_object().into_iter().flatten() {
        let value = answer.header(name).unwrap_or_else(|| panic!("{what} lacks {name}"));
        let value = value.parse::<u64>().map_or_else(|_| value.into(), Value::from);
        document.told(&header["schema"], &value, &format!("{name} of {what}"));
    }
    match response.get("content") {
        Some(content) => {
            assert_eq!(answer.header("Content-Type"), Some("application/json"), "{what}");
            document.told(&content["application/json"]["schema"], &answer.json(), &what);
        }
        None => assert!(answer.body.is_empty() || answer.status == 101, "{what} has a body: {}", answer.text()),
    }
    if let (200..300, Some(body)) = (answer.status, body)
        && !body.is_empty()
    {
        let body = serde_json::from_slice(body).expect("only JSON is granted anything");
        let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
        document.asked(schema, &body, &format!("the body of {method} {path}"));
    }
}

/// Something that the server said by itself.
pub(crate) fn check_event(event: &Value) {
    let document = asyncapi();
    let message = format!("event.{}", text(&event["ev"]));
    document.told(document.payload(&message), event, &message);
}

/// An answer on the socket to this frame, and the frame where it was carried out.
pub(crate) fn check_reply(frame: &str, answer: &Value) {
    let document = asyncapi();
    let command = fields(frame);
    let operation = command["op"].as_str().and_then(|op| document.json["operations"].get(op));
    let is_ok = answer["ev"] == "ok";
    let Some(operation) = operation else {
        assert!(!is_ok, "{frame} was carried out, but is not documented");
        return document.told(document.payload("error"), answer, "a refusal");
    };
    let op = text(&command["op"]);
    let mut replies = items(&operation["reply"]["messages"]).iter().map(|message| document.resolve(message));
    let reply = replies.find(|message| message["name"] == answer["ev"]).expect("ok and error are known");
    document.told(&reply["payload"], answer, &format!("the answer to {op}"));
    if is_ok {
        document.asked(document.payload(&format!("command.{op}")), &command, op);
    } else {
        let known = items(&operation["x-error-codes"]).contains(&answer["code"]);
        assert!(known, "{op} is refused with {}, which is not documented", answer["code"]);
    }
}

/// Of a frame, but for what is nested too deeply to be anything that is spoken of.
fn fields(frame: &str) -> Value {
    let fields: HashMap<String, Box<RawValue>> = serde_json::from_str(frame).unwrap_or_default();
    let shallow = |(name, raw): (String, Box<RawValue>)| Some((name, serde_json::from_str::<Value>(raw.get()).ok()?));
    fields.into_iter().filter_map(shallow).collect()
}

/// How the server ended a connection.
pub(crate) fn check_close(code: u16) {
    let table = text(&asyncapi().json["channels"]["ws"]["description"]);
    assert!(table.contains(&format!("\n| `{code}` | ")), "the close code {code} is not documented");
}
