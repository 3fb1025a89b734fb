//! Makes load, breaks connections, records what happens, and judges it.

pub(crate) mod checker;
pub(crate) mod client;
pub(crate) mod fault_proxy;
pub(crate) mod history;
mod log;
#[cfg(test)]
mod tests;
mod window;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::watch::{self, error::RecvError};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout_at};

use self::checker::{Kind, Log, Outcome, Rules, Violation, check};
use self::client::account::Account;
use self::client::{Line, Listener, Pace, Phase, Writer};
use self::history::{Channel, Client, History, Removal};
use self::log::Reader;

/// Between two tries at what a load needs to be there.
const RETRY_EVERY: Duration = Duration::from_millis(100);
/// Every so manieth listener begins live, the others at the beginning of the log.
const LIVE_EVERY: usize = 3;
/// Every so manieth listener is slow, where that is asked for.
const SLOW_EVERY: usize = 4;

/// What a load is made of.
#[derive(Clone, Debug)]
pub(crate) struct LoadOptions {
    /// One reverse proxy, or several nodes: a client that was cut off tries the next.
    pub(crate) addresses: Vec<SocketAddr>,
    /// What the names of its users and channels begin with; new for each load on the same servers.
    pub(crate) name: String,
    /// So many that write, and so many that listen.
    pub(crate) users: usize,
    pub(crate) channels: usize,
    /// Whether the channels are private, so that users can be removed.
    pub(crate) private: bool,
    pub(crate) writers: usize,
    pub(crate) listeners_per_channel: usize,
    pub(crate) channels_per_listener: usize,
    /// Messages a second, of all writers together.
    pub(crate) rate: u32,
    /// Unconfirmed messages of one writer.
    pub(crate) in_flight: usize,
    /// Every so manieth message is sent again after its `ok`; none with 0.
    pub(crate) repeat_every: u64,
    /// A pause after each message at some of the listeners.
    pub(crate) slow: Option<Duration>,
    /// How long a client waits for an answer before it takes the connection for dead.
    pub(crate) patience: Duration,
    /// How long the end may take: until all is answered, read back and seen.
    pub(crate) end: Duration,
    pub(crate) rules: Rules,
}

impl Default for LoadOptions {
    fn default() -> Self {
        Self {
            addresses: Vec::new(),
            name: "load".into(),
            users: 4,
            channels: 4,
            private: false,
            writers: 4,
            listeners_per_channel: 4,
            channels_per_listener: 2,
            rate: 200,
            in_flight: 16,
            repeat_every: 10,
            slow: None,
            patience: Duration::from_secs(3),
            end: Duration::from_secs(60),
            rules: Rules::default(),
        }
    }
}

/// Writers and listeners at work. Dropped, they vanish.
pub(crate) struct Load {
    options: LoadOptions,
    history: History,
    addresses: Arc<[SocketAddr]>,
    owner: Arc<Account>,
    names: Arc<[String]>,
    phase: watch::Sender<Phase>,
    acknowledged: watch::Receiver<u64>,
    writers: JoinSet<()>,
    listeners: JoinSet<()>,
}

impl Load {
    /// Makes users and channels, then starts everybody. The servers are well at this time: else it panics.
    pub(crate) async fn start(options: LoadOptions, history: &History) -> Self {
        let names: Arc<[String]> = (0..options.channels).map(|number| format!("{}-{number}", options.name)).collect();
        history.lock().channels = names.to_vec();
        let owner = Arc::new(Account::new(format!("{}-owner", options.name)));
        let (phase, _) = watch::channel(Phase::Running);
        let (count, acknowledged) = watch::channel(0);
        let addresses = options.addresses.clone().into();
        let (history, writers, listeners) = (history.clone(), JoinSet::new(), JoinSet::new());
        let mut load = Self { options, history, addresses, owner, names, phase, acknowledged, writers, listeners };
        let writing = load.accounts('w');
        let listening = load.accounts('l');
        load.prepare(writing.iter().chain(&listening)).await;
        load.listen(&listening);
        load.write(&writing, &count);
        load
    }

    /// How many messages were acknowledged so far.
    pub(crate) fn acknowledged(&self) -> watch::Receiver<u64> {
        self.acknowledged.clone()
    }

    /// Waits until so many more were.
    ///
    /// # Errors
    /// Where the writers are gone.
    pub(crate) async fn until_acknowledged(&self, more: u64) -> Result<(), RecvError> {
        let mut acknowledged = self.acknowledged();
        let enough = *acknowledged.borrow() + more;
        acknowledged.wait_for(|count| *count >= enough).await.map(drop)
    }

    /// Sends nothing new until [`go_on`](Self::go_on).
    pub(crate) fn pause(&self) {
        self.phase.send_replace(Phase::Paused);
    }

    pub(crate) fn go_on(&self) {
        self.phase.send_replace(Phase::Running);
    }

    /// Takes a listening user out of a private channel; returns once that was answered.
    pub(crate) async fn remove(&self, user: usize, channel: Channel) {
        let user = self.user_name('l', user);
        let path = format!("/channels/{}/members/{user}", self.names[channel]);
        // Not there any more: an earlier try did it, and its answer was lost.
        self.insist("DELETE", &path, None, &[204, 404]).await;
        let at = self.history.now();
        self.history.lock().removals.push(Removal { user, channel, at });
    }

