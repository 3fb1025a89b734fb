//! Signing up, in and out; and who a token belongs to.

use std::net::IpAddr;
use std::time::Duration;

use tokio::time::{MissedTickBehavior, interval};
use tracing::{info, warn};

use super::Chat;
use crate::auth::{Password, RefreshSecret, RefreshToken, Verdict};
use crate::clock;
use crate::error::{Error, Result};
use crate::model::{Caller, SignInId, TimeMs, User, UserId, UserName};
use crate::store::{NewSignIn, NewUser, Rotation};

/// How often a sign-in is tried again, where the password's hash changes while it is checked.
const HASH_RACES_MAX: usize = 3;
/// How often sign-ins that have run out are forgotten; they are good for nothing either way.
const FORGET_EXPIRED: Duration = Duration::from_secs(3_600);

/// What a sign-in gives.
pub struct SignIn {
    /// Who signed in.
    pub user: User,
    /// Opens everything, for a short time.
    pub access_token: String,
    /// Gets the next pair.
    pub refresh_token: String,
    /// When the access token runs out.
    pub expires_at: TimeMs,
}

/// Forgets sign-ins that have run out, now and then; runs until it is dropped.
pub async fn forget_expired(chat: Chat) {
    let mut ticks = interval(FORGET_EXPIRED);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        match chat.shared.store.sign_ins().purge_expired(clock::now_ms()).await {
            Ok(0) => {}
            Ok(count) => info!(count, "Forgot sign-ins that had run out"),
            Err(error) => warn!(code = error.code(), "Sign-ins that have run out cannot be forgotten yet"),
        }
    }
}

impl Chat {
    /// Creates an account, and signs it in. `address` is the client's network.
    ///
    /// # Errors
    /// `bad_request`, `name_taken`, `rate_limited`.
    pub async fn sign_up(&self, name: &str, password: String, address: IpAddr) -> Result<SignIn> {
        let signed_up = self.sign_up_uncounted(name, password, address).await;
        self.count("signup", &signed_up);
        signed_up
    }

    async fn sign_up_uncounted(&self, name: &str, password: String, address: IpAddr) -> Result<SignIn> {
        let name: UserName = name.parse()?;
        let password = Password::chosen(password)?;
        self.count_sign_up(address).await?;
        let hash = self.shared.passwords.hash(password).await?;
        let (secret, sign_in) = self.new_sign_in()?;
        let user = NewUser { id: UserId::new(), name: &name, password_hash: &hash, created_at: sign_in.created_at };
        let user = self.shared.store.users().sign_up(user, &sign_in).await?.ok_or(Error::NameTaken)?;
        self.signed_in(user, sign_in.id, 0, secret)
    }

    /// Signs an account in. `address` is the client's network.
    ///
    /// # Errors
    /// `bad_credentials`, alike for a wrong password and an unknown name; `rate_limited`; `unavailable` where attempts
    /// cannot be counted.
    pub async fn log_in(&self, name: &str, password: String, address: IpAddr) -> Result<SignIn> {
        let signed_in = self.guess(name, address, self.log_in_uncounted(name, password)).await;
        self.count("login", &signed_in);
        signed_in
    }

    async fn log_in_uncounted(&self, name: &str, password: String) -> Result<SignIn> {
        for _ in 0..HASH_RACES_MAX {
            let known = match name.parse() {
                Ok(name) => self.shared.store.users().to_sign_in(&name).await?,
                Err(_) => None,
            };
            let stored = known.as_ref().map(|(_, hash)| hash.as_str());
            let verdict = self.shared.passwords.verify(Password::presented(password.clone())?, stored).await?;
            let (Some((user, hash)), Verdict::Match { rehash }) = (known, verdict) else {
                return Err(Error::BadCredentials);
            };
            let (secret, sign_in) = self.new_sign_in()?;
            if !self.shared.store.sign_ins().create(user.id, &hash, &sign_in).await? {
                continue; // The password was changed in between.
            }
            if let Some(stronger) = rehash {
                self.shared.store.users().rehash_if(user.id, &hash, &stronger).await?;
            }
            return self.signed_in(user, sign_in.id, 0, secret);
        }
        Err(Error::BadCredentials)
    }

    /// Gives the next pair for a refresh token.
    ///
    /// # Errors
    /// `unauthenticated`; where the token was used up, all of its sign-in ends.
    pub async fn refresh(&self, token: &str) -> Result<SignIn> {
        let refreshed = self.refresh_uncounted(token).await;
        self.count("refresh", &refreshed);
        refreshed
    }

    async fn refresh_uncounted(&self, token: &str) -> Result<SignIn> {
        let token = RefreshToken::parse(token, &self.shared.tokens)?;
        let secret = RefreshSecret::new()?;
        let now = clock::now_ms();
        let expires_at = now + self.shared.rules.refresh.as_millis() as TimeMs;
        match self.shared.store.sign_ins().rotate(&token, secret.hash(), now, expires_at).await? {
            Rotation::Rotated { user, generation } => self.signed_in(user, token.sign_in, generation, secret),
            Rotation::Reused(outgoing) => {
                self.revoke([outgoing]).await;
                Err(Error::Unauthenticated)
            }
            Rotation::Unknown => Err(Error::Unauthenticated),
        }
    }

