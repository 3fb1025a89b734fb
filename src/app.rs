//! Connects, wires, gives every long-lived future a task, and stops them in order. The only file that knows all.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use tokio::net::TcpListener;
use tokio::runtime::Handle;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::{Notify, mpsc};
use tokio::task::JoinSet;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};
use tracing::{error, info, warn};
use uuid::Uuid;

use crate::auth::{Passwords, Tokens};
use crate::broker::embedded::{self, Embedded};
use crate::broker::{Address, Broker, Durability, Options as LogOptions, Tls};
use crate::chat::{AttemptLimits, Chat, Deliverer, Rules, announce_left_behind, fit_caches, forget_expired, recheck};
use crate::config::{self, Origins, PubSub, RedisMode, Settings, Switch, TrustedProxies};
use crate::doctor;
use crate::finding::Finding;
use crate::http::{self, Admission, Api, Listener, Ops};
use crate::hub::Hub;
use crate::metrics::Metrics;
use crate::session::{self, Sessions};
use crate::store::{Store, StoreUrl};
use crate::systemd::{self, Sockets};
use crate::telemetry::Exporter;

/// The most entries of a feed; a node that is further behind reads the logs.
const FEED_ENTRIES_MAX: u64 = 500_000;
/// What is left for what has to be cut off when the time for stopping is over.
const CUT_TIMEOUT: Duration = Duration::from_secs(3);
/// The longest that a stop takes once the time for sessions to leave is over: two cuts, the database, the embedded Redis.
const STOP_MAX: Duration = Duration::from_secs(25);

/// Runs a node until it is told to stop, on the sockets that were handed over, or on its own. `reload` is called at each
/// SIGHUP.
///
/// # Errors
/// Where it cannot start, or something that must run has ended.
pub async fn run(settings: Settings, sockets: Sockets, reload: impl Fn() + Send + 'static) -> anyhow::Result<()> {
    let mut signals = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
    let hangups = signal(SignalKind::hangup())?;
    // Apart from the tasks of the node, which end before it has stopped.
    let _heartbeat = AbortOnDropHandle::new(spawn(systemd::heartbeat()));
    let (exporter, metrics) = Exporter::new(&Handle::current())?;
    let mut node = Node::start(&settings, sockets, exporter, metrics).await?;
    node.supervise("hangups", at_each(hangups, reload));
    println!("Burble listens on http://{} (probes and metrics on http://{})", node.public, node.ops);
    systemd::ready(&format!("Listens on {}, probes and metrics on {}", node.public, node.ops));
    let failed = tokio::select! {
        () = told(&mut signals) => None,
        name = node.ended.recv() => name,
    };
    tokio::select! {
        () = node.stop() => {}
        () = told(&mut signals) => {
            warn!("Told to stop a second time: ending at once");
            std::process::exit(130);
        }
    }
    match failed {
        None => Ok(()),
        Some(name) => Err(anyhow!("{name} ended, and nothing works without it")),
    }
}

/// Examines what a node of these settings would rest on, beside nodes that run; tells each finding as it comes.
pub async fn examine(settings: &Settings, visit: Option<doctor::Visit>, tell: impl FnMut(Finding)) {
    let address = match named_redis(settings) {
        Some(address) => Some(address),
        None => embedded::running(&settings.data_dir).await.map(Address::Unix),
    };
    let log = address.map(|address| log_options(settings, address)).transpose();
    doctor::examine(settings, log, StoreUrl::from(&settings.server.db), visit, tell).await;
}

async fn at_each(mut signals: Signal, act: impl Fn()) {
    while signals.recv().await.is_some() {
        act();
    }
}

async fn told((terminate, interrupt): &mut (Signal, Signal)) {
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
}

