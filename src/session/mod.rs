//! One socket, one task: signs in, carries out commands in order, writes what its channels bring.

mod catching_up;
mod commands;
#[cfg(feature = "conformance")]
mod echo;
mod rate;
mod sign_in;
mod socket;
mod timer;

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tokio_tungstenite::tungstenite::Utf8Bytes;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tracing::{debug, info};

pub use sign_in::{Guest, Ticket};
pub use socket::Upgraded;

use crate::chat::{CatchUp, Chat};
use crate::clock;
use crate::config::Limit;
use crate::error::Result;
use crate::hub::{Frame, Presence, Wake, Woken};
use crate::metrics::Metrics;
use crate::model::{Caller, ChannelName, SessionId, UserName};
use crate::protocol::{CloseCode, Event, FRAME_BYTES_MAX, Ref, Request, Sent, encode};
use catching_up::Subscription;
use rate::Rates;
use socket::{End, Incoming, Socket};
use timer::{HORIZON, Tick, Timer};

/// The sends of one session that wait for the log; further commands wait in the socket.
const PENDING_MAX: usize = 64;
/// Two ticks no further apart are one.
const SAME: Duration = Duration::from_millis(50);
/// How long before its end a token is said to be expiring.
const EXPIRING_MS: i64 = 60_000;
/// How many sessions a stopping node lets go per second: they sign in at others.
const LEAVING_PER_SECOND: f64 = 1_000.0;

/// How sessions are run.
#[derive(Clone, Debug)]
pub struct Options {
    /// The node's name.
    pub node: String,
    /// How often the server pings.
    pub ping: Duration,
    /// After how long of silence a connection is dropped.
    pub silence: Duration,
    /// How long a session has to sign in.
    pub sign_in: Duration,
    /// How many channels a session may join.
    pub joins: Limit,
    /// How many commands a session may send in a second.
    pub commands_per_second: Limit,
    /// How many commands all sessions of a user may send in a second.
    pub user_commands_per_second: Limit,
    /// How many bytes of frames of a user are read in a second.
    pub user_bytes_per_second: Limit,
    /// How many sessions a user may have on this node.
    pub per_user: Limit,
    /// The word for what an `ok` to `send` stands for.
    pub durability: &'static str,
    /// For how long a cid is remembered.
    pub dedupe: Duration,
    /// How long stopping may take.
    pub drain: Duration,
}

/// Runs sessions; clones share everything.
#[derive(Clone)]
pub struct Sessions {
    chat: Chat,
    options: Arc<Options>,
    timer: Timer,
    metrics: Metrics,
    tasks: TaskTracker,
    stop: CancellationToken,
    cut: CancellationToken,
}

impl Sessions {
    /// Sessions over the rules. `stop` has them leave one by one, `cut` at once. The future turns their timers.
    pub fn new(
        chat: Chat,
        options: Options,
        metrics: Metrics,
        tasks: TaskTracker,
        stop: CancellationToken,
        cut: CancellationToken,
    ) -> (Self, impl Future<Output = ()> + Send) {
        let timer = Timer::new();
        let turn = timer.clone().run();
        (Self { chat, options: Arc::new(options), timer, metrics, tasks, stop, cut }, turn)
    }

    /// The rules.
    pub fn chat(&self) -> &Chat {
        &self.chat
    }

