//! The wire of `burble.v1`: commands in, answers and events out, close codes. Pure: no I/O, no state.
//!
//! The names of wire fields stand here and nowhere else.

#[cfg(test)]
mod asyncapi;
mod command;
mod event;
pub mod http;
#[cfg(any(test, fuzzing))]
pub mod invariants;
#[cfg(test)]
pub(crate) mod schema;

pub use command::{Command, Ref, Request, SendMessage, decode, new_message};
#[cfg(test)]
pub use event::Message;
pub use event::{
    Answer, CloseCode, Event, GapReason, History, LeftReason, LimitsNotice, Sent, encode, message, message_body,
};

/// The sub-protocol that a client offers and the server chooses.
pub const SUBPROTOCOL: &str = "burble.v1";

/// The largest frame, and the largest HTTP body, in bytes.
pub const FRAME_BYTES_MAX: usize = 64 * 1024;