/// A node and everything that runs in it.
struct Node {
    public: SocketAddr,
    ops: SocketAddr,
    settings: Settings,
    metrics: Metrics,
    broker: Broker,
    store: Store,
    /// Sessions and connections leave.
    leave: CancellationToken,
    /// What is still there is cut off.
    cut: CancellationToken,
    /// The feeds are no longer read.
    end_feeds: CancellationToken,
    /// The embedded Redis, last of all.
    end_redis: CancellationToken,
    guests: TaskTracker,
    readers: TaskTracker,
    redis: TaskTracker,
    upkeep: JoinSet<()>,
    ended: mpsc::Receiver<&'static str>,
    told_ended: mpsc::Sender<&'static str>,
}

impl Node {
    async fn start(
        settings: &Settings,
        sockets: Sockets,
        exporter: Exporter,
        metrics: Metrics,
    ) -> anyhow::Result<Self> {
        let server = &settings.server;
        let public = bind(sockets.public, &server.host, server.port, "SERVER_HOST and SERVER_PORT").await?;
        let ops = bind(sockets.ops, &settings.ops.host, settings.ops.port, "OPS_HOST and OPS_PORT").await?;
        let secret = config::auth_secret(settings)?;
        let (end_redis, redis) = (CancellationToken::new(), TaskTracker::new());
        let address = redis_address(settings, &end_redis, &redis, &metrics).await?;
        let store = Store::connect(&StoreUrl::from(&settings.server.db)).await?;
        let (broker, log) = Broker::connect(log_options(settings, address)?, store.installation_id(), &metrics).await?;
        let (told_ended, ended) = mpsc::channel(1);
        let mut node = Self {
            public: public.local_addr()?,
            ops: ops.local_addr()?,
            settings: settings.clone(),
            metrics: metrics.clone(),
            broker: broker.clone(),
            store: store.clone(),
            leave: CancellationToken::new(),
            cut: CancellationToken::new(),
            end_feeds: CancellationToken::new(),
            end_redis,
            guests: TaskTracker::new(),
            readers: TaskTracker::new(),
            redis,
            upkeep: JoinSet::new(),
            ended,
            told_ended,
        };
        let chat = node.chat(&secret).await?;
        let doubts = Arc::new(Notify::new());
        for reader in log.readers {
            let mut deliverer = Deliverer::new(chat.clone(), doubts.clone());
            node.readers.spawn(reader.run(node.end_feeds.clone(), move |delivery| deliverer.deliver(delivery)));
        }
        for (name, task) in log.tasks {
            node.supervise(name, task);
        }
        node.supervise("expired sign-ins", forget_expired(chat.clone()));
        node.supervise("recheck", recheck(chat.clone(), doubts));
        node.supervise("caches", fit_caches(chat.clone()));
        node.supervise("outbox", announce_left_behind(chat.clone()));
        node.supervise("database watch", store.clone().watch(metrics.clone()));
        node.supervise("metrics", exporter.clone().keep_up(CancellationToken::new()));
        let (sessions, timers) = node.sessions(chat.clone());
        node.supervise("timers", timers);
        node.listen(public, ops, chat, sessions, exporter);
        Ok(node)
    }

    async fn chat(&self, secret: &config::Secret) -> anyhow::Result<Chat> {
        let Settings { auth, limit, .. } = &self.settings;
        let previous = auth.secret_previous.as_ref().map(|previous| previous.expose().as_bytes());
        let access = Duration::from_secs(auth.access_seconds);
        let rules = Rules {
            access,
            refresh: Duration::from_secs(u64::from(auth.refresh_days) * 86_400),
            retention_messages: self.settings.channel.retention_messages,
            attempts: AttemptLimits {
                failures: limit.sign_in_failures,
                failures_per_name: limit.sign_in_failures_per_name,
                failures_per_address: limit.sign_in_failures_per_address,
                sign_ups_per_address: limit.sign_ups_per_address,
            },
            user_commands_per_second: limit.user_commands_per_second,
            replays: limit.replays,
        };
        let chat = Chat::new(
            self.store.clone(),
            self.broker.clone(),
            Hub::new(self.metrics.clone()),
            Tokens::new(secret.expose().as_bytes(), previous, access),
            Passwords::new(auth.password_rounds, auth.password_threads, limit.password_queue, self.metrics.clone())?,
            rules,
            self.metrics.clone(),
            self.guests.clone(),
        );
        chat.await.map_err(|error| match error.cause() {
            Some(cause) => anyhow!("{cause:#}"),
            None => anyhow!(error),
        })
    }

