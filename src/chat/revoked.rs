//! The sign-ins that were revoked while access tokens of theirs are still unexpired.

use std::collections::HashMap;
use std::sync::Mutex;
use std::time::Duration;

use super::Chat;
use crate::clock;
use crate::error::Result;
use crate::model::{Change, SignInId, TimeMs};
use crate::store::Outgoing;

/// What clocks of different nodes may differ by.
const CLOCK_SLACK: Duration = Duration::from_secs(60);

/// Bounded by what is revoked in the lifetime of an access token.
#[derive(Default)]
pub(super) struct Revoked {
    until: Mutex<HashMap<SignInId, TimeMs>>,
}

impl Revoked {
    pub(super) fn contains(&self, sign_in: SignInId) -> bool {
        self.until.lock().expect("nothing panics while it holds the sign-ins").contains_key(&sign_in)
    }

    fn insert(&self, sign_ins: &[SignInId], now: TimeMs, until: TimeMs) {
        let mut known = self.until.lock().expect("nothing panics while it holds the sign-ins");
        known.retain(|_, until| *until > now);
        known.extend(sign_ins.iter().map(|sign_in| (*sign_in, until)));
    }
}

impl Chat {
    /// Takes revoked sign-ins at their word on this node: tokens are refused, sessions closed.
    pub(super) fn apply_revoked(&self, sign_ins: &[SignInId]) {
        let now = clock::now_ms();
        let keep = self.shared.rules.access + CLOCK_SLACK;
        self.shared.revoked.insert(sign_ins, now, now + keep.as_millis() as TimeMs);
        self.shared.hub.revoke(sign_ins);
    }

    /// Here at once, and on every node as soon as it hears it. It is decided: what the others have not heard yet, they will.
    pub(super) async fn revoke(&self, revoked: impl IntoIterator<Item = Outgoing>) {
        for outgoing in revoked {
            if let Change::Revoked { sign_ins, .. } = &outgoing.change {
                self.apply_revoked(sign_ins);
            }
            let _ = self.tell(outgoing).await;
        }
    }

    /// Reads from the database what notices may have been missed.
    pub(super) async fn read_revoked(&self) -> Result<()> {
        let since = clock::now_ms() - (self.shared.rules.access + CLOCK_SLACK).as_millis() as TimeMs;
        let sign_ins = self.shared.store.sign_ins().revoked_since(since).await?;
        self.apply_revoked(&sign_ins);
        Ok(())
    }
}
