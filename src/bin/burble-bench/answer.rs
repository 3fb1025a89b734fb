//! What the server's frames mean to a client: an answer, something to read past, or a failure. Pure: no I/O.

use crate::failure::Failure;
use crate::wire::{Frame, Position};

/// An `ok`.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Accepted {
    pub(crate) reference: u32,
    /// Of `send`: where the message stands.
    pub(crate) id: Option<Position>,
    /// Of `join`: the end of the retained log.
    pub(crate) last: Option<Position>,
}

/// Parses a frame of the server.
pub(crate) fn parse(text: &str) -> Result<Frame<'_>, Failure> {
    serde_json::from_str(text).map_err(|error| Failure::new("frame: not understood", format!("{error} in {text}")))
}

/// An `ok` as it is, nothing for what an unhurried client reads past, a failure for what must not be.
pub(crate) fn answer(step: &str, frame: &Frame<'_>) -> Result<Option<Accepted>, Failure> {
    let position = |text: Option<&str>| text.and_then(|text| text.parse().ok());
    match (frame.ev, frame.reference) {
        ("ok", Some(reference)) => Ok(Some(Accepted { reference, id: position(frame.id), last: position(frame.last) })),
        ("error", _) => {
            let code = frame.code.unwrap_or("without a code");
            Err(Failure::new(format!("{step}: {code}"), format!("{frame:?}")))
        }
        ("gap" | "left", _) => {
            let reason = frame.reason.unwrap_or("without a reason");
            Err(Failure::new(format!("{}: {reason}", frame.ev), format!("{frame:?}")))
        }
        ("message" | "caught_up" | "typing" | "expiring" | "reconnect", _) => Ok(None),
        _ => Err(Failure::new("frame: not understood", format!("{frame:?}"))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Option<Accepted>, String> {
        answer("send", &parse(text).map_err(|failure| failure.kind)?).map_err(|failure| failure.kind)
    }

    #[test]
    fn an_ok_is_an_answer_and_events_are_read_past() {
        let ok = read(r#"{"ev":"ok","ref":10000000,"id":"1-2"}"#).expect("no failure").expect("an answer");
        assert_eq!((ok.reference, ok.id), (10_000_000, Some(Position { epoch: 1, seq: 2 })));
        assert!(read(r#"{"ev":"typing","channel":"a","from":"b"}"#).expect("no failure").is_none());
    }

    #[test]
    fn failures_are_named_after_what_was_done_and_what_came() {
        let expected = [
            (r#"{"ev":"error","ref":10000000,"code":"rate_limited","message":"slow \"down\""}"#, "send: rate_limited"),
            (r#"{"ev":"gap","channel":"a","reason":"trimmed","first":null,"last":null}"#, "gap: trimmed"),
            (r#"{"ev":"news"}"#, "frame: not understood"),
            ("{", "frame: not understood"),
        ];
        for (text, kind) in expected {
            assert_eq!(read(text).expect_err("a failure"), kind);
        }
    }
}
