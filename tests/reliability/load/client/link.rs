//! One live session: commands go out with a `ref`, frames come in, and silence is noticed.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::time::Duration;

use burble::model::{Ends, Position};
use futures_util::{SinkExt, StreamExt};
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio::time::{Instant, timeout, timeout_at};
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::super::history::{Client, Exchange, GapReason, History};
use super::Line;
use crate::support::Request;

/// After so long without a frame the client asks for one.
const PING_AFTER: Duration = Duration::from_millis(500);

/// Why a session is over.
#[derive(Debug)]
pub(super) enum Ended {
    Lost,
    /// The node is leaving, and said when to come back.
    After(Duration),
    /// The server does not take this token, or no longer.
    SignedOut(String),
}

/// Any frame of the server's, as far as a client looks at it.
#[derive(Deserialize, Debug, Default)]
#[serde(default)]
pub(super) struct Frame {
    pub(super) ev: String,
    #[serde(rename = "ref")]
    pub(super) reference: Option<u32>,
    pub(super) channel: String,
    pub(super) id: Option<Position>,
    pub(super) dup: bool,
    pub(super) from: String,
    pub(super) cid: String,
    pub(super) text: String,
    pub(super) code: String,
    pub(super) retry_after_ms: Option<u64>,
    pub(super) after_ms: u64,
    /// Of a `gap`, or of a `left`.
    pub(super) reason: Value,
    first: Option<Position>,
    last: Option<Position>,
    pub(super) joined: BTreeMap<String, Retained>,
    pub(super) refused: BTreeMap<String, String>,
}

/// The ends of a log as `resume` tells them.
#[derive(Deserialize, Debug, Clone, Copy)]
pub(super) struct Retained {
    first: Option<Position>,
    last: Option<Position>,
}

impl From<Retained> for Ends {
    fn from(retained: Retained) -> Self {
        Self { first: retained.first, last: retained.last }
    }
}

impl Frame {
    pub(super) fn ends(&self) -> Ends {
        Ends { first: self.first, last: self.last }
    }

    pub(super) fn gap_reason(&self) -> Option<GapReason> {
        GapReason::deserialize(&self.reason).ok()
    }
}

pub(super) struct Link {
    pub(super) address: SocketAddr,
    pub(super) token: String,
    socket: WebSocketStream<TcpStream>,
    client: Client,
    history: History,
    patience: Duration,
    next_ref: u32,
    /// Commands without an answer, the oldest first, and since when.
    waiting: VecDeque<(u32, Instant)>,
    heard: Instant,
    answered: Instant,
}

impl Link {
    /// Signs in and waits for `welcome`; one try.
    pub(super) async fn open(line: &Line, address: SocketAddr) -> Option<Self> {
        let token = line.account.token(address).await?;
        let request = Request::new("GET", "/ws").elsewhere().bearer(&token).upgrade();
        let (answer, stream) = match timeout(line.patience, request.switch(address)).await.ok()? {
            Ok(switched) => switched,
            Err(refused) => {
                line.history.lock().refused(&format!("upgrade_{}", refused.status));
                if refused.status == 401 {
                    line.account.forget(&token).await;
                }
                return None;
            }
        };
        let socket = WebSocketStream::from_partially_read(stream, answer.body, Role::Client, None).await;
        let (client, history, patience) = (line.client, line.history.clone(), line.patience);
        let (waiting, heard) = (VecDeque::new(), Instant::now());
        let mut link =
            Self { address, token, socket, client, history, patience, next_ref: 0, waiting, heard, answered: heard };
        let welcome = timeout(patience, link.read()).await.ok()?.ok()??;
        if welcome.ev != "welcome" {
            return None;
        }
        link.history.lock().session(link.client);
        Some(link)
    }

    /// Sends a command; its `ref`.
    pub(super) async fn ask(&mut self, mut command: Value) -> Result<u32, Ended> {
        self.next_ref += 1;
        let reference = self.next_ref;
        command["ref"] = reference.into();
        // Noted first: a write that breaks off may have gone out all the same.
        self.history.lock().exchange(self.client, Exchange::Asked(reference));
        self.waiting.push_back((reference, Instant::now()));
        let write = self.socket.send(Message::text(command.to_string()));
        match timeout(self.patience, write).await {
            Ok(Ok(())) => Ok(reference),
            _ => Err(Ended::Lost),
        }
    }

    pub(super) async fn ping(&mut self) -> Result<u32, Ended> {
        self.ask(json!({"op": "ping"})).await
    }

    /// The next frame, or none until then. May be dropped at any await.
    pub(super) async fn next(&mut self, until: Instant) -> Result<Option<Frame>, Ended> {
        loop {
            let now = Instant::now();
            if self.waiting.is_empty() && now >= self.heard + PING_AFTER {
                self.ping().await?;
            }
            let check = match self.waiting.front() {
                // One answer after another is slow; none in all this time is dead, whatever events still come.
                Some((_, asked)) => self.answered.max(*asked) + self.patience,
                None => self.heard + PING_AFTER,
            };
            if now >= check && !self.waiting.is_empty() {
                self.history.lock().refused("no_answer_in_time");
                return Err(Ended::Lost);
            }
            match timeout_at(check.min(until), self.read()).await {
                Ok(read) => match read? {
                    Some(frame) => return self.noted(frame),
                    None => continue,
                },
                Err(_) if Instant::now() >= until => return Ok(None),
                Err(_) => {}
            }
        }
    }

    /// Says goodbye; whether that arrives matters to nobody.
    pub(super) async fn close(mut self) {
        let _ = timeout(self.patience, self.socket.close(None)).await;
    }

    fn noted(&mut self, frame: Frame) -> Result<Option<Frame>, Ended> {
        if matches!(frame.ev.as_str(), "ok" | "error") {
            let mut recorded = self.history.lock();
            recorded.exchange(self.client, Exchange::Answered(frame.reference));
            if frame.ev == "error" {
                recorded.refused(&frame.code);
            }
            self.answered = Instant::now();
            self.waiting.retain(|waiting| Some(waiting.0) != frame.reference);
        }
        match frame.ev.as_str() {
            "reconnect" => Err(Ended::After(Duration::from_millis(frame.after_ms))),
            "error" if matches!(frame.code.as_str(), "unauthenticated" | "token_expired") => {
                Err(Ended::SignedOut(self.token.clone()))
            }
            _ => Ok(Some(frame)),
        }
    }

    /// One frame of the wire; none where it was only a sign of life.
    async fn read(&mut self) -> Result<Option<Frame>, Ended> {
        let read = self.socket.next().await;
        let Some(Ok(message)) = read else { return Err(Ended::Lost) };
        self.heard = Instant::now();
        let now = self.history.now();
        let mut recorded = self.history.lock();
        recorded.clients[self.client].silence.heard(now);
        match message {
            Message::Text(text) => match serde_json::from_str(text.as_str()) {
                Ok(frame) => Ok(Some(frame)),
                Err(_) => {
                    recorded.refused("unreadable_frame");
                    Err(Ended::Lost)
                }
            },
            Message::Close(frame) => {
                let code = frame.map_or(1005, |frame| u16::from(frame.code));
                recorded.refused(&format!("closed_{code}"));
                match code {
                    4401 | 4403 => Err(Ended::SignedOut(self.token.clone())),
                    _ => Err(Ended::Lost),
                }
            }
            _ => Ok(None),
        }
    }
}
