//! Places for connections whose clients are not authenticated. One more than there are closes the oldest of the source that has
//! the most, so a client that opens many closes its own.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;

/// An IPv4 address, or the network of 64 bits of an IPv6 address: one site has as many addresses as it likes.
#[must_use]
pub fn source_of(address: IpAddr) -> u128 {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_ipv6_mapped().to_bits(),
        IpAddr::V6(address) => address.to_bits() >> 64 << 64,
    }
}

/// A number of places.
#[derive(Clone, Debug)]
pub struct Places {
    max: usize,
    /// The oldest first.
    taken: Arc<Mutex<Vec<Taken>>>,
}

#[derive(Debug)]
struct Taken {
    source: u128,
    evicted: Arc<Notify>,
}

/// The place of one connection; free when this is dropped.
#[derive(Debug)]
#[must_use = "dropping it makes the place free"]
pub struct Place {
    places: Places,
    evicted: Arc<Notify>,
}

impl Places {
    /// At most `max` places.
    #[must_use]
    pub fn new(max: usize) -> Self {
        Self { max: max.max(1), taken: Arc::default() }
    }

    fn taken(&self) -> MutexGuard<'_, Vec<Taken>> {
        // Poisoned only by a panic between statements that cannot panic.
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A place for a connection from `address`. If none is free, another connection loses its own.
    pub fn take(&self, address: IpAddr) -> Place {
        let evicted = Arc::new(Notify::new());
        let mut taken = self.taken();
        if taken.len() >= self.max {
            evict(&mut taken);
        }
        taken.push(Taken { source: source_of(address), evicted: evicted.clone() });
        drop(taken);
        Place { places: self.clone(), evicted }
    }

    /// Closes one connection, for instance because there is no file descriptor for the next.
    pub fn evict(&self) {
        evict(&mut self.taken());
    }

    #[cfg(test)]
    fn sources(&self) -> Vec<u128> {
        self.taken().iter().map(|taken| taken.source).collect()
    }
}

fn evict(taken: &mut Vec<Taken>) {
    let mut counts: HashMap<u128, usize> = HashMap::new();
    for one in taken.iter() {
        *counts.entry(one.source).or_default() += 1;
    }
    let most = counts.values().max().copied();
    if let Some(at) = taken.iter().position(|one| counts.get(&one.source).copied() == most) {
        taken.remove(at).evicted.notify_one();
    }
}

impl Place {
    /// Waits until another connection gets this place.
    pub async fn evicted(&self) {
        self.evicted.notified().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.places.taken().retain(|one| !Arc::ptr_eq(&one.evicted, &self.evicted));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_connection_of_the_source_with_the_most_is_closed() {
        let of = |sources: &[u8]| {
            let places = Places::new(3);
            let kept: Vec<Place> = sources.iter().map(|last| places.take(IpAddr::from([192, 0, 2, *last]))).collect();
            let left: Vec<u8> = places.sources().iter().map(|source| source.to_be_bytes()[15]).collect();
            drop(kept);
            assert!(places.sources().is_empty());
            left
        };
        assert_eq!(of(&[1, 2, 3]), [1, 2, 3]);
        assert_eq!(of(&[1, 2, 2, 3]), [1, 2, 3]);
        assert_eq!(of(&[1, 2, 3, 4]), [2, 3, 4]);
        assert_eq!(of(&[9, 1, 1, 1, 1, 9]), [9, 1, 9]);
    }

    #[tokio::test]
    async fn a_connection_learns_that_it_lost_its_place_and_keeps_it_while_one_is_free() {
        let places = Places::new(2);
        let address = IpAddr::from([192, 0, 2, 1]);
        let (first, second) = (places.take(address), places.take(address));
        let third = places.take(address);
        first.evicted().await;
        drop(first);
        assert_eq!(places.sources().len(), 2);
        drop(second);
        let fourth = places.take(address);
        for kept in [&third, &fourth] {
            assert!(tokio::time::timeout(std::time::Duration::ZERO, kept.evicted()).await.is_err());
        }
        places.evict();
        third.evicted().await;
    }

    #[test]
    fn a_source_is_an_ipv4_address_or_a_network_of_64_bits() {
        let of = |text: &str| source_of(text.parse().unwrap());
        assert_eq!(of("192.0.2.1"), of("::ffff:192.0.2.1"));
        assert_ne!(of("192.0.2.1"), of("192.0.2.2"));
        assert_eq!(of("2001:db8::1"), of("2001:db8::ffff:2"));
        assert_ne!(of("2001:db8::1"), of("2001:db8:0:1::1"));
    }
}
