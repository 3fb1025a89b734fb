//! What a node remembers of a channel's log, so that it need not ask.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// The epoch of a channel's log that this node saw last, and when it asked that the log's expiry be put off. No part of the
/// channel's definition: all are equal.
#[derive(Debug, Default)]
pub struct LastEpoch(Mutex<Option<(u64, Instant)>>);

impl LastEpoch {
    /// The epoch and the time, where a message was written by this node.
    pub fn get(&self) -> Option<(u64, Instant)> {
        *self.lock()
    }

    /// Remembers both.
    pub fn set(&self, epoch: u64, refreshed_at: Instant) {
        *self.lock() = Some((epoch, refreshed_at));
    }

    fn lock(&self) -> MutexGuard<'_, Option<(u64, Instant)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Clone for LastEpoch {
    fn clone(&self) -> Self {
        Self(Mutex::new(self.get()))
    }
}

impl PartialEq for LastEpoch {
    fn eq(&self, _: &Self) -> bool {
        true
    }
}

impl Eq for LastEpoch {}
