//! A user's session: it keeps what arrives between its answers.

use std::collections::VecDeque;
use std::ops::Deref;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Answer, PATIENCE, TestUser, contract, text, within};

/// How many of the last frames a failure shows.
const TAIL: usize = 12;

/// What a `send` was answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sent {
    pub(crate) id: String,
    pub(crate) at: i64,
    pub(crate) dup: bool,
}

/// How a connection ended; 1006 where it broke without a word.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Closed {
    pub(crate) code: u16,
    pub(crate) reason: String,
}

/// A live connection.
pub(crate) struct Session {
    pub(crate) user: TestUser,
    /// The answer to the upgrade.
    pub(crate) upgrade: Answer,
    pub(crate) welcome: Value,
    socket: WebSocketStream<TcpStream>,
    /// Events that came while an answer was awaited.
    waiting: VecDeque<Value>,
    tail: VecDeque<String>,
    /// The frames that were not answered yet: answers come in the order of the commands.
    asked: VecDeque<String>,
    next_ref: u64,
}

impl Deref for Session {
    type Target = TestUser;
    fn deref(&self) -> &TestUser {
        &self.user
    }
}

impl Session {
    /// On a connection that was just upgraded; nothing was said on it yet.
    pub(crate) async fn over(user: &TestUser, upgrade: Answer, stream: TcpStream) -> Self {
        let socket = WebSocketStream::from_partially_read(stream, upgrade.body.clone(), Role::Client, None).await;
        Self {
            user: user.clone(),
            upgrade,
            welcome: Value::Null,
            socket,
            waiting: VecDeque::new(),
            tail: VecDeque::new(),
            asked: VecDeque::new(),
            next_ref: 0,
        }
    }

    pub(crate) async fn join(&mut self, channel: &str) -> Value {
        self.ok(json!({"op": "join", "channel": channel})).await
    }

    pub(crate) async fn join_since(&mut self, channel: &str, since: &str) -> Value {
        self.ok(json!({"op": "join", "channel": channel, "since": since})).await
    }

    pub(crate) async fn leave(&mut self, channel: &str) -> Value {
        self.ok(json!({"op": "leave", "channel": channel})).await
    }

    pub(crate) async fn send(&mut self, channel: &str, text: &str) -> Sent {
        self.send_with(json!({"channel": channel, "text": text})).await
    }

    /// A `send` with any fields.
    pub(crate) async fn send_with(&mut self, mut command: Value) -> Sent {
        command["op"] = "send".into();
        Sent::from(&self.ok(command).await)
    }

    /// Signs in, or renews the token, with the first frame or a later one; the `welcome`.
    pub(crate) async fn auth(&mut self, user: &TestUser) -> Value {
        self.ok(json!({"op": "auth", "token": user.access})).await;
        self.next_of("welcome").await
    }

    /// Sends a frame as it is; the code of the refusal, which bears no `ref`.
    pub(crate) async fn error_raw(&mut self, frame: &str) -> String {
        self.raw(frame).await;
        let answer = self.next_of("error").await;
        assert_eq!(answer.get("ref"), None, "{answer}");
        text(&answer["code"]).to_owned()
    }

    /// Sends a command and returns its `ok`.
    pub(crate) async fn ok(&mut self, command: Value) -> Value {
        let answer = self.ask(command.clone()).await;
        assert_eq!(answer["ev"], "ok", "{command} was answered {answer}");
        answer
    }

    /// Sends a command that is to be refused; the code.
    pub(crate) async fn error(&mut self, command: Value) -> String {
        let answer = self.ask(command.clone()).await;
        assert_eq!(answer["ev"], "error", "{command} was answered {answer}");
        assert!(answer["message"].as_str().is_some_and(|message| !message.is_empty()), "{answer}");
        text(&answer["code"]).to_owned()
    }

    /// Sends a command with a new `ref` and returns the answer that bears it.
    pub(crate) async fn ask(&mut self, command: Value) -> Value {
        match self.try_ask(command).await {
            Ok(answer) => answer,
            Err(closed) => self.fail(&closed),
        }
    }

    /// The same where the server may go away.
    pub(crate) async fn try_ask(&mut self, command: Value) -> Result<Value, Closed> {
        let reference = self.begin(command).await;
        self.answer(reference).await
    }

    /// Sends a command and does not wait; its `ref`.
    pub(crate) async fn begin(&mut self, mut command: Value) -> u64 {
        self.next_ref += 1;
        command["ref"] = self.next_ref.into();
        self.raw(command.to_string()).await;
        self.next_ref
    }

    /// The answer with this `ref`.
    pub(crate) async fn answer(&mut self, reference: u64) -> Result<Value, Closed> {
        loop {
            let event = self.read().await?;
            match event["ev"].as_str() {
                Some("ok" | "error") if event["ref"] == reference => return Ok(event),
                Some("ok" | "error") => panic!("an answer to nothing: {event}"),
                _ => self.waiting.push_back(event),
            }
        }
    }

