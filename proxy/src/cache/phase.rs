//! The results of the cache, for the header `cache-status` (RFC 9211), the access log and the metrics. `pipeline` and `policy`
//! decide them.

use std::time::Duration;

use http::HeaderValue;

/// What the cache did for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// A stored response; the time for which it is still fresh.
    Hit(Duration),
    /// Fetched and stored, for this time.
    Miss(Duration),
    /// Fetched because the client requested a refresh, and stored.
    Refreshed(Duration),
    /// Coalesced: the response to another request.
    Collapsed(Duration),
    /// The cache was not used.
    Bypass,
    /// Fetched and not stored.
    NotStored(NotStored),
}

/// Why a response is not stored.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// The method is not listed.
    Method,
    /// The status is not cacheable.
    Status,
    /// The request has a range, or the response is partial.
    Range,
    /// The response sets a cookie.
    SetCookie,
    /// `cache-control` of the response forbids it.
    CacheControl,
    /// The response depends on something that is not a header of the client, or on too many headers.
    Vary,
    /// The response has a content coding that is not known, or that its client did not accept.
    Coding,
    /// The rule sends the request's id to the backend.
    RequestId,
    /// The response is already stale.
    Expired,
    /// The response is too long.
    Size,
    /// The memory for copies of incomplete responses is used up.
    Memory,
    /// The integration failed.
    Failed,
}

impl NotStored {
    /// The text in logs, labels and `detail`.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::Range => "range",
            Self::SetCookie => "set-cookie",
            Self::CacheControl => "cache-control",
            Self::Vary => "vary",
            Self::Coding => "content-coding",
            Self::RequestId => "request-id",
            Self::Expired => "expired",
            Self::Size => "size",
            Self::Memory => "memory",
            Self::Failed => "failed",
        }
    }
}

impl Phase {
    /// The texts in logs and labels.
    pub(crate) const TEXTS: [&str; 6] = ["hit", "miss", "refreshed", "collapsed", "bypass", "not_stored"];

    /// Its index in [`Phase::TEXTS`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Hit(_) => 0,
            Self::Miss(_) => 1,
            Self::Refreshed(_) => 2,
            Self::Collapsed(_) => 3,
            Self::Bypass => 4,
            Self::NotStored(_) => 5,
        }
    }

    /// Its text.
    pub(crate) fn text(self) -> &'static str {
        Self::TEXTS[self.index()]
    }

    /// The value of `cache-status`.
    pub(crate) fn cache_status(self) -> HeaderValue {
        let with = |text: &str, ttl: Duration| [text, itoa::Buffer::new().format(ttl.as_secs())].concat();
        let text = match self {
            Self::Hit(ttl) => with("sluice; hit; ttl=", ttl),
            Self::Miss(ttl) => format!("sluice; fwd=miss; stored; ttl={}", ttl.as_secs()),
            Self::Refreshed(ttl) => format!("sluice; fwd=request; stored; ttl={}", ttl.as_secs()),
            Self::Collapsed(ttl) => format!("sluice; fwd=miss; collapsed; ttl={}", ttl.as_secs()),
            Self::Bypass => return HeaderValue::from_static("sluice; fwd=bypass"),
            Self::NotStored(reason) => format!("sluice; fwd=miss; detail={}", reason.text()),
        };
        HeaderValue::from_str(&text).unwrap_or(HeaderValue::from_static("sluice"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn phases_as_rfc_9211_writes_them() {
        let ttl = Duration::from_millis(30_900);
        for (phase, expected) in [
            (Phase::Hit(ttl), "sluice; hit; ttl=30"),
            (Phase::Miss(ttl), "sluice; fwd=miss; stored; ttl=30"),
            (Phase::Refreshed(ttl), "sluice; fwd=request; stored; ttl=30"),
            (Phase::Collapsed(ttl), "sluice; fwd=miss; collapsed; ttl=30"),
            (Phase::Bypass, "sluice; fwd=bypass"),
            (Phase::NotStored(NotStored::SetCookie), "sluice; fwd=miss; detail=set-cookie"),
        ] {
            assert_eq!(phase.cache_status(), expected);
        }
    }
}
