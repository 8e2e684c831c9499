//! Errors of a call. Callers map them to responses to their own clients, and log the [`Cause`].

use std::error::Error as StdError;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use rustls::CertificateError;

use super::egress::EgressError;
use super::resolver::NameError;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the connection was not established within {0:?}")]
    Timeout(Duration),
    #[error("the address {0} is not allowed as a destination")]
    Forbidden(IpAddr),
    #[error("cannot look up the name of the host")]
    Name(#[from] NameError),
    #[error("cannot connect to the host")]
    Io(#[source] io::Error),
    #[error("the file descriptors of this proxy are in use")]
    Descriptors,
    #[error("cannot complete the TLS handshake")]
    Tls(#[source] io::Error),
    #[error("the server does not support HTTP/2")]
    NoHttp2,
    #[error("cannot start HTTP on the connection")]
    Http(#[from] hyper::Error),
    #[error("the connection was closed before it could be used")]
    Closed,
}

impl From<EgressError> for ConnectError {
    fn from(error: EgressError) -> Self {
        match error {
            EgressError::Forbidden(address) => Self::Forbidden(address),
            EgressError::Io(error) => Self::Io(error),
            EgressError::Descriptors => Self::Descriptors,
        }
    }
}

/// Why there is no response.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    #[error("there is no endpoint")]
    NoEndpoints,
    /// Shared by the requests that waited for the same connection.
    #[error("cannot connect to an endpoint")]
    Connect(#[source] Arc<ConnectError>),
    #[error("no HTTP/2 stream is free")]
    Busy,
    #[error("the request's host is not valid")]
    Host,
    #[error("cannot exchange HTTP with the endpoint")]
    Http(#[source] hyper::Error),
    #[error("there was no response in time")]
    Timeout,
}

impl From<ConnectError> for Error {
    fn from(error: ConnectError) -> Self {
        Self::Connect(Arc::new(error))
    }
}

/// The cause of a failure of an upstream, for logs: [`Cause::name`] is API once released.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Cause {
    NoEndpoints,
    NameNotFound,
    NameLookupFailed,
    NameLookupTimeout,
    AddressForbidden,
    ConnectRefused,
    ConnectTimeout,
    HostUnreachable,
    ConnectFailed,
    TlsUntrusted,
    TlsNameMismatch,
    TlsExpired,
    TlsFailed,
    NoHttp2,
    DescriptorLimit,
    Busy,
    ConnectionLost,
    StreamReset,
    MalformedResponse,
    Timeout,
    Stalled,
}

impl Cause {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoEndpoints => "NoEndpoints",
            Self::NameNotFound => "NameNotFound",
            Self::NameLookupFailed => "NameLookupFailed",
            Self::NameLookupTimeout => "NameLookupTimeout",
            Self::AddressForbidden => "AddressForbidden",
            Self::ConnectRefused => "ConnectRefused",
            Self::ConnectTimeout => "ConnectTimeout",
            Self::HostUnreachable => "HostUnreachable",
            Self::ConnectFailed => "ConnectFailed",
            Self::TlsUntrusted => "TlsUntrusted",
            Self::TlsNameMismatch => "TlsNameMismatch",
            Self::TlsExpired => "TlsExpired",
            Self::TlsFailed => "TlsFailed",
            Self::NoHttp2 => "NoHttp2",
            Self::DescriptorLimit => "DescriptorLimit",
            Self::Busy => "Busy",
            Self::ConnectionLost => "ConnectionLost",
            Self::StreamReset => "StreamReset",
            Self::MalformedResponse => "MalformedResponse",
            Self::Timeout => "Timeout",
            Self::Stalled => "Stalled",
        }
    }

    /// Of an exchange that failed after the connection was established.
    pub(crate) fn of_exchange(error: &hyper::Error) -> Self {
        if error.is_parse() {
            return Self::MalformedResponse;
        }
        let source = StdError::source(error);
        if let Some(h2) = source.and_then(|source| source.downcast_ref::<h2::Error>()) {
            let protocol = h2.reason().is_some_and(|reason| {
                matches!(
                    reason,
                    h2::Reason::PROTOCOL_ERROR | h2::Reason::FRAME_SIZE_ERROR | h2::Reason::COMPRESSION_ERROR
                )
            });
            return match h2 {
                h2 if protocol && !h2.is_remote() => Self::MalformedResponse,
                h2 if h2.is_reset() => Self::StreamReset,
                _ => Self::ConnectionLost,
            };
        }
        let Some(io) = source.and_then(|source| source.downcast_ref::<io::Error>()) else {
            return Self::ConnectionLost;
        };
        match io.kind() {
            // Servers with TLS 1.3 reject a client after its handshake.
            _ if io.get_ref().is_some_and(|inner| inner.is::<rustls::Error>()) => Self::TlsFailed,
            // A chunk or a length that is not valid is an I/O error of the body for hyper.
            io::ErrorKind::InvalidData | io::ErrorKind::InvalidInput => Self::MalformedResponse,
            _ => Self::ConnectionLost,
        }
    }

    fn of_connect(error: &ConnectError) -> Self {
        match error {
            ConnectError::Timeout(_) => Self::ConnectTimeout,
            ConnectError::Forbidden(_) => Self::AddressForbidden,
            ConnectError::Name(NameError::NotFound) => Self::NameNotFound,
            ConnectError::Name(NameError::Failed) => Self::NameLookupFailed,
            ConnectError::Name(NameError::Timeout) => Self::NameLookupTimeout,
            ConnectError::Io(error) => match error.kind() {
                io::ErrorKind::ConnectionRefused => Self::ConnectRefused,
                io::ErrorKind::TimedOut => Self::ConnectTimeout,
                io::ErrorKind::HostUnreachable | io::ErrorKind::NetworkUnreachable => Self::HostUnreachable,
                _ => Self::ConnectFailed,
            },
            ConnectError::Tls(error) => Self::of_handshake(error),
            ConnectError::NoHttp2 => Self::NoHttp2,
            ConnectError::Descriptors => Self::DescriptorLimit,
            ConnectError::Http(error) => Self::of_exchange(error),
            ConnectError::Closed => Self::ConnectionLost,
        }
    }

    fn of_handshake(error: &io::Error) -> Self {
        let tls = error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>());
        let Some(rustls::Error::InvalidCertificate(why)) = tls else { return Self::TlsFailed };
        match why {
            CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
                Self::TlsNameMismatch
            }
            CertificateError::Expired
            | CertificateError::ExpiredContext { .. }
            | CertificateError::NotValidYet
            | CertificateError::NotValidYetContext { .. } => Self::TlsExpired,
            _ => Self::TlsUntrusted,
        }
    }

    /// Whether the backend or its configuration is to be corrected: a connection that is lost, a busy server or a slow
    /// response can concern one request only.
    pub(crate) fn is_lasting(self) -> bool {
        !matches!(
            self,
            Self::NoEndpoints
                | Self::DescriptorLimit
                | Self::Busy
                | Self::ConnectionLost
                | Self::StreamReset
                | Self::Timeout
                | Self::Stalled
        )
    }
}

impl Error {
    /// The cause; none: the request is not valid.
    pub(crate) fn cause(&self) -> Option<Cause> {
        Some(match self {
            Self::NoEndpoints => Cause::NoEndpoints,
            Self::Connect(error) => Cause::of_connect(error),
            Self::Busy => Cause::Busy,
            Self::Host => return None,
            Self::Http(error) => Cause::of_exchange(error),
            Self::Timeout => Cause::Timeout,
        })
    }
}
