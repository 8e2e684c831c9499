//! The names of cache decisions, for the answer's `cache-status` (RFC 9211), the access log and the counters.
//! What leads to which is decided in `pipeline` and `policy`.

use std::time::Duration;

use http::HeaderValue;

/// What the cache did for one request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Answered from the cache; how long it stays fresh.
    Hit(Duration),
    /// Fetched and kept for so long.
    Miss(Duration),
    /// Fetched anew because the client asked for it, and kept.
    Refreshed(Duration),
    /// Answered with what another request fetched.
    Collapsed(Duration),
    /// Neither looked for nor kept.
    Bypass,
    /// Fetched and not kept.
    NotStored(NotStored),
}

/// Why an answer is not kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum NotStored {
    /// The method is not listed.
    Method,
    /// The status is not cacheable.
    Status,
    /// The request asks for a part, or the answer is one.
    Range,
    /// The answer sets a cookie.
    SetCookie,
    /// The answer forbids it.
    CacheControl,
    /// The answer depends on something that is not keyed.
    Vary,
    /// The answer is already stale.
    Expired,
    /// The answer is too long.
    Size,
    /// The copies of answers that are arriving take all the memory there is for them.
    Memory,
    /// The integration failed.
    Failed,
}

impl NotStored {
    /// A word for logs, labels and `detail`.
    pub(crate) fn text(self) -> &'static str {
        match self {
            Self::Method => "method",
            Self::Status => "status",
            Self::Range => "range",
            Self::SetCookie => "set-cookie",
            Self::CacheControl => "cache-control",
            Self::Vary => "vary",
            Self::Expired => "expired",
            Self::Size => "size",
            Self::Memory => "memory",
            Self::Failed => "failed",
        }
    }
}

impl Phase {
    /// Words for logs and labels.
    pub(crate) const WORDS: [&str; 6] = ["hit", "miss", "refreshed", "collapsed", "bypass", "not_stored"];

    /// Its place in [`Phase::WORDS`].
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

    /// Its word.
    pub(crate) fn text(self) -> &'static str {
        Self::WORDS[self.index()]
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
