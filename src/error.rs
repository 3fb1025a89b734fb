//! What can go wrong, as a client sees it: code, status and sentence. The cause stays in the log.

use std::time::Duration;

use http::StatusCode;

/// The result of whatever a client asked for.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// How long to wait after `unavailable`, `outcome_unknown` and where something has to end first.
const RETRY_AFTER: Duration = Duration::from_secs(1);

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
        self.row().0
    }

    /// The HTTP status that goes with the code.
    pub fn status(&self) -> StatusCode {
        self.row().1
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

    fn row(&self) -> (&'static str, StatusCode) {
        match self {
            Self::BadJson(_) => ("bad_json", StatusCode::BAD_REQUEST),
            Self::BadRequest(_) => ("bad_request", StatusCode::BAD_REQUEST),
            Self::UnknownOp => ("unknown_op", StatusCode::BAD_REQUEST),
            Self::UnsupportedProtocol => ("unsupported_protocol", StatusCode::BAD_REQUEST),
            Self::TooLarge(_) => ("too_large", StatusCode::PAYLOAD_TOO_LARGE),
            Self::Unauthenticated => ("unauthenticated", StatusCode::UNAUTHORIZED),
            Self::TokenExpired => ("token_expired", StatusCode::UNAUTHORIZED),
            Self::BadCredentials => ("bad_credentials", StatusCode::UNAUTHORIZED),
            Self::Forbidden(_) => ("forbidden", StatusCode::FORBIDDEN),
            Self::OriginDenied => ("origin_denied", StatusCode::FORBIDDEN),
            Self::NotFound => ("not_found", StatusCode::NOT_FOUND),
            Self::ChannelNotFound => ("channel_not_found", StatusCode::NOT_FOUND),
            Self::UserNotFound => ("user_not_found", StatusCode::NOT_FOUND),
            Self::NameTaken => ("name_taken", StatusCode::CONFLICT),
            Self::CidConflict => ("cid_conflict", StatusCode::CONFLICT),
            Self::NotJoined => ("not_joined", StatusCode::CONFLICT),
            Self::LastOwner => ("last_owner", StatusCode::CONFLICT),
            Self::RateLimited(_) => ("rate_limited", StatusCode::TOO_MANY_REQUESTS),
            Self::TooManyConnections => ("rate_limited", StatusCode::TOO_MANY_REQUESTS),
            Self::TooManyJoins => ("too_many_joins", StatusCode::TOO_MANY_REQUESTS),
            Self::TooManySessions => ("too_many_sessions", StatusCode::TOO_MANY_REQUESTS),
            Self::Internal(_) => ("internal", StatusCode::INTERNAL_SERVER_ERROR),
            Self::Overloaded => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::Unavailable(_) => ("unavailable", StatusCode::SERVICE_UNAVAILABLE),
            Self::OutcomeUnknown(_) => ("outcome_unknown", StatusCode::SERVICE_UNAVAILABLE),
        }
    }
}
