//! What was changed, told to every node: at once by the node that changed it, or else by any that lives.
//!
//! A change and the row that says so are one transaction; the row goes once the change is in the feed. So whatever
//! dies in between, every change is heard, perhaps twice or late, which does no harm (see [`Change`](crate::model::Change)).

use std::collections::HashSet;
use std::time::Duration;

use futures_util::future::join_all;
use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};
use uuid::Uuid;

use super::Chat;
use crate::broker::{Appended, Notice};
use crate::error::Result;
use crate::store::Outgoing;

/// How often a node looks for changes that wait. One that waits at two looks has been left behind: no clock says so, since
/// those of the nodes may differ.
const LOOK: Duration = Duration::from_secs(1);
/// The most changes that a node announces at a time; what is left waits for the next look.
const BATCH_MAX: u64 = 256;

/// Announces what was left behind, by this node or by one that died; runs until it is dropped.
pub async fn announce_left_behind(chat: Chat) {
    let mut looks = interval(LOOK);
    looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut waited = HashSet::new();
    loop {
        looks.tick().await;
        if let Err(error) = chat.announce_waiting(&mut waited).await {
            warn!(code = error.code(), "What waits to be announced cannot be read");
        }
    }
}

impl Chat {
    /// Tells every node what the database holds already, and waits until this one has heard it.
    ///
    /// # Errors
    /// As an append. The change holds all the same, and is announced as soon as that can be done.
    pub(super) async fn tell(&self, outgoing: Outgoing) -> Result<()> {
        let told = self.announce(&outgoing).await;
        if let Err(error) = &told {
            warn!(code = error.code(), "The other nodes could not be told; trying again");
        }
        told
    }

    async fn announce(&self, outgoing: &Outgoing) -> Result<()> {
        let appended = self.shared.broker.announced(&Notice::Change(outgoing.change.clone())).await?;
        let last_epoch = match appended {
            Appended::Deleted(last, _) => last.map(|last| last.epoch),
            _ => None,
        };
        if let Err(error) = self.shared.store.outbox().strike(outgoing, last_epoch).await {
            warn!(code = error.code(), "What was announced stays noted, and will be announced again");
        }
        Ok(())
    }

    async fn announce_waiting(&self, waited: &mut HashSet<Uuid>) -> Result<()> {
        let waiting = self.shared.store.outbox().waiting(BATCH_MAX).await?;
        let left: Vec<_> = waiting.iter().filter(|outgoing| waited.contains(&outgoing.id)).collect();
        let told = join_all(left.iter().map(|outgoing| self.announce(outgoing))).await;
        let failed = told.iter().filter(|told| told.is_err()).count();
        if !left.is_empty() {
            info!(changes = left.len(), failed, "Announced what was left behind");
        }
        *waited = waiting.into_iter().map(|outgoing| outgoing.id).collect();
        Ok(())
    }
}
