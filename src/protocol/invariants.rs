//! What holds for every frame, whatever is in it. The fuzzer judges by this, and so do the tests beside it.

use serde_json::{Value, json};

use super::{Answer, Command, Event, Request, SendMessage, decode, encode, message, message_body};
use crate::model::{Anchor, DATA_DEPTH_MAX, Entry, NewMessage, Position};

/// What the decoder may answer; the other codes of the contract come later, or from others.
const CODES: [&str; 4] = ["bad_json", "bad_request", "too_large", "unknown_op"];

/// Decodes a frame and looks whether all is as it should be.
///
/// # Panics
/// Where it is not.
pub fn hold(text: &str) {
    let request = decode(text);
    let frame = serde_json::from_str::<Value>(text).ok();
    the_ref_comes_back(text, frame.as_ref(), &request);
    match &request.command {
        Ok(command) => {
            it_means_the_same_when_written_anew(command);
            if let Command::Send(send) = command {
                what_was_said_arrives(&send.message);
            }
        }
        Err(error) => {
            let code = error.code();
            assert!(CODES.contains(&code), "{code}");
            assert!(!error.to_string().is_empty(), "a refusal says why");
            let is_good =
                frame.as_ref().is_some_and(|frame| frame.is_object() && depth(&frame["data"]) <= DATA_DEPTH_MAX);
            assert!(!is_good || code != "bad_json", "this is good JSON");
            let is_json = serde_json::from_str::<serde::de::IgnoredAny>(text).is_ok();
            assert!(is_json || code == "bad_json", "{code}, but this is no JSON");
        }
    }
}

fn depth(value: &Value) -> usize {
    match value {
        Value::Array(items) => 1 + items.iter().map(depth).max().unwrap_or(0),
        Value::Object(fields) => 1 + fields.values().map(depth).max().unwrap_or(0),
        _ => 0,
    }
}