    /// Gives an upgraded connection a task of its own. `upgrade` fails where the client has gone; what comes with it is
    /// kept as long as the connection, and `entering` until `welcome` was said.
    pub fn spawn<K: Send + 'static>(
        &self,
        upgrade: impl Future<Output = (Option<Upgraded>, K)> + Send + 'static,
        guest: Guest,
        entering: impl Send + 'static,
        began: Instant,
    ) {
        let sessions = self.clone();
        // Boxed, here and below: what it takes to begin, and to end, is no part of a session that lives.
        let beginning = Box::pin(async move {
            let (Some(upgraded), kept) = upgrade.await else { return None };
            sessions.metrics.sessions_opened_total.increment(1);
            sessions.metrics.sessions_open.increment(1.0);
            Some((sessions.begin(upgraded, guest, entering, began).await, kept))
        });
        let metrics = self.metrics.clone();
        self.tasks.spawn(async move {
            let Some((begun, _kept)) = beginning.await else { return };
            let (end, who) = match begun {
                Ok(mut session) => {
                    let Err(end) = session.live().await;
                    (end, Some(Box::pin(session.close(end)).await))
                }
                Err(ended) => ended,
            };
            metrics.sessions_open.decrement(1.0);
            let code = code(end);
            metrics.sessions_closed_total.with([&code]).increment(1);
            let seconds = began.elapsed().as_secs_f64();
            match who {
                Some(Closed { session, user, commands, delivered }) => {
                    info!(%session, user = user.as_str(), code, seconds, commands, delivered, "Session closed");
                }
                None => debug!(code, seconds, "A connection that never signed in was closed"),
            }
        });
    }

    /// Up to `welcome`; or how it ended before.
    async fn begin(
        &self,
        upgraded: Upgraded,
        guest: Guest,
        entering: impl Send,
        began: Instant,
    ) -> Result<Box<Session>, (End, Option<Closed>)> {
        let wake = match &guest {
            Guest::Member(ticket) => ticket.wake.clone(),
            Guest::Stranger { .. } => Arc::default(),
        };
        let mut socket = self.socket(upgraded, FRAME_BYTES_MAX, wake.clone()).await;
        let ticket = match guest {
            Guest::Member(ticket) => Ok(ticket),
            Guest::Stranger { name, displaced } => Box::pin(self.sign_in(&mut socket, wake, name, displaced)).await,
        };
        let ticket = match ticket {
            Ok(ticket) => ticket,
            Err(end) => {
                socket.close(end, |_| {}).await;
                return Err((end, None));
            }
        };
        let mut session = Box::new(Session::new(self.clone(), ticket, socket));
        if let Err(end) = session.enter(entering, began).await {
            return Err((end, Some(session.close(end).await)));
        }
        Ok(session)
    }

    async fn socket(&self, upgraded: Upgraded, message_bytes_max: usize, wake: Arc<Wake>) -> Socket {
        Socket::new(upgraded, message_bytes_max, wake, self.options.silence, self.cut.clone()).await
    }
}

/// A session that is over, as the log tells of it.
struct Closed {
    session: SessionId,
    user: UserName,
    commands: u64,
    delivered: u64,
}

/// The label of a session's end.
fn code(end: End) -> String {
    match end {
        End::Close(code) => code.number().to_string(),
        End::Closed(Some(code @ 1000)) => code.to_string(),
        End::Closed(Some(1001)) => "1001".into(),
        End::Closed(_) | End::Gone => "gone".into(),
    }
}

/// A signed-in session.
struct Session {
    all: Sessions,
    id: SessionId,
    caller: Caller,
    presence: Presence,
    wake: Arc<Wake>,
    socket: Socket,
    /// Boxed, for a map has more places than it has entries.
    subscriptions: BTreeMap<u32, Box<Subscription>>,
    by_name: HashMap<ChannelName, u32>,
    next_subscription: u32,
    /// Those that read the log, in turn.
    behind: VecDeque<u32>,
    /// The page that is being read, and for whom.
    page: Option<PageRead>,
    /// The sends that wait for the log, in their order, and the channel they go to.
    pending: VecDeque<BoxFuture<'static, Sending>>,
    pending_channel: Option<ChannelName>,
    /// The command that waits until they are answered.
    held: Option<Box<Request>>,
    rates: Rates,
    /// Nothing is read before this.
    read_at: Option<Instant>,
    next_ping: Instant,
    /// When the next tick is due.
    tick_at: Option<(Instant, Tick)>,
    told_expiring: bool,
    frames: Vec<Frame>,
    /// Commands that were read.
    commands: u64,
    /// Messages that were written.
    delivered: u64,
}

