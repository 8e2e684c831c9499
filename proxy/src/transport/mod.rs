//! The HTTP client of the proxy. Integrations, key sets and the configuration stream call other servers through it: name
//! look-up, permitted addresses, racing of addresses, TLS, HTTP/1.1 and HTTP/2, pooled connections, retries.
//! It depends on no client request and no policy: callers choose what is sent, and map [`Error`] to a response.

mod body;
mod call;
mod dial;
mod egress;
mod endpoint;
mod error;
mod failures;
mod http1;
mod http2;
mod in_flight;
mod names;
mod pool;
mod race;
mod resolver;
mod settings;
mod streams;
mod tls;

pub(crate) use body::{CollectError, Payload, SendBody, collect_capped};
pub(crate) use call::{CallKind, Received, call};
pub(crate) use dial::{Dialer, Http, Reach, ServerAddress, TlsTarget, Transport};
pub(crate) use egress::Egress;
pub(crate) use endpoint::PooledConnection;
pub(crate) use error::{Cause, ConnectError, Error};
pub(crate) use failures::Failures;
pub(crate) use http2::dedicated::{Dedicated, dedicated};
pub(crate) use in_flight::{Entered, Fill};
pub(crate) use names::Name;
pub(crate) use pool::Pool;
pub use resolver::NameFiles;
pub(crate) use resolver::Resolver;
pub(crate) use settings::{Context, PoolLimits};
pub(crate) use tls::Tls;
