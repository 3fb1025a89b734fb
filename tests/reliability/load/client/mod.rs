//! Clients as good client libraries behave: they come back, resume, and repeat with the same `cid`. No fault makes them
//! panic.

pub(crate) mod account;
mod link;
mod listener;
mod writer;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use burble::model::Position;
use tokio::time::sleep;

use self::account::Account;
use self::link::{Ended, Link};
pub(crate) use self::listener::Listener;
pub(crate) use self::writer::{Pace, Writer};
use super::history::{Client, History};

/// The first pause after a failure is up to this long, each further one up to twice as long.
const BACK_OFF_FIRST: Duration = Duration::from_millis(50);
/// No pause is longer.
const BACK_OFF_MAX: Duration = Duration::from_secs(1);

/// What all clients of a load are to do now.
#[derive(Clone, Debug)]
pub(crate) enum Phase {
    Running,
    /// Nothing new is sent; what is under way is brought to its end.
    Paused,
    /// The same, and a writer that has all its answers goes.
    Draining,
    /// A listener that has seen the heads, one for each channel, goes.
    Closing(Arc<Vec<Option<Position>>>),
}

/// Full jitter: any time up to a bound that doubles.
#[derive(Default)]
struct BackOff {
    failures: u32,
}

impl BackOff {
    /// How long to wait before the next try.
    fn next(&mut self) -> Duration {
        let longest = BACK_OFF_FIRST.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF_MAX);
        self.failures += 1;
        longest.mul_f64(f64::from(getrandom::u32().unwrap_or(u32::MAX)) / f64::from(u32::MAX))
    }
}

/// How a client reaches the servers, again and again.
pub(crate) struct Line {
    account: Arc<Account>,
    addresses: Arc<[SocketAddr]>,
    /// Which address is next.
    turn: usize,
    client: Client,
    history: History,
    /// How long an answer may take before the connection counts as dead.
    patience: Duration,
    back_off: BackOff,
}

impl Line {
    pub(crate) fn new(
        account: &Arc<Account>,
        addresses: &Arc<[SocketAddr]>,
        history: &History,
        patience: Duration,
    ) -> Self {
        let client = history.lock().client(&account.name);
        let (account, addresses) = (Arc::clone(account), Arc::clone(addresses));
        Self {
            account,
            addresses,
            turn: client,
            client,
            history: history.clone(),
            patience,
            back_off: BackOff::default(),
        }
    }

    /// A session, however long that takes.
    async fn connect(&mut self) -> Link {
        loop {
            let address = self.addresses[self.turn % self.addresses.len()];
            self.turn += 1;
            if let Some(link) = Link::open(self, address).await {
                self.back_off = BackOff::default();
                return link;
            }
            sleep(self.back_off.next()).await;
        }
    }

    /// What is to be done before coming back.
    async fn recover(&mut self, ended: Ended) {
        match ended {
            Ended::Lost => sleep(self.back_off.next()).await,
            Ended::After(pause) => sleep(pause).await,
            Ended::SignedOut(token) => self.account.forget(&token).await,
        }
    }

    /// The token runs out: the session goes on with a fresh one.
    async fn renew(&mut self, link: &mut Link) -> Result<(), Ended> {
        if let Some(token) = self.account.refresh(link.address, &link.token).await {
            link.ask(serde_json::json!({"op": "auth", "token": token})).await?;
            link.token = token;
            self.history.lock().renewed += 1;
        }
        Ok(())
    }
}
