//! A connection to Redis that is made anew when it breaks, shared by everybody who does not block.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures_util::future::BoxFuture;
use redis::aio::MultiplexedConnection;
use redis::{AsyncConnectionConfig, RedisError, RedisResult};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep, timeout_at};
use tracing::{info, warn};

use super::servers::Servers;

/// What a server answers that does not hold the keys, or may not be written to: it has done nothing, another one is to
/// be looked for, or the same one again a little later.
/// `NOREPLICAS` is what a primary says that was cut off, or has come back to find another in its place.
const ELSEWHERE: [&str; 8] =
    ["READONLY", "MOVED", "ASK", "TRYAGAIN", "CLUSTERDOWN", "MASTERDOWN", "LOADING", "NOREPLICAS"];
/// The first pause before connecting again; each further one doubles.
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// The longest pause before connecting again: how late at most a node notices that Redis is back.
const PAUSE_MAX: Duration = Duration::from_millis(1_000);
/// How long connecting may take.
pub(super) const CONNECT_TIMEOUT: Duration = Duration::from_secs(2);

/// A shared connection. Clones share it; replies come in the order of the requests.
#[derive(Clone)]
pub(super) struct Link {
    open: watch::Receiver<Option<Open>>,
    broken: Arc<Broken>,
}

/// One connection, and which it is.
#[derive(Clone)]
pub(super) struct Open {
    pub(super) connection: MultiplexedConnection,
    number: u64,
}

/// The primary of a slot, whichever it is.
#[derive(Clone)]
pub(super) struct Route {
    pub(super) servers: Servers,
    pub(super) slot: u16,
}

/// What a connection has to go through before it is used.
pub(super) type Prepare = Box<PrepareFn>;
type PrepareFn = dyn Fn(MultiplexedConnection) -> BoxFuture<'static, RedisResult<()>> + Send + Sync;

#[derive(Default)]
struct Broken {
    number: AtomicU64,
    notify: Notify,
}

impl Link {
    /// The link, and the future that keeps it connected until it is dropped. `prepare` runs on each new connection
    /// before anybody else uses it.
    pub(super) fn new(
        name: &'static str,
        route: Route,
        response_timeout: Duration,
        prepare: Option<Prepare>,
    ) -> (Self, BoxFuture<'static, ()>) {
        let (tx, open) = watch::channel(None);
        let broken = Arc::new(Broken::default());
        let link = Self { open, broken: broken.clone() };
        let keep = async move {
            let config = config(response_timeout);
            let mut pause = PAUSE_MIN;
            for number in 1.. {
                let connection = connect(name, &route, &config, prepare.as_deref(), &mut pause).await;
                let since = Instant::now();
                tx.send_replace(Some(Open { connection, number }));
                while broken.number.load(Ordering::Acquire) < number {
                    broken.notify.notified().await;
                }
                tx.send_replace(None);
                // One that broke at once counts as one that could not be had.
                if since.elapsed() > PAUSE_MAX {
                    pause = PAUSE_MIN;
                } else {
                    wait(&mut pause).await;
                }
            }
        };
        (link, Box::pin(keep))
    }

    /// The connection, waiting for it until the deadline; `None` where there is none by then.
    pub(super) async fn open(&self, deadline: Instant) -> Option<Open> {
        let mut open = self.open.clone();
        let sound = |open: &Option<Open>| {
            open.as_ref().is_some_and(|open| open.number > self.broken.number.load(Ordering::Acquire))
        };
        let found = timeout_at(deadline, open.wait_for(sound)).await.ok()?.ok()?;
        found.clone()
    }

    /// Has the connection tried anew, whichever it is: another one to the same server broke.
    pub(super) fn suspect(&self) {
        if let Some(open) = &*self.open.borrow() {
            self.broken.number.fetch_max(open.number, Ordering::AcqRel);
        }
        self.broken.notify.notify_one();
    }

    /// Tells of a failure; has the connection replaced, and says so, where the failure means that it is broken, or leads
    /// to a server that must not be written to.
    pub(super) fn failed(&self, open: &Open, error: &RedisError) -> bool {
        let broken = error.is_io_error() || error.is_unrecoverable_error() || is_elsewhere(error);
        if broken {
            self.broken.number.fetch_max(open.number, Ordering::AcqRel);
            self.broken.notify.notify_one();
        }
        broken
    }
}

/// How every connection is set up.
pub(super) fn config(response_timeout: Duration) -> AsyncConnectionConfig {
    AsyncConnectionConfig::new()
        .set_connection_timeout(Some(CONNECT_TIMEOUT))
        .set_response_timeout(Some(response_timeout))
        .set_pipeline_buffer_size(1024)
}

async fn connect(
    name: &'static str,
    route: &Route,
    config: &AsyncConnectionConfig,
    prepare: Option<&PrepareFn>,
    pause: &mut Duration,
) -> MultiplexedConnection {
    loop {
        let attempt = async {
            let connection = route.servers.connect(route.slot, config).await?;
            if let Some(prepare) = prepare {
                prepare(connection.clone()).await?;
            }
            RedisResult::Ok(connection)
        };
        match attempt.await {
            Ok(connection) => {
                info!(link = name, slot = route.slot, "Connected to Redis");
                return connection;
            }
            Err(error) => warn!(link = name, slot = route.slot, %error, "Redis cannot be reached; trying again"),
        }
        wait(pause).await;
    }
}

async fn wait(pause: &mut Duration) {
    sleep(*pause).await;
    *pause = (*pause * 2).min(PAUSE_MAX);
}

/// Whether the server has done nothing, since it is not, or not yet, the one to ask.
pub(super) fn is_elsewhere(error: &RedisError) -> bool {
    error.code().is_some_and(|code| ELSEWHERE.contains(&code))
}
