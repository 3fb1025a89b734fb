//! A session's place in each channel: from the ring where it can, from the log where it must. Joining with a position,
//! resuming and being slow are the same here.

use std::sync::Arc;

use futures_util::FutureExt;

use super::Session;
use super::socket::End;
use crate::chat::CatchUp;
use crate::clock;
use crate::error::{Error, Result};
use crate::hub::{Ended, Frame, Hub, Listener, ListenerKey, Read, Room};
use crate::model::{Channel, ChannelName, Ends, Position};
use crate::protocol::{Event, GapReason, LeftReason};

/// A channel that the session has joined. Dropping it leaves.
pub(super) struct Subscription {
    hub: Hub,
    room: Arc<Room>,
    key: ListenerKey,
    /// The last position that was sent, or that the client named.
    cursor: Position,
    /// The room's generation under which the cursor is known to be right.
    generation: u64,
    /// What comes next is read from the log.
    in_log: bool,
    /// The client asked for all that is retained, which began here, so what is missing before it is no gap.
    from_first: Option<Position>,
    /// `caught_up` is owed once the cursor has reached this.
    owed: Option<Position>,
}

impl Drop for Subscription {
    fn drop(&mut self) {
        self.hub.unlisten(&self.room, self.key);
    }
}

impl Subscription {
    fn channel(&self) -> &Arc<Channel> {
        &self.room.channel
    }

    /// The gap before a frame that comes from the middle of a page or of the ring.
    fn gap_before(&self, next: Position) -> Option<GapReason> {
        match self.cursor {
            Position::BEGINNING if self.from_first.is_some() || next.seq == 0 => None,
            Position::BEGINNING => Some(GapReason::Trimmed),
            cursor if next.follows(cursor) => None,
            cursor if next.epoch == cursor.epoch => Some(GapReason::Trimmed),
            _ => Some(GapReason::EpochChanged),
        }
    }

    /// Whether the listener has got all that it may.
    fn is_over(&self, ended: Option<Ended>) -> bool {
        ended.is_some_and(|ended| ended.reason == LeftReason::Deleted || self.cursor >= ended.last)
    }
}

impl Session {
    /// Joins a channel, from after a position or live. Who has joined already and names no position stays as they are.
    pub(super) async fn attach(&mut self, name: &ChannelName, since: Option<Position>) -> Result<(u32, Ends)> {
        let chat = self.all.chat.clone();
        let channel = chat.find(name).await?;
        let joined = self.by_name.get(name).copied().filter(|id| self.subscriptions[id].channel().id == channel.id);
        if let (Some(id), None) = (joined, since) {
            let subscription = &self.subscriptions[&id];
            let generation = subscription.room.seen(subscription.key).generation;
            return Ok((id, chat.ends(&subscription.room, generation).await?));
        }
        // Who may not see a channel is not told of a limit either.
        let membership = chat.admit(&self.caller, &channel).await?;
        if joined.is_none() && self.all.options.joins.reached(self.subscriptions.len()) {
            self.all.metrics.refused_total.with(["joins"]).increment(1);
            return Err(Error::TooManyJoins);
        }
        let id = self.next_subscription;
        // Register before asking once more whether they may, and before reading the head: what happens from now on is heard.
        let hub = chat.hub().clone();
        let listener = Listener::new(self.wake.clone(), id, self.id, self.caller.user, membership);
        let (room, key) = hub.listen(&channel, listener);
        let generation = room.seen(key).generation;
        let mut subscription = Subscription {
            hub,
            room,
            key,
            cursor: since.unwrap_or(Position::BEGINNING),
            generation,
            in_log: false,
            from_first: None,
            owed: None,
        };
        if chat.admit(&self.caller, &channel).await? != membership {
            return Err(Error::Unavailable(anyhow::anyhow!("the membership changed during the join")));
        }
        let ends = chat.ends(&subscription.room, generation).await?;
        let head = ends.last.unwrap_or(Position::BEGINNING);
        match since {
            None => subscription.cursor = head,
            Some(since) => {
                if since == Position::BEGINNING {
                    subscription.from_first = Some(ends.first.unwrap_or(since));
                }
                subscription.owed = Some(head);
                subscription.in_log = !subscription.room.serves(since);
                let source = if subscription.in_log { "log" } else { "ring" };
                self.all.metrics.replays_total.with([source]).increment(1);
            }
        }
        self.detach(name);
        self.next_subscription = self.next_subscription.wrapping_add(1);
        if subscription.in_log {
            self.behind.push_back(id);
        }
        self.subscriptions.insert(id, Box::new(subscription));
        self.by_name.insert(name.clone(), id);
        Ok((id, ends))
    }

