//! How much a session may send, alone and together with the others of its user: so many commands in each second, and so
//! many bytes.

use std::sync::Arc;
use std::time::Duration;

use super::Options;
use crate::chat::{Rate, UserRates};
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
    user: Arc<UserRates>,
    user_max: Limit,
    bytes_max: Limit,
}

impl Rates {
    pub(super) fn new(options: &Options, user: Arc<UserRates>) -> Self {
        Self {
            own: Rate::default(),
            own_max: options.commands_per_second,
            user,
            user_max: options.user_commands_per_second,
            bytes_max: options.user_bytes_per_second,
        }
    }

    /// Counts the bytes of a frame: how long nothing more is to be read, if they were too many. Nothing is refused: what
    /// the client sends meanwhile waits in its own network, where it costs this node nothing.
    pub(super) fn pause(&self, bytes: usize) -> Option<Duration> {
        self.user.bytes.take(bytes, self.bytes_max.max()?)
    }

    pub(super) fn check(&self) -> Verdict {
        if let Some(max) = self.own_max.max() {
            let (count, left) = self.own.count(1);
            if count > max.saturating_mul(FLOODING) {
                return Verdict::Flooding;
            }
            if count > max {
                return Verdict::Later(left, "rate");
            }
        }
        if let Some(max) = self.user_max.max() {
            let (count, left) = self.user.commands.count(1);
            if count > max {
                return Verdict::Later(left, "user_rate");
            }
        }
        Verdict::Go
    }
}
