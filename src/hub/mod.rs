//! Who listens to which channel on this node, and who is signed in. Memory only: no I/O, nothing awaits.

mod ring;
mod room;
mod wake;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_tungstenite::tungstenite::Utf8Bytes;

pub use ring::Frame;
pub use room::{Doubted, Ended, Listener, ListenerKey, Read, Room, Seen};
pub use wake::{Wake, Woken};

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{Channel, ChannelId, Position, SessionId, SignInId, UserId};
use crate::protocol::LeftReason;

/// The node's memory of its listeners; clones share it.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    rooms: Mutex<HashMap<ChannelId, Arc<Room>>>,
    people: Mutex<People>,
    generations: AtomicU64,
    metrics: Metrics,
}

#[derive(Default)]
struct People {
    by_sign_in: HashMap<SignInId, Vec<(SessionId, Arc<Wake>)>>,
    sessions: HashMap<UserId, usize>,
}

/// The rooms that something was put into, and that wait to be woken: one wake-up for all that came at once.
#[derive(Default)]
pub struct Touched {
    rooms: Vec<Arc<Room>>,
    woken: Vec<(Arc<Wake>, u32)>,
}

impl Hub {
    /// An empty hub.
    pub fn new(metrics: Metrics) -> Self {
        let shared =
            Shared { rooms: Mutex::default(), people: Mutex::default(), generations: AtomicU64::new(1), metrics };
        Self { shared: Arc::new(shared) }
    }

    /// Makes the listener hear of the channel from now on. Register before you read the log's head.
    pub fn listen(&self, channel: &Arc<Channel>, listener: Listener) -> (Arc<Room>, ListenerKey) {
        loop {
            let room = self.room_or_new(channel);
            match room.listen(&listener) {
                Some(key) => return (room, key),
                // The last listener left in between; the room is no longer in the map, or about to be taken out.
                None => self.forget(&room),
            }
        }
    }

    /// Ends what [`Hub::listen`] began. A room without listeners is dropped: what nobody listens to costs nothing.
    pub fn unlisten(&self, room: &Arc<Room>, key: ListenerKey) {
        if room.unlisten(key) {
            self.forget(room);
        }
    }

    /// Puts a message into its room, where there is one. `encode` runs once, and only then.
    pub fn deliver(
        &self,
        channel: ChannelId,
        position: Position,
        touched: &mut Touched,
        encode: impl FnOnce(&Channel) -> Frame,
    ) {
        let Some(room) = self.room(channel) else { return };
        let (touch, grown) = room.push(position, encode);
        self.shared.metrics.ring_bytes.increment(grown as f64);
        if touch {
            touched.rooms.push(room);
        }
    }

    /// Wakes everybody who listens to what was touched.
    pub fn wake(&self, touched: &mut Touched) {
        for room in touched.rooms.drain(..) {
            room.collect(&mut touched.woken);
        }
        for (wake, subscription) in touched.woken.drain(..) {
            wake.mark(subscription);
        }
    }

    /// Passes on that somebody is typing, to everybody but the session that told so.
    pub fn typing(&self, channel: ChannelId, session: SessionId, encode: impl FnOnce(&Channel) -> Utf8Bytes) {
        let Some(room) = self.room(channel) else { return };
        let text = encode(&room.channel);
        for (wake, subscription) in room.others(session) {
            if !wake.typing(subscription, text.clone()) {
                self.shared.metrics.typing_dropped_total.increment(1);
            }
        }
    }

    /// Takes everybody out of a channel, or the sessions of a user that listen by this membership or an earlier one: they get
    /// what was logged up to `last`, and nothing after it.
    pub fn end(&self, channel: ChannelId, membership: Option<(UserId, u64)>, last: Position, reason: LeftReason) {
        let Some(room) = self.room(channel) else { return };
        for (wake, subscription) in room.end(membership, Ended { last, reason }) {
            wake.mark(subscription);
        }
    }

    /// Forgets what the node believes of the rooms that `concerned` names: everybody in them waits for
    /// [`Hub::trust`], and then asks the log again.
    pub fn doubt(&self, concerned: impl Fn(ChannelId) -> bool) {
        let rooms: Vec<_> = self.rooms().values().filter(|room| concerned(room.channel.id)).cloned().collect();
        for room in rooms {
            let bytes = room.doubt(self.generation());
            self.shared.metrics.ring_bytes.decrement(bytes as f64);
        }
    }

