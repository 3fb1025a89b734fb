//! The search for the highest rate that holds: up by doubling, then by halving what is left; or through a given list.
//! Pure: no I/O.

/// Rates tried, at most.
const TRIES_MAX: u32 = 16;
/// The search ends where the highest that held and the lowest that did not are this close (a part of the former).
const CLOSE_ENOUGH: u32 = 20;

/// What is known so far.
pub(super) struct Search {
    next: Option<u32>,
    /// What is to be tried instead of what was found out, the next one last.
    listed: Option<Vec<u32>>,
    held: Option<u32>,
    failed: Option<u32>,
    tries: u32,
}

impl Search {
    /// Begins at this rate.
    pub(super) fn from(rate: u32) -> Self {
        Self { next: Some(rate), listed: None, held: None, failed: None, tries: 0 }
    }

    /// Tries these rates in turn, up to the first that does not hold.
    pub(super) fn through(rates: &[u32]) -> Self {
        let mut listed: Vec<u32> = rates.iter().copied().rev().collect();
        Self { next: listed.pop(), listed: Some(listed), held: None, failed: None, tries: 0 }
    }

    /// The rate to try, while there is one.
    pub(super) fn next(&self) -> Option<u32> {
        self.next
    }

    /// The highest rate that held.
    pub(super) fn held(&self) -> Option<u32> {
        self.held
    }

    /// Takes the outcome of the rate that was to be tried.
    pub(super) fn tried(&mut self, held: bool) {
        let Some(rate) = self.next else { return };
        if held {
            self.held = Some(rate)
        } else {
            self.failed = Some(rate)
        }
        self.tries += 1;
        if let Some(listed) = &mut self.listed {
            self.next = if held { listed.pop() } else { None };
            return;
        }
        self.next = match (self.held, self.failed) {
            _ if self.tries >= TRIES_MAX => None,
            (Some(held), None) => held.checked_mul(2),
            (None, Some(failed)) => Some(failed / 2).filter(|rate| *rate > 0),
            (Some(held), Some(failed)) if failed - held > held / CLOSE_ENOUGH => Some(held.midpoint(failed)),
            _ => None,
        };
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(from: u32, capacity: u32) -> Option<u32> {
        let mut search = Search::from(from);
        while let Some(rate) = search.next() {
            search.tried(rate <= capacity);
        }
        search.held()
    }

    #[test]
    fn the_highest_rate_is_found_from_above_and_below() {
        for from in [100, 1000, 50_000] {
            let found = search(from, 17_000).expect("some rate holds");
            assert!((16_000..=17_000).contains(&found), "{found} from {from}");
        }
    }

    #[test]
    fn a_list_is_gone_through_up_to_the_first_that_does_not_hold() {
        let (mut search, mut tried) = (Search::through(&[1, 2, 5, 9]), Vec::new());
        while let Some(rate) = search.next() {
            tried.push(rate);
            search.tried(rate < 5);
        }
        assert_eq!((tried, search.held()), (vec![1, 2, 5], Some(2)));
    }

    #[test]
    fn nothing_holds_where_nothing_can() {
        assert_eq!(search(1000, 0), None);
    }
}
