//! Which addresses may be dialled, by integrations and for key sets. Asked at every connect, after names were looked up.
//! Who dials, and what is said then, is `integration`'s and `auth`'s business.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;

/// Clouds keep an instance's credentials at these addresses too, outside the link-local range.
const METADATA: [IpAddr; 5] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),  // Google
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),                  // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),                    // Azure
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),                      // Oracle
];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DialError {
    #[error("the address {0} is not allowed as a destination")]
    Forbidden(IpAddr),
    #[error("cannot resolve or reach the host")]
    Io(#[from] io::Error),
}

/// Where connections may lead.
#[derive(Clone, Debug)]
pub(crate) struct Dialling {
    allow_loopback: bool,
    /// Inside a cluster, where its API server is.
    api_server: Option<IpAddr>,
    /// Ports that this proxy listens on.
    own: Arc<Mutex<Vec<u16>>>,
}

impl Default for Dialling {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Dialling {
    /// Denies what every proxy denies; loopback addresses are for development.
    pub(crate) fn new(allow_loopback: bool) -> Self {
        let api_server = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
        Self { allow_loopback, api_server, own: Arc::default() }
    }

    /// From now on this port of this machine is no destination: the proxy itself listens there.
    pub(crate) fn reserve(&self, port: u16) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).push(port);
    }

    /// Whether an address may be dialled at all. Link-local addresses hold cloud metadata; the proxy's own loopback holds
    /// what trusts the pod.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.permits_v4(v4),
            IpAddr::V6(v6) if v6.is_loopback() => self.allow_loopback,
            IpAddr::V6(v6) => {
                !v6.is_unicast_link_local()
                    && !v6.is_unspecified()
                    && !v6.is_multicast()
                    && !self.named(IpAddr::V6(v6))
                    && embedded(v6).is_none_or(|v4| self.permits_v4(v4))
            }
        }
    }

    fn permits_v4(&self, v4: Ipv4Addr) -> bool {
        let nowhere = v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast();
        !nowhere && !v4.is_link_local() && !self.named(IpAddr::V4(v4)) && (self.allow_loopback || !v4.is_loopback())
    }

    fn named(&self, address: IpAddr) -> bool {
        METADATA.contains(&address) || self.api_server == Some(address)
    }

    /// Connects, where that is allowed.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<TcpStream, DialError> {
        if !self.permits(address.ip()) {
            return Err(DialError::Forbidden(address.ip()));
        }
        let stream = TcpStream::connect(address).await?;
        if self.is_own(address.port()) && is_here(&stream)? {
            return Err(DialError::Forbidden(address.ip()));
        }
        Ok(stream)
    }

    fn is_own(&self, port: u16) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&port)
    }
}

/// Whether a connection leads to this machine: whatever its addresses are, such a connection has one of them at both ends.
fn is_here(stream: &TcpStream) -> io::Result<bool> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    Ok(peer.is_loopback() || peer == stream.local_addr()?.ip().to_canonical())
}

/// The IPv4 address that a translator, or an old kernel, takes an IPv6 address for: IPv4-compatible (RFC 4291, 2.5.5.1),
/// IPv4-translated (RFC 2765), NAT64 (RFC 6052, RFC 8215) and 6to4 (RFC 3056).
fn embedded(v6: Ipv6Addr) -> Option<Ipv4Addr> {
    let v4 = |high: u16, low: u16| Ipv4Addr::from((u32::from(high) << 16) | u32::from(low));
    match v6.segments() {
        [0, 0, 0, 0, 0, 0, high, low] | [0, 0, 0, 0, 0xffff, 0, high, low] | [0x64, 0xff9b, .., high, low] => {
            Some(v4(high, low))
        }
        [0x2002, high, low, ..] => Some(v4(high, low)),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn dialling(allow_loopback: bool) -> Dialling {
        Dialling { allow_loopback, api_server: Some("10.96.0.1".parse().unwrap()), own: Arc::default() }
    }

    #[test]
    fn metadata_loopback_and_the_api_server_are_not_dialled_however_they_are_written() {
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "::169.254.169.254",
            "::ffff:0:169.254.169.254",
            "64:ff9b::169.254.169.254",
            "64:ff9b:1::169.254.169.254",
            "2002:a9fe:a9fe::1",
            "fe80::1",
            "fd00:ec2::254",
            "fd20:ce::254",
            "100.100.100.200",
            "168.63.129.16",
            "192.0.0.192",
            "10.96.0.1",
            "::ffff:10.96.0.1",
            "64:ff9b::10.96.0.1",
            "127.0.0.1",
            "127.9.9.9",
            "::1",
            "::ffff:127.0.0.1",
            "::127.0.0.1",
            "64:ff9b::7f00:1",
            "0.0.0.0",
            "0.1.2.3",
            "::",
            "224.0.0.1",
            "255.255.255.255",
            "ff02::1",
        ] {
            assert!(!dialling(false).permits(bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.0.0.1", "93.184.216.34", "fd00::1", "2001:db8::1", "64:ff9b::93.184.216.34", "100.100.100.201"]
        {
            assert!(dialling(false).permits(good.parse().unwrap()), "{good}");
        }
        for local in ["127.0.0.1", "::1", "::ffff:127.0.0.1"] {
            assert!(dialling(true).permits(local.parse().unwrap()), "{local}");
        }
    }

    #[tokio::test]
    async fn the_proxys_own_ports_are_not_dialled_on_this_machine() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let dialling = dialling(true);
        drop(dialling.connect(address).await.unwrap());
        dialling.reserve(address.port());
        assert!(matches!(dialling.connect(address).await, Err(DialError::Forbidden(_))));
    }
}
