//! Saying something, and reading what was said.

use std::sync::Arc;

use serde_json::value::RawValue;
use tokio::time::Instant;
use tracing::warn;

use super::Chat;
use crate::broker::{self, Appended, NewEntry, Notice, Pending};
use crate::error::{Error, Result};
use crate::hub::Room;
use crate::model::{Anchor, Caller, Channel, ChannelName, Ends, NewMessage, PageLimit, SessionId};
use crate::protocol::{self, History, Sent};

/// A message on its way into the log. Dropping it changes nothing: it is written all the same.
pub struct Sending {
    chat: Chat,
    channel: Arc<Channel>,
    pending: Pending,
}

impl Sending {
    /// What became of it. An `Ok` means: numbered, in the log, at the durability that is set.
    ///
    /// # Errors
    /// `unavailable` (not written), `outcome_unknown`, `cid_conflict`, `channel_not_found`.
    pub async fn outcome(self) -> Result<Sent> {
        match broker::outcome(self.pending).await? {
            Appended::Written(id, at) => {
                self.chat.shared.hub.written(self.channel.id, id);
                Ok(Sent { id, at, dup: false })
            }
            Appended::Duplicate(id, at) => Ok(Sent { id, at, dup: true }),
            Appended::Conflict => Err(Error::CidConflict),
            Appended::Gone => {
                self.chat.shared.caches.forget_channel(&self.channel.name);
                Err(Error::ChannelNotFound)
            }
            Appended::Announced(_) | Appended::Deleted(..) | Appended::Failed => {
                Err(Error::Internal(anyhow::anyhow!("a message was answered as a notice")))
            }
        }
    }

    /// Whether messages of both are written in the order of the calls: those of one channel are.
    pub fn is_ordered_with(&self, channel: &ChannelName) -> bool {
        self.channel.name == *channel
    }
}

impl Chat {
    /// Puts a message into the queue of the log. Messages of one channel are written in the order of these calls.
    ///
    /// # Errors
    /// `channel_not_found`, `unavailable` where the queue is full.
    pub async fn send(&self, caller: &Caller, channel: &ChannelName, message: &NewMessage) -> Result<Sending> {
        let channel = self.readable(caller, channel).await?;
        let body = protocol::message_body(&caller.name, message);
        let pending =
            self.shared.broker.append(NewEntry::new(channel.clone(), caller.user, body, message.cid.as_ref()))?;
        Ok(Sending { chat: self.clone(), channel, pending })
    }

    /// Tells the others that the caller is typing. Nobody waits for it.
    ///
    /// # Errors
    /// `channel_not_found`.
    pub async fn typing(&self, caller: &Caller, session: SessionId, channel: &ChannelName) -> Result<()> {
        let channel = self.readable(caller, channel).await?;
        let notice = Notice::Typing { channel: channel.id, from: caller.name.clone(), session };
        if self.shared.broker.announce(&notice).is_err() {
            self.shared.metrics.typing_dropped_total.increment(1);
        }
        Ok(())
    }

    /// A page of history.
    ///
    /// # Errors
    /// `channel_not_found`, `unavailable`.
    pub async fn history(
        &self,
        caller: &Caller,
        name: &ChannelName,
        anchor: Anchor,
        limit: PageLimit,
    ) -> Result<History> {
        let channel = self.readable(caller, name).await?;
        let (page, more) = Box::pin(self.shared.broker.history(channel.id, anchor, limit)).await?;
        // The node has heard by now of every removal before the page: nobody reads past their own.
        self.admit(caller, &channel).await?;
        let events = page.entries.iter().map(|entry| {
            let text = protocol::message(&channel.name, entry).as_str().to_owned();
            RawValue::from_string(text).map_err(|e| Error::Internal(e.into()))
        });
        Ok(History { events: events.collect::<Result<_>>()?, ends: page.ends, more })
    }

    /// The ends of a channel's log; from memory where the room knows them, else read once for all who ask at the time,
    /// and never by a read that began before. `generation` is the one that the listener saw.
    ///
    /// # Errors
    /// `unavailable`.
    pub async fn ends(&self, room: &Arc<Room>, generation: u64) -> Result<Ends> {
        let retention = self.shared.rules.retention_messages;
        if let Some(ends) = room.ends(retention) {
            return Ok(ends);
        }
        let (room, broker) = (room.clone(), self.shared.broker.clone());
        let read = move || {
            let (room, broker, asked_at) = (room.clone(), broker.clone(), Instant::now());
            async move {
                // Known by now, where the read before this one has told.
                if let Some(ends) = room.ends(retention) {
                    return Some(ends);
                }
                let ends = broker.ends(room.channel.id).await;
                let ends = ends.inspect_err(|error| warn!(cause = error.cause().map(|c| format!("{c:#}")), "No ends"));
                ends.inspect(|ends| room.learn(generation, *ends, asked_at)).ok()
            }
        };
        let ends = self.shared.ends.ask(generation, read).await.flatten();
        ends.ok_or_else(|| Error::Unavailable(anyhow::anyhow!("the ends of the log could not be read")))
    }
}
