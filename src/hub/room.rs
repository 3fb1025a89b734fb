//! One channel that somebody on this node listens to: its ring, and its listeners.

use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use slab::Slab;
use tokio::time::Instant;

use super::ring::{Found, Frame, Ring};
use super::wake::Wake;
use crate::model::{Channel, Ends, Position, SessionId, UserId};
use crate::protocol::LeftReason;

/// The most frames that a session takes at a time, so that one busy channel does not hold up its others.
const READ_FRAMES_MAX: usize = 64;
/// For how long the log's oldest entry is taken for known.
const FIRST_KNOWN_FOR: Duration = Duration::from_secs(60);

/// A channel with listeners, or one that had some a short while ago.
pub struct Room {
    /// The channel.
    pub channel: Arc<Channel>,
    inner: Mutex<Inner>,
}

struct Inner {
    ring: Ring,
    listeners: Slab<Listener>,
    /// Another number is another ring: what was read from the log under an old one says nothing.
    generation: u64,
    /// What the log last told, and when it was asked.
    told: Option<(Ends, Instant)>,
    /// The last position that a sender here was told of: the feed may not have brought it yet.
    written: Position,
    touched: bool,
    doubted: bool,
    /// It waits among those without listeners.
    idle: bool,
    closed: bool,
}

/// A session that listens to one channel.
#[derive(Clone)]
pub struct Listener {
    /// Wakes the session.
    pub wake: Arc<Wake>,
    /// What the session calls its listening here.
    pub subscription: u32,
    /// The session.
    pub session: SessionId,
    /// Its user.
    pub user: UserId,
    /// The number of the membership by which it listens; `None` in a public channel, which needs none.
    pub membership: Option<u64>,
    marked: bool,
    ended: Option<Ended>,
}

impl Listener {
    /// A listener that has heard nothing yet.
    pub fn new(wake: Arc<Wake>, subscription: u32, session: SessionId, user: UserId, membership: Option<u64>) -> Self {
        Self { wake, subscription, session, user, membership, marked: false, ended: None }
    }

    fn mark(&mut self) -> Option<(Arc<Wake>, u32)> {
        let first = !std::mem::replace(&mut self.marked, true);
        first.then(|| (self.wake.clone(), self.subscription))
    }
}

/// Which listener of a room.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct ListenerKey(usize);

/// The server took a listener out of the channel.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Ended {
    /// The last position that the listener may still get.
    pub last: Position,
    /// Why.
    pub reason: LeftReason,
}

/// A room whose listeners have to be checked anew.
pub struct Doubted {
    /// The room.
    pub room: Arc<Room>,
    /// Since which generation.
    pub generation: u64,
    /// The memberships by which users listen: who, and its number.
    pub memberships: Vec<(UserId, u64)>,
}

/// What a cursor finds.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Read {
    /// Frames, and there are more.
    Frames,
    /// Frames up to the head; a mark follows when there are more.
    Last,
    /// Nothing further for now; a mark follows when there is.
    Head,
    /// What comes next must be read from the log.
    Elsewhere,
    /// The listeners are being checked; a mark follows.
    Wait,
}

/// What the room knows at this moment.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Seen {
    /// What to name when the log was read.
    pub generation: u64,
    /// Set where the listener was taken out.
    pub ended: Option<Ended>,
}

impl Room {
    pub(super) fn new(channel: Arc<Channel>, generation: u64) -> Self {
        let inner = Inner {
            ring: Ring::default(),
            listeners: Slab::new(),
            generation,
            told: None,
            written: Position::BEGINNING,
            touched: false,
            doubted: false,
            idle: false,
            closed: false,
        };
        Self { channel, inner: Mutex::new(inner) }
    }

    /// Copies what follows the cursor into `frames`; valid under `generation` only. A listener that was caught up under
    /// another generation has to ask the log whether it still is.
    pub fn read(&self, key: ListenerKey, cursor: Position, generation: u64, frames: &mut Vec<Frame>) -> (Read, Seen) {
        let mut inner = self.inner();
        let listener = &mut inner.listeners[key.0];
        listener.marked = false;
        let seen = Seen { ended: listener.ended, generation: inner.generation };
        let read = if inner.doubted && seen.ended.is_none() {
            Read::Wait
        } else if inner.generation != generation {
            Read::Elsewhere
        } else {
            match inner.ring.find(cursor) {
                Found::Next(index) => {
                    let mut next = inner.ring.from(index);
                    frames.extend(next.by_ref().take(READ_FRAMES_MAX).cloned());
                    if next.next().is_some() { Read::Frames } else { Read::Last }
                }
                Found::Head => Read::Head,
                Found::Elsewhere => Read::Elsewhere,
            }
        };
        (read, seen)
    }

    /// What the room knows of the listener, and which generation the log is to be read for.
    pub fn seen(&self, key: ListenerKey) -> Seen {
        let inner = self.inner();
        Seen { generation: inner.generation, ended: inner.listeners[key.0].ended }
    }

    /// Whether a cursor that comes from outside can be served from the ring alone, without asking the log.
    pub fn serves(&self, cursor: Position) -> bool {
        let inner = self.inner();
        match inner.ring.find(cursor) {
            Found::Next(_) => true,
            Found::Head => inner.ring.head() == Some(cursor),
            Found::Elsewhere => false,
        }
    }

    /// The ends of the log, where the room knows them for certain: nothing is trimmed while the log is shorter than
    /// `retention`, nor while nothing is added. Whoever was told of a message is never told of an end before it.
    pub fn ends(&self, retention: u64) -> Option<Ends> {
        let inner = self.inner();
        let head = inner.ring.head().filter(|head| *head >= inner.written)?;
        let (told, asked_at) = inner.told?;
        if head == Position::BEGINNING {
            return Some(Ends::default());
        }
        let first = told.first?;
        let whole = first.epoch == head.epoch && head.seq - first.seq < retention;
        let certain = (whole || told.last == Some(head)) && asked_at.elapsed() < FIRST_KNOWN_FOR;
        certain.then_some(Ends { first: Some(first), last: Some(head) })
    }

