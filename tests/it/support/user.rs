//! A user, at one of the nodes, and what they do over HTTP.

use std::net::SocketAddr;
use std::time::Instant;

use serde_json::{Value, json};

use super::session::Closed;
use super::{Answer, Request, Session, TestServer, eventually, items, text};

/// Of every user who is signed up here.
pub(crate) const PASSWORD: &str = "correct horse";

/// Someone signed in, at one of the nodes.
#[derive(Clone, Debug)]
pub(crate) struct TestUser {
    pub(crate) address: SocketAddr,
    pub(crate) name: String,
    pub(crate) access: String,
    pub(crate) refresh: String,
    pub(crate) expires_at: i64,
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

    /// What a revoked sign-in holds ends within a second.
    pub(crate) async fn is_locked_out(&self) {
        let began = Instant::now();
        eventually("the access token is revoked", async || (self.get("/me").await.status == 401).then_some(())).await;
        assert!(began.elapsed().as_millis() < 1_000, "it took {:?}", began.elapsed());
        self.get("/me").await.refused(401, "unauthenticated");
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

    /// The positions of a whole log, read page by page.
    pub(crate) async fn whole_log(&self, channel: &str) -> Vec<String> {
        let (mut ids, mut at) = (Vec::new(), "0-0".to_owned());
        loop {
            let page = self.history(channel, &format!("?after={at}&limit=200")).await;
            ids.extend(items(&page["events"]).iter().map(|event| text(&event["id"]).to_owned()));
            match ids.last() {
                Some(last) if page["more"] == true => at.clone_from(last),
                _ => return ids,
            }
        }
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
        Ok(Session::over(self, answer, stream).await)
    }
}
