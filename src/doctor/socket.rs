//! What the socket is like on the way: whether frames come at once, whole, with their close codes, and for how long.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, ensure};
use bytes::Bytes;
use futures_util::{SinkExt, StreamExt};
use http::StatusCode;
use serde_json::{Value, json};
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::tungstenite::Message;

use super::client::{Client, Socket};
use crate::finding::Finding;

/// As large a frame as a client may have to send, short of the limit of 64 KiB.
const LARGE_BYTES: usize = 60 * 1024;
/// How long any frame may take.
const FRAME_MAX: Duration = Duration::from_secs(10);
/// How often a frame goes there and back: what is held back is so each time, what was unlucky is not.
const TRIPS: u8 = 5;
/// A frame comes back as soon as a connection is made, and the node has had its turn; where even the quickest takes so much
/// longer, something holds it back.
const HELD_BACK: Duration = Duration::from_millis(100);
pub(super) const HELD_REMEDY: &str = "let nothing on the way buffer or inspect the socket: nginx: proxy_buffering off; \
     Caddy: no response_buffers; else a gateway that reads the traffic";
const CLOSE_REMEDY: &str = "have the proxy pass the socket on as it is, without reading WebSocket frames";

/// Frames go there and back. Then a token that is none is told so in a frame, and the socket closed with 4401: both must
/// arrive.
pub(super) async fn frames(client: &Client, mut socket: Socket) -> Vec<Finding> {
    const CHECK: &str = "proxy frames";
    let mut findings = vec![match quickest(client, &mut socket).await {
        Ok((trip, way)) if trip <= way + HELD_BACK => {
            Finding::ok(CHECK, format!("the quickest of {TRIPS} came back after {} ms", trip.as_millis()))
        }
        Ok((trip, way)) => {
            let (trip, way) = (trip.as_millis(), way.as_millis());
            let found = format!("held back: the quickest of {TRIPS} took {trip} ms, and a connection {way} ms");
            Finding::warning(CHECK, found, HELD_REMEDY)
        }
        Err(error) => Finding::failure(CHECK, format!("{error:#}"), HELD_REMEDY),
    }];
    let said = say(&mut socket, &json!({"op": "auth", "token": "none"})).await;
    findings.extend(said.err().map(|error| Finding::failure(CHECK, format!("{error:#}"), HELD_REMEDY)));
    findings.push(match closed(&mut socket).await {
        Some(4401) => Finding::ok("proxy close codes", "4401 arrives as 4401"),
        Some(code) => Finding::failure("proxy close codes", format!("4401 arrives as {code}"), CLOSE_REMEDY),
        None => Finding::failure("proxy close codes", "4401 does not arrive (1006 to a browser)", CLOSE_REMEDY),
    });
    findings
}

/// How long a frame takes there and back at best, and how long a connection takes.
async fn quickest(client: &Client, socket: &mut Socket) -> anyhow::Result<(Duration, Duration)> {
    let began = Instant::now();
    client.own_address().await?;
    let way = began.elapsed();
    let mut quickest = FRAME_MAX;
    for number in 0..TRIPS {
        let began = Instant::now();
        let mark = Bytes::from(vec![number]);
        socket.send(Message::Ping(mark.clone())).await?;
        let pong = async {
            while socket.next().await.context("the socket ended")?? != Message::Pong(mark.clone()) {}
            anyhow::Ok(())
        };
        timeout(FRAME_MAX, pong).await.with_context(|| format!("no frame within {FRAME_MAX:?}"))??;
        quickest = quickest.min(began.elapsed());
    }
    Ok((quickest, way))
}

