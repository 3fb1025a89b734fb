//! Who gets in: places among the connections of the node and of an address, the strangers, the upgrades and the bodies
//! that are under way. A place is given back when it is dropped; nobody waits for one.
//!
//! Of these, only strangers displace each other: a browser cannot name its user before the upgrade, so to refuse
//! strangers while idle ones hold all places would shut out every browser.

use std::collections::hash_map::Entry;
use std::collections::{BTreeMap, HashMap};
use std::net::{IpAddr, Ipv6Addr};
use std::sync::{Arc, Mutex, MutexGuard};

use bytes::{Bytes, BytesMut};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio_util::sync::CancellationToken;

use crate::config::{Limit, Limits};
use crate::error::{Error, Result};
use crate::metrics::Metrics;

/// The bits of an IPv6 address that name a network: within it a client chooses its address as it likes.
const IPV6_NETWORK: u128 = !0 << 64;

/// The places of a listener; clones share them.
#[derive(Clone)]
pub struct Admission {
    connections: Places,
    strangers: Strangers,
    upgrades: Places,
    bodies: Places,
    addresses: Addresses,
    metrics: Metrics,
}

/// So many of something at a time; none where there is no limit.
#[derive(Clone)]
struct Places(Option<Arc<Semaphore>>);

/// A place that is taken, where places are limited.
#[derive(Debug)]
pub(super) struct Place {
    _permit: Option<OwnedSemaphorePermit>,
}

/// How many places each network has taken. As large as the number of connections, and no larger.
#[derive(Clone)]
struct Addresses {
    max: Limit,
    taken: Arc<Mutex<HashMap<IpAddr, usize>>>,
}

/// A place of a network.
pub(super) struct AddressPlace {
    addresses: Addresses,
    network: IpAddr,
}

/// The sockets on which nobody has signed in.
#[derive(Clone)]
struct Strangers {
    max: Limit,
    waiting: Arc<Mutex<Waiting>>,
}

/// By number, in the order in which they came.
#[derive(Default)]
struct Waiting {
    next: u64,
    tokens: BTreeMap<u64, CancellationToken>,
}

/// A place of a stranger; who is displaced has lost it already.
pub(super) struct StrangerPlace {
    strangers: Strangers,
    number: u64,
}

