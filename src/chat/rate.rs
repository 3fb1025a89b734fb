//! How much a user sends: counted without a lock, so that all sessions may share a count.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::time::Instant;

/// The bits of the count; the window's number is above them.
const COUNT_BITS: u32 = 32;
const COUNT_MAX: u64 = (1 << COUNT_BITS) - 1;
/// What may come at once, of a pace: as much as is due in this time.
const BURST: Duration = Duration::from_millis(100);

/// What a user sends to this node.
#[derive(Debug, Default)]
pub struct UserRates {
    /// Commands and requests.
    pub commands: Rate,
    /// Bytes of frames.
    pub bytes: Pace,
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

/// What is taken is a debt that time pays off, so that nothing comes in bursts as it does with a [`Rate`]: the virtual
/// scheduling of the generic cell rate algorithm (ITU-T I.371, annex A).
#[derive(Debug)]
pub struct Pace {
    began: Instant,
    /// When all is paid: nanoseconds from when it began.
    paid_ns: AtomicU64,
}

impl Default for Pace {
    fn default() -> Self {
        Self { began: Instant::now(), paid_ns: AtomicU64::new(0) }
    }
}

impl Pace {
    /// Takes so many more, of `per_second`: how long nothing further should be taken.
    pub fn take(&self, more: usize, per_second: usize) -> Option<Duration> {
        self.take_at(more, per_second, self.began.elapsed())
    }

    fn take_at(&self, more: usize, per_second: usize, elapsed: Duration) -> Option<Duration> {
        let nanos = |time: Duration| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
        let now = nanos(elapsed);
        let cost = nanos(Duration::from_secs(1).mul_f64(more as f64 / per_second.max(1) as f64));
        let next = |paid: u64| paid.max(now).saturating_add(cost);
        let former = self.paid_ns.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |paid| Some(next(paid)));
        let debt = next(former.unwrap_or_else(|paid| paid)) - now;
        Duration::from_nanos(debt).checked_sub(BURST).filter(|pause| !pause.is_zero())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pace_has_no_bursts() {
        let pace = Pace::default();
        let mut now = Duration::from_secs(7);
        let mut taken = Vec::new();
        while now < Duration::from_secs(17) {
            taken.push(now);
            now += pace.take_at(50, 1_000, now).unwrap_or_default();
        }
        let most = taken.windows(4).all(|few| few[3] - few[0] > Duration::from_millis(49));
        assert!(most, "50 are due in 50 ms, and 100 may come at once: {taken:?}");
        assert!((200..=203).contains(&taken.len()), "{} of 50 in ten seconds, at 1,000 a second", taken.len());
        assert_eq!(pace.take_at(0, 1_000, now + BURST), None, "what was paid is forgotten");
        let debt = pace.take_at(5_000, 1_000, now + Duration::from_secs(1));
        assert_eq!(debt, Some(Duration::from_millis(4_900)), "what was not used before is no credit");
        assert_eq!(pace.take_at(0, 1_000, now + Duration::from_secs(3)), Some(Duration::from_millis(2_900)));
    }

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
