//! Burble, a chat server on Redis Streams. The modules in reading order: from what everything rests on
//! to the edge of the network.

pub mod config;
pub mod error;
pub mod metrics;
pub mod telemetry;

pub mod model;

pub mod clock;
