//! After a part of a feed was missed: reads anew what notices in it may have said, before anybody reads on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;

use super::Chat;
use crate::error::Result;
use crate::hub::Doubted;
use crate::model::Position;
use crate::protocol::LeftReason;

/// The pause after the database could not be read.
const PAUSE: Duration = Duration::from_millis(500);

/// Checks the rooms in doubt whenever there are any; runs until it is dropped.
pub async fn recheck(chat: Chat, doubts: Arc<Notify>) {
    loop {
        doubts.notified().await;
        while let Err(error) = chat.recheck_once().await {
            warn!(code = error.code(), "What may have changed cannot be read yet; trying again");
            sleep(PAUSE).await;
        }
    }
}

impl Chat {
    async fn recheck_once(&self) -> Result<()> {
        self.read_revoked().await?;
        for doubted in self.shared.hub.doubted() {
            self.check(&doubted).await?;
            self.shared.hub.trust(&doubted.room, doubted.generation);
        }
        Ok(())
    }

    async fn check(&self, doubted: &Doubted) -> Result<()> {
        let shared = &self.shared;
        let channel = &doubted.room.channel;
        let found = shared.store.channels().by_name(&channel.name).await?;
        if found.is_none_or(|found| found.id != channel.id) {
            shared.hub.end(channel.id, None, Position::BEGINNING, LeftReason::Deleted);
            return Ok(());
        }
        for &(user, number) in &doubted.memberships {
            let now = shared.store.members().membership(channel.id, user).await?;
            if now.is_none_or(|now| now.number > number) {
                shared.hub.end(channel.id, Some((user, number)), Position::BEGINNING, LeftReason::Removed);
            }
        }
        Ok(())
    }
}
