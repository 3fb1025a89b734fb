//! After a part of a feed was missed: reads anew what notices in it may have said, before anybody reads on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::{interval, sleep};
use tracing::warn;

use super::Chat;
use crate::error::Result;
use crate::hub::Room;
use crate::model::{Position, UserId};
use crate::protocol::LeftReason;

/// The pause after the database could not be read.
const PAUSE: Duration = Duration::from_millis(500);

/// How long at most the node believes what it remembers: a node that died between the database and its notice told
/// nobody.
const BELIEVE: Duration = Duration::from_secs(60);

/// Checks the rooms in doubt whenever there are any, and forgets now and then; runs until it is dropped.
pub async fn recheck(chat: Chat, doubts: Arc<Notify>) {
    let mut forget = interval(BELIEVE);
    loop {
        tokio::select! {
            () = doubts.notified() => {}
            _ = forget.tick() => {
                chat.shared.caches.forget_all();
                continue;
            }
        }
        while let Err(error) = chat.recheck_once().await {
            warn!(code = error.code(), "What may have changed cannot be read yet; trying again");
            sleep(PAUSE).await;
        }
    }
}

impl Chat {
    async fn recheck_once(&self) -> Result<()> {
        self.read_revoked().await?;
        for (room, generation, users) in self.shared.hub.doubted() {
            self.check(&room, users).await?;
            self.shared.hub.trust(&room, generation);
        }
        Ok(())
    }

    async fn check(&self, room: &Room, users: Vec<UserId>) -> Result<()> {
        let shared = &self.shared;
        let channel = &room.channel;
        let found = shared.store.channels().by_name(&channel.name).await?;
        if found.is_none_or(|found| found.id != channel.id) {
            shared.hub.end(channel.id, None, Position::BEGINNING, LeftReason::Deleted);
            return Ok(());
        }
        for user in users {
            if shared.store.members().role(channel.id, user).await?.is_none() {
                shared.hub.end(channel.id, Some(user), Position::BEGINNING, LeftReason::Removed);
            }
        }
        Ok(())
    }
}
