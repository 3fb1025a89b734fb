//! Messages whose answers have not come yet. Answers come in the order of the commands, and so do the positions
//! of what one session sends; that is checked here.

use std::collections::VecDeque;

use crate::answer::Accepted;
use crate::failure::Failure;
use crate::latency::Recorder;
use crate::order::Clock;
use crate::wire::Position;

/// The `ref` of each, and when it was due.
#[derive(Default)]
pub(super) struct Outstanding {
    due: VecDeque<(u32, u64)>,
    last: Option<Position>,
}

impl Outstanding {
    /// One more is under way.
    pub(super) fn add(&mut self, reference: u32, due_ns: u64) {
        self.due.push_back((reference, due_ns));
    }

    /// How many are under way.
    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// Takes an answer and records how long after its due time it came.
    pub(super) fn answered(&mut self, accepted: Accepted, clock: Clock, latency: &mut Recorder) -> Result<(), Failure> {
        let next = self.due.pop_front();
        let due_ns = next.and_then(|(reference, due_ns)| (reference == accepted.reference).then_some(due_ns));
        let wrong = |kind| Failure::new(kind, format!("{accepted:?}, after {:?}, for {next:?}", self.last));
        let due_ns = due_ns.ok_or_else(|| wrong("answer: out of order"))?;
        if accepted.id.is_none() || accepted.id <= self.last {
            return Err(wrong("answer: position does not ascend"));
        }
        self.last = accepted.id;
        latency.record_ns(clock.now_ns().saturating_sub(due_ns));
        Ok(())
    }
}