    /// The rooms whose listeners have to be checked anew.
    pub fn doubted(&self) -> Vec<Doubted> {
        let rooms: Vec<_> = self.rooms().values().cloned().collect();
        rooms.iter().filter_map(Room::doubted).collect()
    }

    /// Lets the listeners of a room go on that was checked; unless it has been doubted again meanwhile.
    pub fn trust(&self, room: &Room, generation: u64) {
        for (wake, subscription) in room.trust(generation) {
            wake.mark(subscription);
        }
    }

    /// Signs a session in, until the guard is dropped.
    ///
    /// # Errors
    /// `too_many_sessions` where the user has `limit` of them on this node already; 0 is no limit.
    pub fn enter(
        &self,
        user: UserId,
        sign_in: SignInId,
        session: SessionId,
        wake: &Arc<Wake>,
        limit: usize,
    ) -> Result<Presence> {
        let mut people = self.people();
        let sessions = people.sessions.entry(user).or_default();
        if limit > 0 && *sessions >= limit {
            return Err(Error::TooManySessions);
        }
        *sessions += 1;
        people.by_sign_in.entry(sign_in).or_default().push((session, wake.clone()));
        Ok(Presence { hub: self.clone(), user, sign_in, session })
    }

    /// Has the sessions of revoked sign-ins closed.
    pub fn revoke(&self, sign_ins: &[SignInId]) {
        let wakes: Vec<_> = {
            let people = self.people();
            let of = |sign_in| people.by_sign_in.get(sign_in).into_iter().flatten();
            sign_ins.iter().flat_map(of).map(|(_, wake)| wake.clone()).collect()
        };
        wakes.iter().for_each(|wake| wake.revoke());
    }

    /// The sign-ins that have sessions here.
    pub fn sign_ins(&self) -> Vec<SignInId> {
        self.people().by_sign_in.keys().copied().collect()
    }

    fn room_or_new(&self, channel: &Arc<Channel>) -> Arc<Room> {
        let mut rooms = self.rooms();
        let room = rooms.entry(channel.id).or_insert_with(|| Arc::new(Room::new(channel.clone(), self.generation())));
        let room = room.clone();
        self.shared.metrics.rooms.set(rooms.len() as f64);
        room
    }

    fn room(&self, channel: ChannelId) -> Option<Arc<Room>> {
        self.rooms().get(&channel).cloned()
    }

    fn forget(&self, room: &Arc<Room>) {
        let mut rooms = self.rooms();
        if let Entry::Occupied(found) = rooms.entry(room.channel.id)
            && Arc::ptr_eq(found.get(), room)
        {
            found.remove();
            self.shared.metrics.ring_bytes.decrement(room.bytes() as f64);
        }
        self.shared.metrics.rooms.set(rooms.len() as f64);
    }

    fn generation(&self) -> u64 {
        self.shared.generations.fetch_add(1, Ordering::Relaxed)
    }

    fn rooms(&self) -> MutexGuard<'_, HashMap<ChannelId, Arc<Room>>> {
        self.shared.rooms.lock().expect("nothing panics while it holds the rooms")
    }

    fn people(&self) -> MutexGuard<'_, People> {
        self.shared.people.lock().expect("nothing panics while it holds the people")
    }
}

/// A session that is signed in; dropping it signs it out.
pub struct Presence {
    hub: Hub,
    user: UserId,
    sign_in: SignInId,
    session: SessionId,
}

impl Drop for Presence {
    fn drop(&mut self) {
        let mut people = self.hub.people();
        if let Entry::Occupied(mut sessions) = people.sessions.entry(self.user) {
            *sessions.get_mut() -= 1;
            if *sessions.get() == 0 {
                sessions.remove();
            }
        }
        if let Entry::Occupied(mut wakes) = people.by_sign_in.entry(self.sign_in) {
            // One entry, not all: a session that renews its token is here twice for a moment.
            let own = wakes.get().iter().position(|(session, _)| *session == self.session);
            own.map(|own| wakes.get_mut().swap_remove(own));
            if wakes.get().is_empty() {
                wakes.remove();
            }
        }
    }
}
