//! The rows as they lie in the tables. They stay in this room: what leaves it are the types of `model`.

#![expect(unreachable_pub, reason = "SeaORM's derives write `pub`")]

pub(super) mod channels;
pub(super) mod installation;
pub(super) mod members;
pub(super) mod outbox;
pub(super) mod retired_channel_names;
pub(super) mod sign_ins;
pub(super) mod users;
