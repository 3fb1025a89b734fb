//! After a part of a feed was missed: reads anew what notices in it may have said, before anybody reads on.

use std::sync::Arc;
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::sleep;
use tracing::warn;

use super::Chat;
use crate::error::Result;
use crate::hub::Doubted;
use crate::model::{ChannelId, Position};
use crate::protocol::LeftReason;

/// The pause after the database could not be read.
const PAUSE: Duration = Duration::from_millis(500);
/// How many rooms are asked about at a time: those that were checked go on while the others wait.
const ROOMS_AT_A_TIME: usize = 256;
/// How many memberships are; a query has bounds too.
const MEMBERS_AT_A_TIME: usize = 512;

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
        for doubted in self.shared.hub.doubted().chunks(ROOMS_AT_A_TIME) {
            self.check(doubted).await?;
            for doubted in doubted {
                self.shared.hub.trust(&doubted.room, doubted.generation);
            }
        }
        Ok(())
    }

    async fn check(&self, doubted: &[Doubted]) -> Result<()> {
        let shared = &self.shared;
        let ids: Vec<ChannelId> = doubted.iter().map(|doubted| doubted.room.channel.id).collect();
        let existing = shared.store.channels().existing(&ids).await?;
        for channel in ids.into_iter().filter(|channel| !existing.contains(channel)) {
            shared.hub.end(channel, None, Position::BEGINNING, LeftReason::Deleted);
        }
        let listening = |doubted: &Doubted| {
            let channel = doubted.room.channel.id;
            doubted.memberships.iter().map(move |&(user, number)| (channel, user, number)).collect::<Vec<_>>()
        };
        let listening: Vec<_> = doubted.iter().flat_map(listening).collect();
        for some in listening.chunks(MEMBERS_AT_A_TIME) {
            let (channels, users) = (some.iter().map(|it| it.0), some.iter().map(|it| it.1));
            let now = shared.store.members().among(channels, users).await?;
            for &(channel, user, number) in some {
                if now.get(&(channel, user)).is_none_or(|now| now.number > number) {
                    shared.hub.end(channel, Some((user, number)), Position::BEGINNING, LeftReason::Removed);
                }
            }
        }
        Ok(())
    }
}
