//! The yardstick's frames: canned ones out, and in only as much as its own client needs. Pure: no I/O.

use bytes::Bytes;

/// Where `ref` stands in a command of the load tool, and how long it is (see `wire`).
const REF_AT: std::ops::Range<usize> = 7..15;
/// Where the first letter of `op` stands.
const OP_AT: usize = 22;
const CHANNEL_KEY: &[u8] = b"\",\"channel\":\"";
const TEXT_KEY: &[u8] = b"\",\"text\":\"";
/// The longest payload that a client may send.
const PAYLOAD_BYTES_MAX: usize = 64 * 1024;

/// What stands first in the bytes of a client.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Incoming<'a> {
    Text(&'a [u8]),
    Close,
    /// Not all there yet.
    Partial,
    /// Nothing that the load tool would send.
    Foreign,
}

/// Unmasks the first frame in place; returns it with its length on the wire.
pub(super) fn incoming(bytes: &mut [u8]) -> (Incoming<'_>, usize) {
    let (header, length) = match *bytes {
        [_, len, ..] if len & 0x7f < 126 => (2, usize::from(len & 0x7f)),
        [_, len, high, low, ..] if len & 0x7f == 126 => (4, usize::from(u16::from_be_bytes([high, low]))),
        [_, 255, ..] => return (Incoming::Foreign, 0),
        _ => return (Incoming::Partial, 0),
    };
    if length > PAYLOAD_BYTES_MAX || bytes[1] & 0x80 == 0 {
        return (Incoming::Foreign, 0);
    }
    let opcode = bytes[0];
    let end = header + 4 + length;
    let Some(frame) = bytes.get_mut(header..end) else {
        return (Incoming::Partial, 0);
    };
    let (mask, payload) = frame.split_at_mut(4);
    let mask = [mask[0], mask[1], mask[2], mask[3]];
    for (byte, mask) in payload.iter_mut().zip(mask.iter().cycle()) {
        *byte ^= mask;
    }
    let what = match opcode {
        0x81 => Incoming::Text(payload),
        0x88 => Incoming::Close,
        _ => Incoming::Foreign,
    };
    (what, end)
}

/// A command of the load tool, cut out of its text at known places.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Command<'a> {
    Join { reference: &'a [u8], channel: &'a [u8] },
    Leave { reference: &'a [u8], channel: &'a [u8] },
    Send { reference: &'a [u8], channel: &'a [u8], text: &'a [u8] },
}

impl<'a> Command<'a> {
    /// Nothing, where it is not of the load tool's form.
    pub(super) fn cut(payload: &'a [u8]) -> Option<Self> {
        let reference = payload.get(REF_AT)?;
        let op = *payload.get(OP_AT)?;
        let op_len = if op == b'l' { 5 } else { 4 };
        let (channel, rest) = value(payload.get(OP_AT + op_len..)?, CHANNEL_KEY)?;
        match op {
            b'j' => Some(Self::Join { reference, channel }),
            b'l' => Some(Self::Leave { reference, channel }),
            b's' => Some(Self::Send { reference, channel, text: value(rest, TEXT_KEY)?.0 }),
            _ => None,
        }
    }
}

/// The string behind `key`, and what follows, from the closing quote on.
fn value<'a>(bytes: &'a [u8], key: &[u8]) -> Option<(&'a [u8], &'a [u8])> {
    let rest = bytes.strip_prefix(key)?;
    Some(rest.split_at(rest.iter().position(|byte| *byte == b'"')?))
}

/// The answer to a close frame.
pub(super) const CLOSE: Bytes = Bytes::from_static(&[0x88, 2, 0x03, 0xe8]);

