//! PBKDF2-HMAC-SHA256 that rests half of the time, so that a processor which hashes is free again and again.
//!
//! To run only when no other thread wants to is not enough. A processor with such a thread is never idle, and the kernel
//! moves what waits elsewhere to idle processors alone: on two quiet cores, at 1,000 messages a second and beside four who
//! signed in without end, messages took 6.5 times as long at p99 as without them (3.9 ms) where hashes never paused, and 3.6
//! times (2.2 ms) where they did, with half as many sign-ins.

use std::cell::Cell;
use std::thread;
use std::time::{Duration, Instant};

use pbkdf2::hmac::Hmac;
use pbkdf2::hmac::digest::common::KeySizeUser;
use pbkdf2::hmac::digest::{FixedOutput, InvalidLength, Key, KeyInit, Output, OutputSizeUser, Update};
use pbkdf2::password_hash::phc::{Output as Hash, PasswordHash, Salt};
use pbkdf2::password_hash::{CustomizedPasswordHasher, Error, PasswordHasher, Result, Version};
use pbkdf2::{Algorithm, Params, pbkdf2};
use sha2::Sha256;

/// How long it works, and then rests. Longer ones hold others up for longer; shorter ones cost more than they free.
const SLICE: Duration = Duration::from_micros(250);
/// The clock is looked at every so many rounds, which take a tenth of a slice or so.
const ROUNDS_A_LOOK: u32 = 256;

/// Hashes of so many rounds.
#[derive(Clone)]
pub(super) struct Scheme {
    pub(super) params: Params,
}

impl CustomizedPasswordHasher<PasswordHash> for Scheme {
    type Params = Params;

    fn hash_password_customized(
        &self,
        password: &[u8],
        salt: &[u8],
        algorithm: Option<&str>,
        version: Option<Version>,
        params: Params,
    ) -> Result<PasswordHash> {
        let ours = Algorithm::Pbkdf2Sha256;
        if algorithm.is_some_and(|algorithm| Algorithm::try_from(algorithm) != Ok(ours)) {
            return Err(Error::Algorithm);
        }
        if version.is_some() {
            return Err(Error::Version);
        }
        let mut output = [0; Params::MAX_OUTPUT_LENGTH];
        let output = output.get_mut(..params.output_len()).ok_or(Error::OutputSize)?;
        pbkdf2::<Resting>(password, salt, params.rounds(), output).map_err(|_| Error::PasswordInvalid)?;
        Ok(PasswordHash {
            algorithm: ours.into(),
            version: None,
            params: params.try_into()?,
            salt: Some(Salt::new(salt)?),
            hash: Some(Hash::new(output)?),
        })
    }
}

impl PasswordHasher<PasswordHash> for Scheme {
    fn hash_password_with_salt(&self, password: &[u8], salt: &[u8]) -> Result<PasswordHash> {
        self.hash_password_customized(password, salt, None, None, self.params)
    }
}

/// HMAC-SHA256; whoever computes many of them rests in between.
#[derive(Clone)]
struct Resting(Hmac<Sha256>);

thread_local! {
    static ROUNDS: Cell<u32> = const { Cell::new(0) };
    static WORKS_SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

/// One more round on this thread.
fn count() {
    let rounds = ROUNDS.get() + 1;
    ROUNDS.set(rounds % ROUNDS_A_LOOK);
    if rounds < ROUNDS_A_LOOK {
        return;
    }
    let now = Instant::now();
    let since = WORKS_SINCE.get().unwrap_or(now);
    if now - since >= SLICE {
        thread::sleep(SLICE);
        WORKS_SINCE.set(Some(Instant::now()));
    } else {
        WORKS_SINCE.set(Some(since));
    }
}

impl FixedOutput for Resting {
    fn finalize_into(self, out: &mut Output<Self>) {
        count();
        self.0.finalize_into(out);
    }
}

impl Update for Resting {
    fn update(&mut self, data: &[u8]) {
        Update::update(&mut self.0, data);
    }
}

impl KeyInit for Resting {
    fn new(key: &Key<Self>) -> Self {
        Self(KeyInit::new(key))
    }

    fn new_from_slice(key: &[u8]) -> std::result::Result<Self, InvalidLength> {
        KeyInit::new_from_slice(key).map(Self)
    }
}

impl KeySizeUser for Resting {
    type KeySize = <Hmac<Sha256> as KeySizeUser>::KeySize;
}

impl OutputSizeUser for Resting {
    type OutputSize = <Hmac<Sha256> as OutputSizeUser>::OutputSize;
}

#[cfg(test)]
mod tests {
    use pbkdf2::{PasswordVerifier, Pbkdf2};

    use super::*;

    fn scheme(rounds: u32) -> Scheme {
        Scheme { params: Params::new(rounds).unwrap() }
    }

    #[test]
    fn it_hashes_as_the_library_does() {
        let library = |rounds| Pbkdf2::new(Algorithm::Pbkdf2Sha256, Params::new(rounds).unwrap());
        for rounds in [1_000, 1_001, 25_000] {
            for password in ["", "correct horse", &"x".repeat(1_000)] {
                let salt = b"sixteen bytes...";
                let ours = scheme(rounds).hash_password_with_salt(password.as_bytes(), salt).unwrap();
                let theirs: PasswordHash = library(rounds).hash_password_with_salt(password.as_bytes(), salt).unwrap();
                assert_eq!(ours.to_string(), theirs.to_string());
                assert!(library(1_000).verify_password(password.as_bytes(), &ours).is_ok());
                assert!(scheme(1_000).verify_password(password.as_bytes(), &theirs).is_ok());
                assert!(scheme(1_000).verify_password(b"another", &theirs).is_err());
            }
        }
    }

    #[test]
    fn another_algorithm_is_refused() {
        let params = Params::new(1_000).unwrap();
        let theirs: PasswordHash =
            Pbkdf2::new(Algorithm::Pbkdf2Sha512, params).hash_password(b"correct horse").unwrap();
        assert_eq!(scheme(1_000).verify_password(b"correct horse", &theirs), Err(Error::Algorithm));
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn it_rests_as_long_as_it_works() {
        let cpu = || rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
        let (began, before) = (Instant::now(), cpu());
        let _ = scheme(600_000).hash_password_with_salt(b"correct horse", b"sixteen bytes...").unwrap();
        let (took, after) = (began.elapsed(), cpu());
        let worked = Duration::try_from(after).unwrap() - Duration::try_from(before).unwrap();
        assert!(worked < took.mul_f64(0.7), "{worked:?} of {took:?}");
    }
}
