//! A user, their tokens, and what they do over HTTP. Whatever fails may be tried again.

use std::net::SocketAddr;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::sync::Mutex;
use tokio::time::timeout;

use crate::support::{Answer, Request};

/// How long a request may take. Signing in waits for the hashing of passwords.
const REQUEST_MAX: Duration = Duration::from_secs(5);
const PASSWORD: &str = "correct horse";

/// A user whom several clients share.
pub(crate) struct Account {
    pub(crate) name: String,
    /// Held while signing in, so that all clients of the user do it once.
    signed_in: Mutex<Option<SignedIn>>,
}

struct SignedIn {
    access: String,
    refresh: String,
}

impl Account {
    pub(crate) fn new(name: String) -> Self {
        Self { name, signed_in: Mutex::new(None) }
    }

    /// An access token; signs up or in for it where there is none.
    pub(crate) async fn token(&self, address: SocketAddr) -> Option<String> {
        let mut signed_in = self.signed_in.lock().await;
        if signed_in.is_none() {
            *signed_in = self.sign_in(address).await;
        }
        signed_in.as_ref().map(|signed_in| signed_in.access.clone())
    }

    /// The server does not take this token: the next one to need one signs in.
    pub(crate) async fn forget(&self, token: &str) {
        let mut signed_in = self.signed_in.lock().await;
        signed_in.take_if(|signed_in| signed_in.access == token);
    }

    /// A token that follows this one; another client of the user may have it already.
    pub(crate) async fn refresh(&self, address: SocketAddr, old: &str) -> Option<String> {
        let mut signed_in = self.signed_in.lock().await;
        let known = signed_in.as_ref()?;
        if known.access == old {
            let request = Request::new("POST", "/refresh").json(&json!({"refresh_token": known.refresh}));
            *signed_in = SignedIn::from(&exchange(request, address).await?);
        }
        signed_in.as_ref().map(|signed_in| signed_in.access.clone())
    }

    /// A request of this user's; none where it got no answer, or was not let in.
    pub(crate) async fn ask(
        &self,
        address: SocketAddr,
        method: &str,
        path: &str,
        body: Option<Value>,
    ) -> Option<Answer> {
        let token = self.token(address).await?;
        let request = Request::new(method, path).bearer(&token);
        let request = match body {
            Some(body) => request.json(&body),
            None => request,
        };
        let answer = exchange(request, address).await?;
        if answer.status == 401 {
            self.forget(&token).await;
            return None;
        }
        Some(answer)
    }

    async fn sign_in(&self, address: SocketAddr) -> Option<SignedIn> {
        let body = json!({"name": self.name, "password": PASSWORD});
        let answer = exchange(Request::new("POST", "/signup").json(&body), address).await?;
        if answer.status != 409 {
            return SignedIn::from(&answer);
        }
        SignedIn::from(&exchange(Request::new("POST", "/login").json(&body), address).await?)
    }
}

impl SignedIn {
    /// None where it is a refusal.
    fn from(answer: &Answer) -> Option<Self> {
        let body: Value = serde_json::from_slice(&answer.body).ok()?;
        let own = |field: &str| body[field].as_str().map(str::to_owned);
        Some(Self { access: own("access_token")?, refresh: own("refresh_token")? })
    }
}

async fn exchange(request: Request, address: SocketAddr) -> Option<Answer> {
    timeout(REQUEST_MAX, request.elsewhere().try_send(address)).await.ok()?.ok()
}
