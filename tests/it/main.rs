//! Knocks on the real door: real servers, a real Redis, real clients; to the letter of the protocol.

mod accounts;
mod admin;
mod admission;
mod attempts;
mod bench;
mod channels;
mod command_line;
mod contracts;
mod crash;
mod dashboards;
mod doctor;
mod doctor_path;
mod durability;
mod history;
mod house;
mod janitor;
mod limits;
#[path = "../reliability/load/mod.rs"]
mod load;
mod logs;
mod messages;
mod outbox;
mod permissions;
mod probes;
mod proxies;
mod recovery;
mod replay;
mod sessions;
mod sessions_end;
mod settings;
mod slow_reader;
mod stopping;
mod support;
mod token_key;
mod tokens;
mod two_nodes;