    /// Stops sending, waits until all is answered and seen, reads the logs back, and judges. What does not come in time is
    /// a violation.
    pub(crate) async fn finish(mut self) -> Outcome {
        let deadline = Instant::now() + self.options.end;
        self.end_silence();
        self.phase.send_replace(Phase::Draining);
        wait_for_all(&mut self.writers, deadline).await;
        let mut logs = self.read_logs(deadline).await;
        let heads: Vec<_> = logs.iter().map(|log| log.as_ref().and_then(Log::head)).collect();
        self.phase.send_replace(Phase::Closing(heads.into()));
        wait_for_all(&mut self.listeners, deadline).await;
        let unreadable: Vec<_> = (0..logs.len()).filter(|&channel| logs[channel].is_none()).collect();
        let logs: Vec<_> = logs.iter_mut().map(|log| log.take().unwrap_or_default()).collect();
        let mut outcome = check(&self.history.take(), &logs, self.options.rules);
        outcome.violations.extend(unreadable.into_iter().map(|channel| {
            let sentence = format!("the log of {} could not be read back", self.names[channel]);
            Violation { kind: Kind::Unreadable, sentence }
        }));
        outcome
    }

    fn user_name(&self, kind: char, number: usize) -> String {
        format!("{}-{kind}{number}", self.options.name)
    }

    fn accounts(&self, kind: char) -> Vec<Arc<Account>> {
        (0..self.options.users).map(|number| Arc::new(Account::new(self.user_name(kind, number)))).collect()
    }

    async fn prepare(&self, accounts: impl Iterator<Item = &Arc<Account>>) {
        let kind = if self.options.private { "private" } else { "public" };
        for name in self.names.iter() {
            self.insist("POST", "/channels", Some(json!({"name": name, "kind": kind})), &[201, 409]).await;
        }
        for account in accounts {
            assert!(account.token(self.addresses[0]).await.is_some(), "{} is not signed up", account.name);
            for name in self.names.iter().filter(|_| self.options.private) {
                let path = format!("/channels/{name}/members/{}", account.name);
                self.insist("PUT", &path, Some(json!({"role": "member"})), &[200]).await;
            }
        }
    }

    /// Asks as the owner until it is done.
    async fn insist(&self, method: &str, path: &str, body: Option<Value>, done: &[u16]) {
        let deadline = Instant::now() + self.options.end;
        for turn in 0.. {
            let address = self.addresses[turn % self.addresses.len()];
            let answer = self.owner.ask(address, method, path, body.clone()).await;
            let status = answer.map(|answer| answer.status);
            if status.is_some_and(|status| done.contains(&status)) {
                return;
            }
            assert!(Instant::now() < deadline, "{method} {path} is answered {status:?}");
            sleep(RETRY_EVERY).await;
        }
    }

    fn line(&self, account: &Arc<Account>) -> Line {
        Line::new(account, &self.addresses, &self.history, self.options.patience)
    }

    fn listen(&mut self, accounts: &[Arc<Account>]) {
        let (channels, each) = (self.options.channels, self.options.channels_per_listener);
        let count: Client = channels * self.options.listeners_per_channel / each;
        for number in 0..count {
            let line = self.line(&accounts[number % accounts.len()]);
            let heard = (number * each..(number + 1) * each).map(|channel| channel % channels);
            let live = number % LIVE_EVERY == LIVE_EVERY - 1;
            let slow = self.options.slow.filter(|_| number % SLOW_EVERY == SLOW_EVERY - 1);
            let listener = Listener::new(line, &self.names, heard, (live, slow), self.phase.subscribe());
            self.listeners.spawn(listener.run());
        }
    }

    fn write(&mut self, accounts: &[Arc<Account>], count: &watch::Sender<u64>) {
        let writers = u32::try_from(self.options.writers).expect("fewer writers than that");
        let every = Duration::from_secs(1) * writers / self.options.rate.max(1);
        let pace = Pace { every, in_flight: self.options.in_flight, repeat_every: self.options.repeat_every };
        for number in 0..self.options.writers {
            let line = self.line(&accounts[number % accounts.len()]);
            let writer = Writer::new(line, &self.names, pace, self.phase.subscribe(), count.clone());
            self.writers.spawn(writer.run());
        }
    }

    fn end_silence(&self) {
        let mut recorded = self.history.lock();
        // Under the lock: nobody has heard anything later.
        let now = self.history.now();
        recorded.clients.iter_mut().for_each(|client| client.silence.end(now));
    }

    async fn read_logs(&self, deadline: Instant) -> Vec<Option<Log>> {
        let (account, addresses) = (Arc::clone(&self.owner), Arc::clone(&self.addresses));
        let reader = Reader { account, addresses, history: self.history.clone(), deadline };
        let mut logs = Vec::new();
        for name in self.names.iter() {
            logs.push(reader.read(name).await);
        }
        logs
    }
}

/// Those who are late are dropped; what they did not do shows in the record.
async fn wait_for_all(tasks: &mut JoinSet<()>, deadline: Instant) {
    while let Ok(Some(ended)) = timeout_at(deadline, tasks.join_next()).await {
        ended.expect("no fault makes a client panic");
    }
    tasks.shutdown().await;
}
