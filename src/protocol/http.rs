//! The bodies of HTTP requests and answers.

use std::net::IpAddr;

use serde::{Deserialize, Serialize};

use super::command::object;
use crate::error::{Error, Result};
use crate::model::{Channel, ChannelKind, ChannelName, Ends, Member, Role, TimeMs, Topic, User, UserName};
#[cfg(test)]
use crate::model::{PAGE_LIMIT_MAX, PASSWORD_CHARS_MAX, PASSWORD_CHARS_MIN};

/// The body of a request.
pub trait Body<'a>: Deserialize<'a> {
    /// What it looks like, for whoever sent something else.
    const SHAPE: &'static str;
}

/// Reads a request's body.
///
/// # Errors
/// `bad_json` for what is no JSON or not UTF-8, `bad_request` for the wrong shape: says which is accepted.
pub fn decode<'a, T: Body<'a>>(body: &'a [u8]) -> Result<T> {
    object(text(body)?).map_err(|error| match error {
        Error::BadRequest(_) => Error::BadRequest(format!("the body is {}", T::SHAPE)),
        other => other,
    })
}

macro_rules! body {
    ($($name:ident: $shape:literal;)*) => {
        $(impl Body<'_> for $name {
            const SHAPE: &'static str = $shape;
        })*
    };
}

body! {
    NewAccount: r#"{"name": text, "password": text}"#;
    Credentials: r#"{"name": text, "password": text}"#;
    Refresh: r#"{"refresh_token": text}"#;
    Logout: r#"empty, or {"everywhere": true or false}"#;
    NewPassword: r#"{"current": text, "new": text}"#;
    NewChannel: r#"{"name": text, "kind": "public" or "private", "topic": text or left out}"#;
    ChannelChange: r#"{"topic": text}"#;
    MemberChange: r#"{"role": "owner", "moderator" or "member"}"#;
}

/// A body as text.
///
/// # Errors
/// `bad_json` for what is not UTF-8.
pub fn text(body: &[u8]) -> Result<&str> {
    std::str::from_utf8(body).map_err(|_| Error::BadJson("it is not UTF-8".into()))
}

/// Of `POST /signup`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewAccount {
    /// The name that nobody else has.
    #[cfg_attr(test, schemars(with = "UserName"))]
    pub name: String,
    /// The password, which is kept as a hash.
    #[cfg_attr(test, schemars(length(min = PASSWORD_CHARS_MIN, max = PASSWORD_CHARS_MAX)))]
    pub password: String,
}

/// Of `POST /login`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Credentials {
    /// The user's name.
    pub name: String,
    /// The password.
    pub password: String,
}

/// Of `POST /refresh`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Refresh {
    /// The refresh token.
    pub refresh_token: String,
}

/// Of `POST /logout`.
#[derive(Deserialize, Default)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Logout {
    /// All of the user's sign-ins, not only this one.
    pub everywhere: Option<bool>,
}

/// Of `PUT /me/password`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewPassword {
    /// The password that holds now.
    pub current: String,
    /// The one that shall hold.
    #[cfg_attr(test, schemars(length(min = PASSWORD_CHARS_MIN, max = PASSWORD_CHARS_MAX)))]
    pub new: String,
}

/// Of `POST /channels`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct NewChannel {
    /// The name that no other channel has.
    #[cfg_attr(test, schemars(with = "ChannelName"))]
    pub name: String,
    /// Public or private.
    pub kind: ChannelKind,
    /// What it is about.
    #[cfg_attr(test, schemars(with = "Option<Topic>"))]
    pub topic: Option<String>,
}

/// Of `PATCH /channels/{name}`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct ChannelChange {
    /// What it is about from now on.
    #[cfg_attr(test, schemars(with = "Topic"))]
    pub topic: String,
}

/// Of `PUT /channels/{name}/members/{user}`.
#[derive(Deserialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct MemberChange {
    /// What they may do.
    pub role: Role,
}

/// A user as others see it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "User"))]
pub struct UserView<'a> {
    /// Its name.
    name: &'a UserName,
    /// When it signed up, in milliseconds since the Unix epoch.
    created_at: TimeMs,
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(user: &'a User) -> Self {
        Self { name: &user.name, created_at: user.created_at }
    }
}

/// Of `GET /me`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Me<'a> {
    /// Who is asking.
    pub user: UserView<'a>,
}

/// What a sign-in gives: a pair of tokens.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct SignedIn<'a> {
    /// Who signed in.
    pub user: UserView<'a>,
    /// Opens everything, for a short time.
    pub access_token: String,
    /// Gets the next pair, once.
    pub refresh_token: String,
    /// When the access token runs out, in milliseconds since the Unix epoch.
    pub expires_at: TimeMs,
}

/// A channel as its caller sees it.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Channel"))]
pub struct ChannelView<'a> {
    /// Its name.
    name: &'a ChannelName,
    /// Public or private.
    kind: ChannelKind,
    /// What it is about; may be empty.
    topic: &'a Topic,
    /// When it was created, in milliseconds since the Unix epoch.
    created_at: TimeMs,
    /// What the caller may do in it; null for one who is no member.
    role: Option<Role>,
    #[serde(flatten)]
    ends: Ends,
}

impl<'a> ChannelView<'a> {
    /// The channel, what the caller is in it, and the ends of its log.
    pub fn new(channel: &'a Channel, role: Option<Role>, ends: Ends) -> Self {
        Self {
            name: &channel.name,
            kind: channel.kind,
            topic: &channel.topic,
            created_at: channel.created_at,
            role,
            ends,
        }
    }
}

/// An answer with one channel.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OneChannel<'a> {
    /// The channel.
    pub channel: ChannelView<'a>,
}

/// A page of channels, by name.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Channels<'a> {
    /// The page.
    #[cfg_attr(test, schemars(length(max = PAGE_LIMIT_MAX)))]
    pub channels: Vec<ChannelView<'a>>,
    /// What to ask with as `after`; null on the last page.
    pub next: Option<&'a ChannelName>,
}

/// An answer with one member.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct OneMember {
    /// The member.
    pub member: Member,
}

/// A page of members, by name.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Members {
    /// The page.
    #[cfg_attr(test, schemars(length(max = PAGE_LIMIT_MAX)))]
    pub members: Vec<Member>,
    /// What to ask with as `after`; null on the last page.
    pub next: Option<UserName>,
}

/// Of `GET /address`.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema))]
pub struct Address {
    /// IPv4, or the /64 network of IPv6.
    #[cfg_attr(test, schemars(with = "String"))]
    pub address: IpAddr,
}

/// The body of every error.
#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(rename = "Error"))]
pub struct ErrorBody {
    /// What went wrong.
    error: ErrorView,
}

#[derive(Serialize)]
#[cfg_attr(test, derive(schemars::JsonSchema), schemars(inline))]
struct ErrorView {
    /// As programs read it.
    #[cfg_attr(test, schemars(with = "super::schema::ErrorCode"))]
    code: &'static str,
    /// The same as a sentence, for people.
    message: String,
}

impl From<&Error> for ErrorBody {
    fn from(error: &Error) -> Self {
        Self { error: ErrorView { code: error.code(), message: error.to_string() } }
    }
}