fn the_ref_comes_back(text: &str, frame: Option<&Value>, request: &Request) {
    let Some(frame) = frame else { return };
    let sent = &frame["ref"];
    if let Some(reference) = &request.reference {
        let answer = encode(&Event::Ok { reference: Some(reference), answer: Answer::Done {} });
        assert_eq!(serde_json::from_str::<Value>(&answer).expect("an answer is JSON")["ref"], *sent);
        return;
    }
    // A ref that stands there twice is malformed; the value above knows the last one only.
    let is_one = text.matches(r#""ref""#).count() == 1 && !text.contains('\\');
    let is_well_formed = sent.is_i64() || sent.is_u64() || sent.as_str().is_some_and(|text| text.len() <= 64);
    assert!(!is_one || !is_well_formed, "the answer bears no ref");
}

fn it_means_the_same_when_written_anew(command: &Command) {
    let again = decode(&written(command)).command.expect("what was accepted is accepted again");
    assert_eq!(format!("{again:?}"), format!("{command:?}"));
}

/// An ordinary client reads the event, and finds in it what was sent.
fn what_was_said_arrives(said: &NewMessage) {
    let body = message_body(&"ann".parse().expect("a name"), said);
    let entry = Entry { position: Position { epoch: 7, seq: 1 }, at: 99, body };
    // The deepest that a message ever lies: in a page of history over HTTP.
    let page = format!(r#"{{"events":[{}]}}"#, message(&"tea".parse().expect("a name"), &entry));
    let page: Value = serde_json::from_str(&page).expect("a page is JSON");
    let event = &page["events"][0];
    let data = said.data.as_ref().map(|data| serde_json::from_str(data.as_json()).expect("data is JSON"));
    assert_eq!(event["text"].as_str(), said.text.as_ref().map(|text| text.as_str()));
    assert_eq!(event.get("data"), data.as_ref());
    assert_eq!(event["cid"].as_str(), said.cid.as_ref().map(|cid| cid.as_str()));
    assert_eq!(event["reply_to"].as_str(), said.reply_to.map(|position| position.to_string()).as_deref());
}

/// A frame that says the same as the command, in the plainest way.
fn written(command: &Command) -> String {
    let mut frame = match command {
        Command::Auth { token } => json!({"token": token}),
        Command::Join { channel, since } => json!({"channel": channel, "since": since}),
        Command::Resume { since } => json!({"since": since}),
        Command::Leave { channel } | Command::Typing { channel } => json!({"channel": channel}),
        Command::Send(send) => {
            let NewMessage { text, cid, reply_to, .. } = &send.message;
            let (text, cid) = (text.as_ref().map(|text| text.as_str()), cid.as_ref().map(|cid| cid.as_str()));
            json!({"channel": send.channel, "text": text, "cid": cid, "reply_to": reply_to})
        }
        Command::History { channel, anchor, limit } => {
            let (name, position) = match anchor {
                Anchor::Latest => ("before", None),
                Anchor::Before(position) => ("before", Some(position)),
                Anchor::After(position) => ("after", Some(position)),
                Anchor::Around(position) => ("around", Some(position)),
            };
            json!({"channel": channel, "limit": limit.get(), name: position})
        }
        Command::Ping => json!({}),
    };
    frame["op"] = command.op().into();
    let frame = frame.to_string();
    match command {
        // As it is: a number may have more digits than a value keeps.
        Command::Send(SendMessage { message: NewMessage { data: Some(data), .. }, .. }) => {
            format!(r#"{},"data":{}}}"#, frame.trim_end_matches('}'), data.as_json())
        }
        _ => frame,
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use proptest::sample::select;

    use super::*;
    use crate::model::{CID_BYTES_MAX, DATA_BYTES_MAX, TEXT_BYTES_MAX};

    /// What a field may hold: what it should, what it should not, and what is no JSON.
    const VALUES: &[&str] = &[
        "null",
        "true",
        "0",
        "1",
        "200",
        "201",
        "-1",
        "1.5",
        "1e999",
        "18446744073709551616",
        "[]",
        "{}",
        "[1]",
        "\"\"",
        "\"a\"",
        "\"tea\"",
        "\"Tea\"",
        "\"1-2\"",
        "\"0-0\"",
        "\"1-18446744073709551616\"",
        "\"\\u0041\"",
        "\"\\ud800\"",
        "\"\\ud83d\\ude00\"",
        "\"\\u0000\\n\\\\\\\"\"",
        "\"ä\"",
        "{\"tea\":\"1-2\"}",
        "{\"tea\":\"1-2\",\"tea\":\"1-3\"}",
        "{\"Tea\":\"1-2\"}",
        "{\"a\":{\"b\":[1.50,1e5,-0]}}",
        "{\"a\":1,\"a\":2}",
        "{",
        "\"",
        "nul",
        "01",
    ];
    const FIELDS: &[&str] = &[
        "op",
        "ref",
        "token",
        "channel",
        "since",
        "text",
        "data",
        "cid",
        "reply_to",
        "before",
        "after",
        "around",
        "limit",
        "other",
        "\\u0072ef",
    ];

    prop_compose! {
        /// A frame with some fields, in which anything may be wrong.
        fn frame()(
            op in select(&Command::OPS[..]),
            fields in prop::collection::vec((select(FIELDS), select(VALUES)), 0..6),
            space in select(&["", " ", "\n\t"][..]),
        ) -> String {
            let fields = fields.iter().map(|(name, value)| format!(r#","{name}"{space}:{value}{space}"#));
            format!(r#"{{"op":"{op}"{}}}"#, fields.collect::<String>())
        }
    }

    proptest! {
        #[test]
        fn they_hold_for_any_text(text in any::<String>()) {
            hold(&text);
        }

        #[test]
        fn they_hold_for_any_json(text in "[\\[\\]{}\",:0-9a-z\\\\ ]{0,64}") {
            hold(&text);
        }

        #[test]
        fn they_hold_for_any_fields(text in frame()) {
            hold(&text);
        }

        #[test]
        fn they_hold_for_a_frame_that_breaks_off(text in frame(), at in any::<prop::sample::Index>()) {
            let ends: Vec<_> = (0..=text.len()).filter(|at| text.is_char_boundary(*at)).collect();
            hold(&text[..ends[at.index(ends.len())]]);
        }

        #[test]
        fn whatever_is_said_is_accepted(
            text in prop::option::of("(?s:.{1,40})"),
            key in any::<String>(),
            value in any::<f64>(),
            cid in prop::option::of("[ -~]{1,64}"),
            (epoch, seq) in any::<(u64, u64)>(),
        ) {
            let reply_to = Position { epoch, seq };
            let frame = json!({"op": "send", "ref": 1, "channel": "tea", "text": text, "cid": cid,
                "reply_to": reply_to, "data": {key: value}});
            let frame = frame.to_string();
            hold(&frame);
            let Ok(Command::Send(send)) = decode(&frame).command else { panic!("refused: {frame}") };
            prop_assert_eq!(send.message.text.as_ref().map(|text| text.as_str()), text.as_deref());
            prop_assert_eq!(send.message.cid.as_ref().map(|cid| cid.as_str()), cid.as_deref());
            prop_assert_eq!(send.message.reply_to, Some(reply_to));
        }
    }

    #[test]
    fn they_hold_for_what_the_fuzzer_knows() {
        let corpus = concat!(env!("CARGO_MANIFEST_DIR"), "/fuzz/corpus/frame");
        let frames = std::fs::read_dir(corpus).expect("there is a corpus").map(|frame| frame.expect("a file").path());
        let held = frames.map(|frame| hold(&std::fs::read_to_string(frame).expect("text"))).count();
        assert!(held >= Command::OPS.len(), "{held} frames");
    }

    fn code(frame: &str) -> &'static str {
        hold(frame);
        decode(frame).command.map_or_else(|error| error.code(), |command| command.op())
    }

    fn send(fields: &str) -> &'static str {
        code(&format!(r#"{{"op":"send","channel":"tea",{fields}}}"#))
    }

    #[test]
    fn the_limits_hold_to_the_byte() {
        // However a character is written, it counts by its bytes.
        for (written, bytes) in [("a", 1), ("ä", 2), ("😀", 4), ("\\u0001", 1), ("\\ud83d\\ude00", 4), ("\\n", 1)] {
            let text = |count: usize| send(&format!(r#""text":"{}""#, written.repeat(count)));
            assert_eq!(text(TEXT_BYTES_MAX / bytes), "send", "{written}");
            assert_eq!(text(TEXT_BYTES_MAX / bytes + 1), "too_large", "{written}");
            let cid = |count: usize| send(&format!(r#""text":"a","cid":"{}""#, written.repeat(count)));
            assert_eq!(cid(CID_BYTES_MAX / bytes), "send", "{written}");
            assert_eq!(cid(CID_BYTES_MAX / bytes + 1), "bad_request", "{written}");
            let ping = |count: usize| code(&format!(r#"{{"op":"ping","ref":"{}"}}"#, written.repeat(count)));
            assert_eq!(ping(64 / bytes), "ping", "{written}");
            assert_eq!(ping(64 / bytes + 1), "bad_request", "{written}");
        }
        assert_eq!(send(r#""text":"""#), "bad_request");
        assert_eq!(send(r#""text":"a","cid":"""#), "bad_request");
        let whole = |digits: usize| code(&format!(r#"{{"op":"ping","ref":-{}}}"#, "1".repeat(digits)));
        assert_eq!((whole(63), whole(64)), ("ping", "bad_request"));
    }

    #[test]
    fn data_counts_without_its_white_space() {
        for space in ["", " ", "\n\t "] {
            let data = |bytes: usize| {
                let rest = "x".repeat(bytes - r#"{"a":""}"#.len());
                send(&format!(r#""data":{space}{{{space}"a"{space}:{space}"{rest}"{space}}}"#))
            };
            assert_eq!((data(DATA_BYTES_MAX), data(DATA_BYTES_MAX + 1)), ("send", "too_large"));
        }
    }

    #[test]
    fn data_is_nested_as_deep_as_an_ordinary_client_can_read() {
        let nested = |depth: usize| {
            let inner = depth - 1;
            send(&format!(r#""data":{{"[{{":{}{}}}"#, "[".repeat(inner), "]".repeat(inner)))
        };
        assert_eq!(nested(DATA_DEPTH_MAX), "send");
        for depth in [DATA_DEPTH_MAX + 1, 126, 127, 128, 4_000] {
            assert_eq!(nested(depth), "bad_json", "{depth}");
        }
    }
}