    /// Ends this sign-in, or all of the user's.
    ///
    /// # Errors
    /// `unavailable` where the database is not there.
    pub async fn log_out(&self, caller: &Caller, everywhere: bool) -> Result<()> {
        let now = clock::now_ms();
        let sign_ins = self.shared.store.sign_ins();
        if everywhere {
            self.revoke(sign_ins.revoke_all(caller.user, now).await?).await;
        } else {
            self.revoke(sign_ins.revoke(caller.sign_in, now).await?).await;
        }
        Ok(())
    }

    /// Who is asking.
    ///
    /// # Errors
    /// `unavailable` where the database is not there.
    pub async fn me(&self, caller: &Caller) -> Result<User> {
        self.shared.store.users().by_id(caller.user).await?.ok_or(Error::Unauthenticated)
    }

    /// Changes the password, and ends all other sign-ins.
    ///
    /// # Errors
    /// `bad_credentials` where the current one is wrong, which counts as a failure to sign in; `rate_limited`.
    pub async fn change_password(&self, caller: &Caller, current: String, new: String, address: IpAddr) -> Result<()> {
        let new = Password::chosen(new)?;
        self.guess(caller.name.as_str(), address, self.replace_password(caller, current, new)).await
    }

    async fn replace_password(&self, caller: &Caller, current: String, new: Password) -> Result<()> {
        let users = self.shared.store.users();
        let stored = users.password_hash(caller.user).await?;
        match self.shared.passwords.verify(Password::presented(current)?, stored.as_deref()).await? {
            Verdict::Match { .. } => {}
            Verdict::Mismatch => return Err(Error::BadCredentials),
        }
        let hash = self.shared.passwords.hash(new).await?;
        let stored = stored.unwrap_or_default();
        let revoked = users.change_password(caller.user, &stored, &hash, caller.sign_in, clock::now_ms()).await?;
        self.revoke(revoked.ok_or(Error::BadCredentials)?).await;
        Ok(())
    }

    /// Who an access token belongs to. Counts as the first use of its pair.
    ///
    /// # Errors
    /// `unauthenticated`, `token_expired`.
    pub async fn authenticate(&self, token: &str) -> Result<Caller> {
        let caller = self.authenticate_uncounted(token).await;
        self.count("token", &caller);
        caller
    }

    async fn authenticate_uncounted(&self, token: &str) -> Result<Caller> {
        let shared = &self.shared;
        let claims = shared.tokens.verify(token, clock::now_ms())?;
        if shared.revoked.contains(claims.sign_in) {
            return Err(Error::Unauthenticated);
        }
        let user = shared.caches.user(claims.user, || shared.store.users().by_id(claims.user)).await?;
        if user.is_none_or(|user| user.name != claims.name) {
            return Err(Error::Unauthenticated);
        }
        if !shared.caches.is_used(claims.sign_in, claims.generation) {
            if !Box::pin(shared.store.sign_ins().is_active(claims.sign_in, clock::now_ms())).await? {
                return Err(Error::Unauthenticated);
            }
            if claims.generation > 0 {
                Box::pin(shared.store.sign_ins().confirm(claims.sign_in, claims.generation)).await?;
            }
            shared.caches.set_used(claims.sign_in, claims.generation);
        }
        Ok(Caller { user: claims.user, name: claims.name, sign_in: claims.sign_in, expires_at: claims.expires_at })
    }

    /// Whether the sign-in was revoked. Asked again after a session has registered, so that no revocation falls between.
    pub fn is_revoked(&self, caller: &Caller) -> bool {
        self.shared.revoked.contains(caller.sign_in)
    }

    fn new_sign_in(&self) -> Result<(RefreshSecret, NewSignIn)> {
        let secret = RefreshSecret::new()?;
        let now = clock::now_ms();
        let expires_at = now + self.shared.rules.refresh.as_millis() as TimeMs;
        let sign_in = NewSignIn { id: SignInId::new(), token_hash: secret.hash(), created_at: now, expires_at };
        Ok((secret, sign_in))
    }

    fn signed_in(&self, user: User, sign_in: SignInId, generation: u32, secret: RefreshSecret) -> Result<SignIn> {
        if generation == 0 {
            // The first pair counts as used: nothing came before it.
            self.shared.caches.set_used(sign_in, generation);
        }
        let (access_token, expires_at) = self.shared.tokens.issue(&user, sign_in, generation, clock::now_ms())?;
        let refresh_token = secret.into_token(sign_in, generation, &self.shared.tokens)?;
        Ok(SignIn { user, access_token, refresh_token, expires_at })
    }

    fn count<T>(&self, method: &str, result: &Result<T>) {
        let result = match result {
            Ok(_) => "ok",
            Err(error) if error.cause().is_none() => "refused",
            Err(_) => return,
        };
        self.shared.metrics.sign_ins_total.with([method, result]).increment(1);
    }
}
