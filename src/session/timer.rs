//! One wheel of timers for all sessions: pings, deadlines, expiring tokens.

use std::sync::{Arc, Mutex, Weak};
use std::time::Duration;

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
    slots: Vec<Vec<Weak<Wake>>>,
    now: usize,
}

impl Timer {
    pub(super) fn new() -> Self {
        Self { wheel: Arc::new(Mutex::new(Wheel { slots: vec![Vec::new(); STEPS], now: 0 })) }
    }

    /// Ticks the session after the time, [`HORIZON`] at most.
    pub(super) fn tick_after(&self, wake: &Arc<Wake>, after: Duration) {
        // One more, since the step that is under way may be almost over: never too early.
        let steps = (after.as_millis().div_ceil(STEP.as_millis()) + 1).min(STEPS as u128 - 1) as usize;
        let mut wheel = self.wheel.lock().expect("nothing panics while it holds the wheel");
        let slot = (wheel.now + steps) % STEPS;
        wheel.slots[slot].push(Arc::downgrade(wake));
    }

    /// Turns the wheel until it is dropped.
    pub(super) async fn run(self) {
        let mut steps = interval(STEP);
        steps.set_missed_tick_behavior(MissedTickBehavior::Burst);
        loop {
            steps.tick().await;
            let due = {
                let mut wheel = self.wheel.lock().expect("nothing panics while it holds the wheel");
                wheel.now = (wheel.now + 1) % STEPS;
                let now = wheel.now;
                std::mem::take(&mut wheel.slots[now])
            };
            due.iter().filter_map(Weak::upgrade).for_each(|wake| wake.tick());
        }
    }
}
