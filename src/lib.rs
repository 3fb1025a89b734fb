//! Burble, a chat server on Redis Streams. The modules in reading order: from what everything rests on
//! to the edge of the network.

pub mod error;
pub mod model;

pub mod broker;
