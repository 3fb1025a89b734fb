//! One wheel of timers for all sessions: pings, deadlines, expiring tokens.

use std::sync::{Arc, Mutex, MutexGuard, Weak};
use std::time::Duration;

use slab::Slab;
use tokio::time::{MissedTickBehavior, interval};

use crate::hub::Wake;

/// How fine the wheel is.
const STEP: Duration = Duration::from_millis(100);
/// The steps of one turn; what lies further ahead is looked at again after one.
const STEPS: usize = 512;

/// The longest time that can be asked for.
pub(super) const HORIZON: Duration = Duration::from_millis(100 * (STEPS as u64 - 3));

/// Wakes sessions at the time that they asked for, up to two steps late. Clones share it.
#[derive(Clone)]
pub(super) struct Timer {
    wheel: Arc<Mutex<Wheel>>,
}

struct Wheel {
    slots: Vec<Slab<Weak<Wake>>>,
    now: usize,
}

/// A tick that was asked for; dropping it takes it back, so that the wheel keeps nothing of a session that is over.
pub(super) struct Tick {
    timer: Timer,
    wake: Arc<Wake>,
    slot: usize,
    key: usize,
}

impl Drop for Tick {
    fn drop(&mut self) {
        let mut wheel = self.timer.wheel();
        let slot = &mut wheel.slots[self.slot];
        // After its time, the place may be another's.
        if slot.get(self.key).is_some_and(|wake| std::ptr::eq(wake.as_ptr(), Arc::as_ptr(&self.wake))) {
            slot.remove(self.key);
        }
        if slot.is_empty() {
            *slot = Slab::new();
        }
    }
}

impl Timer {
    pub(super) fn new() -> Self {
        Self { wheel: Arc::new(Mutex::new(Wheel { slots: vec![Slab::new(); STEPS], now: 0 })) }
    }

    /// Ticks the session after the time, [`HORIZON`] at most.
    pub(super) fn tick_after(&self, wake: &Arc<Wake>, after: Duration) -> Tick {
        // One more, since the step that is under way may be almost over: never too early.
        let steps = (after.as_millis().div_ceil(STEP.as_millis()) + 1).min(STEPS as u128 - 1) as usize;
        let mut wheel = self.wheel();
        let slot = (wheel.now + steps) % STEPS;
        let key = wheel.slots[slot].insert(Arc::downgrade(wake));
        Tick { timer: self.clone(), wake: wake.clone(), slot, key }
    }

    /// Turns the wheel until it is dropped.
    pub(super) async fn run(self) {
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            steps.tick().await;
            let due = {
                let mut wheel = self.wheel();
                wheel.now = (wheel.now + 1) % STEPS;
                let now = wheel.now;
                std::mem::take(&mut wheel.slots[now])
            };
            due.iter().filter_map(|(_, wake)| wake.upgrade()).for_each(|wake| wake.tick());
        }
    }

    fn wheel(&self) -> MutexGuard<'_, Wheel> {
        self.wheel.lock().expect("nothing panics while it holds the wheel")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_tick_comes_in_time_and_one_that_is_taken_back_leaves_nothing() {
        let (timer, wake) = (Timer::new(), Arc::<Wake>::default());
        let began = tokio::time::Instant::now();
        let kept = timer.tick_after(&wake, Duration::from_millis(250));
        drop(timer.tick_after(&wake, Duration::from_millis(50)));
        tokio::select! {
            () = timer.clone().run() => {}
            () = wake.woken() => {}
        }
        let after = began.elapsed();
        assert!(after >= Duration::from_millis(250), "{after:?}");
        // Its place is another's by now.
        let wake_of_other = Arc::<Wake>::default();
        let other = timer.tick_after(&wake_of_other, Duration::from_millis(100 * (STEPS as u64 - 1)));
        let held = |timer: &Timer| timer.wheel().slots.iter().map(Slab::len).sum::<usize>();
        drop(kept);
        assert_eq!(held(&timer), 1);
        drop(other);
        assert_eq!(held(&timer), 0);
    }
}