    /// A text frame as it is. A broken connection shows when reading.
    pub(crate) async fn raw(&mut self, frame: impl Into<String>) {
        let frame = frame.into();
        self.asked.push_back(frame.clone());
        let _ = self.socket.send(Message::text(frame)).await;
    }

    pub(crate) async fn raw_binary(&mut self, frame: Vec<u8>) {
        let _ = self.socket.send(Message::binary(frame)).await;
    }

    /// What came first of all that was not taken yet.
    pub(crate) async fn next_event(&mut self) -> Value {
        match self.try_next().await {
            Ok(event) => event,
            Err(closed) => self.fail(&closed),
        }
    }

    pub(crate) async fn try_next(&mut self) -> Result<Value, Closed> {
        match self.waiting.pop_front() {
            Some(event) => Ok(event),
            None => self.read().await,
        }
    }

    /// The next event, which is to be of this kind.
    pub(crate) async fn next_of(&mut self, kind: &str) -> Value {
        let event = self.next_event().await;
        assert_eq!(event["ev"], kind, "{event}; before it came {:#?}", self.tail);
        event
    }

    pub(crate) async fn next_message(&mut self) -> Value {
        self.next_of("message").await
    }

    /// The next so many messages.
    pub(crate) async fn messages(&mut self, count: usize) -> Vec<Value> {
        let mut messages = Vec::with_capacity(count);
        while messages.len() < count {
            messages.push(self.next_message().await);
        }
        messages
    }

    /// All events up to `caught_up`, and that.
    pub(crate) async fn catch_up(&mut self) -> (Vec<Value>, Value) {
        let mut events = Vec::new();
        loop {
            let event = self.next_event().await;
            if event["ev"] == "caught_up" {
                return (events, event);
            }
            events.push(event);
        }
    }

    /// The close of the connection; events before it are kept.
    pub(crate) async fn expect_close(&mut self) -> Closed {
        loop {
            match self.read().await {
                Ok(event) => self.waiting.push_back(event),
                Err(closed) => return closed,
            }
        }
    }

    /// Nothing came, and nothing comes before the answer to a ping.
    pub(crate) async fn expect_silence(&mut self) {
        self.ok(json!({"op": "ping"})).await;
        assert!(self.waiting.is_empty(), "unexpected: {:?}", self.waiting);
    }

    /// The connection itself, for a test that reads bytes.
    pub(crate) fn into_stream(self) -> TcpStream {
        self.socket.into_inner()
    }

    /// Leaves as a browser does that closes the page.
    pub(crate) async fn close(mut self) {
        let _ = self.socket.close(None).await;
        while let Some(Ok(_)) = within(PATIENCE, "the server says bye", self.socket.next()).await {}
    }

    async fn read(&mut self) -> Result<Value, Closed> {
        loop {
            let Ok(read) = tokio::time::timeout(PATIENCE, self.socket.next()).await else {
                panic!(
                    "{} heard nothing within {PATIENCE:?}; waiting: {:?}; last {:#?}",
                    self.name, self.waiting, self.tail
                )
            };
            match read {
                Some(Ok(Message::Text(frame))) => return Ok(self.parsed(frame.as_str())),
                Some(Ok(Message::Close(Some(frame)))) => {
                    contract::check_close(frame.code.into());
                    return Err(Closed { code: frame.code.into(), reason: frame.reason.to_string() });
                }
                Some(Ok(Message::Ping(_) | Message::Pong(_))) => {}
                Some(Ok(other)) => panic!("a frame that is no text: {other:?}"),
                Some(Err(broken)) => return Err(Closed { code: 1006, reason: broken.to_string() }),
                None => return Err(Closed { code: 1006, reason: "the end".into() }),
            }
        }
    }

    fn parsed(&mut self, frame: &str) -> Value {
        if self.tail.len() == TAIL {
            self.tail.pop_front();
        }
        self.tail.push_back(frame.chars().take(300).collect());
        let event: Value = serde_json::from_str(frame).unwrap_or_else(|e| panic!("{e} in {frame}"));
        assert!(event["ev"].is_string(), "every frame is an event: {frame}");
        if matches!(text(&event["ev"]), "ok" | "error") {
            let asked = self.asked.pop_front().unwrap_or_else(|| panic!("an answer to nothing: {frame}"));
            contract::check_reply(&asked, &event);
        } else {
            contract::check_event(&event);
        }
        event
    }

    fn fail(&self, closed: &Closed) -> ! {
        panic!("{}'s connection ended with {closed:?}; before it came {:#?}", self.name, self.tail)
    }
}

impl Sent {
    /// From the answer, over socket or HTTP.
    pub(crate) fn from(answer: &Value) -> Self {
        let at = answer["at"].as_i64().expect("milliseconds");
        Self { id: text(&answer["id"]).to_owned(), at, dup: answer["dup"] == true }
    }
}
