//! Passwords, hashed slowly, on few threads: a flood of sign-ins holds up other sign-ins, never messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use pbkdf2::phc::PasswordHash;
use pbkdf2::{Algorithm, Params, PasswordHasher, PasswordVerifier, Pbkdf2};
use tokio::runtime::{self, Runtime};
use tokio::sync::Semaphore;
use tokio::time::Instant;

use crate::error::{Error, Result};
use crate::metrics::{Metrics, Waiting};

/// The shortest password that may be chosen, in characters.
pub const PASSWORD_CHARS_MIN: usize = 8;
/// The longest one; nothing longer is ever hashed.
pub const PASSWORD_CHARS_MAX: usize = 256;
/// When to come again where too many are waiting.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// How much the threads that hash give way to all others, on top of the niceness of the node: on a machine that is busy
/// they get about a tenth of what a thread gets that serves messages. See nice(1).
#[cfg(target_os = "linux")]
const NICER: i32 = 10;
/// There is nothing nicer.
#[cfg(target_os = "linux")]
const NICEST: i32 = 19;

/// A password as it was typed. It is never printed.
#[derive(Clone, PartialEq, Eq)]
pub struct Password(String);

impl Password {
    /// Takes one that is to be chosen.
    ///
    /// # Errors
    /// `bad_request` for fewer than 8 or more than 256 characters.
    pub fn chosen(text: String) -> Result<Self> {
        if (PASSWORD_CHARS_MIN..=PASSWORD_CHARS_MAX).contains(&text.chars().count()) {
            Ok(Self(text))
        } else {
            Err(Error::BadRequest(format!("a password has {PASSWORD_CHARS_MIN} to {PASSWORD_CHARS_MAX} characters")))
        }
    }

