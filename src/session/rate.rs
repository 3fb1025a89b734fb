//! How many commands a session may send: so many in each second.

use std::time::Duration;

use tokio::time::Instant;

use crate::config::Limit;

/// The length of a window.
const WINDOW: Duration = Duration::from_secs(1);
/// How many times the limit may be passed in a window before the session counts as flooding.
const FLOODING: usize = 10;

/// What to do with a command.
#[derive(PartialEq, Eq, Debug)]
pub(super) enum Verdict {
    /// Carry it out.
    Go,
    /// Refuse it; it may be repeated after the time.
    Later(Duration),
    /// Close the session.
    Flooding,
}

/// Counts commands in windows of a second.
pub(super) struct Rate {
    limit: Limit,
    window: Instant,
    count: usize,
}

impl Rate {
    pub(super) fn new(limit: Limit) -> Self {
        Self { limit, window: Instant::now(), count: 0 }
    }

    pub(super) fn check(&mut self) -> Verdict {
        let Some(max) = self.limit.max() else { return Verdict::Go };
        let now = Instant::now();
        if now >= self.window + WINDOW {
            (self.window, self.count) = (now, 0);
        }
        self.count += 1;
        match self.count {
            count if count <= max => Verdict::Go,
            count if count <= max.saturating_mul(FLOODING) => Verdict::Later(self.window + WINDOW - now),
            _ => Verdict::Flooding,
        }
    }
}
