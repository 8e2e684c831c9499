//! Errors of a call. Callers map them to responses to their own clients.

use std::io;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::egress::EgressError;

/// Why there is no connection.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ConnectError {
    #[error("the connection was not established within {0:?}")]
    Timeout(Duration),
    #[error("the address {0} is not allowed as a destination")]
    Forbidden(IpAddr),
    #[error("cannot look up or connect to the host")]
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
