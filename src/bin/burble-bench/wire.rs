//! What the tool says and hears on the socket. Pure: no I/O.

use std::fmt::{self, Write};
use std::str::FromStr;

use serde::Deserialize;

use crate::order::Stamp;

/// The first `ref` of a session. All have eight digits and stand at the same place in a command: servers do
/// not care, and the yardstick needs no parser.
pub(crate) const REF_FIRST: u32 = 10_000_000;

/// `join`, with the position to catch up from where there is one.
pub(crate) fn join(reference: u32, channel: &str, since: Option<Position>) -> String {
    match since {
        Some(since) => {
            format!(r#"{{"ref":{reference},"op":"join","channel":"{channel}","since":"{since}"}}"#)
        }
        None => format!(r#"{{"ref":{reference},"op":"join","channel":"{channel}"}}"#),
    }
}

/// `history`: the page before a position, or the latest.
pub(crate) fn history(reference: u32, channel: &str, before: Option<Position>, limit: u32) -> String {
    let before = before.map_or_else(String::new, |before| format!(r#","before":"{before}""#));
    format!(r#"{{"ref":{reference},"op":"history","channel":"{channel}","limit":{limit}{before}}}"#)
}

/// `leave`.
pub(crate) fn leave(reference: u32, channel: &str) -> String {
    format!(r#"{{"ref":{reference},"op":"leave","channel":"{channel}"}}"#)
}

/// `send` of a text that needs no escapes.
pub(crate) fn send(reference: u32, channel: &str, text: &str, cid: Option<&str>) -> String {
    let mut command = String::with_capacity(80 + channel.len() + text.len());
    write!(command, r#"{{"ref":{reference},"op":"send","channel":"{channel}","text":"{text}""#)
        .expect("a String takes everything");
    if let Some(cid) = cid {
        write!(command, r#","cid":"{cid}""#).expect("a String takes everything");
    }
    command.push('}');
    command
}

/// Where an event stands in its channel's log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Position {
    pub(crate) epoch: u64,
    pub(crate) seq: u64,
}

impl Position {
    /// Before everything that is retained.
    pub(crate) const BEGINNING: Self = Self { epoch: 0, seq: 0 };
}

impl FromStr for Position {
    type Err = ();

    fn from_str(text: &str) -> Result<Self, ()> {
        let (epoch, seq) = text.split_once('-').ok_or(())?;
        Ok(Self { epoch: epoch.parse().map_err(|_| ())?, seq: seq.parse().map_err(|_| ())? })
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.epoch, self.seq)
    }
}

/// Any event of the server, as far as the tool looks at it.
#[derive(Deserialize, Debug)]
pub(crate) struct Frame<'a> {
    pub(crate) ev: &'a str,
    #[serde(rename = "ref")]
    pub(crate) reference: Option<u32>,
    pub(crate) id: Option<&'a str>,
    pub(crate) channel: Option<&'a str>,
    pub(crate) code: Option<&'a str>,
    pub(crate) reason: Option<&'a str>,
    pub(crate) last: Option<&'a str>,
}

/// A `message` as a listener needs it.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Delivery {
    pub(crate) position: Position,
    pub(crate) stamp: Stamp,
}

/// Reads deliveries out of frames without parsing them: each field is looked for where it stood last time.
///
/// Exact all the same: a quote inside a JSON string is escaped, so `"id":"` is only ever a field; and what the
/// tool sends has no nested objects.
pub(crate) struct Scan {
    ev: Field,
    id: Field,
    text: Field,
    channel: Field,
}

impl Default for Scan {
    fn default() -> Self {
        Self {
            ev: Field::new("\"ev\":\""),
            id: Field::new("\"id\":\""),
            text: Field::new("\"text\":\""),
            channel: Field::new("\"channel\":\""),
        }
    }
}

impl Scan {
    /// The delivery in this frame; nothing if it is no message of the tool.
    pub(crate) fn delivery(&mut self, frame: &str) -> Option<Delivery> {
        if !self.ev.rest_in(frame)?.starts_with("message\"") {
            return None;
        }
        let id = self.id.rest_in(frame)?;
        let id_len = id.bytes().position(|byte| byte == b'"')?;
        let stamp = Stamp::read(self.text.rest_in(frame)?)?;
        Some(Delivery { position: id[..id_len].parse().ok()?, stamp })
    }

    /// The name of the channel in this frame.
    pub(crate) fn channel<'a>(&mut self, frame: &'a str) -> Option<&'a str> {
        let (name, _) = self.channel.rest_in(frame)?.split_once('"')?;
        Some(name)
    }
}

struct Field {
    needle: &'static str,
    stood_at: usize,
}

impl Field {
    fn new(needle: &'static str) -> Self {
        Self { needle, stood_at: 0 }
    }

    fn rest_in<'a>(&mut self, frame: &'a str) -> Option<&'a str> {
        let there = frame.get(self.stood_at..).and_then(|rest| rest.strip_prefix(self.needle));
        if there.is_some() {
            return there;
        }
        self.stood_at = frame.find(self.needle)?;
        Some(&frame[self.stood_at + self.needle.len()..])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_are_json_with_the_ref_in_a_fixed_place() {
        let commands = [
            join(REF_FIRST, "tea", Some(Position { epoch: 3, seq: 4 })),
            join(REF_FIRST, "tea", None),
            leave(REF_FIRST, "tea"),
            history(REF_FIRST, "tea", Some(Position { epoch: 3, seq: 4 }), 200),
            history(REF_FIRST, "tea", None, 1),
            send(REF_FIRST, "tea", "hello", Some("c1")),
            send(REF_FIRST, "tea", "hello", None),
        ];
        for command in commands {
            let json: serde_json::Value = serde_json::from_str(&command).expect("valid JSON");
            assert_eq!(json["channel"], "tea");
            assert_eq!(&command[7..15], "10000000");
            assert_eq!(&command[15..22], r#","op":""#);
        }
    }

    #[test]
    fn a_position_survives_the_wire() {
        let position: Position = "1763923812-1043".parse().expect("a position");
        assert_eq!(position, Position { epoch: 1_763_923_812, seq: 1043 });
        assert_eq!(position.to_string(), "1763923812-1043");
        assert!("12".parse::<Position>().is_err());
        assert!("1-x".parse::<Position>().is_err());
    }

    #[test]
    fn a_delivery_is_found_in_any_order_of_fields() {
        let mut scan = Scan::default();
        let text = Stamp { index: 7, due_ns: 9 }.text(40);
        let expected = Some(Delivery { position: Position { epoch: 5, seq: 6 }, stamp: Stamp { index: 7, due_ns: 9 } });
        let first = format!(r#"{{"ev":"message","channel":"a","id":"5-6","from":"b","at":1,"text":"{text}"}}"#);
        let second = format!(r#"{{"text":"{text}","id":"5-6","from":"b","channel":"a","ev":"message"}}"#);
        for frame in [&first, &first, &second, &first] {
            assert_eq!(scan.delivery(frame), expected);
            assert_eq!(scan.channel(frame), Some("a"));
        }
        assert_eq!(scan.delivery(r#"{"ev":"ok","ref":1,"id":"5-6"}"#), None);
    }

    #[test]
    fn frames_are_read_with_what_is_missing_left_out() {
        let frame: Frame<'_> =
            serde_json::from_str(r#"{"ev":"ok","ref":10000001,"first":null,"last":"1-2","x":{}}"#).expect("a frame");
        assert_eq!((frame.ev, frame.reference, frame.last, frame.id), ("ok", Some(10_000_001), Some("1-2"), None));
    }
}