/// What an upgraded connection holds until it is signed in.
pub(super) enum Entering {
    /// Who signed in with the upgrade.
    Member(#[expect(dead_code, reason = "held, and given back when dropped")] Place),
    /// Who did not.
    Stranger(#[expect(dead_code, reason = "held, and given back when dropped")] StrangerPlace),
}

/// A body as it comes in, which holds as many places as it has bytes for as long as anybody has them.
pub(super) struct Body {
    admission: Admission,
    bytes: BytesMut,
    held: Option<OwnedSemaphorePermit>,
}

impl Admission {
    /// Places as the settings have them.
    pub fn new(limits: &Limits, metrics: Metrics) -> Self {
        Self {
            connections: Places::new(limits.connections),
            strangers: Strangers { max: limits.connections_unsigned, waiting: Arc::default() },
            upgrades: Places::new(limits.upgrades),
            bodies: Places::new(limits.bodies_bytes),
            addresses: Addresses { max: limits.connections_per_address, taken: Arc::default() },
            metrics,
        }
    }

    /// Without any limit.
    pub fn unlimited(metrics: Metrics) -> Self {
        let none = Places(None);
        let addresses = Addresses { max: Limit::new(0), taken: Arc::default() };
        Self {
            connections: none.clone(),
            strangers: Strangers { max: Limit::new(0), waiting: Arc::default() },
            upgrades: none.clone(),
            bodies: none,
            addresses,
            metrics,
        }
    }

    /// A place among the node's connections.
    pub(super) fn connection(&self) -> Result<Place> {
        self.connections.take().ok_or_else(|| self.refuse("connections"))
    }

    /// A place among the connections of a network.
    pub(super) fn address(&self, network: IpAddr) -> Result<AddressPlace> {
        self.addresses.take(network).ok_or_else(|| {
            self.metrics.refused_total.with(["address"]).increment(1);
            Error::TooManyConnections
        })
    }

    /// A place for a socket on which nobody has signed in, and what tells it to make room. Where all are taken, it is
    /// that of the stranger who came first: to sign in takes moments, so it is mostly an idle one.
    pub(super) fn stranger(&self) -> (StrangerPlace, CancellationToken) {
        let (place, token, displaced) = self.strangers.take();
        if let Some(displaced) = displaced {
            self.metrics.refused_total.with(["unsigned"]).increment(1);
            displaced.cancel();
        }
        (place, token)
    }

    /// A place for an upgrade that says who it is.
    pub(super) fn upgrade(&self) -> Result<Place> {
        self.upgrades.take().ok_or_else(|| self.refuse("upgrades"))
    }

    /// An empty body.
    pub(super) fn body(&self) -> Body {
        Body { admission: self.clone(), bytes: BytesMut::new(), held: None }
    }

    fn refuse(&self, reason: &str) -> Error {
        self.metrics.refused_total.with([reason]).increment(1);
        Error::Overloaded
    }
}

impl Places {
    fn new(limit: Limit) -> Self {
        Self(limit.max().map(|max| Arc::new(Semaphore::new(max.min(Semaphore::MAX_PERMITS)))))
    }

    fn take(&self) -> Option<Place> {
        let Some(places) = &self.0 else { return Some(Place { _permit: None }) };
        Some(Place { _permit: Some(places.clone().try_acquire_owned().ok()?) })
    }
}

impl Addresses {
    fn take(&self, network: IpAddr) -> Option<AddressPlace> {
        let mut taken = self.taken();
        let count = taken.entry(network).or_default();
        if self.max.reached(*count) {
            return None;
        }
        *count += 1;
        Some(AddressPlace { addresses: self.clone(), network })
    }

    fn taken(&self) -> MutexGuard<'_, HashMap<IpAddr, usize>> {
        self.taken.lock().expect("nothing panics while it holds the addresses")
    }
}

impl Strangers {
    fn take(&self) -> (StrangerPlace, CancellationToken, Option<CancellationToken>) {
        let token = CancellationToken::new();
        let mut waiting = self.waiting();
        let full = self.max.reached(waiting.tokens.len());
        let displaced = if full { waiting.tokens.pop_first() } else { None };
        let number = waiting.next;
        waiting.next += 1;
        waiting.tokens.insert(number, token.clone());
        (StrangerPlace { strangers: self.clone(), number }, token, displaced.map(|(_, token)| token))
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().expect("nothing panics while it holds the strangers")
    }
}

impl Drop for StrangerPlace {
    fn drop(&mut self) {
        self.strangers.waiting().tokens.remove(&self.number);
    }
}

impl Drop for AddressPlace {
    fn drop(&mut self) {
        if let Entry::Occupied(mut count) = self.addresses.taken().entry(self.network) {
            *count.get_mut() -= 1;
            if *count.get() == 0 {
                count.remove();
            }
        }
    }
}

impl Body {
    pub(super) fn len(&self) -> usize {
        self.bytes.len()
    }

    /// Adds what has come, where there is room for it.
    pub(super) fn extend(&mut self, part: &[u8]) -> Result<()> {
        if let Some(bodies) = &self.admission.bodies.0 {
            let permit = u32::try_from(part.len()).ok().and_then(|n| bodies.clone().try_acquire_many_owned(n).ok());
            let permit = permit.ok_or_else(|| self.admission.refuse("bodies"))?;
            match &mut self.held {
                Some(held) => held.merge(permit),
                None => self.held = Some(permit),
            }
        }
        self.bytes.extend_from_slice(part);
        Ok(())
    }

    /// The bytes, which keep their places.
    pub(super) fn freeze(self) -> Bytes {
        Bytes::from_owner(self)
    }
}

impl AsRef<[u8]> for Body {
    fn as_ref(&self) -> &[u8] {
        &self.bytes
    }
}

/// What counts as one address: an IPv4 address, in whatever form, or the /64 of an IPv6 one.
pub(super) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V4(address) => address.into(),
        IpAddr::V6(address) => Ipv6Addr::from_bits(address.to_bits() & IPV6_NETWORK).into(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_address_gets_as_many_places_as_it_may_and_each_once() {
        let addresses = Addresses { max: Limit::new(2), taken: Arc::default() };
        let ann = network("192.0.2.1".parse().unwrap());
        let (one, _two) = (addresses.take(ann), addresses.take(ann));
        assert!(addresses.take(ann).is_none());
        assert!(addresses.take(network("192.0.2.2".parse().unwrap())).is_some());
        drop(one);
        assert!(addresses.take(ann).is_some());
        assert_eq!(addresses.taken().len(), 1, "who has no place is forgotten");
    }

    #[test]
    fn a_network_of_ipv6_is_one_address() {
        let same = |one: &str, two: &str| network(one.parse().unwrap()) == network(two.parse().unwrap());
        assert!(same("2001:db8:1:2::1", "2001:db8:1:2:ffff::9"));
        assert!(!same("2001:db8:1:2::1", "2001:db8:1:3::1"));
        assert!(same("::ffff:192.0.2.1", "192.0.2.1"));
        assert!(!same("192.0.2.1", "192.0.2.2"));
    }
}
