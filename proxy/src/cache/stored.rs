//! Stored responses: their heads, ages and sizes.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode};

use super::key::Key;
use super::vary::Vary;

/// Longer bodies are not stored.
pub(crate) const MAX_BODY_BYTES: usize = 1 << 20;
/// Memory of an entry without its content.
const ENTRY_BYTES: u64 = 400;
/// Memory of a header without its name and value: its slot in the map and its allocation.
const HEADER_BYTES: usize = 160;

/// A response without its body: what is known when it begins.
#[derive(Clone, Debug)]
pub(crate) struct Head {
    pub(crate) status: StatusCode,
    /// As the integration sent them and the rule changed them.
    pub(crate) headers: HeaderMap,
    /// When it was requested.
    pub(crate) stored_at: Instant,
    /// How long it is fresh.
    pub(crate) ttl: Duration,
    /// How old it was when it was requested.
    pub(crate) age: Duration,
    /// Its key, where it depends on headers of the request; none: that of the fetch.
    pub(crate) variant: Option<Variant>,
}

/// The key of a response that depends on headers of its request.
#[derive(Clone, Debug)]
pub(crate) struct Variant {
    pub(super) primary: Key,
    pub(super) vary: Arc<Vary>,
    pub(super) key: Key,
}

impl Head {
    /// The whole response. Header values are copied: those of hyper are slices of its read buffers, and one of them would
    /// hold all of its buffer in memory.
    pub(super) fn with_body(self, key: Key, body: Bytes) -> Stored {
        let mut headers = HeaderMap::with_capacity(self.headers.len());
        for (name, value) in &self.headers {
            headers.append(name, owned(value));
        }
        Stored { key, status: self.status, headers, body, stored_at: self.stored_at, ttl: self.ttl, age: self.age }
    }
}

fn owned(value: &HeaderValue) -> HeaderValue {
    // The bytes of a header value are valid for one.
    let mut copy = HeaderValue::from_bytes(value.as_bytes()).unwrap_or(HeaderValue::from_static(""));
    copy.set_sensitive(value.is_sensitive());
    copy
}

/// A stored response.
#[derive(Debug)]
pub(crate) struct Stored {
    pub(super) key: Key,
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
    /// When it was requested.
    pub(crate) stored_at: Instant,
    /// How long it is fresh.
    pub(crate) ttl: Duration,
    /// How old it was when it was requested.
    pub(crate) age: Duration,
}

impl Stored {
    /// How long it has been here.
    pub(crate) fn resident(&self, now: Instant) -> Duration {
        now.saturating_duration_since(self.stored_at)
    }

    /// For the header `age` (RFC 9111, 4.2.3).
    pub(crate) fn age(&self, now: Instant) -> Duration {
        self.age + self.resident(now)
    }

    /// How long it stays fresh; none: it is stale.
    pub(crate) fn remaining(&self, now: Instant) -> Option<Duration> {
        self.ttl.checked_sub(self.resident(now)).filter(|left| !left.is_zero())
    }

    pub(super) fn weight(&self) -> u64 {
        let headers: usize =
            self.headers.iter().map(|(name, value)| name.as_str().len() + value.len() + HEADER_BYTES).sum();
        ENTRY_BYTES + (self.body.len() + headers) as u64
    }
}