    /// Takes note of what the log told, if it was asked under the room's generation.
    pub fn learn(&self, generation: u64, ends: Ends, asked_at: Instant) {
        let mut inner = self.inner();
        if inner.generation == generation {
            inner.ring.learn(ends.last.unwrap_or(Position::BEGINNING));
            if inner.told.is_none_or(|(_, before)| before < asked_at) {
                inner.told = Some((ends, asked_at));
            }
        }
    }

    /// A sender on this node is being told of this position.
    pub(super) fn written(&self, position: Position) {
        let mut inner = self.inner();
        inner.written = inner.written.max(position);
    }

    /// Lets a listener in, and tells whether it is the first; `None` where nobody can come in any more.
    pub(super) fn listen(&self, listener: &Listener) -> Option<(ListenerKey, bool)> {
        let mut inner = self.inner();
        let first = inner.listeners.is_empty();
        (!inner.closed).then(|| (ListenerKey(inner.listeners.insert(listener.clone())), first))
    }

    /// Where that was the last one, the frames go: how many bytes they had.
    pub(super) fn unlisten(&self, key: ListenerKey) -> Option<usize> {
        let mut inner = self.inner();
        inner.listeners.remove(key.0);
        inner.listeners.is_empty().then(|| {
            inner.listeners = Slab::new();
            inner.ring.forget_frames()
        })
    }

    /// Whether it waits among the rooms without listeners; tells whether it did before.
    pub(super) fn set_idle(&self, idle: bool) -> bool {
        std::mem::replace(&mut self.inner().idle, idle)
    }

    /// Closes it unless somebody listens: then nobody can come in any more.
    pub(super) fn close(&self) -> bool {
        let mut inner = self.inner();
        inner.closed = inner.listeners.is_empty();
        inner.closed
    }

    /// Adds a frame; tells whether the room has to be woken, the first time since it was, and by how many bytes the ring
    /// has grown. A room that nobody listens to takes note of the position alone.
    pub(super) fn push(&self, position: Position, encode: impl FnOnce(&Channel) -> Frame) -> (bool, i64) {
        let mut inner = self.inner();
        if inner.closed || inner.ring.head().is_some_and(|head| position <= head) {
            return (false, 0);
        }
        let was_empty = inner.ring.head() == Some(Position::BEGINNING);
        if was_empty {
            inner.told = Some((Ends { first: Some(position), last: Some(position) }, Instant::now()));
        }
        if inner.listeners.is_empty() {
            inner.ring.pass(position);
            return (false, 0);
        }
        let before = inner.ring.bytes();
        inner.ring.push(encode(&self.channel));
        let grown = inner.ring.bytes() as i64 - before as i64;
        (!std::mem::replace(&mut inner.touched, true), grown)
    }

    pub(super) fn collect(&self, woken: &mut Vec<(Arc<Wake>, u32)>) {
        let mut inner = self.inner();
        inner.touched = false;
        woken.extend(inner.listeners.iter_mut().filter_map(|(_, listener)| listener.mark()));
    }

    pub(super) fn others(&self, session: SessionId) -> Vec<(Arc<Wake>, u32)> {
        let inner = self.inner();
        if inner.doubted {
            return Vec::new();
        }
        let may_hear = |listener: &Listener| listener.session != session && listener.ended.is_none();
        let others = inner.listeners.iter().filter(|(_, listener)| may_hear(listener));
        others.map(|(_, listener)| (listener.wake.clone(), listener.subscription)).collect()
    }

    pub(super) fn end(&self, membership: Option<(UserId, u64)>, ended: Ended) -> Vec<(Arc<Wake>, u32)> {
        let mut inner = self.inner();
        let is_concerned = |listener: &Listener| {
            membership.is_none_or(|(user, number)| {
                listener.user == user && listener.membership.is_some_and(|own| own <= number)
            })
        };
        let concerned = inner.listeners.iter_mut().map(|(_, listener)| listener);
        concerned
            .filter(|listener| is_concerned(listener))
            .filter_map(|listener| {
                listener.ended.get_or_insert(ended);
                listener.mark()
            })
            .collect()
    }

    /// How many bytes the ring held that is thrown away.
    pub(super) fn doubt(&self, generation: u64) -> usize {
        let mut inner = self.inner();
        let bytes = std::mem::take(&mut inner.ring).bytes();
        inner.told = None;
        inner.written = Position::BEGINNING;
        inner.generation = generation;
        inner.doubted = true;
        bytes
    }

    pub(super) fn doubted(self: &Arc<Self>) -> Option<Doubted> {
        let inner = self.inner();
        inner.doubted.then(|| {
            let listeners = inner.listeners.iter().map(|(_, listener)| listener);
            let memberships = listeners.filter_map(|listener| Some((listener.user, listener.membership?)));
            let mut memberships: Vec<_> = memberships.collect();
            memberships.sort_unstable();
            memberships.dedup();
            Doubted { room: self.clone(), generation: inner.generation, memberships }
        })
    }

    pub(super) fn trust(&self, generation: u64) -> Vec<(Arc<Wake>, u32)> {
        let mut inner = self.inner();
        if inner.generation != generation {
            return Vec::new();
        }
        inner.doubted = false;
        inner.listeners.iter_mut().filter_map(|(_, listener)| listener.mark()).collect()
    }

    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().expect("nothing panics while it holds a room")
    }
}