    /// Leaves a channel; false where it was not joined.
    pub(super) fn detach(&mut self, name: &ChannelName) -> bool {
        let Some(id) = self.by_name.remove(name) else { return false };
        self.subscriptions.remove(&id);
        true
    }

    /// Writes what the ring has for the subscription, as far as it goes.
    pub(super) async fn pump(&mut self, id: u32) -> Result<(), End> {
        loop {
            let Some(subscription) = self.subscriptions.get_mut(&id) else { return Ok(()) };
            if subscription.in_log {
                let seen = subscription.room.seen(subscription.key);
                return if subscription.is_over(seen.ended) { self.let_go(id, seen.ended).await } else { Ok(()) };
            }
            let mut frames = std::mem::take(&mut self.frames);
            let (read, seen) =
                subscription.room.read(subscription.key, subscription.cursor, subscription.generation, &mut frames);
            match read {
                Read::Frames | Read::Last => self.all.metrics.ring_hits_total.increment(1),
                Read::Elsewhere => {
                    self.all.metrics.ring_misses_total.increment(1);
                    subscription.in_log = true;
                    subscription.generation = seen.generation;
                    self.behind.push_back(id);
                }
                Read::Head | Read::Wait => {}
            }
            let written = self.write_frames(id, frames.drain(..), seen.ended).await;
            self.frames = frames;
            let over = !written? || self.subscriptions.get(&id).is_some_and(|s| s.is_over(seen.ended));
            self.tell_caught_up(id, matches!(read, Read::Last | Read::Head)).await?;
            if over {
                return self.let_go(id, seen.ended).await;
            }
            if read != Read::Frames {
                return Ok(());
            }
        }
    }

    /// Begins to read the next page, where somebody is behind and none is being read.
    pub(super) fn read_on(&mut self) {
        while self.page.is_none() {
            let Some(id) = self.behind.pop_front() else {
                self.socket.turn = None;
                return;
            };
            let Some(subscription) = self.subscriptions.get(&id) else { continue };
            let replay = self.all.chat.replay().clone();
            let (channel, generation) = (subscription.channel().clone(), subscription.generation);
            let (cursor, first) = (subscription.cursor, subscription.from_first);
            let turn = self.socket.turn.get_or_insert_with(|| Arc::new(replay.turn())).clone();
            let read = async move { replay.after(channel, generation, cursor, first, &turn).await };
            self.page = Some((id, read.boxed()));
        }
    }

