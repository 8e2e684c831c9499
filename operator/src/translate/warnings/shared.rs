//! Warnings about fields that several kinds have, and what is in the cluster.

use std::net::IpAddr;

use sluice_crds::client_throttle::ClientThrottle;
use sluice_crds::field::Throttle;
use sluice_crds::warning::BURST_BELOW_RATE;

use crate::warning::Warnings;

/// A burst below this part of the requests of a second is probably too small.
const BURST_PART: u64 = 10;

/// A burst that rejects most requests that arrive at the same time, although the rate allows them.
pub(crate) fn of_throttle(field: &str, throttle: Option<Throttle>, warnings: &mut Warnings) {
    let Some(Throttle { rate, per, burst }) = throttle else { return };
    let per_ms = u64::try_from(per.get().as_millis()).unwrap_or(u64::MAX).max(1);
    let per_second = u64::from(rate) * 1000 / per_ms;
    if u64::from(burst) * BURST_PART < per_second {
        let why = format!(
            "the rate allows {per_second} requests per second, but only {burst} may arrive at once; further ones are rejected \
             with 429. Set burst to about {per_second}"
        );
        warnings.add(BURST_BELOW_RATE, &format!("{field}.burst"), why);
    }
}

/// The same for a throttle of each client.
pub(crate) fn of_client_throttle(field: &str, throttle: Option<ClientThrottle>, warnings: &mut Warnings) {
    let throttle = throttle.map(|ClientThrottle { rate, per, burst, .. }| Throttle { rate, per, burst });
    of_throttle(field, throttle, warnings);
}

/// Whether a URL has no TLS and leads out of the cluster.
pub(crate) fn plain_and_external(url: &str) -> bool {
    let Some(rest) = url.strip_prefix("http://") else { return false };
    let authority = rest.split('/').next().unwrap_or_default();
    let authority = authority.parse::<http::uri::Authority>();
    authority.is_ok_and(|authority| !is_local(authority.host()))
}

/// Whether a host is in the cluster, or in a private network.
fn is_local(host: &str) -> bool {
    let host = host.trim_start_matches('[').trim_end_matches(']').trim_end_matches('.').to_ascii_lowercase();
    if let Ok(address) = host.parse::<IpAddr>() {
        return match address.to_canonical() {
            IpAddr::V4(address) => address.is_private() || address.is_loopback() || address.is_link_local(),
            IpAddr::V6(address) => {
                address.is_loopback() || address.is_unique_local() || address.is_unicast_link_local()
            }
        };
    }
    let local = ["localhost", "svc", "cluster.local", "internal"];
    !host.contains('.') || local.iter().any(|zone| host.strip_suffix(zone).is_some_and(|rest| rest.ends_with('.')))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_without_tls_that_leave_the_cluster_are_found() {
        for (url, expected) in [
            ("http://idp.example/keys", true),
            ("http://idp.example:8080", true),
            ("http://192.0.2.1/keys", true),
            ("http://[2001:db8::1]/keys", true),
            ("http://svc.example", true),
            ("https://idp.example/keys", false),
            ("http://idp.shop.svc:9400/keys", false),
            ("http://idp.shop.svc.cluster.local.", false),
            ("http://idp", false),
            ("http://localhost:9400", false),
            ("http://10.0.0.7", false),
            ("http://[fd00::1]:80/", false),
            ("http://[::ffff:10.0.0.1]/", false),
            ("http://IDP.corp.INTERNAL", false),
            ("not a url", false),
        ] {
            assert_eq!(plain_and_external(url), expected, "{url}");
        }
    }
}
