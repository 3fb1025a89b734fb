//! Attempts at what can be guessed, counted in Redis for all nodes together. Each is counted before it is made.

use std::time::Duration;

use redis::{Script, ScriptInvocation};
use tracing::warn;

use super::Broker;
use super::append::digest;
use super::keys::ATTEMPTS;
use crate::error::{Error, Result};

/// How long attempts are counted together, and how long a counter is kept after the last wait that it imposed.
const WINDOW: Duration = Duration::from_secs(15 * 60);
/// The wait after the first attempt beyond the free ones; each further one doubles it.
const WAIT_MIN: Duration = Duration::from_secs(1);
/// The longest wait: 100 guesses a day are left to who is that patient.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// What an attempt counts against. Whatever a client typed stands in Redis as a digest alone.
#[derive(Debug, Default)]
pub struct Attempt {
    counters: Vec<Counter>,
    mark: Option<Mark>,
}

#[derive(Debug)]
struct Counter {
    key: String,
    free: usize,
    cleared: bool,
}

#[derive(Debug)]
struct Mark {
    key: String,
    kept: Duration,
}

/// How an attempt ended that was no failure.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Settled {
    /// It succeeded: the counters that this clears begin anew, and the mark is set.
    Succeeded,
    /// It was not made to its end, so it says nothing.
    Withdrawn,
}

impl Attempt {
    /// Counts against the subject too, where `max` is a limit: so many attempts are free in each window.
    pub fn against(mut self, max: Option<usize>, subject: &[&str]) -> Self {
        self.counters.extend(max.map(|free| Counter { key: digest(subject), free, cleared: false }));
        self
    }

    /// The same, and a success clears the counter.
    pub fn against_until_success(mut self, max: Option<usize>, subject: &[&str]) -> Self {
        self.counters.extend(max.map(|free| Counter { key: digest(subject), free, cleared: true }));
        self
    }

    /// The same, and a success exempts `exempt` from this counter for as long as the mark is kept. Comes last.
    pub fn against_strangers(mut self, max: Option<usize>, subject: &[&str], exempt: &[&str], kept: Duration) -> Self {
        self = self.against_until_success(max, subject);
        self.mark = max.map(|_| Mark { key: digest(exempt), kept });
        self
    }
}

impl Broker {
    /// Counts the attempt, in one call, before it is made.
    ///
    /// # Errors
    /// `rate_limited` with the time to wait, and then nothing was counted; `unavailable` where Redis does not answer:
    /// to let attempts pass uncounted would make an outage the time for guessing.
    pub async fn attempt(&self, attempt: &Attempt) -> Result<()> {
        if attempt.counters.is_empty() {
            return Ok(());
        }
        let script = Script::new(include_str!("attempt.lua"));
        let mut call = self.counting(&script, attempt);
        for duration in [WINDOW, WAIT_MIN, WAIT_MAX] {
            call.arg(ms(duration));
        }
        for counter in &attempt.counters {
            call.arg(counter.free);
        }
        match self.count(&call).await {
            Ok(0) => Ok(()),
            Ok(wait_ms) => Err(Error::RateLimited(Duration::from_millis(wait_ms))),
            Err(error) => Err(Error::Unavailable(error.context("attempts cannot be counted"))),
        }
    }

    /// Takes back an attempt that was no failure. Where Redis does not answer it stays counted until it expires.
    pub async fn settle(&self, attempt: &Attempt, settled: Settled) {
        if attempt.counters.is_empty() {
            return;
        }
        let succeeded = settled == Settled::Succeeded;
        let script = Script::new(include_str!("settle.lua"));
        let mut call = self.counting(&script, attempt);
        let kept = attempt.mark.as_ref().filter(|_| succeeded).map_or(0, |mark| ms(mark.kept));
        call.arg(kept);
        for counter in &attempt.counters {
            call.arg(u8::from(succeeded && counter.cleared));
        }
        if let Err(error) = self.count(&call).await {
            warn!(error = format!("{error:#}"), "An attempt that did not fail stays counted");
        }
    }

    fn counting<'a>(&self, script: &'a Script, attempt: &Attempt) -> ScriptInvocation<'a> {
        let mut call = script.prepare_invoke();
        let keys = attempt.counters.iter().map(|counter| &counter.key);
        for key in keys.chain(attempt.mark.as_ref().map(|mark| &mark.key)) {
            call.key(self.shared.keys.attempts(key));
        }
        call
    }

    async fn count(&self, call: &ScriptInvocation<'_>) -> anyhow::Result<u64> {
        let shared = &self.shared;
        let mut connection = shared.servers.pooled(shared.keys.slot(ATTEMPTS)).await?;
        Ok(call.invoke_async(&mut connection).await?)
    }
}

fn ms(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
