//! The newest frames of one channel: a contiguous piece of its log, encoded once, read by many cursors.

use std::cmp::Ordering;
use std::collections::VecDeque;

use tokio_tungstenite::tungstenite::Utf8Bytes;

use crate::model::{Position, TimeMs};

/// The most frames of a ring; whoever is further behind reads the log.
const RING_FRAMES_MAX: usize = 256;
/// The most bytes of a ring's frames; the newest frame stays in any case.
const RING_BYTES_MAX: usize = 256 * 1024;

/// A message as every session writes it.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Where it stands in the log.
    pub position: Position,
    /// When the log took it.
    pub at: TimeMs,
    /// The text of the WebSocket frame.
    pub text: Utf8Bytes,
}

/// A contiguous run of frames. Anything that does not follow begins a new run.
#[derive(Default)]
pub(super) struct Ring {
    /// The position that the first frame follows, or, without frames, the head of the log; `None`: not known.
    base: Option<Position>,
    frames: VecDeque<Frame>,
    bytes: usize,
}

/// Where a cursor stands to a ring.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// The frames from this index on are what comes next.
    Next(usize),
    /// The cursor stands at the head, or the ring knows of nothing behind it.
    Head,
    /// What comes next is not here.
    Elsewhere,
}

impl Ring {
    /// Adds the next frame. One that is here already is dropped; one that does not follow begins the ring anew.
    pub(super) fn push(&mut self, frame: Frame) -> bool {
        match self.head() {
            Some(head) if frame.position <= head => return false,
            Some(head) if frame.position.follows(head) => {}
            // The first entry of a log that was empty.
            Some(Position::BEGINNING) if frame.position.seq == 0 => {}
            _ => self.begin_before(frame.position),
        }
        self.bytes += frame.text.len();
        self.frames.push_back(frame);
        while self.frames.len() > RING_FRAMES_MAX || (self.bytes > RING_BYTES_MAX && self.frames.len() > 1) {
            let oldest = self.frames.pop_front().expect("the ring is not empty");
            self.bytes -= oldest.text.len();
            self.base = Some(oldest.position);
        }
        true
    }

    /// The head of the log, as far as it is known.
    pub(super) fn head(&self) -> Option<Position> {
        self.frames.back().map(|frame| frame.position).or(self.base)
    }

    /// Takes note of the head that the log told, where nothing is known yet.
    pub(super) fn learn(&mut self, head: Position) {
        if self.head().is_none() {
            self.base = Some(head);
        }
    }

    /// Keeps of what there is, and of what comes, the head alone. Tells how many bytes are given back.
    pub(super) fn forget_frames(&mut self) -> usize {
        self.base = self.head();
        self.frames = VecDeque::new();
        std::mem::take(&mut self.bytes)
    }

    /// Takes note of a frame that is not kept.
    pub(super) fn pass(&mut self, position: Position) {
        self.forget_frames();
        self.base = Some(position);
    }

    /// Where what follows the cursor is.
    pub(super) fn find(&self, cursor: Position) -> Found {
        let len = self.frames.len();
        // A run is dense and of one epoch, so a position tells its place.
        let next =
            self.frames.front().map_or(0, |Frame { position: first, .. }| match cursor.epoch.cmp(&first.epoch) {
                Ordering::Less => 0,
                Ordering::Equal => cursor.seq.saturating_add(1).saturating_sub(first.seq).min(len as u64) as usize,
                Ordering::Greater => len,
            });
        let contiguous = match next {
            0 => self.base == Some(cursor),
            next => self.frames[next - 1].position == cursor,
        };
        match contiguous {
            true if next < len => Found::Next(next),
            true => Found::Head,
            // Ahead of all that came through the feed so far.
            false if next == len && self.base.is_none_or(|base| base <= cursor) => Found::Head,
            false => Found::Elsewhere,
        }
    }

    /// What the frames hold.
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }

    /// The frames from an index on.
    pub(super) fn from(&self, index: usize) -> impl Iterator<Item = &Frame> {
        self.frames.range(index..)
    }

    fn begin_before(&mut self, position: Position) {
        self.frames.clear();
        self.bytes = 0;
        self.base = position.seq.checked_sub(1).map(|seq| Position { seq, ..position });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(epoch: u64, seq: u64) -> Position {
        Position { epoch, seq }
    }

    fn frame(position: Position) -> Frame {
        Frame { position, at: 0, text: "x".into() }
    }

    fn next(ring: &Ring, cursor: Position) -> Vec<Position> {
        match ring.find(cursor) {
            Found::Next(index) => ring.from(index).map(|frame| frame.position).collect(),
            Found::Head => Vec::new(),
            Found::Elsewhere => vec![Position::BEGINNING],
        }
    }

    #[test]
    fn a_cursor_gets_what_follows_it_or_is_sent_to_the_log() {
        let mut ring = Ring::default();
        assert_eq!(ring.find(at(1, 4)), Found::Head);
        for seq in 5..8 {
            assert!(ring.push(frame(at(1, seq))));
        }
        assert!(!ring.push(frame(at(1, 6))), "what is here already is dropped");
        assert_eq!(next(&ring, at(1, 4)), [at(1, 5), at(1, 6), at(1, 7)]);
        assert_eq!(next(&ring, at(1, 6)), [at(1, 7)]);
        assert_eq!(ring.find(at(1, 7)), Found::Head);
        assert_eq!(ring.find(at(1, 3)), Found::Elsewhere);
        assert_eq!(ring.find(at(0, 9)), Found::Elsewhere);
    }

    #[test]
    fn a_hole_or_a_new_epoch_begins_the_ring_anew() {
        let mut ring = Ring::default();
        ring.push(frame(at(1, 0)));
        ring.push(frame(at(1, 2)));
        assert_eq!(ring.find(at(1, 0)), Found::Elsewhere);
        assert_eq!(next(&ring, at(1, 1)), [at(1, 2)]);
        ring.push(frame(at(2, 0)));
        assert_eq!(ring.find(at(1, 2)), Found::Elsewhere, "the log tells of the gap between epochs");
    }

    #[test]
    fn the_first_entry_of_an_empty_log_follows_the_beginning() {
        let mut ring = Ring::default();
        ring.learn(Position::BEGINNING);
        assert_eq!(ring.find(Position::BEGINNING), Found::Head);
        ring.push(frame(at(7, 0)));
        assert_eq!(next(&ring, Position::BEGINNING), [at(7, 0)]);
    }

    #[test]
    fn a_ring_without_frames_knows_its_head_still() {
        let mut ring = Ring::default();
        ring.push(frame(at(1, 0)));
        assert_eq!((ring.forget_frames(), ring.bytes(), ring.head()), (1, 0, Some(at(1, 0))));
        ring.pass(at(1, 1));
        assert_eq!((ring.find(at(1, 1)), ring.find(at(1, 0))), (Found::Head, Found::Elsewhere));
        ring.push(frame(at(1, 2)));
        assert_eq!(next(&ring, at(1, 1)), [at(1, 2)]);
    }

    #[test]
    fn a_ring_forgets_the_oldest_and_says_so() {
        let mut ring = Ring::default();
        for seq in 0..=RING_FRAMES_MAX as u64 {
            ring.push(frame(at(1, seq)));
        }
        assert_eq!(ring.frames.len(), RING_FRAMES_MAX);
        assert_eq!(next(&ring, at(1, 0)).len(), RING_FRAMES_MAX);
        ring.push(frame(at(1, RING_FRAMES_MAX as u64 + 1)));
        assert_eq!(ring.find(at(1, 0)), Found::Elsewhere);
    }
}
