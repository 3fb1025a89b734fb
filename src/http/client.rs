//! Who is at the other end: the peer, or whom trusted proxies speak for.

use std::net::{IpAddr, SocketAddr};

use http::HeaderMap;

use super::admission::network;
use crate::config::TrustedProxies;

/// The client's network, for handlers.
#[derive(Clone, Copy, Debug)]
pub(super) struct Client(pub(super) IpAddr);

impl Client {
    /// The peer, or what trusted proxies say of it. `X-Forwarded-For` is read from its end, where the nearest proxy
    /// wrote; what stands before the first address that is no proxy of ours anybody may have made up.
    pub(super) fn of(peer: IpAddr, headers: &HeaderMap, proxies: &TrustedProxies) -> Self {
        let mut address = peer;
        let lines = headers.get_all("x-forwarded-for").iter().rev().filter_map(|line| line.to_str().ok());
        for hop in lines.flat_map(|line| line.rsplit(',')) {
            if !proxies.contain(address) {
                break;
            }
            match parse(hop.trim()) {
                Some(further) => address = further,
                None => break,
            }
        }
        Self(network(address))
    }
}

/// An address, which some proxies write with its port.
fn parse(hop: &str) -> Option<IpAddr> {
    let with_port = |hop: &str| hop.parse::<SocketAddr>().ok().map(|address| address.ip());
    hop.parse().ok().or_else(|| with_port(hop))
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use ipnet::IpNet;

    use super::*;

    fn client(peer: &str, lines: &[&'static str]) -> String {
        let proxies = TrustedProxies(["10.0.0.0/8", "fd00::/8"].map(|net| net.parse::<IpNet>().unwrap()).into());
        let mut headers = HeaderMap::new();
        for line in lines {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        Client::of(peer.parse().unwrap(), &headers, &proxies).0.to_string()
    }

    #[test]
    fn only_what_a_trusted_proxy_wrote_is_believed() {
        assert_eq!(client("192.0.2.1", &["198.51.100.7"]), "192.0.2.1", "the peer is no proxy");
        assert_eq!(client("10.0.0.1", &["198.51.100.7"]), "198.51.100.7");
        assert_eq!(client("10.0.0.1", &["6.6.6.6, 198.51.100.7"]), "198.51.100.7", "the client made the first one up");
        assert_eq!(client("10.0.0.1", &["6.6.6.6", "198.51.100.7"]), "198.51.100.7", "each proxy may add a line");
        assert_eq!(client("10.0.0.1", &["198.51.100.7, 10.0.0.2"]), "198.51.100.7", "through two proxies");
        assert_eq!(client("10.0.0.1", &["198.51.100.7:4711"]), "198.51.100.7");
        assert_eq!(client("fd00::1", &["[2001:db8::7]:4711"]), "2001:db8::");
        assert_eq!(client("10.0.0.1", &["198.51.100.7, unknown"]), "10.0.0.1", "what cannot be read ends the walk");
        assert_eq!(client("10.0.0.1", &[]), "10.0.0.1");
    }
}
