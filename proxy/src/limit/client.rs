//! Throttles of single clients: one bucket for each rule and network of a client. Their number is bounded: the buckets of
//! clients that have sent no request for the longest time are dropped first.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv6Addr};
use std::sync::Arc;

use foldhash::quality::RandomState;
use quick_cache::UnitWeighter;
use quick_cache::sync::{Cache, DefaultLifecycle};
use sluice_wire::{ClientThrottle, Hash, Throttle};

use super::bucket::{Bucket, Limit};

/// Buckets of clients in the whole process.
const MAX_CLIENTS: usize = 65_536;

#[derive(Clone, PartialEq, Eq, Hash)]
struct Client {
    /// Of the limit.
    limit: Hash,
    network: u128,
}

/// The buckets of all clients.
pub(crate) struct ClientBuckets(Cache<Client, Arc<Bucket>, UnitWeighter, RandomState>);

impl Default for ClientBuckets {
    fn default() -> Self {
        let (hasher, lifecycle) = (RandomState::default(), DefaultLifecycle::default());
        Self(Cache::with(MAX_CLIENTS, MAX_CLIENTS as u64, UnitWeighter, hasher, lifecycle))
    }
}

/// A limit that each client has for itself.
pub(crate) struct ClientLimit {
    id: Hash,
    throttle: Throttle,
    ipv4_mask: u128,
    ipv6_mask: u128,
    clients: Arc<ClientBuckets>,
}

impl ClientLimit {
    pub(crate) fn new(id: Hash, part: ClientThrottle, clients: &Arc<ClientBuckets>) -> Self {
        let ipv4 = part.ipv4_prefix.min(32);
        Self {
            id,
            throttle: part.throttle,
            // An IPv4 address is the end of an IPv6 address.
            ipv4_mask: mask(96 + ipv4),
            ipv6_mask: mask(part.ipv6_prefix.min(128)),
            clients: clients.clone(),
        }
    }

    /// The limit of the client with this address.
    pub(crate) fn of(&self, address: IpAddr) -> Limit {
        let client = Client { limit: self.id, network: self.network(address) };
        let made = || Ok::<_, Infallible>(Arc::<Bucket>::default());
        let Ok(bucket) = self.clients.0.get_or_insert_with(&client, made);
        Limit { bucket, throttle: self.throttle }
    }

    fn network(&self, address: IpAddr) -> u128 {
        let bits = |address: Ipv6Addr| u128::from(address);
        match address.to_canonical() {
            IpAddr::V4(address) => bits(address.to_ipv6_mapped()) & self.ipv4_mask,
            IpAddr::V6(address) => bits(address) & self.ipv6_mask,
        }
    }
}

fn mask(prefix: u8) -> u128 {
    u128::MAX.checked_shl(128 - u32::from(prefix)).unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use std::time::{Duration, Instant};

    use super::*;
    use crate::limit::bucket::take_all;

    fn limit(rule: &str, prefixes: (u8, u8), clients: &Arc<ClientBuckets>) -> ClientLimit {
        let (ipv4_prefix, ipv6_prefix) = prefixes;
        let throttle = Throttle { rate: 1, per_ms: 1000, burst: 2 };
        let id = Hash::of(rule.as_bytes());
        ClientLimit::new(id, ClientThrottle { throttle, ipv4_prefix, ipv6_prefix }, clients)
    }

    fn passes(limit: &ClientLimit, address: &str, now: Instant) -> bool {
        take_all(&[&limit.of(address.parse().unwrap())], 1, now).is_ok()
    }

    #[test]
    fn clients_are_distinguished_by_their_network_and_each_rule_has_its_own_buckets() {
        let clients = Arc::new(ClientBuckets::default());
        for (prefixes, first, others_of_it, another) in [
            ((32, 64), "192.0.2.7", vec!["::ffff:192.0.2.7"], "192.0.2.8"),
            ((24, 64), "192.0.2.7", vec!["192.0.2.8", "::ffff:192.0.2.9"], "192.0.3.7"),
            ((32, 64), "2001:db8::1", vec!["2001:db8::ffff:1"], "2001:db8:0:1::1"),
            ((32, 128), "2001:db8:1::1", vec!["2001:db8:1::1"], "2001:db8:1::2"),
            ((8, 16), "10.1.2.3", vec!["10.255.0.1"], "::10.1.2.3"),
        ] {
            let now = Instant::now();
            let rule = format!("{prefixes:?} {first}");
            let limit = limit(&rule, prefixes, &clients);
            assert!(passes(&limit, first, now) && passes(&limit, first, now), "{rule}");
            for other in others_of_it {
                assert!(!passes(&limit, other, now), "{rule}: {other}");
            }
            assert!(passes(&limit, another, now), "{rule}");
            assert!(passes(&self::limit("another", prefixes, &clients), first, now), "{rule}");
            assert!(passes(&limit, first, now + Duration::from_secs(1)), "{rule}");
        }
    }

    #[test]
    fn a_limit_of_a_new_configuration_has_the_same_buckets() {
        let clients = Arc::new(ClientBuckets::default());
        let now = Instant::now();
        let before = limit("a", (32, 64), &clients);
        assert!(passes(&before, "192.0.2.7", now) && passes(&before, "192.0.2.7", now));
        assert!(!passes(&limit("a", (32, 64), &clients), "192.0.2.7", now));
    }

    #[test]
    fn the_number_of_buckets_is_bounded_and_a_client_that_comes_often_keeps_its_own() {
        let clients = Arc::new(ClientBuckets::default());
        let limit = limit("a", (32, 64), &clients);
        let now = Instant::now();
        let often = "192.0.2.7";
        assert!(passes(&limit, often, now) && passes(&limit, often, now));
        for number in 0..3 * MAX_CLIENTS as u32 {
            drop(limit.of(IpAddr::from((0x0a00_0000 + number).to_be_bytes())));
            if number % 1000 == 0 {
                assert!(!passes(&limit, often, now), "after {number} others");
            }
        }
        assert!(clients.0.len() <= MAX_CLIENTS);
    }
}
