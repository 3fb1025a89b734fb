//! What the types do not say of commands, answers, events and close codes.

use serde_json::{Value, json};

use crate::model::TEXT_BYTES_MAX;
use crate::protocol::{CloseCode, Command, FRAME_BYTES_MAX};

/// Why any command may be refused.
pub(super) const REFUSED: [&str; 5] = ["bad_json", "bad_request", "rate_limited", "internal", "unavailable"];

/// What the types do not say of a command.
pub(super) struct Op {
    pub(super) name: &'static str,
    pub(super) detail: &'static str,
    /// Why it may be refused, beyond [`REFUSED`].
    pub(super) refused: &'static [&'static str],
    /// The variant of `Answer`.
    pub(super) answer: &'static str,
    pub(super) example: Value,
}

pub(super) fn ops() -> [Op; Command::OPS.len()] {
    [
        Op {
            name: "auth",
            detail: "`ok`, then `welcome`. Another user's token closes with 4406; one that is not valid, as the first \
                     command, with 4401 after its `error`.",
            refused: &["unauthenticated", "token_expired", "too_many_sessions"],
            answer: "Done",
            example: json!({"token": "eyJhbGciOiJIUzI1NiJ9.e30.c2ln"}),
        },
        Op {
            name: "join",
            detail: "Any user to a public one, members to a private one. Without `since` live only; with it, which is \
                     exclusive, first everything after it, then `caught_up`, then what is new. `0-0` means from the \
                     beginning of what is retained.",
            refused: &["channel_not_found", "too_many_joins"],
            answer: "Joined",
            example: json!({"channel": "tea", "since": "1763923812-1040"}),
        },
        Op {
            name: "resume",
            detail: "Each channel that is refused is so on its own, with its code.",
            refused: &[],
            answer: "Resumed",
            example: json!({"since": {"tea": "1763923812-1043"}}),
        },
        Op {
            name: "leave",
            detail: "No event of the channel follows the answer.",
            refused: &["not_joined"],
            answer: "Done",
            example: json!({"channel": "tea"}),
        },
        Op {
            name: "send",
            detail: "Needs the right to join, not a join. An `ok` means: numbered, in the log, at the durability \
                     announced in `welcome`.",
            refused: &["too_large", "channel_not_found", "cid_conflict", "outcome_unknown"],
            answer: "Sent",
            example: json!({"channel": "tea", "text": "hello", "cid": "c-1"}),
        },
        Op {
            name: "history",
            detail: "One of `before` and `after`, which exclude the position, and `around`, which includes it, at most; \
                     without any, the latest page.",
            refused: &["channel_not_found"],
            answer: "History",
            example: json!({"channel": "tea", "before": "1763923812-1043", "limit": 1}),
        },
        Op {
            name: "typing",
            detail: "Needs the right to send, not a join.",
            refused: &["channel_not_found"],
            answer: "Done",
            example: json!({"channel": "tea"}),
        },
        Op { name: "ping", detail: "", refused: &[], answer: "Pong", example: json!({}) },
    ]
}

/// What the types do not say of an answer: its variant, its name in the document, what it tells, and an example.
pub(super) fn answers() -> [(&'static str, &'static str, &'static str, Value); 6] {
    let ends = json!({"first": "1763923812-0", "last": "1763923812-1043"});
    let page =
        json!({"events": [example("message")], "first": "1763923812-0", "last": "1763923812-1043", "more": false});
    [
        ("Done", "done", "Done; to `auth`, `leave` and `typing`", json!({})),
        ("Joined", "join", "The ends of the retained log", ends.clone()),
        (
            "Resumed",
            "resume",
            "What was joined and what was not",
            json!({"joined": {"tea": ends}, "refused": {"coffee": "channel_not_found"}}),
        ),
        ("Sent", "send", "Position and time of the message", json!({"id": "1763923812-1043", "at": 1763923812345_i64})),
        ("History", "history", "The page", page),
        ("Pong", "ping", "The server's time", json!({"at": 1763923812345_i64})),
    ]
}

/// An event as it may come.
pub(super) fn example(event: &str) -> Value {
    match event {
        "welcome" => json!({
            "ev": event, "session": "0199f0aa-6d0e-7c11-9c2b-0d7a5a0d7f1e", "user": "ann", "node": "one",
            "server": env!("CARGO_PKG_VERSION"), "expires_at": 1763923812345_i64, "durability": "fsync",
            "limits": {"frame": FRAME_BYTES_MAX, "text": TEXT_BYTES_MAX, "joins": 1000,
                       "dedupe_ms": 600_000},
            "ping_ms": 25_000,
        }),
        "error" => json!({"ev": event, "ref": 1, "code": "channel_not_found", "message": "there is no such channel"}),
        "message" => json!({
            "ev": event, "channel": "tea", "id": "1763923812-1043", "at": 1763923812345_i64, "from": "ann",
            "text": "hello",
        }),
        "caught_up" => json!({"ev": event, "channel": "tea", "id": "1763923812-1043"}),
        "gap" => json!({
            "ev": event, "channel": "tea", "reason": "trimmed", "first": "1763923812-0", "last": "1763923812-1043",
        }),
        "left" => json!({"ev": event, "channel": "tea", "reason": "removed"}),
        "typing" => json!({"ev": event, "channel": "tea", "from": "ann"}),
        "expiring" => json!({"ev": event, "expires_at": 1763923812345_i64}),
        "reconnect" => json!({"ev": event, "after_ms": 500}),
        _ => panic!("give an example of {event}"),
    }
}

/// Every close code, what it means, and what a client does about it.
pub(super) fn closes() -> [(u16, &'static str, &'static str); 14] {
    let of = |code: CloseCode, meaning, client| (code.number(), meaning, client);
    let (mend, resume) = ("do not come back without mending it", "back off, resume");
    let leaving = "come back after `reconnect.after_ms`, resume";
    [
        of(CloseCode::Bye, "bye", "–"),
        (1001, "the node is leaving", leaving),
        of(CloseCode::BadFrame, "a frame that breaks RFC 6455", "mend it"),
        of(CloseCode::NotUtf8, "text that is not UTF-8", "mend it"),
        of(CloseCode::FrameTooLarge, "a frame over 64 KiB", "mend it"),
        of(CloseCode::Restart, "the node restarts", leaving),
        of(CloseCode::Overloaded, "overloaded", "back off"),
        of(CloseCode::Internal, "a fault of the server's", resume),
        of(CloseCode::Silent, "no pong in time", resume),
        of(CloseCode::Flooding, "flooding", resume),
        of(CloseCode::ProtocolError, "protocol error: a binary frame, or a command before `auth`", mend),
        of(CloseCode::NotSignedIn, "not signed in in time, or the token ran out", "sign in again"),
        of(CloseCode::Revoked, "the sign-in was revoked", "sign in again"),
        of(CloseCode::OtherUser, "another user's token", mend),
    ]
}
