//! What has to be there before anything is measured: users, channels, and many sessions at a time.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use serde_json::{Value, json};
use tokio::task::JoinSet;

use crate::cli::Common;
use crate::failure::Failure;
use crate::http::{Answer, Target};
use crate::progress::Progress;
use crate::session::Session;

/// Users signed up at a time. Each costs the server a password hash, which it makes on few threads.
const SIGNUPS_MAX: u32 = 4;
/// Channels made at a time.
const CREATES_MAX: u32 = 8;
/// How often a request that was told to come back later does so.
const REPEATS_MAX: u32 = 10;
/// Where `Retry-After` is missing.
const RETRY_AFTER_DEFAULT: Duration = Duration::from_secs(1);
/// The same for all, so that a used seed can log in.
const PASSWORD: &str = "quiet-heron-over-slow-water-58";

/// Users who are signed in, and channels that exist.
#[derive(Clone)]
pub(crate) struct Stage {
    targets: Arc<[Target]>,
    tokens: Arc<[String]>,
    channels: Arc<[Arc<str>]>,
    sessions_per_user: u32,
    concurrency: u32,
}

impl Stage {
    /// Signs up (or logs in) `users`, and creates `channels`; both are named after the scenario and the seed.
    pub(crate) async fn set(
        common: &Common,
        targets: &[Target],
        scenario: &str,
        users: u32,
        channels: u32,
    ) -> Result<Self> {
        let seed = common.seed;
        let target = targets.first().context("a scenario needs a server")?;
        let progress = Progress::new("signing up", u64::from(users));
        let tokens = concurrently(0..users, SIGNUPS_MAX, &progress, |number| {
            sign_in(target.clone(), format!("bench-{seed}-{number}"))
        })
        .await?;
        let token = tokens.first().context("a scenario needs a user")?;
        let progress = Progress::new("creating channels", u64::from(channels));
        let channels = concurrently(0..channels, CREATES_MAX, &progress, |number| {
            create(target.clone(), token.clone(), format!("bench-{seed}-{scenario}-{number}"))
        })
        .await?;
        Ok(Self {
            targets: targets.into(),
            tokens: tokens.into(),
            channels: channels.into(),
            sessions_per_user: common.sessions_per_user,
            concurrency: common.concurrency,
        })
    }

    /// The channel with this number; they are shared out in turn.
    pub(crate) fn channel(&self, number: u32) -> Arc<str> {
        self.channels[number as usize % self.channels.len()].clone()
    }

    /// The node for the session with this number; they are shared out in turn.
    pub(crate) fn target(&self, number: u32) -> &Target {
        &self.targets[number as usize % self.targets.len()]
    }

    /// The token of the user with this number.
    pub(crate) fn token(&self, number: u32) -> &str {
        &self.tokens[number as usize % self.tokens.len()]
    }

    /// The same users and channels, on other nodes of the installation.
    pub(crate) fn moved_to(&self, targets: &[Target]) -> Self {
        Self { targets: targets.into(), ..self.clone() }
    }

    /// Opens the session with this number; some share a user.
    pub(crate) async fn open(&self, number: u32, read_buffer: usize) -> Result<Session, Failure> {
        Session::open(self.target(number), self.token(number / self.sessions_per_user), read_buffer).await
    }

    /// Does something for each of the items, as many at a time as `--concurrency` allows. The first
    /// failure ends it: a run that is short of sessions would measure something else.
    pub(crate) async fn for_each<I, T, F>(
        &self,
        label: &str,
        items: impl ExactSizeIterator<Item = I>,
        work: impl Fn(I) -> F,
    ) -> Result<Vec<T>>
    where
        F: Future<Output = Result<T, Failure>> + Send + 'static,
        T: Send + 'static,
    {
        let progress = Progress::new(label, items.len() as u64);
        concurrently(items, self.concurrency, &progress, |item| {
            let work = work(item);
            async { Ok(work.await?) }
        })
        .await
    }
}

/// How many users this many sessions need.
pub(crate) fn users_for(sessions: u32, common: &Common) -> u32 {
    sessions.div_ceil(common.sessions_per_user)
}

/// The results in the order of the items; at most `limit` at a time.
async fn concurrently<I, T, F>(
    mut items: impl ExactSizeIterator<Item = I>,
    limit: u32,
    progress: &Progress,
    work: impl Fn(I) -> F,
) -> Result<Vec<T>>
where
    F: Future<Output = Result<T>> + Send + 'static,
    T: Send + 'static,
{
    let mut running = JoinSet::new();
    let mut results: Vec<Option<T>> = Vec::with_capacity(items.len());
    loop {
        while running.len() < limit as usize
            && let Some(item) = items.next()
        {
            let (number, work) = (results.len(), work(item));
            results.push(None);
            running.spawn(async move { (number, work.await) });
        }
        let Some(done) = running.join_next().await else {
            break;
        };
        let (number, result) = done?;
        results[number] = Some(result?);
        progress.advance(1);
    }
    Ok(results.into_iter().flatten().collect())
}

async fn sign_in(target: Target, name: String) -> Result<String> {
    let credentials = json!({"name": name, "password": PASSWORD});
    let mut answer = post(&target, "/signup", None, &credentials).await?;
    if answer.code() == "name_taken" {
        answer = post(&target, "/login", None, &credentials).await?;
    }
    match answer.body["access_token"].as_str() {
        Some(token) => Ok(token.to_owned()),
        None => bail!("{name} cannot sign in: status {}, {}", answer.status, answer.body),
    }
}

async fn create(target: Target, token: String, name: String) -> Result<Arc<str>> {
    let channel = json!({"name": name, "kind": "public"});
    let answer = post(&target, "/channels", Some(&token), &channel).await?;
    if answer.status != 201 && answer.code() != "name_taken" {
        bail!("channel {name} cannot be created: status {}, {}", answer.status, answer.body);
    }
    Ok(name.into())
}

/// Comes back when told to.
async fn post(target: &Target, path: &str, token: Option<&str>, body: &Value) -> Result<Answer> {
    let mut answer = target.post(path, token, body).await?;
    for _ in 0..REPEATS_MAX {
        if !matches!(answer.status, 429 | 503) {
            break;
        }
        tokio::time::sleep(answer.retry_after.unwrap_or(RETRY_AFTER_DEFAULT)).await;
        answer = target.post(path, token, body).await?;
    }
    Ok(answer)
}
