//! Egress policy: the addresses that the proxy may connect to. It is checked at every connect, after the look-up of a name.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::os::fd::AsRawFd as _;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::net::TcpStream;

/// Addresses outside the link-local range at which clouds hand out an instance's credentials.
const METADATA: [IpAddr; 7] = [
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x254)), // AWS
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0xec2, 0, 0, 0, 0, 0, 0x23)),  // AWS, EKS Pod Identity
    IpAddr::V6(Ipv6Addr::new(0xfd20, 0xce, 0, 0, 0, 0, 0, 0x254)),  // Google
    IpAddr::V6(Ipv6Addr::new(0xfd00, 0x42, 0, 0, 0, 0, 0, 0x42)),   // Scaleway
    IpAddr::V4(Ipv4Addr::new(100, 100, 100, 200)),                  // Alibaba
    IpAddr::V4(Ipv4Addr::new(168, 63, 129, 16)),                    // Azure
    IpAddr::V4(Ipv4Addr::new(192, 0, 0, 192)),                      // Oracle
];

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EgressError {
    #[error("the address {0} is not allowed as a destination")]
    Forbidden(IpAddr),
    #[error("cannot connect to the host")]
    Io(#[from] io::Error),
    #[error("the file descriptors of this proxy are in use")]
    Descriptors,
}

/// The addresses that connections may go to.
#[derive(Clone, Debug)]
pub(crate) struct Egress {
    allow_loopback: bool,
    /// The Service address of the cluster's API server.
    api_server: Option<IpAddr>,
    /// Ports that this proxy listens on.
    own: Arc<Mutex<Vec<u16>>>,
    /// File descriptors from here on are not for upstreams.
    reserved_from: Arc<AtomicUsize>,
}

impl Default for Egress {
    fn default() -> Self {
        Self::new(false)
    }
}

impl Egress {
    /// The policy of every proxy. Loopback addresses are allowed for development.
    pub(crate) fn new(allow_loopback: bool) -> Self {
        let api_server = std::env::var("KUBERNETES_SERVICE_HOST").ok().and_then(|host| host.parse().ok());
        Self { allow_loopback, api_server, own: Arc::default(), reserved_from: Arc::new(AtomicUsize::new(usize::MAX)) }
    }

    /// Denies a port of this machine from now on: the proxy itself listens there.
    pub(crate) fn reserve(&self, port: u16) {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).push(port);
    }

    /// Keeps file descriptors from this one on free.
    pub(crate) fn limit_descriptors(&self, reserved_from: usize) {
        self.reserved_from.store(reserved_from, Ordering::Relaxed);
    }

    /// Whether connections to an address are allowed at all. Metadata services of clouds have link-local addresses; servers
    /// on loopback addresses trust every process of the pod.
    pub(crate) fn permits(&self, address: IpAddr) -> bool {
        match address.to_canonical() {
            IpAddr::V4(v4) => self.permits_v4(v4),
            IpAddr::V6(v6) if v6.is_loopback() => self.allow_loopback,
            IpAddr::V6(v6) => {
                !v6.is_unicast_link_local()
                    && !v6.is_unspecified()
                    && !v6.is_multicast()
                    && !self.is_denied(IpAddr::V6(v6))
                    && embedded(v6).is_none_or(|v4| self.permits_v4(v4))
            }
        }
    }

    fn permits_v4(&self, v4: Ipv4Addr) -> bool {
        let no_host = v4.octets()[0] == 0 || v4.is_multicast() || v4.is_broadcast();
        !no_host && !v4.is_link_local() && !self.is_denied(IpAddr::V4(v4)) && (self.allow_loopback || !v4.is_loopback())
    }

    fn is_denied(&self, address: IpAddr) -> bool {
        METADATA.contains(&address) || self.api_server == Some(address)
    }

    /// Connects to an allowed address.
    pub(crate) async fn connect(&self, address: SocketAddr) -> Result<TcpStream, EgressError> {
        if !self.permits(address.ip()) {
            return Err(EgressError::Forbidden(address.ip()));
        }
        let stream = TcpStream::connect(address).await?;
        // A new descriptor is the smallest that is free.
        let reserved_from = self.reserved_from.load(Ordering::Relaxed);
        if usize::try_from(stream.as_raw_fd()).is_ok_and(|descriptor| descriptor >= reserved_from) {
            return Err(EgressError::Descriptors);
        }
        if self.is_own(address.port()) && is_local(&stream)? {
            return Err(EgressError::Forbidden(address.ip()));
        }
        Ok(stream)
    }

    fn is_own(&self, port: u16) -> bool {
        self.own.lock().unwrap_or_else(PoisonError::into_inner).contains(&port)
    }
}

/// Whether a connection stays on this machine: such a connection has the same address at both ends.
fn is_local(stream: &TcpStream) -> io::Result<bool> {
    let peer = stream.peer_addr()?.ip().to_canonical();
    Ok(peer.is_loopback() || peer == stream.local_addr()?.ip().to_canonical())
}

/// The IPv4 address that a translator, or an old kernel, connects to for an IPv6 address: IPv4-compatible (RFC 4291, 2.5.5.1),
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

    fn egress(allow_loopback: bool) -> Egress {
        Egress { allow_loopback, api_server: Some("10.96.0.1".parse().unwrap()), ..Egress::default() }
    }

    #[test]
    fn metadata_loopback_and_the_api_server_are_denied_in_every_notation() {
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
            "fd00:ec2::23",
            "fd20:ce::254",
            "fd00:42::42",
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
            assert!(!egress(false).permits(bad.parse().unwrap()), "{bad}");
        }
        for good in ["10.0.0.1", "93.184.216.34", "fd00::1", "2001:db8::1", "64:ff9b::93.184.216.34", "100.100.100.201"]
        {
            assert!(egress(false).permits(good.parse().unwrap()), "{good}");
        }
        for local in ["127.0.0.1", "127.8.8.8", "::1", "::ffff:127.0.0.1"] {
            assert!(egress(true).permits(local.parse().unwrap()), "{local}");
            assert!(!egress(false).permits(local.parse().unwrap()), "{local}");
        }
        for denied in ["169.254.169.254", "::ffff:169.254.169.254", "fe80::1", "0.0.0.0", "::", "224.0.0.1"] {
            assert!(!egress(true).permits(denied.parse().unwrap()), "{denied}");
        }
    }

    #[tokio::test]
    async fn the_proxys_own_ports_are_denied_on_this_machine() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let egress = egress(true);
        drop(egress.connect(address).await.unwrap());
        egress.reserve(address.port());
        assert!(matches!(egress.connect(address).await, Err(EgressError::Forbidden(_))));
    }
}
