//! The headers `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10): the limits of a request, and what
//! is left of them.

use std::time::Instant;

use http::{HeaderMap, HeaderName, HeaderValue};

use super::bucket::{Limit, Quota};

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const STATE: HeaderName = HeaderName::from_static("ratelimit");

/// The values of both headers.
#[derive(Debug)]
pub(crate) struct RateLimitHeaders {
    policy: String,
    state: String,
}

impl RateLimitHeaders {
    /// Of limits with their names. The names are tokens of a fixed set.
    pub(crate) fn new<'l>(limits: impl Iterator<Item = (&'static str, &'l Limit)>, proxies: u32, now: Instant) -> Self {
        let mut headers = Self { policy: String::new(), state: String::new() };
        for (name, limit) in limits {
            headers.add(name, &limit.quota(proxies, now));
        }
        headers
    }

    fn add(&mut self, name: &str, quota: &Quota) {
        let comma = if self.policy.is_empty() { "" } else { ", " };
        let Quota { requests, window_s, remaining, reset_s } = quota;
        self.policy.push_str(&format!("{comma}\"{name}\";q={requests};w={window_s}"));
        self.state.push_str(&format!("{comma}\"{name}\";r={remaining};t={reset_s}"));
    }

    /// Sets the headers of a response; those of the integration are replaced.
    pub(crate) fn apply(&self, headers: &mut HeaderMap) {
        for (name, text) in [(POLICY, &self.policy), (STATE, &self.state)] {
            match HeaderValue::from_str(text) {
                Ok(value) if !text.is_empty() => headers.insert(name, value),
                _ => headers.remove(name),
            };
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::time::Duration;

    use sluice_wire::Throttle;

    use super::*;
    use crate::limit::bucket::{Bucket, take_all};

    fn limit(rate: u32, per_ms: u32, burst: u32) -> Limit {
        Limit { bucket: Arc::<Bucket>::default(), throttle: Throttle { rate, per_ms, burst } }
    }

    #[test]
    fn headers_have_each_limit_and_what_is_left_of_it() {
        let (client, rule) = (limit(10, 1000, 5), limit(1, 60_000, 2));
        let now = Instant::now();
        let at = |now, proxies| {
            let headers = RateLimitHeaders::new([("client", &client), ("rule", &rule)].into_iter(), proxies, now);
            (headers.policy, headers.state)
        };
        let policy = r#""client";q=5;w=1, "rule";q=2;w=120"#;
        assert_eq!(at(now, 1), (policy.to_owned(), r#""client";r=5;t=0, "rule";r=2;t=0"#.to_owned()));
        take_all(&[&client, &rule], 1, now).unwrap();
        assert_eq!(at(now, 1).1, r#""client";r=4;t=1, "rule";r=1;t=60"#);
        take_all(&[&client, &rule], 1, now).unwrap();
        assert!(take_all(&[&client, &rule], 1, now).is_err());
        assert_eq!(at(now, 1).1, r#""client";r=3;t=1, "rule";r=0;t=120"#);
        assert_eq!(at(now + Duration::from_secs(61), 1).1, r#""client";r=5;t=0, "rule";r=1;t=59"#);
    }

    #[test]
    fn they_are_those_of_this_proxy_and_replace_others() {
        let rule = limit(10, 1000, 40);
        let headers = RateLimitHeaders::new([("rule", &rule)].into_iter(), 4, Instant::now());
        assert_eq!(headers.policy, r#""rule";q=10;w=4"#);
        let mut map = HeaderMap::new();
        map.append(STATE, HeaderValue::from_static("other"));
        map.append(STATE, HeaderValue::from_static("another"));
        headers.apply(&mut map);
        assert_eq!(map.get_all(STATE).iter().collect::<Vec<_>>(), [r#""rule";r=10;t=0"#]);
        RateLimitHeaders::new(std::iter::empty(), 1, Instant::now()).apply(&mut map);
        assert!(map.is_empty());
    }
}
