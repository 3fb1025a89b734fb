//! What a user may do: accounts, channels, members, messages. Knows the rules; leaves the wire to others.

mod accounts;
mod asking;
mod attempts;
mod caches;
mod channels;
mod delivery;
mod members;
mod messages;
mod outbox;
mod rate;
mod recent;
mod recheck;
mod replay;
mod revoked;
mod turns;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

pub use accounts::{SignIn, forget_expired};
pub use attempts::AttemptLimits;
pub use caches::fit_caches;
pub use channels::ListedChannel;
pub use delivery::Deliverer;
pub use messages::Sending;
pub use outbox::announce_left_behind;
pub use rate::{Rate, UserRates};
pub use recheck::recheck;
pub use replay::{CatchUp, Replay};
pub use turns::Turn;

use crate::auth::{Passwords, Tokens};
use crate::broker::Broker;
use crate::config::Limit;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::model::{Caller, Ends, UserId};
use crate::store::Store;
use asking::Asking;
use caches::Caches;
use revoked::Revoked;

/// What of the settings the rules need.
#[derive(Clone, Debug)]
pub struct Rules {
    /// How long an access token lasts; for so long a revoked sign-in is remembered.
    pub access: Duration,
    /// How long a refresh token lasts.
    pub refresh: Duration,
    /// What a log keeps.
    pub retention_messages: u64,
    /// How often a password may be guessed.
    pub attempts: AttemptLimits,
    /// How many commands and requests a user may send to this node in a second.
    pub user_commands_per_second: Limit,
    /// How many sessions are given what they missed at a time.
    pub replays: Limit,
}

/// The rules and all they rest on; clones share it.
#[derive(Clone)]
pub struct Chat {
    shared: Arc<Shared>,
}

struct Shared {
    store: Store,
    broker: Broker,
    hub: Hub,
    tokens: Tokens,
    passwords: Passwords,
    rules: Rules,
    caches: Caches,
    revoked: Revoked,
    replay: Replay,
    /// For the ends of logs, by the generation of the room; nothing where they could not be read.
    ends: Asking<u64, Option<Ends>>,
    metrics: Metrics,
}

impl Chat {
    /// The rules over a database, a log and a hub; reads which sign-ins were revoked lately.
    ///
    /// # Errors
    /// Where the database cannot be read.
    #[expect(clippy::too_many_arguments, reason = "wired in one place")]
    pub async fn new(
        store: Store,
        broker: Broker,
        hub: Hub,
        tokens: Tokens,
        passwords: Passwords,
        rules: Rules,
        metrics: Metrics,
        tasks: TaskTracker,
    ) -> Result<Self> {
        let ends = Asking::new(tasks.clone());
        let replay = Replay::new(broker.clone(), rules.replays, metrics.clone(), tasks);
        let shared = Shared {
            caches: Caches::new(metrics.clone()),
            revoked: Revoked::default(),
            store,
            broker,
            hub,
            tokens,
            passwords,
            rules,
            replay,
            ends,
            metrics,
        };
        let chat = Self { shared: Arc::new(shared) };
        chat.read_revoked().await?;
        Ok(chat)
    }

    /// Who listens on this node.
    pub fn hub(&self) -> &Hub {
        &self.shared.hub
    }

    /// Pages for those who catch up.
    pub fn replay(&self) -> &Replay {
        &self.shared.replay
    }

    /// What counts the commands, requests and bytes of a user on this node.
    pub fn rates(&self, user: UserId) -> Arc<UserRates> {
        self.shared.caches.rates(user)
    }

    /// Counts a request of a user among their commands.
    ///
    /// # Errors
    /// `rate_limited` where there were too many in this second.
    pub fn count_request(&self, caller: &Caller) -> Result<()> {
        let Some(max) = self.shared.rules.user_commands_per_second.max() else { return Ok(()) };
        let (count, left) = self.rates(caller.user).commands.count(1);
        if count <= max {
            return Ok(());
        }
        self.shared.metrics.refused_total.with(["user_rate"]).increment(1);
        Err(Error::RateLimited(left))
    }
}

/// The refusal of what the caller may see but not do.
fn forbidden(what: &str) -> Error {
    Error::Forbidden(what.into())
}
