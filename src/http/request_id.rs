//! What a request is called in the logs, here and at the proxy.

use http::header::{HeaderMap, HeaderName, HeaderValue};
use uuid::Uuid;

/// The header that carries it, in the request of a trusted proxy and in every answer.
pub(super) const REQUEST_ID: HeaderName = HeaderName::from_static("x-request-id");

/// The most bytes of a proxy's id: it stands in every line about the request.
const BYTES_MAX: usize = 128;

/// The proxy's id of the request, where the peer is a trusted proxy; else a new one, so that nobody may borrow another's.
pub(super) fn of(headers: &HeaderMap, is_proxy: bool) -> HeaderValue {
    let given = headers.get(REQUEST_ID).filter(|id| is_proxy && is_plain(id.as_bytes()));
    given.cloned().unwrap_or_else(|| {
        let mut buffer = Uuid::encode_buffer();
        HeaderValue::from_str(Uuid::now_v7().simple().encode_lower(&mut buffer)).expect("digits make a header")
    })
}

/// Nothing that a log, or who reads it, could take for anything else.
fn is_plain(id: &[u8]) -> bool {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_.:=+/".contains(byte);
    (1..=BYTES_MAX).contains(&id.len()) && id.iter().all(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_proxy_names_requests_and_only_plainly() {
        let named = |id: &'static str, is_proxy| {
            let headers = HeaderMap::from_iter([(REQUEST_ID, HeaderValue::from_static(id))]);
            of(&headers, is_proxy) == id
        };
        assert!(named("1-67891233-abcdef012345678912345678", true));
        assert!(!named("1-67891233-abcdef012345678912345678", false));
        for id in ["", "a b", "a\tb", "\"", "a,b"] {
            assert!(!named(id, true), "{id}");
        }
        let made = of(&HeaderMap::new(), true);
        assert!(is_plain(made.as_bytes()) && made != of(&HeaderMap::new(), true));
    }
}
