//! The rooms of a node: those with listeners, and those that were left a moment ago.

use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::sync::Arc;

use super::room::Room;
use crate::model::{Channel, ChannelId};

/// The rooms without listeners that are kept: they go on following the feed, so that who comes back soon asks the log for
/// nothing. Beyond it the one that was left first goes; and sweeps take what was left a while ago.
pub(super) const IDLE_ROOMS_MAX: usize = 1_024;

#[derive(Default)]
pub(super) struct Rooms {
    by_channel: HashMap<ChannelId, Arc<Room>>,
    /// Those that were left, in that order, and after which sweep; somebody may be back in them.
    idle: VecDeque<(u64, Arc<Room>)>,
    sweeps: u64,
}

impl Rooms {
    pub(super) fn len(&self) -> usize {
        self.by_channel.len()
    }

    pub(super) fn all(&self) -> Vec<Arc<Room>> {
        self.by_channel.values().cloned().collect()
    }

    pub(super) fn get(&self, channel: ChannelId) -> Option<Arc<Room>> {
        self.by_channel.get(&channel).cloned()
    }

    /// The channel's room; a new one is of the generation that is given.
    pub(super) fn get_or_new(&mut self, channel: &Arc<Channel>, generation: impl FnOnce() -> u64) -> Arc<Room> {
        let new = || Arc::new(Room::new(channel.clone(), generation()));
        self.by_channel.entry(channel.id).or_insert_with(new).clone()
    }

    /// Keeps a room that was left, in place of the one that was left first.
    pub(super) fn keep(&mut self, room: &Arc<Room>) {
        if !room.set_idle(true) {
            self.idle.push_back((self.sweeps, room.clone()));
        }
        if self.idle.len() > IDLE_ROOMS_MAX
            && let Some((_, oldest)) = self.idle.pop_front()
        {
            oldest.set_idle(false);
            self.close(&oldest);
        }
    }

    /// Forgets the rooms that were left before the last call and are empty still.
    pub(super) fn sweep(&mut self) {
        while let Some((_, room)) = self.idle.pop_front_if(|(left, _)| *left < self.sweeps) {
            room.set_idle(false);
            self.close(&room);
        }
        self.idle.shrink_to(IDLE_ROOMS_MAX / 8);
        self.sweeps += 1;
    }

    /// Closes a room and forgets it, unless somebody listens.
    pub(super) fn close(&mut self, room: &Arc<Room>) {
        if room.close() {
            self.forget(room);
        }
    }

    pub(super) fn forget(&mut self, room: &Arc<Room>) {
        if let Entry::Occupied(found) = self.by_channel.entry(room.channel.id)
            && Arc::ptr_eq(found.get(), room)
        {
            found.remove();
        }
        // What a peak leaves behind.
        if self.by_channel.len() < self.by_channel.capacity() / 8 {
            self.by_channel.shrink_to(2 * self.by_channel.len() + IDLE_ROOMS_MAX);
        }
    }
}
