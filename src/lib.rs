//! Burble, a chat server on Redis Streams. The modules in reading order: from what everything rests on
//! to the edge of the network.

pub mod clock;
pub mod error;
pub mod finding;
pub mod model;

pub mod protocol;

pub mod metrics;

pub mod config;

pub mod systemd;
pub mod telemetry;

pub mod auth;

pub mod broker;
pub mod hub;
pub mod store;

pub mod chat;

pub mod session;

pub mod admin;
pub mod doctor;
pub mod http;

pub mod app;
