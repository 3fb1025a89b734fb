//! What requests may bear and why they may be refused, in words.

use serde_json::json;

use super::operation::{Parameter, Refusal};
use crate::model::{ChannelName, PageLimit, Position, UserName};
use crate::protocol::SUBPROTOCOL;

macro_rules! parameters {
    ($($of:ident: $component:literal, $name:literal in $place:literal, $schema:expr, $detail:literal;)*) => {
        $(pub(in crate::http) const $of: Parameter = Parameter {
            component: $component,
            name: $name,
            place: $place,
            detail: $detail,
            schema: $schema,
        };)*
    };
}

parameters! {
    CHANNEL: "ChannelName", "name" in "path", |it| it.asked::<ChannelName>(), "The channel.";
    USER: "UserName", "user" in "path", |it| it.asked::<UserName>(), "The member.";
    LIMIT: "Limit", "limit" in "query", |it| it.asked::<PageLimit>(), "How many, at most.";
    AFTER_CHANNEL: "AfterChannel", "after" in "query", |it| it.asked::<ChannelName>(), "The `next` of the page before.";
    AFTER_USER: "AfterUser", "after" in "query", |it| it.asked::<UserName>(), "The `next` of the page before.";
    BEFORE: "Before", "before" in "query", |it| it.asked::<Position>(), "The page that ends before this position.";
    AFTER: "After", "after" in "query", |it| it.asked::<Position>(), "The page that begins after this position.";
    AROUND: "Around", "around" in "query", |it| it.asked::<Position>(),
        "The page with this position in its middle, and included.";
    SESSION_NAME: "SessionName", "name" in "query", |it| it.asked::<UserName>(),
        "Where given, it must be the signed-in user's.";
    ORIGIN: "Origin", "Origin" in "header", |_| json!({"type": "string"}),
        "Of a browser's page: the server's own, or one on the allow-list.";
    SUBPROTOCOL_OFFERED: "Subprotocol", "Sec-WebSocket-Protocol" in "header",
        |_| json!({"type": "string", "examples": [SUBPROTOCOL]}),
        "Where sub-protocols are offered, `burble.v1` must be among them.";
}

macro_rules! refusals {
    ($($of:ident: $component:literal, [$($code:literal),+], $detail:literal;)*) => {
        $(pub(in crate::http) const $of: Refusal = Refusal { component: $component, detail: $detail, codes: &[$($code),+] };)*
    };
}

refusals! {
    BAD_BODY: "BadBody", ["bad_json", "bad_request"],
        "The body is no JSON (or empty where one is needed), or has the wrong shape.";
    BAD_QUERY: "BadQuery", ["bad_request"], "A parameter is out of range or malformed.";
    BAD_UPGRADE: "BadUpgrade", ["bad_request", "unsupported_protocol"],
        "No WebSocket upgrade of version 13, or sub-protocols without `burble.v1`.";
    TOO_LARGE: "TooLarge", ["too_large"], "The body is over 64 KiB, or a part of it over its own limit.";
    UNAUTHENTICATED: "Unauthenticated", ["unauthenticated", "token_expired"],
        "No access token, a bad one, or one that has run out.";
    BAD_CREDENTIALS: "BadCredentials", ["bad_credentials"],
        "Name and password do not belong together; alike for an unknown name.";
    BAD_REFRESH_TOKEN: "BadRefreshToken", ["unauthenticated"],
        "The refresh token is not valid. Where it was used up, its whole sign-in is revoked.";
    WRONG_PASSWORD: "WrongPassword", ["unauthenticated", "token_expired", "bad_credentials"],
        "Not signed in, or the current password is wrong.";
    FORBIDDEN: "Forbidden", ["forbidden"], "The caller's role does not allow it.";
    FOREIGN_UPGRADE: "ForeignUpgrade", ["forbidden", "origin_denied"],
        "`name` is not the signed-in user's, or the page's origin is not allowed.";
    CHANNEL_NOT_FOUND: "ChannelNotFound", ["channel_not_found"],
        "No such channel, or a private one that the caller may not see.";
    MEMBER_NOT_FOUND: "MemberNotFound", ["channel_not_found", "user_not_found"],
        "No such channel for the caller, no such user, or no member.";
    NAME_TAKEN: "NameTaken", ["name_taken"],
        "The name belongs to another; to a private channel that the caller cannot see, perhaps.";
    CID_CONFLICT: "CidConflict", ["cid_conflict"], "The `cid` was used for other content.";
    LAST_OWNER: "LastOwner", ["last_owner"], "A channel keeps at least one owner.";
    RATE_LIMITED: "RateLimited", ["rate_limited"],
        "Too many at a time: of this user or address, or of sign-ins that wait. Nothing was done.";
    TOO_MANY_SESSIONS: "TooManySessions", ["rate_limited", "too_many_sessions"],
        "The address has as many connections, or the user as many sessions, as they may.";
    INTERNAL: "Internal", ["internal"], "A fault of the server's.";
    UNAVAILABLE: "Unavailable", ["unavailable"], "The node cannot do it right now; it was not done.";
    UNDECIDED: "Undecided", ["unavailable", "outcome_unknown"],
        "The node cannot do it right now, or does not know whether it was done. Repeat it as it is; a message, with the \
         same `cid`.";
}
