//! Ports that a server has again after it was killed.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

/// Below the ports that the kernel hands to outgoing connections: one of those may take the place of a killed server.
const FIRST: u16 = 10_000;
const COUNT: u16 = 10_000;
/// How far above its port a member of a Redis Cluster listens for the others; those ports are free as well.
const BUS_OFFSET: u16 = 10_000;
/// How far apart two test processes begin to look.
const STRIDE: u32 = 100;

/// A port that nobody listens on now, and that this process hands out once.
pub(crate) fn fixed_port() -> u16 {
    static NEXT: AtomicU16 = AtomicU16::new(0);
    let begin = std::process::id() * STRIDE % u32::from(COUNT);
    for _ in 0..COUNT {
        let step = u32::from(NEXT.fetch_add(1, Ordering::Relaxed));
        let offset = u16::try_from((begin + step) % u32::from(COUNT)).expect("less than COUNT");
        let port = FIRST + offset;
        if is_free(port) && is_free(port + BUS_OFFSET) {
            return port;
        }
    }
    panic!("all ports from {FIRST} on are taken")
}

fn is_free(port: u16) -> bool {
    TcpListener::bind(("127.0.0.1", port)).is_ok()
}
