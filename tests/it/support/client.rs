//! Clients as they should be written: they come back, resume, repeat with the same `cid`; and a judge of what they saw.

use std::net::SocketAddr;
use std::time::Duration;

use burble::model::Position;
use serde_json::{Value, json};

use super::session::Sent;
use super::{Session, TestUser, text};

/// What one listener saw of one channel. Whoever notes an event that breaks the promise fails the test.
#[derive(Debug, Default)]
pub(crate) struct Seen {
    pub(crate) texts: Vec<String>,
    pub(crate) ids: Vec<String>,
    pub(crate) gaps: Vec<String>,
    pub(crate) caught_up: usize,
    last: Option<Position>,
    gap: bool,
}

impl Seen {
    /// In order, none twice, none left out, unless a `gap` said so.
    pub(crate) fn note(&mut self, event: &Value) {
        match text(&event["ev"]) {
            "gap" => {
                self.gaps.push(text(&event["reason"]).to_owned());
                self.gap = true;
            }
            "caught_up" => self.caught_up += 1,
            "message" => self.note_message(event),
            _ => {}
        }
    }

    fn note_message(&mut self, event: &Value) {
        let position = position(&event["id"]);
        if let Some(last) = self.last {
            assert!(position > last || self.gap, "{position} came after {last}");
            assert!(position.follows(last) || self.gap, "between {last} and {position} something is missing");
        }
        self.gap = false;
        self.last = Some(position);
        self.ids.push(text(&event["id"]).to_owned());
        self.texts.push(event["text"].as_str().unwrap_or_default().to_owned());
    }

    /// Where to resume.
    pub(crate) fn since(&self) -> String {
        self.last.unwrap_or(Position::BEGINNING).to_string()
    }
}

pub(crate) fn position(value: &Value) -> Position {
    text(value).parse().unwrap_or_else(|_| panic!("no position: {value}"))
}

/// Listens to one channel from its beginning, at whichever node there is.
pub(crate) struct Listener {
    user: TestUser,
    nodes: Vec<SocketAddr>,
    channel: String,
    session: Option<Session>,
    pub(crate) seen: Seen,
    /// How often it had to come back.
    pub(crate) returns: usize,
}

impl Listener {
    /// Joined, and caught up with what there is.
    pub(crate) async fn start(user: TestUser, nodes: &[SocketAddr], channel: &str) -> Self {
        let (nodes, channel) = (nodes.to_vec(), channel.to_owned());
        let mut listener = Self { user, nodes, channel, session: None, seen: Seen::default(), returns: 0 };
        while listener.seen.caught_up == 0 {
            listener.step().await;
        }
        listener
    }

    /// Until it has seen so many messages.
    pub(crate) async fn listen(&mut self, count: usize) {
        while self.seen.ids.len() < count {
            self.step().await;
        }
    }

    /// Until it has seen this text.
    pub(crate) async fn listen_until(&mut self, text: &str) {
        while self.seen.texts.last().is_none_or(|last| last != text) {
            self.step().await;
        }
    }

    async fn step(&mut self) {
        match &mut self.session {
            None => self.come_back().await,
            Some(session) => match session.try_next().await {
                Ok(event) => self.seen.note(&event),
                Err(_) => self.away(),
            },
        }
    }

    async fn come_back(&mut self) {
        let command = json!({"op": "join", "channel": self.channel, "since": self.seen.since()});
        let Some(mut session) = reach(&mut self.user, &self.nodes).await else { return };
        match session.try_ask(command).await {
            Ok(answer) if answer["ev"] == "ok" => self.session = Some(session),
            _ => back_off().await,
        }
    }

    fn away(&mut self) {
        self.session = None;
        self.returns += 1;
    }
}

/// Sends until it is told `ok`, with the same `cid` each time.
pub(crate) struct Sender {
    user: TestUser,
    nodes: Vec<SocketAddr>,
    channel: String,
    session: Option<Session>,
}

impl Sender {
    pub(crate) fn new(user: TestUser, nodes: &[SocketAddr], channel: &str) -> Self {
        Self { user, nodes: nodes.to_vec(), channel: channel.to_owned(), session: None }
    }

    /// The text serves as `cid` too.
    pub(crate) async fn send(&mut self, content: &str) -> Sent {
        let command = json!({"op": "send", "channel": self.channel, "text": content, "cid": content});
        loop {
            let Some(session) = &mut self.session else {
                self.session = reach(&mut self.user, &self.nodes).await;
                continue;
            };
            match session.try_ask(command.clone()).await {
                Ok(answer) if answer["ev"] == "ok" => return Sent::from(&answer),
                Ok(answer) => {
                    assert!(matches!(text(&answer["code"]), "unavailable" | "outcome_unknown"), "{answer}");
                    back_off().await;
                }
                Err(_) => self.session = None,
            }
        }
    }
}

/// A session at the first node that lets this user in.
async fn reach(user: &mut TestUser, nodes: &[SocketAddr]) -> Option<Session> {
    for &node in nodes {
        user.address = node;
        if let Ok(session) = user.try_session().await {
            return Some(session);
        }
    }
    back_off().await;
    None
}

/// What a client owes a server that is not there.
async fn back_off() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
