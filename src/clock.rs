//! The wall clock; nothing else reads it.

use std::time::{SystemTime, UNIX_EPOCH};

use crate::model::TimeMs;

/// Now, in milliseconds since the Unix epoch.
pub fn now_ms() -> TimeMs {
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    let now = SystemTime::now();
    let since = now.duration_since(UNIX_EPOCH).expect("the clock of the host stands after 1970");
    since.as_millis().try_into().expect("the milliseconds of an i64 last for ages")
}
