//! What is said to the service manager, and the listening sockets that it hands over. Without one, all of this does nothing.

use std::net::TcpListener;
use std::time::Duration;

use listenfd::ListenFd;
use sd_notify::NotifyState;
use tokio::time::{MissedTickBehavior, interval};
use tracing::warn;

/// Beats within the time that the service manager allows between two.
const BEATS: u32 = 3;

/// Sockets that were open before this process began, and stay open after it: a restart turns nobody away.
#[derive(Debug, Default)]
pub struct Sockets {
    /// The first: the public listener.
    pub public: Option<TcpListener>,
    /// The second: the listener for operators.
    pub ops: Option<TcpListener>,
}

impl Sockets {
    /// Those that were handed over. To be called once, before there are threads: it changes the environment.
    ///
    /// # Errors
    /// Where one of them is no listening TCP socket.
    pub fn inherited() -> std::io::Result<Self> {
        let mut given = ListenFd::from_env();
        let mut take = |index| match given.take_tcp_listener(index) {
            Ok(Some(listener)) => own(&listener).map(Some),
            Ok(None) => Ok(None),
            // It says this too of a number beyond those that were given.
            Err(_) if index >= given.len() => Ok(None),
            Err(error) => Err(error),
        };
        Ok(Self { public: take(0)?, ops: take(1)? })
    }
}

/// The same socket, which a redis-server that is started does not inherit.
fn own(listener: &TcpListener) -> std::io::Result<TcpListener> {
    let own = listener.try_clone()?;
    own.set_nonblocking(true)?;
    Ok(own)
}

/// The node serves.
pub fn ready(status: &str) {
    tell(&[NotifyState::Ready, NotifyState::Status(status)]);
}

/// The node leaves, which takes no longer than that.
pub fn stopping(longest: Duration) {
    let longest_us = u32::try_from(longest.as_micros()).unwrap_or(u32::MAX);
    tell(&[
        NotifyState::Stopping,
        NotifyState::Status("Stopping: sessions leave"),
        NotifyState::ExtendTimeoutUsec(longest_us),
    ]);
}

/// Tells the service manager that tasks still get their turn, where it wants to know; runs until it is dropped.
pub async fn heartbeat() {
    let Some(allowed) = sd_notify::watchdog_enabled().filter(|allowed| !allowed.is_zero()) else {
        return std::future::pending().await;
    };
    let mut beats = interval(allowed / BEATS);
    beats.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        beats.tick().await;
        tell(&[NotifyState::Watchdog]);
    }
}

fn tell(states: &[NotifyState<'_>]) {
    if let Err(error) = sd_notify::notify(states) {
        warn!(%error, "The service manager does not listen");
    }
}
