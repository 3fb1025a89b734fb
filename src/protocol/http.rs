//! The bodies of HTTP requests and answers.

use serde::{Deserialize, Serialize};

use super::command::object;
use crate::error::{Error, Result};
use crate::model::{Channel, ChannelKind, ChannelName, Ends, Member, Role, TimeMs, Topic, User, UserName};

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

/// Of `POST /signup` and `POST /login`.
#[derive(Deserialize)]
pub struct Credentials {
    /// The user's name, as it came.
    pub name: String,
    /// The password, as it came.
    pub password: String,
}

/// Of `POST /refresh`.
#[derive(Deserialize)]
pub struct Refresh {
    /// The refresh token.
    pub refresh_token: String,
}

/// Of `POST /logout`.
#[derive(Deserialize, Default)]
pub struct Logout {
    /// All of the user's sign-ins, not only this one.
    #[serde(default)]
    pub everywhere: bool,
}

/// Of `PUT /me/password`.
#[derive(Deserialize)]
pub struct NewPassword {
    /// The password that holds now.
    pub current: String,
    /// The one that shall hold.
    pub new: String,
}

/// Of `POST /channels`.
#[derive(Deserialize)]
pub struct NewChannel {
    /// The name, as it came.
    pub name: String,
    /// Public or private.
    pub kind: ChannelKind,
    /// What it is about.
    #[serde(default)]
    pub topic: Option<String>,
}

/// Of `PATCH /channels/{name}`.
#[derive(Deserialize)]
pub struct ChannelChange {
    /// What it is about from now on.
    pub topic: String,
}

/// Of `PUT /channels/{name}/members/{user}`.
#[derive(Deserialize)]
pub struct MemberChange {
    /// The role.
    pub role: Role,
}

/// A user as others see it.
#[derive(Serialize)]
pub struct UserView<'a> {
    name: &'a UserName,
    created_at: TimeMs,
}

impl<'a> From<&'a User> for UserView<'a> {
    fn from(user: &'a User) -> Self {
        Self { name: &user.name, created_at: user.created_at }
    }
}

/// Of `GET /me`.
#[derive(Serialize)]
pub struct Me<'a> {
    /// Who is asking.
    pub user: UserView<'a>,
}

/// What a sign-in gives.
#[derive(Serialize)]
pub struct SignedIn<'a> {
    /// Who signed in.
    pub user: UserView<'a>,
    /// Opens everything, for a short time.
    pub access_token: String,
    /// Gets the next pair, once.
    pub refresh_token: String,
    /// When the access token runs out.
    pub expires_at: TimeMs,
}

/// A channel as its caller sees it.
#[derive(Serialize)]
pub struct ChannelView<'a> {
    name: &'a ChannelName,
    kind: ChannelKind,
    topic: &'a Topic,
    created_at: TimeMs,
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
pub struct OneChannel<'a> {
    /// The channel.
    pub channel: ChannelView<'a>,
}

/// A page of channels, by name.
#[derive(Serialize)]
pub struct Channels<'a> {
    /// The page.
    pub channels: Vec<ChannelView<'a>>,
    /// What to ask with as `after`; null on the last page.
    pub next: Option<&'a ChannelName>,
}

/// An answer with one member.
#[derive(Serialize)]
pub struct OneMember {
    /// The member.
    pub member: Member,
}

/// A page of members, by name.
#[derive(Serialize)]
pub struct Members {
    /// The page.
    pub members: Vec<Member>,
    /// What to ask with as `after`; null on the last page.
    pub next: Option<UserName>,
}

/// The body of every error.
#[derive(Serialize)]
pub struct ErrorBody {
    error: ErrorView,
}

#[derive(Serialize)]
struct ErrorView {
    code: &'static str,
    message: String,
}

impl From<&Error> for ErrorBody {
    fn from(error: &Error) -> Self {
        Self { error: ErrorView { code: error.code(), message: error.to_string() } }
    }
}
