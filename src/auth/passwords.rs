//! Passwords, hashed slowly, on few threads: a flood of sign-ins holds up other sign-ins, never messages.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use pbkdf2::phc::PasswordHash;
use pbkdf2::{Algorithm, Params, PasswordHasher, PasswordVerifier};
use tokio::runtime::{self, Runtime};
use tokio::sync::{Semaphore, oneshot};
use tokio::time::{Instant, timeout};

use super::resting::Scheme;
use crate::error::{Error, Result};
use crate::metrics::{Metrics, Waiting};
use crate::model::{PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};

/// When to come again where too many are waiting.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// So long a round may take on a thread that gets only what no other wants: several times what one takes on the slowest
/// machines.
const ROUND_MAX: Duration = Duration::from_micros(3);
/// How much the threads of the second try give way to others, on top of the niceness of the node: on a machine that is
/// busy they get about a tenth of what a thread gets that serves messages. See nice(1).
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
///
/// A hash is tried on a thread that runs only when nothing else wants the processor, and rests half of the time, so that it
/// delays nothing. Where that does not come to its end, since the machine is busy all the time, another one tries too that only gives way.
#[derive(Clone)]
pub struct Passwords {
    scheme: Scheme,
    rounds: u32,
    /// For users that do not exist: no password has it, and it costs as much as a real one.
    dummy: Arc<str>,
    running: Arc<Semaphore>,
    admitted: Arc<Semaphore>,
    idle: Arc<Threads>,
    nicer: Arc<Threads>,
    /// When the second one tries.
    starved_after: Duration,
    metrics: Metrics,
}

/// Threads of their own, for they are to be slower than the others.
struct Threads(Option<Runtime>);

impl Threads {
    /// So many at the most, each of which begins with that.
    fn new(count: usize, begin: impl Fn() + Send + Sync + 'static) -> anyhow::Result<Self> {
        let mut builder = runtime::Builder::new_current_thread();
        builder.max_blocking_threads(count).thread_name("password").on_thread_start(begin);
        Ok(Self(Some(builder.build()?)))
    }

    /// What comes of it, on one of the threads. It is not begun where nobody waits for it any more.
    fn run<T: Send + 'static>(&self, work: impl FnOnce() -> T + Send + 'static) -> oneshot::Receiver<T> {
        let (done, outcome) = oneshot::channel();
        let work = move || {
            if !done.is_closed() {
                let _: Result<(), T> = done.send(work());
            }
        };
        drop(self.0.as_ref().expect("it is there until it is dropped").spawn_blocking(work));
        outcome
    }
}

/// Has this thread run only when no other wants to. See SCHED_IDLE in sched(7).
fn run_when_idle() {
    #[cfg(target_os = "linux")]
    {
        use thread_priority::{NormalThreadSchedulePolicy, ThreadPriority, ThreadSchedulePolicy};
        let idle = ThreadSchedulePolicy::Normal(NormalThreadSchedulePolicy::Idle);
        let thread = thread_priority::thread_native_id();
        // It sets the niceness too, which is refused to a node that is nice itself, and means nothing here.
        let result = thread_priority::set_thread_priority_and_policy(thread, ThreadPriority::Min, idle);
        if thread_priority::thread_schedule_policy() != Ok(idle) {
            tracing::warn!(?result, "Sign-ins may hold up messages: their threads cannot be made to run when idle");
        }
    }
}

/// Makes this thread nicer than the node. A thread alone has a niceness on Linux only; elsewhere it would be that of the
/// whole node.
fn be_nicer() {
    #[cfg(target_os = "linux")]
    {
        use rustix::process::{getpriority_process, setpriority_process};
        let nicer = getpriority_process(None).map(|niceness| (niceness + NICER).min(NICEST));
        if let Err(error) = nicer.and_then(|niceness| setpriority_process(None, niceness)) {
            tracing::warn!(%error, "Sign-ins may hold up messages: their threads cannot be made to give way");
        }
    }
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
            scheme: Scheme { params },
            rounds,
            dummy: dummy(params)?.into(),
            idle: Arc::new(Threads::new(threads, run_when_idle)?),
            nicer: Arc::new(Threads::new(threads, be_nicer)?),
            starved_after: ROUND_MAX * rounds,
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

    async fn on_a_thread<T, W>(&self, work: W) -> Result<T>
    where
        T: Send + 'static,
        W: FnOnce() -> Result<T> + Clone + Send + 'static,
    {
        let admitted = Arc::new(self.admitted.clone().try_acquire_owned().map_err(|_| {
            self.metrics.refused_total.with(["passwords"]).increment(1);
            Error::RateLimited(RETRY_AFTER)
        })?);
        let waiting = Waiting::new(&self.metrics.password_queue);
        let _running = self.running.acquire().await.expect("the semaphore is never closed");
        drop(waiting);
        let work = move || {
            // With the work: it runs to its end even if nobody waits for it any more.
            let _admitted = admitted;
            let began = Instant::now();
            (work(), began.elapsed())
        };
        let mut first = self.idle.run(work.clone());
        let done = match timeout(self.starved_after, &mut first).await {
            Ok(done) => done,
            Err(_) => tokio::select! {
                done = first => done,
                done = self.nicer.run(work) => done,
            },
        };
        let (done, took) = done.map_err(|e| Error::Internal(e.into()))?;
        self.metrics.password_seconds.record(took);
        done
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
    async fn the_threads_that_hash_give_way_and_no_others() {
        let passwords = passwords();
        let scheduled = || {
            let niceness = rustix::process::getpriority_process(None).unwrap();
            (format!("{:?}", thread_priority::thread_schedule_policy().unwrap()), niceness)
        };
        let before = scheduled();
        let on_idle = passwords.idle.run(scheduled).await.unwrap();
        assert_eq!(on_idle.0, "Normal(Idle)");
        let on_nicer = passwords.nicer.run(scheduled).await.unwrap();
        assert_eq!(on_nicer, (before.0.clone(), (before.1 + NICER).min(NICEST)));
        assert_eq!(scheduled(), before);
    }

    #[tokio::test]
    async fn a_thread_that_gets_nowhere_holds_nobody_up() {
        let passwords = passwords();
        let (go_on, held) = std::sync::mpsc::sync_channel::<()>(0);
        let stuck = passwords.idle.run(move || held.recv());
        let hash = passwords.hash(password("correct horse")).await.unwrap();
        assert!(hash.starts_with("$pbkdf2-sha256$"), "the second one did it");
        drop(go_on);
        assert!(stuck.await.unwrap().is_err());
    }

    #[tokio::test]
    async fn what_nobody_waits_for_is_not_begun() {
        let passwords = passwords();
        let (go_on, held) = std::sync::mpsc::sync_channel::<()>(0);
        let stuck = passwords.idle.run(move || held.recv());
        let (begun, is_begun) = std::sync::mpsc::sync_channel(1);
        drop(passwords.idle.run(move || begun.send(())));
        drop(go_on);
        assert!(stuck.await.unwrap().is_err());
        assert!(passwords.idle.run(|| ()).await.is_ok(), "all before it is over");
        assert!(is_begun.recv().is_err());
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
