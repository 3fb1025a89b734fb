//! Attacks on one node, past the reverse proxy, while all others and everybody else work as usual. What they cost is
//! told by the deliveries of the same run: those of calm times against those under attack.

use std::net::SocketAddr;
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::sleep;

use super::{Form, Scene};
use crate::support::user::PASSWORD;
use crate::support::{Request, TestUser};

/// How long calm and attack take turns.
const TURN: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(5));
/// How often they do: the median counts, since neither is quiet on a machine that others use.
const TURNS: (usize, usize) = (1, 3);
/// How much worse a delivery may be under attack than in calm times.
const WORSE_MAX: f64 = 2.0;
/// What no attack needs to undercut: noise on an idle machine.
const NOISE: Duration = Duration::from_millis(5);
/// Between two bytes of those who are slow on purpose.
const DRIP: Duration = Duration::from_millis(500);
/// Between two blows of those who are not.
const BLOW: Duration = Duration::from_millis(20);
/// Deeper than any parser should follow.
const NESTING: usize = 20_000;
const LARGE_FRAME_BYTES: usize = 1024 * 1024;

/// Who attacks: a connection each, over and over.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Attack {
    SlowHeaders,
    SlowBodies,
    SlowReaders,
    Strangers,
    LargeFrames,
    Nesting,
    Logins,
}

impl Attack {
    /// How many there are, in the short form and in the long one.
    fn crowd(self, form: Form) -> usize {
        match self {
            Self::SlowHeaders | Self::SlowBodies => form.choose(100, 1_000),
            Self::SlowReaders => form.choose(20, 200),
            Self::Strangers => form.choose(500, 10_000),
            Self::LargeFrames | Self::Nesting => form.choose(5, 20),
            Self::Logins => form.choose(10, 50),
        }
    }
}

/// Calm and attack by turns; the ratio of their medians is what counts, in the long form.
pub(super) async fn make(scene: &mut Scene, attack: Attack) -> Result<()> {
    let node = scene.system.nodes[0].address;
    let mallory = TestUser::sign_up(node, "mallory").await;
    let (mut calm, mut attacked) = (Vec::new(), Vec::new());
    for _ in 0..scene.form.choose(TURNS.0, TURNS.1) {
        calm.push(turn(scene).await);
        scene.mark(&format!("{attack:?}"));
        let mut attackers = JoinSet::new();
        for number in 0..attack.crowd(scene.form) {
            attackers.spawn(assail(attack, node, mallory.clone(), number));
        }
        attacked.push(turn(scene).await);
        scene.system.nodes[0].until_ready().await?;
        attackers.shutdown().await;
        scene.mark("calm");
    }
    let (calm, attacked) = (median(calm).context("no turn")?, median(attacked).context("no turn")?);
    let ratio = attacked.as_secs_f64() / calm.as_secs_f64().max(f64::MIN_POSITIVE);
    scene.note = Some(format!("p99 of delivery {calm:.1?} in calm times, {attacked:.1?} under attack"));
    if scene.form == Form::Full {
        ensure!(ratio <= WORSE_MAX || attacked <= NOISE, "deliveries took {ratio:.1} times as long under {attack:?}");
    }
    Ok(())
}

/// The p99 of the deliveries of one turn.
async fn turn(scene: &Scene) -> Duration {
    let from = scene.history.now();
    sleep(scene.form.choose(TURN.0, TURN.1)).await;
    let to = scene.history.now();
    scene.history.deliveries(from, to).p99
}

fn median(mut times: Vec<Duration>) -> Option<Duration> {
    times.sort_unstable();
    times.get(times.len() / 2).copied()
}

/// One attacker, for ever. Whatever the node does to it, it comes again.
async fn assail(attack: Attack, node: SocketAddr, mallory: TestUser, number: usize) {
    loop {
        // That it is refused, or put out, is what is hoped for.
        let _: Result<()> = match attack {
            Attack::SlowHeaders => drip(node, "GET /ws HTTP/1.1\r\nHost: burble\r\nX-Slow: ").await,
            Attack::SlowBodies => {
                let head = "POST /login HTTP/1.1\r\nHost: burble\r\nContent-Type: application/json\r\nContent-Length: 60000\r\n\r\n";
                drip(node, head).await
            }
            Attack::SlowReaders => deaf(&mallory).await,
            Attack::Strangers => stranger(node).await,
            Attack::LargeFrames => large_frame(&mallory).await,
            Attack::Nesting => nested(&mallory).await,
            Attack::Logins => guess(node, number).await,
        };
        sleep(BLOW).await;
    }
}

async fn drip(node: SocketAddr, begin: &str) -> Result<()> {
    let mut stream = TcpStream::connect(node).await?;
    stream.write_all(begin.as_bytes()).await?;
    loop {
        sleep(DRIP).await;
        stream.write_all(b"x").await?;
    }
}

/// Joins what everybody writes to, from the beginning, and reads nothing.
async fn deaf(mallory: &TestUser) -> Result<()> {
    let Ok(mut session) = mallory.try_session().await else { return Ok(()) };
    for number in 0..4 {
        let join = json!({"op": "join", "channel": format!("load-{number}"), "since": "0-0"});
        session.begin(join).await;
    }
    std::future::pending().await
}

/// Opens a socket, says nothing, and stays until it is put out.
async fn stranger(node: SocketAddr) -> Result<()> {
    let mut stream = TcpStream::connect(node).await?;
    let upgrade = "GET /ws HTTP/1.1\r\nHost: burble\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\
        Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n";
    stream.write_all(upgrade.as_bytes()).await?;
    while stream.read(&mut [0; 512]).await? > 0 {}
    Ok(())
}

async fn large_frame(mallory: &TestUser) -> Result<()> {
    let Ok(mut session) = mallory.try_session().await else { return Ok(()) };
    session.raw("x".repeat(LARGE_FRAME_BYTES)).await;
    while session.try_next().await.is_ok() {}
    Ok(())
}

async fn nested(mallory: &TestUser) -> Result<()> {
    let Ok(mut session) = mallory.try_session().await else { return Ok(()) };
    let frame = format!(r#"{{"op":"send","channel":"load-0","data":{}"#, r#"{"a":"#.repeat(NESTING / 2));
    loop {
        session.raw(frame.clone()).await;
        if session.try_next().await.is_err() {
            return Ok(());
        }
        sleep(BLOW).await;
    }
}

/// Names that nobody has, so that every guess costs the node a whole hash.
async fn guess(node: SocketAddr, number: usize) -> Result<()> {
    for turn in 0.. {
        let body = json!({"name": format!("guess-{number}-{turn}"), "password": PASSWORD});
        Request::new("POST", "/login").json(&body).try_send(node).await?;
    }
    Ok(())
}
