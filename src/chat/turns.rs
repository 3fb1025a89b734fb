//! Whose turn it is to be given what they missed: so many sessions at a time, the others in the order in which they came.

use std::sync::Arc;
use std::time::Duration;

use metrics::Gauge;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, oneshot};
use tokio::time::{Instant, timeout_at};
use tokio_util::task::TaskTracker;

use crate::config::Limit;
use crate::metrics::{Metrics, Waiting};

/// The longest turn. Who reads slowly has it only so long, and then stands at the end of the queue: so none of them
/// can keep others from what they missed.
const TURN: Duration = Duration::from_secs(1);

/// The queue; clones share it. As long as the number of sessions, which wait in it once each.
#[derive(Clone)]
pub(super) struct Turns {
    free: Option<Arc<Semaphore>>,
    metrics: Metrics,
    tasks: TaskTracker,
}

/// A session's turn. It ends when it is dropped, and after a second even if the session does not get around to that.
pub struct Turn {
    ends: Option<Instant>,
    _done: Option<oneshot::Sender<()>>,
}

impl Turn {
    /// Whether it goes on.
    pub(super) fn goes_on(&self) -> bool {
        self.ends.is_none_or(|ends| Instant::now() < ends)
    }
}

impl Turns {
    pub(super) fn new(limit: Limit, metrics: Metrics, tasks: TaskTracker) -> Self {
        let free = limit.max().map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS))));
        Self { free, metrics, tasks }
    }

    /// Waits for a turn; drop it to leave the queue.
    pub(super) async fn next(&self) -> Turn {
        let Some(free) = self.free.clone() else { return Turn { ends: None, _done: None } };
        let waiting = self.metrics.replays_waiting.clone();
        let (mut begin, begun) = oneshot::channel();
        let (done, is_done) = oneshot::channel();
        // A task of its own holds the turn, since a session that waits for its client's socket looks at nothing else.
        self.tasks.spawn(async move {
            let permit = tokio::select! {
                permit = take(free, &waiting) => permit,
                () = begin.closed() => return,
            };
            let ends = Instant::now() + TURN;
            if begin.send(ends).is_ok() {
                let _: Result<_, _> = timeout_at(ends, is_done).await;
            }
            drop(permit);
        });
        Turn { ends: begun.await.ok(), _done: Some(done) }
    }
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

    #[tokio::test]
    async fn turns_are_taken_in_the_order_of_asking() {
        let turns = turns(1);
        let first = turns.next().await;
        let (mut second, mut third) = (Box::pin(turns.next()), Box::pin(turns.next()));
        assert!((&mut second).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert!((&mut third).now_or_never().is_none());
        tokio::task::yield_now().await;
        let began = Instant::now();
        drop(first);
        let second = second.await;
        assert!((&mut third).now_or_never().is_none());
        drop(second);
        third.await;
        assert!(began.elapsed() < TURN, "a turn that is given back passes on at once");
    }

    #[tokio::test]
    async fn a_turn_that_nobody_ends_is_over_in_time() {
        let turns = turns(1);
        let (began, kept) = (Instant::now(), turns.next().await);
        let next = turns.next().await;
        assert!(began.elapsed() >= TURN, "{:?}", began.elapsed());
        assert!(!kept.goes_on() && next.goes_on());
    }

    #[tokio::test]
    async fn who_leaves_the_queue_has_no_turn() {
        let turns = turns(1);
        let kept = turns.next().await;
        assert!(turns.next().now_or_never().is_none(), "asked, and gone");
        tokio::task::yield_now().await;
        let next = turns.next();
        drop(kept);
        assert!(next.await.goes_on());
    }
}
