//! How a session learns that there is something for it: a mark, not a queue.

use std::sync::{Mutex, MutexGuard};

use tokio::sync::Notify;
use tokio_tungstenite::tungstenite::Utf8Bytes;

/// The most `typing` events that wait for a session; further ones are dropped.
const TYPING_MAX: usize = 16;

/// Wakes one session. Holds at most one mark per subscription, so that nothing can pile up.
#[derive(Default)]
pub struct Wake {
    state: Mutex<Woken>,
    notify: Notify,
}

/// Why a session was woken.
#[derive(Default)]
pub struct Woken {
    /// The subscriptions whose ring, or state, has changed.
    pub subscriptions: Vec<u32>,
    /// Who is typing, by subscription.
    pub typing: Vec<(u32, Utf8Bytes)>,
    /// A time that the session asked for has come.
    pub tick: bool,
    /// The sign-in was revoked.
    pub revoked: bool,
}

impl Wake {
    /// Something is there for the subscription.
    pub fn mark(&self, subscription: u32) {
        self.state().subscriptions.push(subscription);
        self.notify.notify_one();
    }

    /// A time that the session asked for has come.
    pub fn tick(&self) {
        self.state().tick = true;
        self.notify.notify_one();
    }

    /// Has the session look at its marks again.
    pub fn poke(&self) {
        self.notify.notify_one();
    }

    /// Waits for anything. Cancel-safe: what was marked stays marked.
    pub async fn woken(&self) {
        self.notify.notified().await;
    }

    /// Waits until the sign-in is revoked; for one who is busy writing. Other marks stay for later.
    pub async fn revoked(&self) {
        loop {
            if self.state().revoked {
                self.notify.notify_one();
                return;
            }
            self.notify.notified().await;
        }
    }

    /// Takes all that was marked; `woken` is given empty, and its memory used again.
    pub fn take(&self, woken: &mut Woken) {
        std::mem::swap(&mut *self.state(), woken);
    }

    pub(super) fn typing(&self, subscription: u32, text: Utf8Bytes) -> bool {
        let mut state = self.state();
        let fits = state.typing.len() < TYPING_MAX;
        if fits {
            state.typing.push((subscription, text));
        }
        drop(state);
        self.notify.notify_one();
        fits
    }

    pub(super) fn revoke(&self) {
        self.state().revoked = true;
        self.notify.notify_one();
    }

    fn state(&self) -> MutexGuard<'_, Woken> {
        self.state.lock().expect("nothing panics while it holds the marks")
    }
}
