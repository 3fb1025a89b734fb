//! A cache whose size follows what is connected, so that a peak leaves nothing behind.

use std::hash::Hash;
use std::sync::{Arc, PoisonError, RwLock, RwLockReadGuard};

use quick_cache::sync::Cache;

use crate::error::Result;

/// The entries that nobody connected may need, which are kept all the same.
const SPARE: usize = 1_024;

/// Bounded: the least used goes first. Two generations: what is asked for lives in the new one, and the old one is dropped
/// as a whole, its tables with it.
pub(super) struct Recent<K, V> {
    max: usize,
    generations: RwLock<Generations<K, V>>,
}

struct Generations<K, V> {
    now: Arc<Cache<K, V>>,
    before: Arc<Cache<K, V>>,
}

impl<K: Clone + Eq + Hash, V: Clone> Recent<K, V> {
    pub(super) fn new(max: usize) -> Self {
        let new = || Arc::new(Cache::new(max));
        Self { max, generations: RwLock::new(Generations { now: new(), before: new() }) }
    }

    /// The value, and whether it was remembered; else what `load` finds, once for all who ask at a time. What it does not
    /// find is not remembered, nor what is forgotten meanwhile.
    pub(super) async fn get(
        &self,
        key: &K,
        load: impl Future<Output = Result<Option<V>>>,
    ) -> Result<(Option<V>, bool)> {
        let (now, before) = {
            let generations = self.generations();
            (generations.now.clone(), generations.before.clone())
        };
        let guard = match now.get_value_or_guard_async(key).await {
            Ok(value) => return Ok((Some(value), true)),
            Err(guard) => guard,
        };
        if let Some(value) = before.get(key) {
            let _ = guard.insert(value.clone());
            return Ok((Some(value), true));
        }
        let found = load.await?;
        if let Some(value) = &found {
            let _ = guard.insert(value.clone());
        }
        Ok((found, false))
    }

    /// The old one first: who finds it there holds a place in the new one, which is taken from them.
    pub(super) fn forget(&self, key: &K) {
        let generations = self.generations();
        generations.before.remove(key);
        generations.now.remove(key);
    }

    pub(super) fn forget_all(&self) {
        let generations = self.generations();
        generations.before.clear();
        generations.now.clear();
    }

    /// Begins a new generation where there are more entries than are `needed`, and some to spare: called twice, what was
    /// not asked for in between is gone.
    pub(super) fn fit(&self, needed: usize) {
        let mut generations = self.generations.write().unwrap_or_else(PoisonError::into_inner);
        if generations.now.len() + generations.before.len() > needed + SPARE {
            generations.before = std::mem::replace(&mut generations.now, Arc::new(Cache::new(self.max)));
        }
    }

    fn generations(&self) -> RwLockReadGuard<'_, Generations<K, V>> {
        self.generations.read().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn is_remembered(recent: &Recent<usize, usize>, key: usize) -> bool {
        let (value, remembered) = recent.get(&key, async { Ok(Some(key)) }).await.unwrap();
        assert_eq!(value, Some(key));
        remembered
    }

    #[tokio::test]
    async fn what_nobody_connected_needs_goes_unless_it_is_asked_for() {
        let recent = Recent::new(10 * SPARE);
        for key in 0..2 * SPARE {
            assert!(!is_remembered(&recent, key).await);
        }
        recent.fit(SPARE);
        recent.fit(SPARE);
        assert!(is_remembered(&recent, 1).await, "so many are needed");
        recent.fit(0);
        assert!(is_remembered(&recent, 1).await);
        recent.fit(0);
        assert!(is_remembered(&recent, 1).await, "it was asked for in between");
        assert!(!is_remembered(&recent, 2).await);
    }

    #[tokio::test]
    async fn what_is_forgotten_is_in_neither_generation() {
        let recent = Recent::new(10 * SPARE);
        for key in 0..2 * SPARE {
            is_remembered(&recent, key).await;
        }
        recent.fit(0);
        is_remembered(&recent, 1).await;
        recent.forget(&1);
        recent.forget(&2);
        assert!(!is_remembered(&recent, 1).await && !is_remembered(&recent, 2).await);
        assert!(is_remembered(&recent, 3).await);
        recent.forget_all();
        assert!(!is_remembered(&recent, 3).await && !is_remembered(&recent, 4).await);
    }

    #[tokio::test]
    async fn what_is_forgotten_while_it_is_loaded_is_not_remembered() {
        let recent = Recent::new(10);
        let load = async {
            recent.forget(&1);
            Ok(Some(1))
        };
        assert_eq!(recent.get(&1, load).await.unwrap(), (Some(1), false));
        assert!(!is_remembered(&recent, 1).await);
        assert_eq!(recent.get(&5, async { Ok(None) }).await.unwrap(), (None, false));
        assert!(!is_remembered(&recent, 5).await, "what does not exist is not remembered");
    }
}
