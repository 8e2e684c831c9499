//! A request on its way to the integration.

use bytes::Bytes;
use http::HeaderValue;
use http::request::Parts;
use http_body::Body as _;
use hyper::body::Incoming;
use hyper::upgrade::OnUpgrade;

use super::admission::Present;

/// The client's side of a request for another protocol.
pub(crate) struct Upgrade {
    pub(super) client: Option<OnUpgrade>,
}

impl Upgrade {
    /// Takes the client's side out of the request.
    pub(crate) fn take(parts: &mut Parts) -> Self {
        Self { client: parts.extensions.remove::<OnUpgrade>() }
    }
}

/// A request that may be forwarded.
pub(crate) struct Call {
    pub(crate) authority: Option<HeaderValue>,
    pub(crate) parts: Parts,
    pub(crate) body: CallBody,
    pub(crate) upgrade: Option<Upgrade>,
    pub(crate) present: Present,
}

/// The body of a request.
pub(crate) enum CallBody {
    Arriving(Incoming),
    /// All of it was read already.
    Read(Bytes),
}

impl CallBody {
    /// Whether there is none.
    pub(crate) fn is_empty(&self) -> bool {
        match self {
            Self::Arriving(body) => body.is_end_stream(),
            Self::Read(content) => content.is_empty(),
        }
    }
}
