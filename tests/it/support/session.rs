//! A user, and a session of theirs that keeps what arrives between its answers.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::ops::Deref;

use futures_util::{SinkExt, StreamExt};
use serde_json::{Value, json};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::protocol::Role;

use super::{Answer, PATIENCE, Request, TestServer, text, within};

/// Of every user who is signed up here.
pub(crate) const PASSWORD: &str = "correct horse";
/// How many of the last frames a failure shows.
const TAIL: usize = 12;

/// Someone signed in, at one of the nodes.
#[derive(Clone, Debug)]
pub(crate) struct TestUser {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) expires_at: i64,
}

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

impl TestUser {
    pub(crate) async fn sign_up(address: SocketAddr, name: &str) -> Self {
        let body = json!({"name": name, "password": PASSWORD});
        Self::from(address, &Request::new("POST", "/signup").json(&body).send(address).await.expect(201))
    }

    /// From the answer to a sign-up, sign-in or refresh.
    pub(crate) fn from(address: SocketAddr, signed_in: &Value) -> Self {
        let own = |value: &Value| text(value).to_owned();
        Self {
            address,
            name: own(&signed_in["user"]["name"]),
            access: own(&signed_in["access_token"]),
            refresh: own(&signed_in["refresh_token"]),
            expires_at: signed_in["expires_at"].as_i64().expect("milliseconds"),
        }
    }

    /// Signs in once more.
    pub(crate) async fn log_in(&self) -> Self {
        let body = json!({"name": self.name, "password": PASSWORD});
        Self::from(self.address, &Request::new("POST", "/login").json(&body).send(self.address).await.expect(200))
    }

    /// The pair that follows.
    pub(crate) async fn refreshed(&self) -> Self {
        Self::from(self.address, &self.try_refresh().await.expect(200))
    }

    pub(crate) async fn try_refresh(&self) -> Answer {
        let body = json!({"refresh_token": self.refresh});
        Request::new("POST", "/refresh").json(&body).send(self.address).await
    }

    /// The same user, who goes to another node.
    pub(crate) fn at(&self, server: &TestServer) -> Self {
        Self { address: server.address, ..self.clone() }
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.request("GET", path).send(self.address).await
    }

    pub(crate) async fn delete(&self, path: &str) -> Answer {
        self.request("DELETE", path).send(self.address).await
    }

    pub(crate) async fn post(&self, path: &str, body: Value) -> Answer {
        self.request("POST", path).json(&body).send(self.address).await
    }

    pub(crate) async fn put(&self, path: &str, body: Value) -> Answer {
        self.request("PUT", path).json(&body).send(self.address).await
    }

    pub(crate) async fn patch(&self, path: &str, body: Value) -> Answer {
        self.request("PATCH", path).json(&body).send(self.address).await
    }

    /// A request with this user's token.
    pub(crate) fn request(&self, method: &str, path: &str) -> Request {
        Request::new(method, path).bearer(&self.access)
    }

    pub(crate) async fn create_channel(&self, name: &str) -> Value {
        self.create(name, "public").await
    }

    pub(crate) async fn create_private(&self, name: &str) -> Value {
        self.create(name, "private").await
    }

    async fn create(&self, name: &str, kind: &str) -> Value {
        self.post("/channels", json!({"name": name, "kind": kind})).await.expect(201)["channel"].clone()
    }

    pub(crate) async fn add(&self, channel: &str, user: &str, role: &str) -> Value {
        let path = format!("/channels/{channel}/members/{user}");
        self.put(&path, json!({"role": role})).await.expect(200)["member"].clone()
    }

    pub(crate) async fn remove(&self, channel: &str, user: &str) {
        self.delete(&format!("/channels/{channel}/members/{user}")).await.expect(204);
    }

    /// Over HTTP.
    pub(crate) async fn post_message(&self, channel: &str, body: Value) -> Answer {
        self.post(&format!("/channels/{channel}/messages"), body).await
    }

    /// A page of history over HTTP; `query` begins with a question mark, or is empty.
    pub(crate) async fn history(&self, channel: &str, query: &str) -> Value {
        self.get(&format!("/channels/{channel}/messages{query}")).await.expect(200)
    }

    /// A session, signed in by header, after its `welcome`.
    pub(crate) async fn session(&self) -> Session {
        match self.try_session().await {
            Ok(session) => session,
            Err(closed) => panic!("{} is not let in: {closed:?}", self.name),
        }
    }

    /// The same where the server may be gone.
    pub(crate) async fn try_session(&self) -> Result<Session, Closed> {
        let broken = |reason: String| Closed { code: 1006, reason };
        let mut session = self.upgrade(self.request("GET", "/ws")).await.map_err(|answer| broken(answer.text()))?;
        session.welcome = session.try_next().await?;
        assert_eq!(session.welcome["ev"], "welcome");
        Ok(session)
    }

    /// The refusal of a session by header.
    pub(crate) async fn session_refused(&self) -> Answer {
        match self.upgrade(self.request("GET", "/ws")).await {
            Ok(_) => panic!("{} is let in", self.name),
            Err(answer) => answer,
        }
    }

    /// A socket by any request; nothing was said on it yet.
    pub(crate) async fn upgrade(&self, request: Request) -> Result<Session, Answer> {
        let (answer, stream) = request.upgrade().switch(self.address).await?;
        let socket = WebSocketStream::from_partially_read(stream, answer.body.clone(), Role::Client, None).await;
        Ok(Session {
            user: self.clone(),
            upgrade: answer,
            welcome: Value::Null,
            socket,
            waiting: VecDeque::new(),
            tail: VecDeque::new(),
            next_ref: 0,
        })
    }
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
    next_ref: u64,
}

impl Deref for Session {
    type Target = TestUser;
    fn deref(&self) -> &TestUser {
        &self.user
    }
}

impl Session {
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
        let _ = self.socket.send(Message::text(frame.into())).await;
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
