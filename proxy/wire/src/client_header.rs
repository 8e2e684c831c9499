//! Headers in which a client could tell a backend what only the gateway knows or decides: the method, the path, the host, the
//! scheme, or who the client is. Some frameworks or servers use them, so that a backend would serve another request
//! than the one that was matched and authorized. The operator and the proxy have this one table.

/// Headers of the kind that a Stage can never forward: the proxy sets them itself, or they attack CGI programs: `Proxy` becomes
/// the environment variable `HTTP_PROXY`, by which many HTTP clients are configured (CVE-2016-5385).
pub const NEVER_FORWARDED: [&str; 7] = [
    "forwarded",
    "proxy",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// Whether a request's header is removed unless its Stage forwards it. The name is in lower case.
#[inline]
#[must_use]
pub fn is_client_claim(name: &str) -> bool {
    if matches!(name, "proxy" | "x-host" | "https") {
        return true;
    }
    // Most are known with and without `x-`.
    let name = name.strip_prefix("x-").unwrap_or(name);
    if name.starts_with("forwarded") {
        return matches!(name.as_bytes().get(9), None | Some(b'-'));
    }
    match name.as_bytes().first() {
        Some(b'a' | b'c') => is_address_of_edge(name),
        Some(b'e'..=b'h' | b'm' | b'o' | b'p') => {
            is_method(name) || is_target(name) || is_address(name) || is_address_of_edge(name)
        }
        Some(b'r'..=b'u' | b'w') => is_address(name) || is_caller(name) || is_target(name),
        _ => false,
    }
}

/// The address of the client, as applications look for it.
fn is_address(name: &str) -> bool {
    matches!(
        name,
        "original-forwarded-for"
            | "originating-ip"
            | "original-remote-addr"
            | "proxy-client-ip"
            | "proxyuser-ip"
            | "real-ip"
            | "remote-addr"
            | "remote-host"
            | "remote-ip"
            | "true-client-ip"
            | "true-ip"
            | "wl-proxy-client-ip"
    )
}

/// The same, as content delivery networks and other edges send it.
fn is_address_of_edge(name: &str) -> bool {
    matches!(
        name,
        "appengine-remote-addr"
            | "appengine-user-ip"
            | "azure-clientip"
            | "azure-socketip"
            | "cdn-src-ip"
            | "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "client-ip"
            | "client-real-ip"
            | "cloud-trace-client-ip"
            | "cluster-client-ip"
            | "coming-from"
            | "envoy-external-address"
            | "fastly-client-ip"
            | "fly-client-ip"
            | "host-ip"
    )
}

/// The caller, as a proxy that authenticates names it.
fn is_caller(name: &str) -> bool {
    matches!(name, "remote-group" | "remote-user" | "webauth-user") || name.starts_with("remote-extra-")
}

fn is_method(name: &str) -> bool {
    matches!(name, "http-method" | "http-method-override" | "method-override" | "original-method")
}

/// The path, the host or the scheme.
fn is_target(name: &str) -> bool {
    matches!(
        name,
        "forward-for"
            | "front-end-https"
            | "host-override"
            | "http-destinationurl"
            | "http-host-override"
            | "http-path-override"
            | "original-host"
            | "original-proto"
            | "original-scheme"
            | "original-uri"
            | "original-url"
            | "override-url"
            | "path-info"
            | "rewrite-url"
            | "script-name"
            | "scheme"
            | "url-scheme"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_method_target_and_client_are_claims_and_other_headers_are_not() {
        for claim in [
            "forwarded",
            "forwarded-for",
            "x-forwarded",
            "x-forwarded-for",
            "x-forwarded-prefix",
            "x-forwarded-client-cert",
            "x-http-method",
            "x-http-method-override",
            "x-method-override",
            "x-original-method",
            "x-original-url",
            "x-original-uri",
            "x-rewrite-url",
            "x-override-url",
            "x-script-name",
            "x-host",
            "x-original-host",
            "x-http-host-override",
            "front-end-https",
            "x-url-scheme",
            "x-scheme",
            "https",
            "x-real-ip",
            "true-client-ip",
            "x-true-client-ip",
            "client-ip",
            "x-client-ip",
            "x-cluster-client-ip",
            "cf-connecting-ip",
            "fastly-client-ip",
            "x-appengine-user-ip",
            "x-azure-clientip",
            "x-envoy-external-address",
            "fly-client-ip",
            "x-originating-ip",
            "x-remote-addr",
            "wl-proxy-client-ip",
            "x-remote-user",
            "x-remote-group",
            "x-remote-extra-scopes",
            "x-webauth-user",
            "proxy",
        ] {
            assert!(is_client_claim(claim), "{claim}");
        }
        for name in NEVER_FORWARDED {
            assert!(is_client_claim(name), "{name}");
        }
        for other in [
            "host",
            "origin",
            "referer",
            "x-api-key",
            "x-request-id",
            "x-forwardedness",
            "forwardedfor",
            "proxy-status",
            "x-host-name",
            "x-original",
            "x-remote",
            "x-client",
            "client",
            "x-amzn-trace-id",
            "traceparent",
            "",
            "x-",
        ] {
            assert!(!is_client_claim(other), "{other}");
        }
    }
}