    fn sessions(&self, chat: Chat) -> (Sessions, impl Future<Output = ()> + Send + use<>) {
        let Settings { session, limit, pubsub, .. } = &self.settings;
        let options = session::Options {
            node: self.settings.node_name.clone(),
            ping: Duration::from_millis(session.ping_ms),
            silence: Duration::from_millis(session.silence_ms),
            sign_in: Duration::from_millis(session.sign_in_ms),
            joins: limit.session_joins,
            commands_per_second: limit.session_commands_per_second,
            user_commands_per_second: limit.user_commands_per_second,
            user_bytes_per_second: limit.user_bytes_per_second,
            per_user: limit.sessions_per_user,
            durability: pubsub.durability.as_str(),
            dedupe: Duration::from_secs(pubsub.dedupe_seconds),
            drain: Duration::from_secs(self.settings.server.drain_seconds),
        };
        let (leave, cut) = (self.leave.clone(), self.cut.clone());
        Sessions::new(chat, options, self.metrics.clone(), self.guests.clone(), leave, cut)
    }

    fn listen(&mut self, public: TcpListener, ops: TcpListener, chat: Chat, sessions: Sessions, exporter: Exporter) {
        let server = &self.settings.server;
        let origins = Arc::new(server.origins.clone());
        let admission = Admission::new(&self.settings.limit, self.metrics.clone());
        let request_timeout = Duration::from_millis(server.request_ms);
        let api = Api {
            chat,
            sessions,
            origins: origins.clone(),
            admission: admission.clone(),
            body_timeout: request_timeout,
            metrics: self.metrics.clone(),
            stop: self.leave.clone(),
        };
        let public = Listener {
            socket: public,
            routes: http::routes(api),
            admission,
            headers_timeout: request_timeout,
            origins,
            proxies: Arc::new(server.trusted_proxies.clone()),
            metrics: self.metrics.clone(),
            tasks: self.guests.clone(),
            stop: self.leave.clone(),
        };
        self.guests.spawn(http::serve(public));
        let probes = Ops { broker: self.broker.clone(), store: self.store.clone(), exporter, stop: self.leave.clone() };
        // The probes answer to the end: that they say no is what a proxy waits for.
        let ops = Listener {
            socket: ops,
            routes: http::ops_routes(probes),
            admission: Admission::unlimited(self.metrics.clone()),
            headers_timeout: request_timeout,
            origins: Arc::new(Origins::default()),
            proxies: Arc::new(TrustedProxies::default()),
            metrics: self.metrics.clone(),
            tasks: TaskTracker::new(),
            stop: CancellationToken::new(),
        };
        self.supervise("probes", http::serve(ops));
    }

    /// Runs a future that must not end before the node does.
    fn supervise(&mut self, name: &'static str, task: impl Future<Output = ()> + Send + 'static) {
        let ended = self.told_ended.clone();
        self.upkeep.spawn(async move {
            let task = AbortOnDropHandle::new(spawn(task));
            if let Err(panic) = task.await {
                error!(name, %panic, "A task died");
            }
            let _ = ended.send(name).await;
        });
    }

    /// Guests first, then what serves them; the log is answered before its reader goes, the embedded Redis last.
    async fn stop(&mut self) {
        info!("Stopping: sessions leave");
        self.metrics.draining.set(1.0);
        self.leave.cancel();
        self.guests.close();
        let drain = Duration::from_secs(self.settings.server.drain_seconds);
        systemd::stopping(drain + STOP_MAX);
        if timeout(drain, self.guests.wait()).await.is_err() {
            warn!("Not everybody has left in time: cutting off the rest");
            self.cut.cancel();
            let _ = timeout(CUT_TIMEOUT, self.guests.wait()).await;
        }
        self.end_feeds.cancel();
        self.broker.wake_readers();
        self.readers.close();
        let _ = timeout(CUT_TIMEOUT, self.readers.wait()).await;
        self.upkeep.shutdown().await;
        self.store.close().await;
        self.end_redis.cancel();
        self.redis.close();
        self.redis.wait().await;
        info!("Stopped");
    }
}

