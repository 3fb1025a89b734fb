//! What can go wrong in a run, counted by kind.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use serde::Serialize;

/// One thing that went wrong. The kinds are few, so that they can be counted; the detail is of this one.
#[derive(Debug, Clone, thiserror::Error)]
#[error("{kind}: {detail}")]
pub(crate) struct Failure {
    /// What is counted, e.g. `send: rate_limited`.
    pub(crate) kind: String,
    /// What is shown of the first of its kind.
    pub(crate) detail: String,
}

impl Failure {
    /// A failure of this kind.
    pub(crate) fn new(kind: impl Into<String>, detail: impl ToString) -> Self {
        Self { kind: kind.into(), detail: detail.to_string() }
    }

    /// Whether a promise about order was broken. It is counted, and the session goes on.
    pub(crate) fn is_of_order(&self) -> bool {
        self.kind.starts_with("order:")
    }

    /// Whether it may be blamed on more load than the server can take.
    pub(crate) fn is_of_overload(&self) -> bool {
        self.kind.starts_with("send:") || self.kind.starts_with("delivery:")
    }
}

/// The failures of a run.
#[derive(Clone, Default)]
pub(crate) struct Tally {
    kinds: Arc<Mutex<BTreeMap<String, Seen>>>,
}

/// How often a kind was seen, and the first one.
#[derive(Clone, Serialize)]
pub(crate) struct Seen {
    pub(crate) count: u64,
    pub(crate) first: String,
}

impl Tally {
    /// Counts one.
    pub(crate) fn add(&self, failure: Failure) {
        self.add_many(failure, 1);
    }

    /// Counts several that are alike; none is none.
    pub(crate) fn add_many(&self, failure: Failure, count: u64) {
        if count == 0 {
            return;
        }
        let mut kinds = self.kinds.lock().expect("nothing panics while counting");
        kinds.entry(failure.kind).or_insert(Seen { count: 0, first: failure.detail }).count += count;
    }

    /// How many there are.
    pub(crate) fn total(&self) -> u64 {
        self.kinds.lock().expect("nothing panics while counting").values().map(|seen| seen.count).sum()
    }

    /// By kind.
    pub(crate) fn by_kind(&self) -> BTreeMap<String, Seen> {
        self.kinds.lock().expect("nothing panics while counting").clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_counted_by_kind_and_the_first_is_kept() {
        let tally = Tally::default();
        tally.add(Failure::new("a", "one"));
        tally.add(Failure::new("a", "two"));
        tally.add_many(Failure::new("b", "three"), 3);
        tally.add_many(Failure::new("c", "none"), 0);
        let kinds = tally.by_kind();
        assert_eq!((tally.total(), kinds.len()), (5, 2));
        assert_eq!((kinds["a"].count, kinds["a"].first.as_str()), (2, "one"));
    }
}
