//! How many commands a session may send, alone and together with the others of its user: so many in each second.

use std::sync::Arc;
use std::time::Duration;

use crate::chat::Rate;
use crate::config::Limit;

/// How many times the limit may be passed in a window before the session counts as flooding.
const FLOODING: usize = 10;

/// What to do with a command.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Carry it out.
    Go,
    /// Refuse it; it may be repeated after the time. The word is the reason in the metrics.
    Later(Duration, &'static str),
    /// Close the session.
    Flooding,
}

/// Counts the commands of a session, and adds those that it may send to its user's.
pub(super) struct Rates {
    own: Rate,
    own_max: Limit,
    user: Arc<Rate>,
    user_max: Limit,
}

impl Rates {
    pub(super) fn new(own_max: Limit, user: Arc<Rate>, user_max: Limit) -> Self {
        Self { own: Rate::default(), own_max, user, user_max }
    }

    pub(super) fn check(&self) -> Verdict {
        if let Some(max) = self.own_max.max() {
            let (count, left) = self.own.count();
            if count > max.saturating_mul(FLOODING) {
                return Verdict::Flooding;
            }
            if count > max {
                return Verdict::Later(left, "rate");
            }
        }
        if let Some(max) = self.user_max.max() {
            let (count, left) = self.user.count();
            if count > max {
                return Verdict::Later(left, "user_rate");
            }
        }
        Verdict::Go
    }
}
