//! Passwords and tokens: how they are made, hashed and checked. It keeps nothing; what is to be kept, `store` keeps.

mod access;
mod passwords;
mod refresh;
mod resting;

pub use access::{Claims, Tokens};
pub use passwords::{Password, Passwords, Verdict};
pub use refresh::{RefreshSecret, RefreshToken, TokenHash};
