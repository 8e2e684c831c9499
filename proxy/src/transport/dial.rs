//! Connects to a server: name look-up, egress policy, racing of addresses, TCP, TLS.

use std::future::Future;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::ClientConfig;
use rustls::pki_types::ServerName;
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;

use super::egress::{Egress, EgressError};
use super::error::ConnectError;
use super::names::Name;
use super::race::race;
use super::resolver::NameError;
use super::tls::Tls;

/// The address of a server.
pub(crate) enum ServerAddress {
    Address(SocketAddr),
    /// Looked up for each connection; the connection is to any of its addresses.
    Name(Arc<Name>),
}

/// Which version of HTTP is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Http {
    H1,
    /// Without TLS with prior knowledge (RFC 9113, section 3.3).
    H2,
    /// The server chooses by ALPN; without TLS this is HTTP/1.1.
    Alpn,
}

/// TLS with a server.
#[derive(Clone, Debug)]
pub(crate) struct TlsTarget {
    pub(crate) tls: Arc<Tls>,
    /// The name that its certificate must have.
    pub(crate) name: ServerName<'static>,
}

/// How to communicate with a server: TLS and the version of HTTP do not depend on each other.
#[derive(Clone, Debug)]
pub(crate) struct Transport {
    pub(crate) tls: Option<TlsTarget>,
    pub(crate) http: Http,
}

impl PartialEq for Transport {
    fn eq(&self, other: &Self) -> bool {
        let same_tls = match (&self.tls, &other.tls) {
            (None, None) => true,
            (Some(one), Some(two)) => one.name == two.name && Arc::ptr_eq(&one.tls, &two.tls),
            _ => false,
        };
        same_tls && self.http == other.http
    }
}

impl Transport {
    fn config(&self, http: Http) -> Option<(&Arc<ClientConfig>, &ServerName<'static>)> {
        let TlsTarget { tls, name } = self.tls.as_ref()?;
        let config = match http {
            Http::H1 => &tls.http1,
            Http::H2 => &tls.http2,
            Http::Alpn => &tls.any,
        };
        Some((config, name))
    }
}

/// An established connection.
pub(super) enum Socket {
    Plain(TcpStream),
    Tls(Box<TlsStream<TcpStream>>),
}

impl Socket {
    /// Whether the server chose HTTP/2 by ALPN.
    pub(super) fn chose_http2(&self) -> bool {
        match self {
            Self::Plain(_) => false,
            Self::Tls(stream) => stream.get_ref().1.alpn_protocol() == Some(b"h2"),
        }
    }
}

/// The addresses that a place may have.
#[derive(Clone, Debug)]
pub(crate) enum Reach {
    Any,
    /// This machine only.
    Loopback,
    Policy(Egress),
}

/// Connects to one place.
pub(crate) struct Dialer {
    place: ServerAddress,
    pub(super) transport: Transport,
    reach: Reach,
}

impl Dialer {
    pub(crate) fn new(place: ServerAddress, transport: Transport, reach: Reach) -> Self {
        Self { place, transport, reach }
    }

    /// Connects, with TLS where the transport has it. `http` is what is offered by ALPN.
    pub(super) async fn open(&self, http: Http) -> Result<Socket, ConnectError> {
        let stream = self.tcp().await?;
        stream.set_nodelay(true).map_err(ConnectError::Io)?;
        let Some((config, name)) = self.transport.config(http) else { return Ok(Socket::Plain(stream)) };
        let connector = tokio_rustls::TlsConnector::from(config.clone());
        let stream = connector.connect(name.clone(), stream).await.map_err(ConnectError::Tls)?;
        Ok(Socket::Tls(Box::new(stream)))
    }

    async fn tcp(&self) -> Result<TcpStream, ConnectError> {
        match &self.place {
            ServerAddress::Address(address) => Ok(self.connect(*address).await?),
            ServerAddress::Name(name) => {
                let addresses = name.addresses().await?;
                let connected = race(&addresses.all, |address| self.connect(address)).await;
                Ok(connected.ok_or(NameError::NotFound)??)
            }
        }
    }

    async fn connect(&self, address: SocketAddr) -> Result<TcpStream, EgressError> {
        match &self.reach {
            Reach::Policy(egress) => egress.connect(address).await,
            Reach::Loopback if !address.ip().to_canonical().is_loopback() => Err(EgressError::Forbidden(address.ip())),
            Reach::Any | Reach::Loopback => Ok(TcpStream::connect(address).await?),
        }
    }
}

/// Bounds the time from the look-up to a connection that can be used.
pub(super) async fn in_time<T>(
    limit: Duration,
    work: impl Future<Output = Result<T, ConnectError>>,
) -> Result<T, ConnectError> {
    tokio::time::timeout(limit, work).await.map_err(|_| ConnectError::Timeout(limit))?
}
