//! What a user may do: accounts, channels, members, messages. Knows the rules; leaves the wire to others.

mod accounts;
mod caches;
mod channels;
mod delivery;
mod members;
mod messages;
mod outbox;
mod recheck;
mod replay;
mod revoked;

use std::sync::Arc;
use std::time::Duration;

use tokio_util::task::TaskTracker;

pub use accounts::SignIn;
pub use channels::ListedChannel;
pub use delivery::Deliverer;
pub use messages::Sending;
pub use outbox::announce_left_behind;
pub use recheck::recheck;
pub use replay::{CatchUp, Replay};

use crate::auth::{Passwords, Tokens};
use crate::broker::Broker;
use crate::error::{Error, Result};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::store::Store;
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
        let replay = Replay::new(broker.clone(), metrics.clone(), tasks);
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
}

/// The refusal of what the caller may see but not do.
fn forbidden(what: &str) -> Error {
    Error::Forbidden(what.into())
}
