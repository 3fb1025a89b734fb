//! The log: the only code that speaks Redis.

pub mod embedded;
