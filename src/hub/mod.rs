//! Who listens to which channel on this node, and who is signed in. Memory only: no I/O, nothing awaits.

mod ring;
mod room;
mod rooms;
mod wake;

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};

use tokio_tungstenite::tungstenite::Utf8Bytes;

pub use ring::Frame;
pub use room::{Doubted, Ended, Listener, ListenerKey, Read, Room, Seen};
pub use wake::{Wake, Woken};

use crate::error::{Error, Result};
use crate::metrics::Metrics;
use crate::model::{Channel, ChannelId, Position, SessionId, SignInId, UserId};
use crate::protocol::LeftReason;
use rooms::Rooms;

/// The node's memory of its listeners; clones share it.
#[derive(Clone)]
pub struct Hub {
    shared: Arc<Shared>,
}

struct Shared {
    rooms: Mutex<Rooms>,
    people: Mutex<People>,
    generations: AtomicU64,
    listeners: AtomicUsize,
    metrics: Metrics,
}

/// How much there is on the node.
#[derive(Clone, Copy, Debug)]
pub struct Population {
    /// Channels that somebody listens to, and those that are kept.
    pub rooms: usize,
    /// Listeners in all of them.
    pub listeners: usize,
    /// Users with a session.
    pub users: usize,
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
        let shared = Shared {
            rooms: Mutex::default(),
            people: Mutex::default(),
            generations: AtomicU64::new(1),
            listeners: AtomicUsize::new(0),
            metrics,
        };
        Self { shared: Arc::new(shared) }
    }

    /// Makes the listener hear of the channel from now on. Register before you read the log's head.
    pub fn listen(&self, channel: &Arc<Channel>, listener: Listener) -> (Arc<Room>, ListenerKey) {
        loop {
            let room = self.rooms().get_or_new(channel, || self.generation());
            match room.listen(&listener) {
                Some((key, first)) => {
                    self.shared.listeners.fetch_add(1, Ordering::Relaxed);
                    if first {
                        self.shared.metrics.rooms.increment(1.0);
                    }
                    return (room, key);
                }
                // It was closed in between; it is no longer in the map, or about to be taken out.
                None => self.rooms().forget(&room),
            }
        }
    }

    /// Ends what [`Hub::listen`] began. A room without listeners has no frames, and few are kept.
    pub fn unlisten(&self, room: &Arc<Room>, key: ListenerKey) {
        self.shared.listeners.fetch_sub(1, Ordering::Relaxed);
        let Some(bytes) = room.unlisten(key) else { return };
        self.shared.metrics.rooms.decrement(1.0);
        self.shared.metrics.ring_bytes.decrement(bytes as f64);
        self.rooms().keep(room);
    }

    /// Forgets the rooms that were left before the last call and are empty still.
    pub fn sweep(&self) {
        self.rooms().sweep();
    }

    /// How much there is.
    pub fn population(&self) -> Population {
        let (rooms, users) = (self.rooms().len(), self.people().sessions.len());
        Population { rooms, listeners: self.shared.listeners.load(Ordering::Relaxed), users }
    }

    /// Takes note that a sender is about to be told of a position: nobody who asks afterwards is told of an end before it.
    pub fn written(&self, channel: ChannelId, position: Position) {
        if let Some(room) = self.room(channel) {
            room.written(position);
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
        let others = room.others(session);
        if others.is_empty() {
            return;
        }
        let text = encode(&room.channel);
        for (wake, subscription) in others {
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
        if reason == LeftReason::Deleted {
            self.rooms().close(&room);
        }
    }

    /// Forgets what the node believes of the rooms that `concerned` names: everybody in them waits for
    /// [`Hub::trust`], and then asks the log again.
    pub fn doubt(&self, concerned: impl Fn(ChannelId) -> bool) {
        let rooms = self.rooms().all();
        for room in rooms.iter().filter(|room| concerned(room.channel.id)) {
            let bytes = room.doubt(self.generation());
            self.shared.metrics.ring_bytes.decrement(bytes as f64);
            self.rooms().close(room);
        }
    }

    /// The rooms whose listeners have to be checked anew.
    pub fn doubted(&self) -> Vec<Doubted> {
        let rooms = self.rooms().all();
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

    fn room(&self, channel: ChannelId) -> Option<Arc<Room>> {
        self.rooms().get(channel)
    }

    fn generation(&self) -> u64 {
        self.shared.generations.fetch_add(1, Ordering::Relaxed)
    }

    fn rooms(&self) -> MutexGuard<'_, Rooms> {
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

#[cfg(test)]
mod tests {
    use tokio::time::Instant;
    use uuid::Uuid;

    use super::rooms::IDLE_ROOMS_MAX;
    use super::*;
    use crate::model::{ChannelKind, Ends, LastEpoch, Topic};

    const RETENTION: u64 = 100;

    fn channel(number: usize) -> Arc<Channel> {
        let topic = Topic::try_from(String::new()).unwrap();
        let (id, name) = (ChannelId(Uuid::from_u128(number as u128)), format!("tea-{number}").parse().unwrap());
        let (kind, last_epoch) = (ChannelKind::Public, LastEpoch::default());
        Arc::new(Channel { id, name, kind, topic, created_at: 0, epoch_floor: 0, last_epoch })
    }

    fn listener() -> Listener {
        Listener::new(Arc::default(), 0, SessionId(Uuid::nil()), UserId(Uuid::nil()), None)
    }

    fn at(seq: u64) -> Position {
        Position { epoch: 1, seq }
    }

    fn deliver(hub: &Hub, channel: &Channel, seq: u64) -> usize {
        let mut encoded = 0;
        hub.deliver(channel.id, at(seq), &mut Touched::default(), |_| {
            encoded += 1;
            Frame { position: at(seq), at: 0, text: "x".into() }
        });
        encoded
    }

    /// A channel that was joined, learnt about and left.
    fn left(hub: &Hub, number: usize) -> Arc<Channel> {
        let channel = channel(number);
        let (room, key) = hub.listen(&channel, listener());
        let generation = room.seen(key).generation;
        room.learn(generation, Ends { first: Some(at(0)), last: Some(at(5)) }, Instant::now());
        hub.unlisten(&room, key);
        channel
    }

    fn ends(hub: &Hub, channel: &Arc<Channel>) -> Option<Position> {
        let (room, key) = hub.listen(channel, listener());
        let ends = room.ends(RETENTION);
        hub.unlisten(&room, key);
        ends.map(|ends| ends.last.unwrap())
    }

    #[tokio::test]
    async fn a_room_that_was_left_follows_its_log_without_frames() {
        let hub = Hub::new(Metrics::unobserved());
        let channel = left(&hub, 1);
        assert_eq!(ends(&hub, &channel), Some(at(5)));
        assert_eq!(deliver(&hub, &channel, 6), 0, "nobody listens, so nothing is encoded");
        assert_eq!(ends(&hub, &channel), Some(at(6)));
        let (room, key) = hub.listen(&channel, listener());
        assert_eq!(deliver(&hub, &channel, 7), 1);
        assert!(room.serves(at(6)) && !room.serves(at(5)));
        hub.unlisten(&room, key);
        assert!(!room.serves(at(6)) && room.serves(at(7)), "the frames have gone");
    }

    #[tokio::test]
    async fn nobody_is_told_of_an_end_before_what_a_sender_was_told_of() {
        let hub = Hub::new(Metrics::unobserved());
        let channel = left(&hub, 1);
        hub.written(channel.id, at(6));
        assert_eq!(ends(&hub, &channel), None, "the feed has not brought it yet: the log is asked");
        deliver(&hub, &channel, 6);
        assert_eq!(ends(&hub, &channel), Some(at(6)));
    }

    #[tokio::test]
    async fn a_sweep_takes_what_was_left_before_the_last_one() {
        let hub = Hub::new(Metrics::unobserved());
        let (old, busy) = (left(&hub, 1), left(&hub, 2));
        let (room, key) = hub.listen(&busy, listener());
        hub.sweep();
        let new = left(&hub, 3);
        hub.sweep();
        assert_eq!((ends(&hub, &old), ends(&hub, &new)), (None, Some(at(5))));
        hub.unlisten(&room, key);
        assert_eq!(ends(&hub, &busy), Some(at(5)));
    }

    #[tokio::test]
    async fn few_rooms_without_listeners_are_kept_and_none_in_doubt_or_deleted() {
        let hub = Hub::new(Metrics::unobserved());
        let channels: Vec<_> = (0..=IDLE_ROOMS_MAX).map(|number| left(&hub, number)).collect();
        assert_eq!(hub.rooms().len(), IDLE_ROOMS_MAX);
        assert_eq!(ends(&hub, &channels[IDLE_ROOMS_MAX]), Some(at(5)));
        assert_eq!(ends(&hub, &channels[0]), None, "the one that was left first");

        let (room, key) = hub.listen(&channels[9], listener());
        (0..2 * IDLE_ROOMS_MAX).for_each(|number| _ = left(&hub, IDLE_ROOMS_MAX + number));
        assert!(room.ends(RETENTION).is_some(), "somebody is back in it");
        assert!(Arc::ptr_eq(&hub.listen(&channels[9], listener()).0, &room));
        hub.end(channels[9].id, None, Position::BEGINNING, LeftReason::Deleted);
        assert!(room.seen(key).ended.is_some());

        hub.end(ChannelId(Uuid::from_u128(3 * IDLE_ROOMS_MAX as u128 - 1)), None, at(5), LeftReason::Deleted);
        assert_eq!(ends(&hub, &channel(3 * IDLE_ROOMS_MAX - 1)), None);
        hub.doubt(|_| true);
        assert_eq!(hub.rooms().len(), 1, "but the one with listeners");
    }
}
