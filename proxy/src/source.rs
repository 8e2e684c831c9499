//! Where requests come from: networks, and the address of a client behind trusted proxies.

mod forwarded;

use std::net::IpAddr;

use http::{HeaderMap, HeaderName};
use sluice_wire::{Network, Sources};

/// A set of networks. A look-up costs the logarithm of their number.
#[derive(Debug, Default)]
pub(crate) struct Networks {
    /// First and last addresses: sorted, without overlap.
    v4: Box<[(u128, u128)]>,
    v6: Box<[(u128, u128)]>,
}

impl Networks {
    pub(crate) fn new(networks: &[Network]) -> Self {
        let (mut v4, mut v6) = (Vec::new(), Vec::new());
        for network in networks.iter().map(|network| network.get()) {
            let range = (number(network.network()), number(network.broadcast()));
            if network.addr().is_ipv4() { v4.push(range) } else { v6.push(range) }
        }
        Self { v4: disjoint(v4), v6: disjoint(v6) }
    }

    /// Whether a canonical address is in one of them.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        let ranges = if address.is_ipv4() { &self.v4 } else { &self.v6 };
        let address = number(address);
        let after = ranges.partition_point(|(first, _)| *first <= address);
        after.checked_sub(1).and_then(|at| ranges.get(at)).is_some_and(|(_, last)| address <= *last)
    }

    fn is_empty(&self) -> bool {
        self.v4.is_empty() && self.v6.is_empty()
    }
}

fn number(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u32::from(address).into(),
        IpAddr::V6(address) => address.into(),
    }
}

/// Of two networks that overlap, one contains the other.
fn disjoint(mut ranges: Vec<(u128, u128)>) -> Box<[(u128, u128)]> {
    ranges.sort_by_key(|(first, last)| (*first, u128::MAX - last));
    ranges.dedup_by(|next, kept| next.0 <= kept.1);
    ranges.into()
}

/// The clients that a Stage or a rule accepts.
#[derive(Debug)]
pub(crate) struct SourceFilter {
    allow: Networks,
    deny: Networks,
}

impl SourceFilter {
    pub(crate) fn compile(sources: &Sources) -> Self {
        Self { allow: Networks::new(&sources.allow), deny: Networks::new(&sources.deny) }
    }

    pub(crate) fn accepts(&self, address: IpAddr) -> bool {
        !self.deny.contains(address) && (self.allow.is_empty() || self.allow.contains(address))
    }
}

/// The header in which trusted proxies state the address of their client.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum AddressHeader {
    /// `X-Forwarded-For`: addresses, separated by commas.
    #[default]
    XForwardedFor,
    /// `Forwarded` (RFC 7239).
    Forwarded,
}

/// Proxies in front of this one. The address of the client that they state is accepted. Each appends that of its own client.
#[derive(Clone, Debug, Default)]
pub struct TrustedProxies {
    /// Their addresses.
    pub networks: Vec<Network>,
    /// Where they state it.
    pub header: AddressHeader,
    /// How many there are between this proxy and the client. None: the client is the last address that is in none of the
    /// networks.
    pub hops: Option<u8>,
}

/// A trusted proxy has stated something that is not an address.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Unreadable;

/// Trusted proxies, ready for look-ups.
#[derive(Debug)]
pub(crate) struct Trusted {
    networks: Networks,
    header: AddressHeader,
    hops: Option<u8>,
}

impl Trusted {
    pub(crate) fn new(proxies: &TrustedProxies) -> Self {
        Self { networks: Networks::new(&proxies.networks), header: proxies.header, hops: proxies.hops }
    }

    /// Whether a connection from there is a trusted proxy's.
    pub(crate) fn contains(&self, address: IpAddr) -> bool {
        self.networks.contains(address)
    }

    /// The client of a request that the trusted proxy `peer` has sent. Only addresses that a trusted proxy has stated are
    /// read: a client can write further ones before them.
    pub(crate) fn client(&self, peer: IpAddr, headers: &HeaderMap) -> Result<IpAddr, Unreadable> {
        match self.header {
            AddressHeader::XForwardedFor => {
                let name = HeaderName::from_static("x-forwarded-for");
                let values = headers.get_all(name).into_iter().rev();
                let texts = values.flat_map(|value| value.as_bytes().rsplit(|byte| *byte == b','));
                self.walk(peer, texts.map(<[u8]>::trim_ascii).filter(|text| !text.is_empty()))
            }
            AddressHeader::Forwarded => {
                let values = headers.get_all(http::header::FORWARDED).into_iter();
                let elements = forwarded::nodes(values.map(http::HeaderValue::as_bytes)).ok_or(Unreadable)?;
                self.walk(peer, elements.iter().rev().map(Vec::as_slice))
            }
        }
    }

    /// `stated` begins with what the nearest proxy has stated.
    fn walk<'a>(&self, peer: IpAddr, stated: impl Iterator<Item = &'a [u8]>) -> Result<IpAddr, Unreadable> {
        let mut client = peer;
        for (at, text) in stated.enumerate() {
            let reached = match self.hops {
                Some(hops) => at >= usize::from(hops),
                None => !self.networks.contains(client),
            };
            if reached {
                break;
            }
            client = node(text).ok_or(Unreadable)?;
        }
        Ok(client)
    }
}

/// An address, with or without a port; an IPv6 address with a port is in brackets.
fn node(text: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(text).ok()?;
    let address = match text.strip_prefix('[') {
        Some(rest) => {
            let (address, port) = rest.split_once(']')?;
            (port.is_empty() || is_port(port.strip_prefix(':')?)).then_some(())?;
            IpAddr::V6(address.parse().ok()?)
        }
        None => match text.split_once(':') {
            Some((address, port)) if is_port(port) => IpAddr::V4(address.parse().ok()?),
            _ => text.parse().ok()?,
        },
    };
    Some(address.to_canonical())
}

/// A number, or a hidden port (RFC 7239, 6.2).
fn is_port(text: &str) -> bool {
    let token = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (text.len() <= 5 && !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit()))
        || text.strip_prefix('_').is_some_and(|name| !name.is_empty() && name.bytes().all(token))
}

#[cfg(test)]
mod tests;