/// A page on its way, and the subscription that it is for.
type PageRead = (u32, BoxFuture<'static, CatchUp>);

/// A send and its outcome.
struct Sending {
    reference: Option<Ref>,
    began: Instant,
    outcome: Result<Sent>,
}

impl Session {
    fn new(all: Sessions, ticket: Ticket, socket: Socket) -> Self {
        let Ticket { session, caller, presence, wake } = ticket;
        let rates = Rates::new(&all.options, all.chat.rates(caller.user));
        Self {
            // A new session is no way around what the others of the user have sent.
            read_at: rates.pause(0).map(|pause| Instant::now() + pause),
            rates,
            next_ping: Instant::now() + jittered(all.options.ping),
            all,
            id: session,
            caller,
            presence,
            wake,
            socket,
            subscriptions: BTreeMap::new(),
            by_name: HashMap::new(),
            next_subscription: 0,
            behind: VecDeque::new(),
            page: None,
            pending: VecDeque::new(),
            pending_channel: None,
            held: None,
            tick_at: None,
            told_expiring: false,
            frames: Vec::new(),
            commands: 0,
            delivered: 0,
        }
    }

    async fn enter(&mut self, entering: impl Send, began: Instant) -> Result<(), End> {
        self.welcome().await?;
        self.socket.flush().await?;
        drop(entering);
        self.all.metrics.session_establishment_seconds.record(began.elapsed());
        self.set_timer();
        Ok(())
    }

    /// Says goodbye. Out of all channels before that: who lingers listens to nothing.
    async fn close(self: Box<Self>, end: End) -> Closed {
        let Session { id, caller, socket, subscriptions, presence, rates, commands, delivered, .. } = *self;
        drop((subscriptions, presence));
        socket.close(end, |bytes| _ = rates.pause(bytes)).await;
        Closed { session: id, user: caller.name, commands, delivered }
    }

    /// Until the end. What was marked is looked at before anything is waited for, and what was written is flushed.
    async fn live(&mut self) -> Result<std::convert::Infallible, End> {
        let stop = self.all.stop.clone();
        // Once, for it takes a lock that all sessions share.
        let mut stopping = pin!(stop.cancelled());
        let mut woken = Woken::default();
        let mut leave_at: Option<Instant> = None;
        loop {
            self.wake.take(&mut woken);
            if let Some(sending) = oldest(&mut self.pending).now_or_never() {
                self.answer_sends(sending).await?;
            }
            self.look(&mut woken).await?;
            self.read_on();
            self.socket.flush().await?;
            tokio::select! {
                // Before the socket: the branches take turns at being first, so it is mostly not asked in vain.
                () = self.wake.woken() => {}
                incoming = self.socket.next(), if self.may_read() => self.take_in(incoming).await?,
                sending = oldest(&mut self.pending) => self.answer_sends(sending).await?,
                (id, found) = page(&mut self.page) => self.catch_up(id, found).await?,
                () = &mut stopping, if leave_at.is_none() => leave_at = Some(Instant::now() + self.leave_after()),
                () = at(self.read_at) => self.read_at = None,
                () = at(leave_at) => return Err(Box::pin(self.say_goodbye()).await),
            }
        }
    }

    /// Carries out what is there already, up to a bound, so that the answers leave together.
    async fn take_in(&mut self, incoming: Incoming) -> Result<(), End> {
        let mut incoming = Some(incoming);
        for _ in 0..PENDING_MAX {
            match incoming {
                Some(Incoming::Text(text)) => self.command(&text).await?,
                Some(Incoming::End(end)) => return Err(end),
                Some(Incoming::Alive) => {}
                None => return Ok(()),
            }
            if !self.may_read() {
                return Ok(());
            }
            incoming = self.socket.next_now();
        }
        match incoming {
            Some(Incoming::Text(text)) => self.command(&text).await,
            Some(Incoming::End(end)) => Err(end),
            _ => Ok(()),
        }
    }

    fn may_read(&self) -> bool {
        self.held.is_none() && self.pending.len() < PENDING_MAX && self.read_at.is_none()
    }

    async fn look(&mut self, woken: &mut Woken) -> Result<(), End> {
        if std::mem::take(&mut woken.revoked) {
            return Err(End::Close(CloseCode::Revoked));
        }
        if std::mem::take(&mut woken.tick) {
            self.tick().await?;
        }
        for subscription in woken.subscriptions.drain(..) {
            self.pump(subscription).await?;
        }
        for (subscription, text) in woken.typing.drain(..) {
            if self.subscriptions.contains_key(&subscription) {
                self.socket.write(text).await?;
            }
        }
        Ok(())
    }

    async fn tick(&mut self) -> Result<(), End> {
        let now = Instant::now();
        self.tick_at.take_if(|(at, _)| *at <= now);
        if self.socket.seen_at + self.all.options.silence <= now {
            return Err(End::Close(CloseCode::Silent));
        }
        let left_ms = self.caller.expires_at - clock::now_ms();
        if left_ms <= 0 {
            return Err(End::Close(CloseCode::NotSignedIn));
        }
        if left_ms <= EXPIRING_MS && !std::mem::replace(&mut self.told_expiring, true) {
            self.say(&Event::Expiring { expires_at: self.caller.expires_at }).await?;
        }
        if self.next_ping <= now {
            self.next_ping = now + jittered(self.all.options.ping);
            self.socket.ping().await?;
        }
        self.set_timer();
        Ok(())
    }

    /// Asks for a tick at what comes next, unless one is on its way that is no later.
    fn set_timer(&mut self) {
        let now = Instant::now();
        let silent_at = self.socket.seen_at + self.all.options.silence;
        let left_ms = self.caller.expires_at - clock::now_ms();
        let told_in_ms = if self.told_expiring { left_ms } else { left_ms - EXPIRING_MS };
        let token = Duration::from_millis(u64::try_from(told_in_ms).unwrap_or(0));
        let due = self.next_ping.min(silent_at).saturating_duration_since(now).min(token).min(HORIZON);
        if self.tick_at.as_ref().is_none_or(|(at, _)| now + due + SAME < *at) {
            self.tick_at = Some((now + due, self.all.timer.tick_after(&self.wake, due)));
        }
    }

    async fn say(&mut self, event: &Event<'_>) -> Result<(), End> {
        self.write(encode(event)).await
    }

    async fn write(&mut self, text: Utf8Bytes) -> Result<(), End> {
        self.socket.write(text).await
    }

    /// When this session leaves a stopping node: at once where there are few, spread where there are many.
    fn leave_after(&self) -> Duration {
        let sessions = self.all.tasks.len() as f64;
        let spread = Duration::from_secs_f64(sessions / LEAVING_PER_SECOND).min(self.all.options.drain.mul_f64(0.8));
        spread.mul_f64(random())
    }

    async fn say_goodbye(&mut self) -> End {
        let goodbye = async {
            let after_ms = 50 + (random() * 950.0) as u64;
            self.say(&Event::Reconnect { after_ms }).await?;
            while !self.pending.is_empty() {
                let sending = oldest(&mut self.pending).await;
                self.answer_send(sending).await?;
            }
            self.socket.flush().await
        };
        goodbye.await.err().unwrap_or(End::Close(CloseCode::Restart))
    }
}

/// The page that is being read; never, where there is none. Cancel-safe: the read goes on when asked again.
async fn page(page: &mut Option<PageRead>) -> (u32, CatchUp) {
    match page {
        Some((subscription, read)) => {
            let found = read.await;
            let subscription = *subscription;
            *page = None;
            (subscription, found)
        }
        None => std::future::pending().await,
    }
}

/// What became of the oldest send; never, where there is none. Cancel-safe.
async fn oldest(pending: &mut VecDeque<BoxFuture<'static, Sending>>) -> Sending {
    match pending.front_mut() {
        Some(oldest) => {
            let sending = oldest.await;
            pending.pop_front();
            sending
        }
        None => std::future::pending().await,
    }
}

/// At the time; never, where there is none. Boxed: hardly any session has one.
async fn at(time: Option<Instant>) {
    match time {
        Some(time) => Box::pin(sleep_until(time)).await,
        None => std::future::pending().await,
    }
}

/// A number from 0 up to 1.
fn random() -> f64 {
    let mut bytes = [0; 4];
    // Without randomness all leave at the same moment, which is only unkind.
    let _ = getrandom::fill(&mut bytes);
    f64::from(u32::from_le_bytes(bytes)) / f64::from(u32::MAX)
}

/// The time, up to a tenth less, so that sessions which began together do not ping together.
fn jittered(time: Duration) -> Duration {
    time.mul_f64(1.0 - random() / 10.0)
}
