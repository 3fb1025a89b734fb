//! Clients behind every proxy who write and listen while things go wrong, and who come back by the way they came.

use std::collections::HashSet;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::JoinSet;
use tokio::time::interval;

use super::proxy::Site;
use super::tls::{Door, HOST};
use super::{LONG_PATIENCE, Listener, Sender, TestUser, within};

const CHANNEL: &str = "tea";
/// A writer says something so often.
const PACE: Duration = Duration::from_millis(20);
/// So many messages at each proxy show that all is well again.
const ENOUGH: usize = 25;
const THE_END: &str = "the end";

/// Behind each proxy one who writes and two who listen.
pub(crate) struct Crowd {
    user: TestUser,
    _doors: Vec<Door>,
    stop: watch::Sender<bool>,
    written: Vec<watch::Receiver<usize>>,
    writers: JoinSet<Vec<String>>,
    listeners: JoinSet<(&'static str, Listener)>,
}

impl Crowd {
    /// All are there, and have caught up.
    pub(crate) async fn gather(site: &Site) -> Self {
        let user = site.visitor.clone();
        user.create_channel(CHANNEL).await;
        let (stop, _) = watch::channel(false);
        let (mut doors, mut written) = (Vec::new(), Vec::new());
        let (mut writers, mut listeners) = (JoinSet::new(), JoinSet::new());
        for proxy in &site.proxies {
            let (door, name) = (site.door(proxy, HOST).await, proxy.kind.name);
            for _ in 0..2 {
                let mut listener = Listener::start(user.clone(), &[door.address], CHANNEL).await;
                listeners.spawn(async move {
                    listener.listen_until(THE_END).await;
                    (name, listener)
                });
            }
            let (count, counted) = watch::channel(0);
            let sender = Sender::new(user.clone(), &[door.address], CHANNEL);
            writers.spawn(write(sender, name, count, stop.subscribe()));
            doors.push(door);
            written.push(counted);
        }
        Self { user, _doors: doors, stop, written, writers, listeners }
    }

    /// Waits until every writer was told `ok` often enough.
    pub(crate) async fn writes_on(&mut self) {
        for written in &mut self.written {
            let enough = *written.borrow() + ENOUGH;
            let reached = written.wait_for(|count| *count >= enough);
            within(LONG_PATIENCE, "messages are acknowledged", reached).await.expect("the writers are at it");
        }
    }

    /// Everybody saw everything, once and in order, and all that was acknowledged is in the log. For each listener the
    /// name of the proxy, and how often it had to come back by it.
    pub(crate) async fn end(self) -> Vec<(&'static str, usize)> {
        self.stop.send_replace(true);
        let acknowledged = within(LONG_PATIENCE, "all is acknowledged", self.writers.join_all()).await.concat();
        Sender::new(self.user.clone(), &[self.user.address], CHANNEL).send(THE_END).await;
        let listeners = within(LONG_PATIENCE, "all is seen", self.listeners.join_all()).await;
        let log = self.user.whole_log(CHANNEL).await;
        let logged: HashSet<_> = log.iter().collect();
        assert!(acknowledged.iter().all(|id| logged.contains(id)), "what was acknowledged is in the log");
        assert_eq!(log.len(), acknowledged.len() + 1, "each cid is written once");
        let mut returns: Vec<(&'static str, usize)> = Vec::new();
        for (proxy, listener) in listeners {
            assert_eq!(listener.seen.ids, log, "behind {proxy}");
            assert_eq!(listener.seen.gaps, Vec::<String>::new(), "behind {proxy}");
            match returns.iter_mut().find(|(known, _)| *known == proxy) {
                Some((_, count)) => *count += listener.returns,
                None => returns.push((proxy, listener.returns)),
            }
        }
        returns
    }
}

/// The positions of what was acknowledged, until told to stop.
async fn write(
    mut sender: Sender,
    name: &'static str,
    count: watch::Sender<usize>,
    stop: watch::Receiver<bool>,
) -> Vec<String> {
    let (mut pace, mut ids) = (interval(PACE), Vec::new());
    while !*stop.borrow() {
        pace.tick().await;
        ids.push(sender.send(&format!("{name}-{}", ids.len())).await.id);
        count.send_replace(ids.len());
    }
    ids
}
