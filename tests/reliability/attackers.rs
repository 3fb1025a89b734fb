//! Those who attack a node: a process of their own, which runs only when nothing else on the machine wants to, since in
//! earnest they have machines of their own.

use std::io::Read;
use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, Result};
use clap::{Args, ValueEnum};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;
use tokio::task::{JoinSet, spawn_blocking};
use tokio::time::{Interval, MissedTickBehavior, interval, sleep};

use crate::support::user::PASSWORD;
use crate::support::{Request, TestUser};

/// All of them together deal at most so many blows in this time, connections or frames on one: 2,000 a second. To flood
/// a host with more than it can accept needs no Burble; firewalls and reverse proxies are for that.
const BLOWS: u32 = 20;
const BLOWS_EVERY: Duration = Duration::from_millis(10);
/// Between two bytes of those who are slow on purpose.
const DRIP: Duration = Duration::from_millis(500);
/// Deeper than any parser should follow.
const NESTING: usize = 20_000;
const LARGE_FRAME_BYTES: usize = 1024 * 1024;
/// Busy channels that everybody may join.
const CHANNELS: usize = 4;

/// What they do, over and over.
#[derive(Clone, Copy, PartialEq, Eq, Debug, ValueEnum)]
pub(crate) enum Attack {
    SlowHeaders,
    SlowBodies,
    SlowReaders,
    Strangers,
    LargeFrames,
    Nesting,
    Logins,
}

/// Their orders: the command line of the process that they are.
#[derive(Args, Debug)]
pub(crate) struct Orders {
    /// Attack, instead of judging
    #[arg(long, hide = true, requires_all = ["on", "token"])]
    attack: Option<Attack>,
    /// The node
    #[arg(long, hide = true)]
    on: Option<SocketAddr>,
    /// The access token of somebody who has an account there
    #[arg(long, hide = true)]
    token: Option<String>,
    /// How many they are
    #[arg(long, hide = true, default_value_t = 1)]
    crowd: usize,
}

/// The process. It ends with this, or with the one that started it.
pub(crate) struct Attackers {
    child: Child,
}

impl Attackers {
    /// Lets them loose.
    pub(crate) fn start(attack: Attack, on: &TestUser, crowd: usize) -> Result<Self> {
        let attack = attack.to_possible_value().context("every attack has a name")?;
        let child = Command::new("chrt")
            .args(["--idle", "0"])
            .arg(std::env::current_exe()?)
            .args(["--attack", attack.get_name(), "--token", &on.access])
            .args(["--on", &on.address.to_string(), "--crowd", &crowd.to_string()])
            .stdin(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .context("the attackers cannot be started")?;
        Ok(Self { child })
    }

    /// Their process, while it runs.
    pub(crate) fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Calls them off, and waits until all their connections have gone with them.
    pub(crate) async fn stop(mut self) -> Result<()> {
        Ok(self.child.kill().await?)
    }
}

impl Orders {
    /// Does as ordered until the other end of the standard input has gone; whether there were any orders.
    pub(crate) async fn follow(&self) -> bool {
        let (Some(attack), Some(on), Some(token)) = (self.attack, self.on, &self.token) else { return false };
        let mallory = TestUser {
            address: on,
            name: "mallory".into(),
            access: token.clone(),
            refresh: String::new(),
            expires_at: 0,
        };
        let blows = Arc::new(Blows::new());
        let attackers: JoinSet<()> = (0..self.crowd)
            .map(|number| Attacker { mallory: mallory.clone(), number, blows: Arc::clone(&blows) }.run(attack))
            .collect();
        let _ = spawn_blocking(|| std::io::stdin().read(&mut [0])).await;
        drop(attackers);
        true
    }
}

/// What they share: the pace.
struct Blows {
    left: Mutex<(Interval, u32)>,
}

impl Blows {
    fn new() -> Self {
        let mut every = interval(BLOWS_EVERY);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        Self { left: Mutex::new((every, 0)) }
    }

    /// Waits for the next one.
    async fn next(&self) {
        let mut guard = self.left.lock().await;
        let (every, left) = &mut *guard;
        if *left == 0 {
            every.tick().await;
            *left = BLOWS;
        }
        *left -= 1;
    }
}

/// One of them, with a connection at a time.
struct Attacker {
    mallory: TestUser,
    number: usize,
    blows: Arc<Blows>,
}

impl Attacker {
    /// For ever. Whatever the node does to it, it comes again; that it is refused, or put out, is what is hoped for.
    async fn run(self, attack: Attack) {
        loop {
            self.blows.next().await;
            let _: Result<()> = match attack {
                Attack::SlowHeaders => self.drip("GET /ws HTTP/1.1\r\nHost: burble\r\nX-Slow: ").await,
                Attack::SlowBodies => {
                    let head = "POST /login HTTP/1.1\r\nHost: burble\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n";
                    self.drip(head).await
                }
                Attack::SlowReaders => self.deaf().await,
                Attack::Strangers => self.stranger().await,
                Attack::LargeFrames => self.large_frame().await,
                Attack::Nesting => self.nested().await,
                Attack::Logins => self.guess().await,
            };
        }
    }

    async fn drip(&self, begin: &str) -> Result<()> {
        let mut stream = TcpStream::connect(self.mallory.address).await?;
        stream.write_all(begin.as_bytes()).await?;
        loop {
            sleep(DRIP).await;
            stream.write_all(b"x").await?;
        }
    }

    /// Joins what everybody writes to, from the beginning, and reads nothing.
    async fn deaf(&self) -> Result<()> {
        let Ok(mut session) = self.mallory.try_session().await else { return Ok(()) };
        for number in 0..CHANNELS {
            let join = json!({"op": "join", "channel": format!("load-{number}"), "since": "0-0"});
            session.begin(join).await;
        }
        std::future::pending().await
    }

    /// Opens a socket, says nothing, and stays until it is put out.
    async fn stranger(&self) -> Result<()> {
        let mut stream = TcpStream::connect(self.mallory.address).await?;
        let upgrade = "GET /ws HTTP/1.1\r\nHost: burble\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
            Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
        stream.write_all(upgrade.as_bytes()).await?;
        while stream.read(&mut [0; 512]).await? > 0 {}
        Ok(())
    }

    async fn large_frame(&self) -> Result<()> {
        let Ok(mut session) = self.mallory.try_session().await else { return Ok(()) };
        session.raw("x".repeat(LARGE_FRAME_BYTES)).await;
        while session.try_next().await.is_ok() {}
        Ok(())
    }

    async fn nested(&self) -> Result<()> {
        let Ok(mut session) = self.mallory.try_session().await else { return Ok(()) };
        let frame = format!(r#"{{"op":"send","channel":"load-0","data":{}"#, r#"{"a":"#.repeat(NESTING / 2));
        loop {
            self.blows.next().await;
            session.raw(frame.clone()).await;
            if session.try_next().await.is_err() {
                return Ok(());
            }
        }
    }

    /// Names that nobody has, so that every guess costs the node a whole hash.
    async fn guess(&self) -> Result<()> {
        for turn in 0.. {
            self.blows.next().await;
            let body = json!({"name": format!("guess-{}-{turn}", self.number), "password": PASSWORD});
            Request::new("POST", "/login").json(&body).try_send(self.mallory.address).await?;
        }
        Ok(())
    }
}
