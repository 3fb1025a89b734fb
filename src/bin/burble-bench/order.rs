//! What each listener was promised: every message, once, in order, and no hole in `seq`. Pure: no I/O.

use std::time::Instant;

use crate::wire::Position;

/// The run's own clock, in nanoseconds; it goes into the texts, so one process both writes and reads it.
#[derive(Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Starts at zero, now.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Nanoseconds since the start.
    pub(crate) fn now_ns(self) -> u64 {
        u64::try_from(self.0.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

/// What the text of a message tells: which one of its channel it is, and when it was due.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    pub(crate) index: u32,
    pub(crate) due_ns: u64,
}

const INDEX_DIGITS: usize = 10;
const DUE_DIGITS: usize = 16;
const STAMP_BYTES: usize = INDEX_DIGITS + 1 + DUE_DIGITS;

impl Stamp {
    /// A text of `size` bytes (no less than the stamp itself takes) that begins with the stamp.
    pub(crate) fn text(self, size: u32) -> String {
        let mut text = format!("{:010}-{:016}", self.index, self.due_ns);
        let padding = (size as usize).saturating_sub(text.len());
        text.extend(std::iter::repeat_n('x', padding));
        text
    }

    /// The stamp at the beginning of a text.
    pub(crate) fn read(text: &str) -> Option<Self> {
        let stamp = text.as_bytes().get(..STAMP_BYTES)?;
        let index = u32::try_from(number(&stamp[..INDEX_DIGITS])?).ok()?;
        Some(Self { index, due_ns: number(&stamp[INDEX_DIGITS + 1..])? })
    }
}

/// At most 16 digits, so it cannot overflow.
fn number(digits: &[u8]) -> Option<u64> {
    digits.iter().try_fold(0_u64, |value, digit| digit.is_ascii_digit().then(|| value * 10 + u64::from(digit - b'0')))
}

/// What one listener has seen of one channel. `senders` take turns: the sender `s` of `n` sends the indices
/// `s, s + n, s + 2n, …`, and what one session sends is carried out in order.
pub(crate) struct Order {
    last: Option<Position>,
    next_index: Vec<u32>,
}

impl Order {
    /// Nothing seen yet; the next position follows `last` where that is known.
    pub(crate) fn new(senders: u32, last: Option<Position>) -> Self {
        Self { last, next_index: (0..senders).collect() }
    }

    /// Takes the next event, or says what promise it breaks.
    pub(crate) fn accept(&mut self, position: Position, stamp: Stamp) -> Result<(), &'static str> {
        let before = self.last.replace(position);
        if let Some(before) = before {
            let dense = position.epoch == before.epoch && position.seq == before.seq + 1;
            if !dense {
                return Err(what_is_wrong(before, position));
            }
        }
        let senders = u32::try_from(self.next_index.len()).expect("made from a u32");
        let expected = &mut self.next_index[(stamp.index % senders) as usize];
        let wanted = std::mem::replace(expected, stamp.index.saturating_add(senders));
        match stamp.index.cmp(&wanted) {
            std::cmp::Ordering::Equal => Ok(()),
            std::cmp::Ordering::Less => Err("order: message twice, or late"),
            std::cmp::Ordering::Greater => Err("order: message missing"),
        }
    }

    /// Begins the indices anew; positions go on.
    pub(crate) fn restart(&mut self) {
        self.next_index = (0..).take(self.next_index.len()).collect();
    }
}

fn what_is_wrong(before: Position, now: Position) -> &'static str {
    match () {
        () if now.epoch != before.epoch => "order: epoch changed without a gap",
        () if now == before => "order: position twice",
        () if now < before => "order: position went back",
        () => "order: hole in seq",
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u64) -> Position {
        Position { epoch: 9, seq }
    }

    fn stamp(index: u32) -> Stamp {
        Stamp { index, due_ns: 0 }
    }

    #[test]
    fn a_stamp_survives_its_text() {
        let stamp = Stamp { index: 42, due_ns: 1_234_567_890 };
        assert_eq!(stamp.text(64).len(), 64);
        assert_eq!(Stamp::read(&stamp.text(32)), Some(stamp));
        assert_eq!(Stamp::read("hello"), None);
        assert_eq!(Stamp::read("000000000x-0000000000000000"), None);
    }

    #[test]
    fn what_is_in_order_is_accepted() {
        let mut order = Order::new(2, None);
        for (seq, index) in [(5, 0), (6, 2), (7, 1), (8, 4), (9, 3)] {
            assert_eq!(order.accept(at(seq), stamp(index)), Ok(()));
        }
        order.restart();
        assert_eq!(order.accept(at(10), stamp(1)), Ok(()));
    }

    #[test]
    fn every_broken_promise_has_its_name() {
        let broken = [
            (at(7), 1, "order: hole in seq"),
            (at(5), 1, "order: position twice"),
            (at(4), 1, "order: position went back"),
            (Position { epoch: 10, seq: 0 }, 1, "order: epoch changed without a gap"),
            (at(6), 0, "order: message twice, or late"),
            (at(6), 2, "order: message missing"),
        ];
        for (position, index, name) in broken {
            let mut order = Order::new(1, None);
            order.accept(at(5), stamp(0)).expect("the first is in order");
            assert_eq!(order.accept(position, stamp(index)), Err(name));
        }
    }

    #[test]
    fn after_a_known_position_comes_its_successor() {
        assert_eq!(Order::new(1, Some(at(3))).accept(at(4), stamp(0)), Ok(()));
        assert_eq!(Order::new(1, Some(at(3))).accept(at(5), stamp(0)), Err("order: hole in seq"));
    }
}