#[expect(clippy::disallowed_methods, reason = "awaited, and aborted with the future that awaits it")]
fn spawn(task: impl Future<Output = ()> + Send + 'static) -> tokio::task::JoinHandle<()> {
    tokio::spawn(task)
}

async fn bind(given: Option<std::net::TcpListener>, host: &str, port: u16, names: &str) -> anyhow::Result<TcpListener> {
    if let Some(given) = given {
        return TcpListener::from_std(given).context("the socket that was handed over is of no use");
    }
    TcpListener::bind((host, port)).await.with_context(|| format!("cannot listen on {host}:{port}; see {names}"))
}

/// Where Redis is; starts the embedded one where none is named.
async fn redis_address(
    settings: &Settings,
    end: &CancellationToken,
    tasks: &TaskTracker,
    metrics: &Metrics,
) -> anyhow::Result<Address> {
    if let Some(address) = named_redis(settings) {
        return Ok(address);
    }
    let fsync = settings.pubsub.durability == config::Durability::Fsync;
    let embedded = Embedded::start(&settings.data_dir, fsync).await?;
    let address = Address::Unix(embedded.socket().to_owned());
    let metrics = metrics.clone();
    let end = end.clone();
    tasks.spawn(async move {
        embedded.watch(end, || metrics.embedded_redis_restarts_total.increment(1)).await;
    });
    Ok(address)
}

fn named_redis(settings: &Settings) -> Option<Address> {
    let pubsub = &settings.pubsub;
    let servers = pubsub.servers();
    let first = servers.first()?.clone();
    Some(match pubsub.server_mode {
        RedisMode::Single => Address::Single(first),
        RedisMode::Sentinel => Address::Sentinel {
            sentinels: servers,
            password: pubsub.sentinel_pass.clone(),
            name: pubsub.sentinel_name.clone(),
        },
        RedisMode::Cluster => Address::Cluster(servers),
    })
}

/// How the named Redis is spoken to.
fn tls(pubsub: &PubSub) -> anyhow::Result<Option<Tls>> {
    let identity = pubsub.tls_cert.as_deref().zip(pubsub.tls_key.as_deref());
    (pubsub.tls == Switch::On).then(|| Tls::read(pubsub.tls_ca.as_deref(), identity)).transpose()
}

fn log_options(settings: &Settings, address: Address) -> anyhow::Result<LogOptions> {
    let Settings { pubsub, channel, .. } = settings;
    let start = Uuid::now_v7().simple();
    Ok(LogOptions {
        address,
        password: pubsub.server_pass.clone(),
        tls: tls(pubsub)?,
        prefix: pubsub.prefix.clone(),
        shards: usize::from(pubsub.feeds),
        durability: match pubsub.durability {
            config::Durability::Memory => Durability::Memory,
            config::Durability::Fsync => Durability::Fsync,
            config::Durability::Replica => Durability::Replica { replicas: pubsub.replicas as usize },
        },
        retention_messages: channel.retention_messages,
        retention: Duration::from_secs(u64::from(channel.retention_days) * 86_400),
        dedupe: Duration::from_secs(pubsub.dedupe_seconds),
        feed_window: Duration::from_secs(pubsub.feed_seconds),
        feed_entries_max: FEED_ENTRIES_MAX,
        node_dead: Duration::from_secs(pubsub.node_dead_seconds),
        append_timeout: Duration::from_millis(pubsub.append_timeout_ms),
        page_reads: settings.limit.page_reads,
        group: format!("{}-{start}", settings.node_name),
    })
}
