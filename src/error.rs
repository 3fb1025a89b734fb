//! What can go wrong, as a client sees it: code, status and sentence. The cause stays in the log.

use std::time::Duration;

use http::StatusCode;

/// The result of whatever a client asked for.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long to wait after `unavailable`, `outcome_unknown` and where something has to end first.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// A code, as the wire and the documents have it.
#[derive(Debug)]
pub struct Code {
    /// The code itself.
    pub name: &'static str,
    /// The HTTP status that goes with it.
    pub status: StatusCode,
    /// Whether it makes sense to repeat what was refused so.
    pub repeat: &'static str,
    /// What it means.
    pub meaning: &'static str,
}

macro_rules! codes {
    ($($(#[doc = $meaning:literal])+ $code:ident: $name:literal, $status:ident, $repeat:literal;)*) => {
        $(const $code: Code = Code {
            name: $name,
            status: StatusCode::$status,
            repeat: $repeat,
            meaning: concat!($($meaning),+),
        };)*

        /// Every code there is.
        pub const CODES: &[Code] = &[$($code),*];
    };
}

codes! {
    /// The text is no JSON, or holds a lone surrogate.
    BAD_JSON: "bad_json", BAD_REQUEST, "no";
    /// JSON of the wrong shape, or a value that is not accepted; `message` says what is.
    BAD_REQUEST: "bad_request", BAD_REQUEST, "no";
    /// The socket knows no such command.
    UNKNOWN_OP: "unknown_op", BAD_REQUEST, "no";
    /// Sub-protocols were offered, but not `burble.v1`.
    UNSUPPORTED_PROTOCOL: "unsupported_protocol", BAD_REQUEST, "no";
    /// More than is accepted; `message` says how much that is.
    TOO_LARGE: "too_large", PAYLOAD_TOO_LARGE, "no";
    /// No access token, or one that is not valid or was revoked.
    UNAUTHENTICATED: "unauthenticated", UNAUTHORIZED, "after signing in";
    /// The access token was valid once.
    TOKEN_EXPIRED: "token_expired", UNAUTHORIZED, "after a refresh";
    /// Name and password do not belong together.
    BAD_CREDENTIALS: "bad_credentials", UNAUTHORIZED, "with the right ones";
    /// The caller may see this, but not do it.
    FORBIDDEN: "forbidden", FORBIDDEN, "no";
    /// A browser page of an origin that is not allowed.
    ORIGIN_DENIED: "origin_denied", FORBIDDEN, "no";
    /// No such path or method.
    NOT_FOUND: "not_found", NOT_FOUND, "no";
    /// No such channel, or a private one that the caller may not see.
    CHANNEL_NOT_FOUND: "channel_not_found", NOT_FOUND, "no";
    /// No such user, or no member.
    USER_NOT_FOUND: "user_not_found", NOT_FOUND, "no";
    /// The name belongs to another.
    NAME_TAKEN: "name_taken", CONFLICT, "no";
    /// The `cid` was used for other content.
    CID_CONFLICT: "cid_conflict", CONFLICT, "no";
    /// The session has not joined the channel.
    NOT_JOINED: "not_joined", CONFLICT, "no";
    /// A channel keeps at least one owner.
    LAST_OWNER: "last_owner", CONFLICT, "no";
    /// Too fast.
    RATE_LIMITED: "rate_limited", TOO_MANY_REQUESTS, "after the wait";
    /// The session has joined as many channels as it may.
    TOO_MANY_JOINS: "too_many_joins", TOO_MANY_REQUESTS, "after the wait";
    /// The user has as many sessions as they may.
    TOO_MANY_SESSIONS: "too_many_sessions", TOO_MANY_REQUESTS, "after the wait";
    /// A fault of the server's.
    INTERNAL: "internal", INTERNAL_SERVER_ERROR, "with the same `cid`";
    /// It was not done: the node cannot do it right now.
    UNAVAILABLE: "unavailable", SERVICE_UNAVAILABLE, "with the same `cid`";
    /// The log did not answer in time: it may or may not have been done. The same `cid` finds out.
    OUTCOME_UNKNOWN: "outcome_unknown", SERVICE_UNAVAILABLE, "with the same `cid`";
}

/// An error says what the client can do. Its display is the sentence that the client reads.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The text is no JSON, or holds a lone surrogate.
    #[error("this is no good JSON: {0}")]
    BadJson(String),
    /// JSON of the wrong shape, or a value that is not accepted; says what is.
    #[error("{0}")]
    BadRequest(String),
    /// The socket knows no such command.
    #[error("unknown op; known are auth, join, resume, leave, send, history, typing, ping")]
    UnknownOp,
    /// The client offered sub-protocols, but not ours.
    #[error("this server speaks burble.v1")]
    UnsupportedProtocol,
    /// More than the contract allows; says how much that is.
    #[error("{0}")]
    TooLarge(String),
    /// No token, or one that is not valid.
    #[error("sign in first: a valid access token is needed")]
    Unauthenticated,
    /// The token was valid once.
    #[error("the access token has run out; refresh it")]
    TokenExpired,
    /// Name and password do not belong together.
    #[error("wrong name or password")]
    BadCredentials,
    /// The caller may see this, but not do it.
    #[error("{0}")]
    Forbidden(String),
    /// A browser page of a foreign origin.
    #[error("this origin is not allowed")]
    OriginDenied,
    /// No such path or method.
    #[error("there is nothing here")]
    NotFound,
    /// No such channel, or a private one that the caller may not see.
    #[error("there is no such channel")]
    ChannelNotFound,
    /// No such user, or no member.
    #[error("there is no such user here")]
    UserNotFound,
    /// The name belongs to another.
    #[error("that name is taken")]
    NameTaken,
    /// The cid was used for another content.
    #[error("this cid was used for another message")]
    CidConflict,
    /// The session has not joined the channel.
    #[error("this session has not joined the channel")]
    NotJoined,
    /// A channel keeps at least one owner.
    #[error("a channel needs an owner; name another first")]
    LastOwner,
    /// Too fast; repeat after the time given.
    #[error("too many requests; slow down")]
    RateLimited(Duration),
    /// The client's address has as many connections as it may.
    #[error("too many connections from this address; close one first")]
    TooManyConnections,
    /// The session has joined as many channels as it may.
    #[error("this session has joined as many channels as it may; leave one first")]
    TooManyJoins,
    /// The user has as many sessions as they may.
    #[error("too many sessions of this user; close one first")]
    TooManySessions,
    /// The node does as much as it may; another one, or a later time, will do.
    #[error("this node has as much to do as it may; try again later")]
    Overloaded,
    /// A fault of ours.
    #[error("something went wrong on our side")]
    Internal(#[source] anyhow::Error),
    /// It was not done, and may be repeated.
    #[error("not available right now; try again")]
    Unavailable(#[source] anyhow::Error),
    /// The log did not answer in time: it may or may not have been done. Repeat with the same cid; it is safe.
    #[error("no answer from the log; repeat with the same cid to find out")]
    OutcomeUnknown(#[source] anyhow::Error),
}

impl Error {
    /// The code on the wire.
    pub fn code(&self) -> &'static str {
        self.row().name
    }

    /// The HTTP status that goes with the code.
    pub fn status(&self) -> StatusCode {
        self.row().status
    }

    /// After how long it makes sense to repeat; `None` where it does not.
    pub fn retry_after(&self) -> Option<Duration> {
        match self {
            Self::RateLimited(after) => Some(*after),
            Self::TooManyConnections
            | Self::TooManyJoins
            | Self::TooManySessions
            | Self::Overloaded
            | Self::Unavailable(_)
            | Self::OutcomeUnknown(_) => Some(RETRY_AFTER),
            _ => None,
        }
    }

    /// The cause, where there is one to be logged.
    pub fn cause(&self) -> Option<&anyhow::Error> {
        match self {
            Self::Internal(cause) | Self::Unavailable(cause) | Self::OutcomeUnknown(cause) => Some(cause),
            _ => None,
        }
    }

    fn row(&self) -> &'static Code {
        match self {
            Self::BadJson(_) => &BAD_JSON,
            Self::BadRequest(_) => &BAD_REQUEST,
            Self::UnknownOp => &UNKNOWN_OP,
            Self::UnsupportedProtocol => &UNSUPPORTED_PROTOCOL,
            Self::TooLarge(_) => &TOO_LARGE,
            Self::Unauthenticated => &UNAUTHENTICATED,
            Self::TokenExpired => &TOKEN_EXPIRED,
            Self::BadCredentials => &BAD_CREDENTIALS,
            Self::Forbidden(_) => &FORBIDDEN,
            Self::OriginDenied => &ORIGIN_DENIED,
            Self::NotFound => &NOT_FOUND,
            Self::ChannelNotFound => &CHANNEL_NOT_FOUND,
            Self::UserNotFound => &USER_NOT_FOUND,
            Self::NameTaken => &NAME_TAKEN,
            Self::CidConflict => &CID_CONFLICT,
            Self::NotJoined => &NOT_JOINED,
            Self::LastOwner => &LAST_OWNER,
            Self::RateLimited(_) => &RATE_LIMITED,
            Self::TooManyConnections => &RATE_LIMITED,
            Self::TooManyJoins => &TOO_MANY_JOINS,
            Self::TooManySessions => &TOO_MANY_SESSIONS,
            Self::Internal(_) => &INTERNAL,
            Self::Overloaded => &UNAVAILABLE,
            Self::Unavailable(_) => &UNAVAILABLE,
            Self::OutcomeUnknown(_) => &OUTCOME_UNKNOWN,
        }
    }
}
