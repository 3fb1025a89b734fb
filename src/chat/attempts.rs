//! Guessing passwords is made slow: what is counted of an attempt, and what becomes of it.

use std::net::IpAddr;
use std::time::Duration;

use super::Chat;
use crate::broker::{Attempt, Settled};
use crate::config::Limit;
use crate::error::{Error, Result};

/// For how long an address from which a user has signed in is known as theirs.
const KNOWN: Duration = Duration::from_secs(30 * 86_400);

/// How many attempts are free before waiting begins.
#[derive(Clone, Debug)]
pub struct AttemptLimits {
    /// Failures for a name from one address.
    pub failures: Limit,
    /// Failures for a name from all addresses that are not known as the user's.
    pub failures_per_name: Limit,
    /// Failures for all names from one address.
    pub failures_per_address: Limit,
    /// Sign-ups from one address.
    pub sign_ups_per_address: Limit,
}

impl Chat {
    /// Checks a password for a name: counted before anything is computed, and a failure unless it turns out otherwise.
    /// `address` is the client's network.
    pub(super) async fn guess<T>(
        &self,
        name: &str,
        address: IpAddr,
        check: impl Future<Output = Result<T>>,
    ) -> Result<T> {
        let limits = &self.shared.rules.attempts;
        let address = &address.to_string();
        let attempt = Attempt::default()
            .against_until_success(limits.failures.max(), &["sign-in", name, address])
            .against(limits.failures_per_address.max(), &["address", address])
            .against_strangers(limits.failures_per_name.max(), &["name", name], &["known", name, address], KNOWN);
        self.allow("sign_in", &attempt).await?;
        let checked = check.await;
        match &checked {
            Ok(_) => self.shared.broker.settle(&attempt, Settled::Succeeded).await,
            Err(Error::BadCredentials) => {}
            Err(_) => self.shared.broker.settle(&attempt, Settled::Withdrawn).await,
        }
        checked
    }

    /// Counts a sign-up, whatever becomes of it: each costs a hash.
    pub(super) async fn count_sign_up(&self, address: IpAddr) -> Result<()> {
        let max = self.shared.rules.attempts.sign_ups_per_address.max();
        self.allow("sign_up", &Attempt::default().against(max, &["sign-up", &address.to_string()])).await
    }

    async fn allow(&self, what: &str, attempt: &Attempt) -> Result<()> {
        let allowed = self.shared.broker.attempt(attempt).await;
        if matches!(allowed, Err(Error::RateLimited(_))) {
            self.shared.metrics.refused_total.with([what]).increment(1);
        }
        allowed
    }
}
