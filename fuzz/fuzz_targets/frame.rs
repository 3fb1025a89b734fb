//! Any bytes as a frame.

#![no_main]

// The lowest rooms know nothing above them, and are compiled here without the rest.
#[expect(dead_code, reason = "the decoder is not all there is")]
#[path = "../../src/error.rs"]
mod error;
#[expect(dead_code, reason = "the decoder is not all there is")]
#[path = "../../src/model/mod.rs"]
mod model;
#[expect(dead_code, unused_imports, reason = "the decoder is not all there is")]
#[path = "../../src/protocol/mod.rs"]
mod protocol;

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    if let Ok(text) = std::str::from_utf8(bytes) {
        protocol::invariants::hold(text);
    }
});
