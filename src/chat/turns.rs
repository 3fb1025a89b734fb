//! Whose turn it is to be given what they missed: so many sessions at a time, the others in the order in which they came.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::{CancellationToken, DropGuard};
use tokio_util::task::TaskTracker;

use crate::config::Limit;
use crate::metrics::{Metrics, Waiting};

/// The longest turn. Who needs more stands at the end of the queue again.
const TURN: Duration = Duration::from_secs(1);

/// The queue; clones share it. As long as the number of sessions, which wait in it once each.
#[derive(Clone)]
pub(super) struct Turns {
    free: Option<Arc<Semaphore>>,
    metrics: Metrics,
    tasks: TaskTracker,
}

/// What one session has of them: nothing, a place in the queue, or a turn. It gives back what it has when it is dropped.
pub struct Turn {
    turns: Turns,
    place: Mutex<Option<Place>>,
}

/// In the queue, or at its front until the end of the turn.
struct Place {
    ends: Option<Instant>,
    _given_back: DropGuard,
}

impl Turn {
    /// Waits for a turn, if this is none. Cancel-safe: what was waited counts.
    ///
    /// Where the turn is [passed on](Self::pass_on) meanwhile, it is waited for from the end of the queue again.
    pub(super) async fn wait(&self) {
        let Some(free) = &self.turns.free else { return };
        while !self.goes_on() {
            let given_back = CancellationToken::new();
            *self.place() = Some(Place { ends: None, _given_back: given_back.clone().drop_guard() });
            let (begin, begun) = oneshot::channel();
            let waiting = self.turns.metrics.replays_waiting.clone();
            // A task of its own holds the turn: the session may be waiting for something else.
            self.turns.tasks.spawn(hold(free.clone(), waiting, begin, given_back));
            if let (Ok(ends), Some(place)) = (begun.await, self.place().as_mut()) {
                place.ends = Some(ends);
            }
        }
    }

    /// Gives back the turn, or the place in the queue, where there is one.
    pub fn pass_on(&self) {
        self.place().take();
    }

    fn goes_on(&self) -> bool {
        self.place().as_ref().is_some_and(|place| place.ends.is_some_and(|ends| Instant::now() < ends))
    }

    fn place(&self) -> MutexGuard<'_, Option<Place>> {
        self.place.lock().expect("nothing panics while it holds the place")
    }
}

impl Turns {
    pub(super) fn new(limit: Limit, metrics: Metrics, tasks: TaskTracker) -> Self {
        let free = limit.max().map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))));
        Self { free, metrics, tasks }
    }

    /// Of a session, that has none yet.
    pub(super) fn turn(&self) -> Turn {
        Turn { turns: self.clone(), place: Mutex::default() }
    }
}

/// Waits in the queue, then holds the turn until it is given back or over.
async fn hold(free: Arc<Semaphore>, waiting: Gauge, begin: oneshot::Sender<Instant>, given_back: CancellationToken) {
    let permit = tokio::select! {
        permit = take(free, &waiting) => permit,
        () = given_back.cancelled() => return,
    };
    let ends = Instant::now() + TURN;
    if begin.send(ends).is_ok() {
        let _: Result<_, _> = timeout_at(ends, given_back.cancelled()).await;
    }
    drop(permit);
}

/// A free place, in the order of the calls.
async fn take(free: Arc<Semaphore>, waiting: &Gauge) -> OwnedSemaphorePermit {
    if let Ok(permit) = free.clone().try_acquire_owned() {
        return permit;
    }
    let _waiting = Waiting::new(waiting);
    free.acquire_owned().await.expect("the semaphore is never closed")
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;

    fn turns(max: usize) -> Turns {
        Turns::new(Limit::new(max), Metrics::unobserved(), TaskTracker::new())
    }

    /// Lets the tasks that hold the turns do what they can.
    async fn settle() {
        for _ in 0..10 {
            tokio::task::yield_now().await;
        }
    }

    #[tokio::test]
    async fn turns_are_taken_in_the_order_of_asking() {
        let turns = turns(1);
        let [first, second, third] = [(); 3].map(|()| turns.turn());
        first.wait().await;
        let (mut waits_second, mut waits_third) = (Box::pin(second.wait()), Box::pin(third.wait()));
        assert!((&mut waits_second).now_or_never().is_none());
        settle().await;
        assert!((&mut waits_third).now_or_never().is_none());
        settle().await;
        let began = Instant::now();
        drop(first);
        waits_second.await;
        assert!((&mut waits_third).now_or_never().is_none());
        second.pass_on();
        waits_third.await;
        assert!(began.elapsed() < TURN, "a turn that is given back passes on at once");
    }

    #[tokio::test]
    async fn a_turn_that_nobody_ends_is_over_in_time() {
        let turns = turns(1);
        let (kept, next) = (turns.turn(), turns.turn());
        let began = Instant::now();
        kept.wait().await;
        assert!(kept.wait().now_or_never().is_some(), "it goes on");
        next.wait().await;
        assert!(began.elapsed() >= TURN, "{:?}", began.elapsed());
        assert!(!kept.goes_on() && next.goes_on());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_has_no_turn() {
        let turns = turns(1);
        let [kept, gone, next] = [(); 3].map(|()| turns.turn());
        kept.wait().await;
        assert!(gone.wait().now_or_never().is_none());
        settle().await;
        let mut waits = Box::pin(next.wait());
        assert!((&mut waits).now_or_never().is_none());
        settle().await;
        drop(gone);
        kept.pass_on();
        waits.await;
    }

    #[tokio::test]
    async fn who_passes_on_while_waiting_waits_from_the_end_again() {
        let turns = turns(1);
        let [kept, busy, next] = [(); 3].map(|()| turns.turn());
        kept.wait().await;
        let (mut waits_busy, mut waits_next) = (Box::pin(busy.wait()), Box::pin(next.wait()));
        assert!((&mut waits_busy).now_or_never().is_none());
        settle().await;
        assert!((&mut waits_next).now_or_never().is_none());
        settle().await;
        // Its client has to be waited for: nobody polls it, and it keeps nobody from their turn.
        busy.pass_on();
        kept.pass_on();
        waits_next.await;
        assert!((&mut waits_busy).now_or_never().is_none());
        settle().await;
        next.pass_on();
        waits_busy.await;
        assert!(busy.goes_on());
    }
}
