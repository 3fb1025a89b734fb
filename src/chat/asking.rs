//! Reads that many ask for at a time, made for all of them: one is under way, and whoever asks meanwhile waits for the
//! next one, since nobody may be given what was read before they asked.

use std::collections::HashMap;
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard};

use tokio::sync::oneshot;
use tokio_util::task::TaskTracker;

/// Who waits for a read that has not begun, by what they ask for; an entry for as long as there is a task that reads it.
/// As many as there are sessions, which ask one by one. Clones share it.
#[derive(Clone)]
pub(super) struct Asking<K, V> {
    waiting: Arc<Mutex<HashMap<K, Vec<oneshot::Sender<V>>>>>,
    tasks: TaskTracker,
}

impl<K, V> Asking<K, V>
where
    K: Copy + Eq + Hash + Send + 'static,
    V: Clone + Send + 'static,
{
    pub(super) fn new(tasks: TaskTracker) -> Self {
        Self { waiting: Arc::default(), tasks }
    }

    /// What a read gives that begins after this call; `None` where the node ends before. `read` is the same for all who
    /// name this `key`.
    pub(super) async fn ask<F>(&self, key: K, read: impl Fn() -> F + Send + 'static) -> Option<V>
    where
        F: Future<Output = V> + Send + 'static,
    {
        let (tell, told) = oneshot::channel();
        let is_first = {
            let mut waiting = self.waiting();
            let is_first = !waiting.contains_key(&key);
            waiting.entry(key).or_default().push(tell);
            is_first
        };
        if is_first {
            self.tasks.spawn(self.clone().answer(key, read));
        }
        told.await.ok()
    }

    /// Reads until nobody has asked since the last read began.
    async fn answer<F: Future<Output = V>>(self, key: K, read: impl Fn() -> F) {
        while let Some(asked) = self.take(key) {
            let found = read().await;
            for tell in asked {
                // Who has gone needs no answer.
                let _ = tell.send(found.clone());
            }
        }
    }

    /// All who wait; where there are none, the next one who asks is the first again.
    fn take(&self, key: K) -> Option<Vec<oneshot::Sender<V>>> {
        let mut waiting = self.waiting();
        let asked = waiting.get_mut(&key).map(std::mem::take).filter(|asked| !asked.is_empty());
        if asked.is_none() {
            waiting.remove(&key);
        }
        asked
    }

    fn waiting(&self) -> MutexGuard<'_, HashMap<K, Vec<oneshot::Sender<V>>>> {
        self.waiting.lock().expect("nothing panics while it holds who waits")
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use futures_util::FutureExt;
    use futures_util::future::join_all;
    use tokio::sync::Semaphore;

    use super::*;

    #[tokio::test]
    async fn who_asks_gets_a_read_that_began_afterwards_and_shares_it() {
        let (asking, begun, end) = (Asking::new(TaskTracker::new()), Arc::default(), Arc::new(Semaphore::new(0)));
        let ask = |key: u8| {
            let (begun, end): (Arc<AtomicUsize>, _) = (Arc::clone(&begun), end.clone());
            let read = move || {
                let (number, end) = (begun.fetch_add(1, Ordering::Relaxed), end.clone());
                async move {
                    end.acquire().await.expect("it is open").forget();
                    number
                }
            };
            Box::pin(asking.ask(key, read))
        };
        let mut first = ask(1);
        assert!((&mut first).now_or_never().is_none());
        tokio::task::yield_now().await;
        assert_eq!(begun.load(Ordering::Relaxed), 1);
        let mut later = join_all((0..100).map(|_| ask(1)));
        assert!((&mut later).now_or_never().is_none());
        end.add_permits(1);
        assert_eq!(first.await, Some(0));
        assert!((&mut later).now_or_never().is_none(), "what was read before they asked is not for them");
        end.add_permits(1);
        assert_eq!(later.await, vec![Some(1); 100]);
        end.add_permits(1);
        assert_eq!(ask(1).await, Some(2), "and nothing is kept");
    }
}
