//! Burble, a chat server on Redis Streams. The modules in reading order: from what everything rests on
//! to the edge of the network.

pub mod clock;
pub mod config;
pub mod error;
pub mod model;