    /// Takes one that is to be compared with the chosen one.
    ///
    /// # Errors
    /// `bad_credentials` for one that is too long to be anybody's.
    pub fn presented(text: String) -> Result<Self> {
        if text.chars().nth(PASSWORD_CHARS_MAX).is_none() { Ok(Self(text)) } else { Err(Error::BadCredentials) }
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// Whether a password is the right one.
#[derive(Clone, PartialEq, Eq, Debug)]
pub enum Verdict {
    /// It is. `rehash` is a stronger hash to be stored in place of the old one, where that has fewer rounds than are set.
    Match {
        /// The hash, a PHC string.
        rehash: Option<String>,
    },
    /// It is not, or there is no such user.
    Mismatch,
}

/// Hashes and verifies, with at most so many at a time and so many waiting. Clones share the threads.
#[derive(Clone)]
pub struct Passwords {
    scheme: Pbkdf2,
    rounds: u32,
    /// For users that do not exist: no password has it, and it costs as much as a real one.
    dummy: Arc<str>,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    threads: Arc<Threads>,
    metrics: Metrics,
}

/// Threads of their own, for they are to be slower than the others.
struct Threads(Option<Runtime>);

impl Threads {
    fn new(count: usize) -> anyhow::Result<Self> {
        let mut builder = runtime::Builder::new_current_thread();
        builder.max_blocking_threads(count).thread_name("password").on_thread_start(|| {
            // A thread alone has a niceness on Linux only; elsewhere it would be that of the whole node.
            #[cfg(target_os = "linux")]
            if let Err(error) = give_way() {
                tracing::warn!(%error, "Sign-ins may hold up messages: their threads cannot be made to give way");
            }
        });
        Ok(Self(Some(builder.build()?)))
    }

    fn runtime(&self) -> &Runtime {
        self.0.as_ref().expect("it is there until it is dropped")
    }
}

/// Makes this thread nicer than the node.
#[cfg(target_os = "linux")]
fn give_way() -> rustix::io::Result<()> {
    let niceness = rustix::process::getpriority_process(None)?;
    rustix::process::setpriority_process(None, (niceness + NICER).min(NICEST))
}

impl Drop for Threads {
    /// Nobody waits for a hash any more; a runtime may not be dropped by a task in any other way.
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

impl Passwords {
    /// `threads` hash at a time and `waiting_max` wait for them; beyond that callers hear `rate_limited`.
    ///
    /// # Errors
    /// For fewer than 1,000 rounds.
    pub fn new(rounds: u32, threads: usize, waiting_max: usize, metrics: Metrics) -> anyhow::Result<Self> {
        let params = Params::new(rounds).map_err(|_| anyhow!("{rounds} rounds are too few; the least is 1000"))?;
        let threads = threads.max(1);
        metrics.password_threads.set(threads as f64);
        Ok(Self {
            scheme: Pbkdf2::new(Algorithm::Pbkdf2Sha256, params),
            rounds,
            dummy: dummy(params)?.into(),
            threads: Arc::new(Threads::new(threads)?),
            running: Arc::new(Semaphore::new(threads)),
            admitted: Arc::new(Semaphore::new(threads.saturating_add(waiting_max).min(Semaphore::MAX_PERMITS))),
            metrics,
        })
    }

    /// A new hash of the password, as a PHC string.
    ///
    /// # Errors
    /// `rate_limited` where too many are waiting.
    pub async fn hash(&self, password: Password) -> Result<String> {
        let this = self.clone();
        self.on_a_thread(move || this.hash_now(&password)).await
    }

    /// Whether the password has that hash. Without a hash it takes as long, and is a mismatch.
    ///
    /// # Errors
    /// `rate_limited` where too many are waiting; `internal` where the hash is no PHC string.
    pub async fn verify(&self, password: Password, stored: Option<&str>) -> Result<Verdict> {
        let this = self.clone();
        let known = stored.is_some();
        let hash = stored.map_or_else(|| self.dummy.to_string(), Into::into);
        self.on_a_thread(move || match this.verify_now(&password, &hash)? {
            Verdict::Match { .. } if !known => Ok(Verdict::Mismatch),
            verdict => Ok(verdict),
        })
        .await
    }

    async fn on_a_thread<T: Send + 'static>(&self, work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
        let admitted = self.admitted.clone().try_acquire_owned().map_err(|_| {
            self.metrics.refused_total.with(["passwords"]).increment(1);
            Error::RateLimited(RETRY_AFTER)
        })?;
        let waiting = Waiting::new(&self.metrics.password_queue);
        let running = self.running.clone().acquire_owned().await.expect("the semaphore is never closed");
        drop(waiting);
        let seconds = self.metrics.password_seconds.clone();
        // The permits go with the work: it runs to its end even if nobody waits for it any more.
        let done = self.threads.runtime().spawn_blocking(move || {
            let _permits = (admitted, running);
            let began = Instant::now();
            let done = work();
            seconds.record(began.elapsed());
            done
        });
        done.await.map_err(|e| Error::Internal(e.into()))?
    }

    fn hash_now(&self, password: &Password) -> Result<String> {
        let hash = self.scheme.hash_password(password.0.as_bytes()).map_err(|e| Error::Internal(e.into()))?;
        Ok(hash.to_string())
    }

    fn verify_now(&self, password: &Password, stored: &str) -> Result<Verdict> {
        let hash = PasswordHash::new(stored).context("a stored password hash").map_err(Error::Internal)?;
        let params = Params::try_from(&hash).context("a stored password hash").map_err(Error::Internal)?;
        if self.scheme.verify_password(password.0.as_bytes(), &hash).is_err() {
            return Ok(Verdict::Mismatch);
        }
        let is_weaker = params.rounds() < self.rounds;
        Ok(Verdict::Match { rehash: is_weaker.then(|| self.hash_now(password)).transpose()? })
    }
}

/// A hash that was never computed: random bytes in the form of one.
fn dummy(params: Params) -> anyhow::Result<String> {
    let mut random = [0; 16 + Params::RECOMMENDED_OUTPUT_LENGTH];
    getrandom::fill(&mut random)?;
    let (salt, output) = random.split_at(16);
    let hash = PasswordHash {
        algorithm: Algorithm::Pbkdf2Sha256.into(),
        version: None,
        params: params.try_into().map_err(|e| anyhow!("{e}"))?,
        salt: Some(pbkdf2::password_hash::phc::Salt::new(salt).map_err(|e| anyhow!("{e}"))?),
        hash: Some(pbkdf2::password_hash::phc::Output::new(output).map_err(|e| anyhow!("{e}"))?),
    };
    Ok(hash.to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    const ROUNDS: u32 = 1_000;

    fn password(text: &str) -> Password {
        Password::chosen(text.into()).unwrap()
    }

    fn passwords() -> Passwords {
        Passwords::new(ROUNDS, 1, 8, Metrics::unobserved()).unwrap()
    }

    #[test]
    fn a_chosen_password_has_8_to_256_characters() {
        for good in ["12345678", "ß€😀ß€😀ßß", &"😀".repeat(256)] {
            assert!(Password::chosen(good.into()).is_ok(), "{good}");
        }
        for bad in ["", "1234567", "ß€😀ß€😀ß", &"x".repeat(257)] {
            assert!(matches!(Password::chosen(bad.into()), Err(Error::BadRequest(_))), "{bad}");
        }
        assert!(Password::presented("short".into()).is_ok());
        assert!(matches!(Password::presented("x".repeat(257)), Err(Error::BadCredentials)));
        assert_eq!(format!("{:?}", password("correct horse")), "Password(…)");
    }

    #[cfg(target_os = "linux")]
    #[tokio::test]
    async fn only_the_threads_that_hash_give_way_to_others() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let before = niceness();
        assert_eq!(passwords().on_a_thread(move || Ok(niceness())).await.unwrap(), (before + NICER).min(NICEST));
        assert_eq!(niceness(), before);
    }

    #[tokio::test]
    async fn the_right_password_matches_its_hash() {
        let passwords = passwords();
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        assert!(hash.starts_with("$pbkdf2-sha256$i=1000,l=32$"), "{hash}");
        assert_ne!(hash, passwords.hash(password("correct horse")).await.unwrap(), "each has a salt of its own");
        let verdict = passwords.verify(password("correct horse"), Some(&hash)).await.unwrap();
        assert_eq!(verdict, Verdict::Match { rehash: None });
        let verdict = passwords.verify(password("correct house"), Some(&hash)).await.unwrap();
        assert_eq!(verdict, Verdict::Mismatch);
    }

    #[tokio::test]
    async fn a_weaker_hash_is_due_to_be_replaced() {
        let weak = passwords().hash(password("correct horse")).await.unwrap();
        let strong = Passwords::new(2 * ROUNDS, 1, 8, Metrics::unobserved()).unwrap();
        let verdict = strong.verify(password("correct horse"), Some(&weak)).await.unwrap();
        let Verdict::Match { rehash: Some(rehash) } = verdict else { panic!("{verdict:?}") };
        for (verifier, hash) in [(&strong, &rehash), (&passwords(), &rehash)] {
            let verdict = verifier.verify(password("correct horse"), Some(hash)).await.unwrap();
            assert_eq!(verdict, Verdict::Match { rehash: None });
        }
    }

    #[tokio::test]
    async fn an_unknown_user_costs_as_many_rounds_and_never_matches() {
        let passwords = passwords();
        let known = passwords.hash(password("correct horse")).await.unwrap();
        let cost = |hash: &str| Params::try_from(&PasswordHash::new(hash).unwrap()).unwrap();
        assert_eq!(cost(&passwords.dummy), cost(&known));
        assert_eq!(passwords.dummy.len(), known.len());
        let verdict = passwords.verify(password("correct horse"), None).await.unwrap();
        assert_eq!(verdict, Verdict::Mismatch);
    }

    #[tokio::test]
    async fn who_comes_when_too_many_wait_is_told_to_come_again() {
        let passwords = Passwords::new(ROUNDS, 1, 1, Metrics::unobserved()).unwrap();
        let busy = passwords.running.clone().acquire_owned().await.unwrap();
        let running = passwords.admitted.clone().try_acquire_owned().unwrap();
        let waiting = passwords.hash(password("correct horse"));
        let refused = async { passwords.hash(password("correct horse")).await };
        let (waiting, ()) = tokio::join!(waiting, async {
            assert!(matches!(refused.await, Err(Error::RateLimited(_))));
            drop((busy, running));
        });
        assert!(waiting.is_ok());
        assert!(passwords.hash(password("correct horse")).await.is_ok(), "the permits are back");
    }

    #[tokio::test]
    async fn a_stored_hash_that_is_none_is_our_fault() {
        let verdict = passwords().verify(password("correct horse"), Some("secret")).await;
        assert!(matches!(verdict, Err(Error::Internal(_))));
    }
}
