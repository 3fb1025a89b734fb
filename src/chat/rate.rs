//! How much came in this second: counted without a lock, so that all sessions of a user may share a count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The bits of the count; the window's number is above them.
const COUNT_BITS: u32 = 32;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;

/// What a user sends to this node.
#[derive(Debug, Default)]
pub struct UserRates {
    /// Commands and requests.
    pub commands: Rate,
    /// Bytes of frames.
    pub bytes: Rate,
}

/// Counts in windows of a second, from when it was made.
#[derive(Debug)]
pub struct Rate {
    began: Instant,
    /// The number of the window and what was counted in it, together: a new window cannot begin in between.
    state: AtomicU64,
}

impl Default for Rate {
    fn default() -> Self {
        Self { began: Instant::now(), state: AtomicU64::new(0) }
    }
}

impl Rate {
    /// Counts so many more: how many there are in this window now, and how long it lasts still.
    pub fn count(&self, more: usize) -> (usize, Duration) {
        self.count_at(more, self.began.elapsed())
    }

    fn count_at(&self, more: usize, elapsed: Duration) -> (usize, Duration) {
        let more = more as u64;
        let left = Duration::from_secs(elapsed.as_secs() + 1) - elapsed;
        let next = |state: u64| match (state >> COUNT_BITS, state & COUNT_MAX) {
            (window, count) if window >= elapsed.as_secs() => {
                (window << COUNT_BITS) | count.saturating_add(more).min(COUNT_MAX)
            }
            _ => (elapsed.as_secs() << COUNT_BITS) | more.min(COUNT_MAX),
        };
        let former = self.state.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |state| Some(next(state)));
        let count = next(former.unwrap_or_else(|state| state)) & COUNT_MAX;
        (usize::try_from(count).unwrap_or(usize::MAX), left)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_window_begins_anew_after_a_second() {
        let rate = Rate::default();
        let count_at = |ms| rate.count_at(1, Duration::from_millis(ms));
        assert_eq!(count_at(400), (1, Duration::from_millis(600)));
        assert_eq!(count_at(999), (2, Duration::from_millis(1)));
        assert_eq!(count_at(1_000), (1, Duration::from_secs(1)));
        assert_eq!(count_at(999).0, 2, "another thread was here first: the window is not set back");
        let all = usize::try_from(COUNT_MAX).unwrap();
        assert_eq!(
            rate.count_at(usize::MAX, Duration::from_secs(1)).0,
            all,
            "it does not run over into the next window"
        );
        assert_eq!(count_at(2_000).0, 1);
    }

    #[test]
    fn no_count_is_lost_between_threads() {
        let rate = Rate::default();
        let counted = || (0..1_000).map(|_| rate.count_at(1, Duration::ZERO).0).collect::<Vec<_>>();
        let mut all: Vec<usize> = std::thread::scope(|scope| {
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(counted)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        all.sort_unstable();
        assert!(all.into_iter().eq(1..=4_000));
    }
}