/// The first frame of a connection.
pub(super) fn welcome() -> Bytes {
    text(&[br#"{"ev":"welcome","session":"0","user":"bench","node":"yardstick","server":"0"}"#])
}

/// The answer to `join`.
pub(super) fn joined(reference: &[u8]) -> Bytes {
    text(&[br#"{"ev":"ok","ref":"#, reference, br#","first":null,"last":null}"#])
}

/// The answer to `leave`.
pub(super) fn left(reference: &[u8]) -> Bytes {
    text(&[br#"{"ev":"ok","ref":"#, reference, b"}"])
}

/// The answer to `send`.
pub(super) fn sent(reference: &[u8], seq: u64) -> Bytes {
    let mut digits = itoa::Buffer::new();
    let seq = digits.format(seq).as_bytes();
    text(&[br#"{"ev":"ok","ref":"#, reference, br#","id":"1-"#, seq, br#"","at":1763923812000}"#])
}

/// A message, framed once for all.
pub(super) fn message(channel: &[u8], seq: u64, body: &[u8]) -> Bytes {
    let mut digits = itoa::Buffer::new();
    let seq = digits.format(seq).as_bytes();
    text(&[
        br#"{"ev":"message","channel":""#,
        channel,
        br#"","id":"1-"#,
        seq,
        br#"","from":"bench-1-0","at":1763923812000,"text":""#,
        body,
        br#""}"#,
    ])
}

/// An unmasked text frame.
fn text(parts: &[&[u8]]) -> Bytes {
    let length: usize = parts.iter().map(|part| part.len()).sum();
    let mut frame = Vec::with_capacity(length + 4);
    frame.push(0x81);
    match u8::try_from(length) {
        Ok(short) if short < 126 => frame.push(short),
        _ => {
            let length = u16::try_from(length).expect("a text of the load tool has at most 8 KiB");
            frame.push(126);
            frame.extend_from_slice(&length.to_be_bytes());
        }
    }
    parts.iter().for_each(|part| frame.extend_from_slice(part));
    frame.into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::wire;

    fn masked(opcode: u8, payload: &[u8]) -> Vec<u8> {
        let length = u8::try_from(payload.len()).expect("short");
        let mask = [1, 2, 3, 4];
        let mut frame = vec![opcode, 0x80 | length];
        frame.extend(mask);
        frame.extend(payload.iter().zip(mask.iter().cycle()).map(|(byte, mask)| byte ^ mask));
        frame
    }

    #[test]
    fn a_masked_frame_is_read_when_it_is_all_there() {
        let frame = masked(0x81, b"hello");
        for cut in 0..frame.len() {
            assert_eq!(incoming(&mut frame[..cut].to_vec()), (Incoming::Partial, 0), "{cut} bytes");
        }
        assert_eq!(incoming(&mut frame.clone()), (Incoming::Text(b"hello"), frame.len()));
        assert_eq!(incoming(&mut masked(0x88, b"")).0, Incoming::Close);
        assert_eq!(incoming(&mut masked(0x82, b"x")).0, Incoming::Foreign);
    }

    #[test]
    fn the_load_tools_commands_are_cut_in_the_right_places() {
        let (reference, channel) = (b"10000000".as_slice(), b"tea".as_slice());
        let join = wire::join(wire::REF_FIRST, "tea", None);
        assert_eq!(Command::cut(join.as_bytes()), Some(Command::Join { reference, channel }));
        let leave = wire::leave(wire::REF_FIRST, "tea");
        assert_eq!(Command::cut(leave.as_bytes()), Some(Command::Leave { reference, channel }));
        for cid in [None, Some("c1")] {
            let send = wire::send(wire::REF_FIRST, "tea", "hello", cid);
            let expected = Command::Send { reference, channel, text: b"hello" };
            assert_eq!(Command::cut(send.as_bytes()), Some(expected));
        }
        assert_eq!(Command::cut(b"{}"), None);
    }

    #[test]
    fn the_load_tool_understands_the_answers() {
        let frame = message(b"tea", 7, b"0000000001-0000000000000002");
        let delivery = wire::Scan::default()
            .delivery(std::str::from_utf8(&frame[2..]).expect("text"))
            .or_else(|| wire::Scan::default().delivery(std::str::from_utf8(&frame[4..]).expect("text")));
        assert_eq!(delivery.expect("a delivery").position, wire::Position { epoch: 1, seq: 7 });
        let ok = sent(b"10000000", 7);
        let ok: wire::Frame<'_> = serde_json::from_slice(&ok[2..]).expect("JSON");
        assert_eq!((ok.ev, ok.reference, ok.id), ("ok", Some(10_000_000), Some("1-7")));
    }
}
