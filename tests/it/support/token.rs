//! Tokens as a forger would make them.

use base64::Engine;
use base64::prelude::BASE64_URL_SAFE_NO_PAD as BASE64;
use jsonwebtoken::{Algorithm, EncodingKey};
use serde_json::Value;

/// The key of all servers in these tests.
pub(crate) const SECRET: &str = "a key for tests alone, of more than 32 bytes";

/// A token taken apart, to be changed and put together again.
#[derive(Clone)]
pub(crate) struct Forged {
    pub(crate) header: Value,
    pub(crate) claims: Value,
}

impl Forged {
    /// Begins with a good one.
    pub(crate) fn from(token: &str) -> Self {
        let part = |index| {
            let part = BASE64.decode(token.split('.').nth(index).expect("three parts")).expect("base64");
            serde_json::from_slice(&part).expect("JSON")
        };
        Self { header: part(0), claims: part(1) }
    }

    pub(crate) fn claim(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.claims[name] = value.into();
        self
    }

    pub(crate) fn without(mut self, name: &str) -> Self {
        self.claims.as_object_mut().expect("claims are an object").remove(name).expect("the claim is there");
        self
    }

    pub(crate) fn header(mut self, name: &str, value: impl Into<Value>) -> Self {
        self.header[name] = value.into();
        self
    }

    /// Signed with the servers' own key.
    pub(crate) fn signed(self) -> String {
        self.signed_with(SECRET, Algorithm::HS256)
    }

    pub(crate) fn signed_with(self, secret: &str, algorithm: Algorithm) -> String {
        let content = self.content();
        let key = EncodingKey::from_secret(secret.as_bytes());
        let signature = jsonwebtoken::crypto::sign(content.as_bytes(), &key, algorithm).expect("HMAC takes any key");
        format!("{content}.{signature}")
    }

    pub(crate) fn unsigned(self) -> String {
        format!("{}.", self.content())
    }

    fn content(&self) -> String {
        format!("{}.{}", BASE64.encode(self.header.to_string()), BASE64.encode(self.claims.to_string()))
    }
}