pub(super) async fn large(client: &Client) -> Finding {
    const CHECK: &str = "proxy large frame";
    let passed = async {
        let Ok(mut socket) = client.upgrade(&[]).await else { anyhow::bail!("no second socket is opened") };
        let answer = say(&mut socket, &json!({"op": "auth", "token": "x".repeat(LARGE_BYTES)})).await?;
        ensure!(answer["ev"] == "error", "answered by {}", answer["ev"]);
        anyhow::Ok(())
    };
    match passed.await {
        Ok(()) => Finding::ok(CHECK, "60 KiB pass"),
        Err(error) => Finding::failure(
            CHECK,
            format!("60 KiB do not pass: {error:#}"),
            "raise the proxy's limit of a frame or body to 64 KiB and more",
        ),
    }
}

/// Signs in, stays idle, and says whether that was borne.
pub(super) async fn stay(
    client: &Client,
    user: &str,
    password: &PathBuf,
    idle: Duration,
    ping: Duration,
) -> anyhow::Result<Finding> {
    const CHECK: &str = "proxy idle";
    let password =
        std::fs::read_to_string(password).with_context(|| format!("{} cannot be read", password.display()))?;
    let credentials = json!({"name": user, "password": password.trim_end_matches(['\r', '\n'])});
    let answer = client.ask("POST", "/login", &[], Some(&credentials)).await?;
    ensure!(answer.status == StatusCode::OK, "POST /login is answered {}", answer.status);
    let tokens = answer.json().context("POST /login is answered by no JSON")?;
    let bearer = format!("Bearer {}", tokens["access_token"].as_str().unwrap_or_default());
    let stayed = sit(client, &bearer, idle).await;
    // Leaves no sign-in behind.
    let _ = client.ask("POST", "/logout", &[("authorization", &bearer)], Some(&json!({}))).await;
    let remedy = "be more patient than SESSION_PING_MS: nginx: proxy_read_timeout 75s; HAProxy: timeout tunnel 75s";
    Ok(match stayed? {
        (pings, None) => Finding::ok(CHECK, format!("open after {} s, {pings} pings", idle.as_secs())),
        (pings, Some(after)) => {
            let found = format!("cut off after {:.0} s, {pings} pings; one is due every {ping:?}", after.as_secs_f64());
            Finding::failure(CHECK, found, remedy)
        }
    })
}

/// How many pings came, and when the socket was cut off, if it was.
async fn sit(client: &Client, bearer: &str, idle: Duration) -> anyhow::Result<(u32, Option<Duration>)> {
    let socket = client.upgrade(&[("authorization", bearer)]).await;
    let Ok(mut socket) = socket else { anyhow::bail!("the signed-in socket is refused") };
    let (began, mut pings) = (Instant::now(), 0);
    loop {
        match timeout_at(began + idle, socket.next()).await {
            Ok(Some(Ok(Message::Ping(_)))) => pings += 1,
            Ok(Some(Ok(Message::Close(_)) | Err(_)) | None) => return Ok((pings, Some(began.elapsed()))),
            Ok(Some(Ok(_))) => {}
            Err(_) => break,
        }
    }
    let answered = say(&mut socket, &json!({"op": "ping", "ref": 1})).await.is_ok();
    Ok((pings, (!answered).then(|| began.elapsed())))
}

/// Sends a frame and waits for the next one.
async fn say(socket: &mut Socket, command: &Value) -> anyhow::Result<Value> {
    let exchange = async {
        socket.send(Message::text(command.to_string())).await?;
        loop {
            match socket.next().await.context("the socket ended")?? {
                Message::Text(text) => return Ok(serde_json::from_str(&text)?),
                Message::Close(frame) => anyhow::bail!("closed: {frame:?}"),
                _ => {}
            }
        }
    };
    timeout(FRAME_MAX, exchange).await.with_context(|| format!("no frame within {FRAME_MAX:?}"))?
}

/// The close code; none where the socket ended without one.
async fn closed(socket: &mut Socket) -> Option<u16> {
    let closing = async {
        loop {
            match socket.next().await? {
                Ok(Message::Close(frame)) => return frame.map(|frame| frame.code.into()),
                Ok(_) => {}
                Err(_) => return None,
            }
        }
    };
    timeout(FRAME_MAX, closing).await.ok()?
}