    /// Writes a page of the log, and goes back to the ring where that was the last.
    pub(super) async fn catch_up(&mut self, id: u32, found: CatchUp) -> Result<(), End> {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Ok(()) };
        // After the page: the node has handled all that its feed held when the page was read.
        let seen = subscription.room.seen(subscription.key);
        if subscription.is_over(seen.ended) {
            return self.let_go(id, seen.ended).await;
        }
        if !self.write_page(id, &found, seen.ended).await? {
            return self.let_go(id, seen.ended).await;
        }
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Ok(()) };
        let head = found.ends().last;
        let complete = found.frames().is_empty() || head.is_none_or(|head| subscription.cursor >= head);
        if complete {
            subscription.in_log = false;
            subscription.room.learn(subscription.generation, found.ends(), found.read_at());
        } else {
            self.behind.push_back(id);
        }
        self.tell_caught_up(id, false).await?;
        self.pump(id).await
    }

    /// Writes what a page has for the subscription, each gap before what follows it; false where the listener may get
    /// no more.
    async fn write_page(&mut self, id: u32, found: &CatchUp, ended: Option<Ended>) -> Result<bool, End> {
        let mut gap = found.gap;
        for frames in found.frames().chunk_by(|one, next| next.position.follows(one.position)) {
            let Some(subscription) = self.subscriptions.get_mut(&id) else { return Ok(true) };
            let gap = gap.take().or_else(|| subscription.gap_before(frames[0].position));
            if let Some(reason) = gap {
                self.tell_gap(id, reason, found.ends()).await?;
            }
            if !self.write_frames(id, frames.iter().cloned(), ended).await? {
                return Ok(false);
            }
        }
        if let Some(reason) = gap {
            self.tell_gap(id, reason, found.ends()).await?;
            if let Some(subscription) = self.subscriptions.get_mut(&id) {
                subscription.cursor = found.ends().last.unwrap_or(Position::BEGINNING);
            }
        }
        Ok(true)
    }

    /// Writes frames and moves the cursor; false where the listener may get no more.
    async fn write_frames(
        &mut self,
        id: u32,
        frames: impl Iterator<Item = Frame>,
        ended: Option<Ended>,
    ) -> Result<bool, End> {
        let (mut written, mut count) = (None, 0);
        let mut may_get_more = true;
        for Frame { position, at, text } in frames {
            may_get_more = ended.is_none_or(|ended| position <= ended.last);
            if !may_get_more {
                break;
            }
            self.socket.write(text).await?;
            written = Some((position, at));
            count += 1;
        }
        let Some((cursor, at)) = written else { return Ok(may_get_more) };
        if let Some(subscription) = self.subscriptions.get_mut(&id) {
            subscription.cursor = cursor;
        }
        self.delivered += count;
        self.all.metrics.deliveries_total.increment(count);
        let late_ms = (clock::now_ms() - at).max(0);
        self.all.metrics.delivery_seconds.record(late_ms as f64 / 1_000.0);
        Ok(may_get_more)
    }

    async fn tell_gap(&mut self, id: u32, reason: GapReason, ends: Ends) -> Result<(), End> {
        let Some(subscription) = self.subscriptions.get(&id) else { return Ok(()) };
        let channel = subscription.channel().clone();
        self.all.metrics.gaps_total.with([reason.as_str()]).increment(1);
        self.say(&Event::Gap { channel: &channel.name, reason, ends }).await
    }

    /// Says `caught_up`, once, where it is owed and the cursor has reached what was promised, or all there is.
    async fn tell_caught_up(&mut self, id: u32, at_head: bool) -> Result<(), End> {
        let Some(subscription) = self.subscriptions.get_mut(&id) else { return Ok(()) };
        let Some(owed) = subscription.owed else { return Ok(()) };
        if !at_head && subscription.cursor < owed {
            return Ok(());
        }
        subscription.owed = None;
        let cursor = subscription.cursor;
        let channel = subscription.channel().clone();
        let id = (cursor != Position::BEGINNING).then_some(cursor);
        self.say(&Event::CaughtUp { channel: &channel.name, id }).await
    }

    /// The server takes the session out of a channel.
    async fn let_go(&mut self, id: u32, ended: Option<Ended>) -> Result<(), End> {
        let (Some(subscription), Some(ended)) = (self.subscriptions.remove(&id), ended) else { return Ok(()) };
        let channel = subscription.channel().clone();
        if self.by_name.get(&channel.name) == Some(&id) {
            self.by_name.remove(&channel.name);
        }
        drop(subscription);
        self.say(&Event::Left { channel: &channel.name, reason: ended.reason }).await
    }
}
