//! Who is in which room of the yardstick, and what waits for each of them.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::task::{Context, Poll, Waker};

use bytes::Bytes;

use super::frames;

/// Frames that may wait for one connection. It has stopped reading long before this; it is cut off.
const WAITING_MAX: usize = 1 << 20;

/// All rooms, made at their first use.
#[derive(Default)]
pub(super) struct Rooms {
    by_name: Mutex<HashMap<Box<[u8]>, Arc<Room>>>,
}

impl Rooms {
    /// The room of this name.
    pub(super) fn room(&self, name: &[u8]) -> Arc<Room> {
        let mut by_name = lock(&self.by_name);
        if let Some(room) = by_name.get(name) {
            return room.clone();
        }
        by_name.entry(name.into()).or_default().clone()
    }
}

/// Its members, and how many messages it has seen.
#[derive(Default)]
pub(super) struct Room {
    inside: Mutex<Inside>,
}

#[derive(Default)]
struct Inside {
    members: Vec<Arc<Outbox>>,
    next_seq: u64,
}

impl Room {
    /// From now on, this one gets what is sent.
    pub(super) fn enter(&self, member: &Arc<Outbox>) {
        lock(&self.inside).members.push(member.clone());
    }

    /// It gets no more.
    pub(super) fn leave(&self, member: &Arc<Outbox>) {
        let members = &mut lock(&self.inside).members;
        if let Some(at) = members.iter().position(|other| Arc::ptr_eq(other, member)) {
            members.swap_remove(at);
        }
    }

    /// Frames the message once, puts it out for every member, and returns its `seq`.
    ///
    /// The lock is held while it is put out: it is what keeps the order of two senders.
    pub(super) fn send(&self, name: &[u8], text: &[u8]) -> u64 {
        let mut inside = lock(&self.inside);
        let seq = inside.next_seq;
        inside.next_seq += 1;
        let frame = frames::message(name, seq, text);
        for member in &inside.members {
            member.push(frame.clone());
        }
        seq
    }
}

/// What waits to be written to one connection.
#[derive(Default)]
pub(super) struct Outbox {
    waiting: Mutex<Waiting>,
}

#[derive(Default)]
struct Waiting {
    frames: Vec<Bytes>,
    waker: Option<Waker>,
    overflowed: bool,
}

impl Outbox {
    /// Adds a frame and wakes the connection.
    pub(super) fn push(&self, frame: Bytes) {
        let mut waiting = lock(&self.waiting);
        if waiting.frames.len() < WAITING_MAX {
            waiting.frames.push(frame);
        } else {
            waiting.overflowed = true;
        }
        let waker = waiting.waker.take();
        drop(waiting);
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Swaps what waits into `frames`, which is empty, or asks to be woken. False: cut the connection.
    pub(super) fn poll_take(&self, cx: &Context<'_>, frames: &mut Vec<Bytes>) -> Poll<bool> {
        let mut waiting = lock(&self.waiting);
        if waiting.overflowed {
            return Poll::Ready(false);
        }
        if waiting.frames.is_empty() {
            waiting.waker = Some(cx.waker().clone());
            return Poll::Pending;
        }
        std::mem::swap(&mut waiting.frames, frames);
        Poll::Ready(true)
    }

    /// The connection is awake and will look by itself.
    pub(super) fn forget_waker(&self) {
        lock(&self.waiting).waker = None;
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nothing panics under this lock")
}
