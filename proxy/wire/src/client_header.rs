//! Headers that clients can spoof: they state what only the gateway knows or decides, such as the method, the path, the host, the
//! scheme, or who the client is. Some frameworks or servers use them, so that a backend would serve another request than the
//! one that was matched and authorized. The operator and the proxy have this one table.

/// Those that a Stage can never forward. The proxy sets them itself, except `Proxy`: in CGI programs it becomes the environment
/// variable `HTTP_PROXY`, by which many HTTP clients are configured (CVE-2016-5385).
pub const NEVER_FORWARDED: [&str; 9] = [
    "client-cert",
    "client-cert-chain",
    "forwarded",
    "proxy",
    "x-forwarded",
    "x-forwarded-for",
    "x-forwarded-host",
    "x-forwarded-port",
    "x-forwarded-proto",
];

/// Whether a request's header is removed unless its Stage forwards it. The name is in lower case.
#[must_use]
pub fn is_spoofable(name: &str) -> bool {
    // Without their `x-`, these are other headers.
    if matches!(name, "proxy" | "x-host") {
        return true;
    }
    // The others are known with and without `x-`.
    let name = name.strip_prefix("x-").unwrap_or(name);
    if name == "forwarded"
        || name.starts_with("forwarded-")
        || name.starts_with("remote-extra-")
        || name.starts_with("ssl-client-")
        || name.starts_with("tls-client-")
        || name.starts_with("amzn-mtls-")
    {
        return true;
    }
    // Compared as text: the compiler compares the lengths first.
    matches!(
        name,
        // The address of the client, as applications look for it.
        "original-forwarded-for"
            | "original-remote-addr"
            | "originating-ip"
            | "proxy-client-ip"
            | "proxyuser-ip"
            | "real-ip"
            | "remote-addr"
            | "remote-host"
            | "remote-ip"
            | "true-client-ip"
            | "true-ip"
            | "wl-proxy-client-ip"
            // The same, as content delivery networks and other edges send it.
            | "appengine-remote-addr"
            | "appengine-user-ip"
            | "azure-clientip"
            | "azure-socketip"
            | "cdn-src-ip"
            | "cf-connecting-ip"
            | "cf-connecting-ipv6"
            | "client-ip"
            | "client-real-ip"
            | "cluster-client-ip"
            | "coming-from"
            | "envoy-external-address"
            | "fastly-client-ip"
            | "fly-client-ip"
            | "forward-for"
            // The caller, as a proxy that authenticates names it.
            | "remote-group"
            | "remote-user"
            | "webauth-user"
            // The certificate of the client, as a proxy that verifies it passes it on.
            | "arr-clientcert"
            | "client-cert"
            | "client-cert-chain"
            | "client-certificate"
            | "client-dn"
            | "client-verify"
            | "ssl-cert"
            // The method.
            | "http-method"
            | "http-method-override"
            | "method-override"
            | "original-method"
            // The path.
            | "http-destinationurl"
            | "http-path-override"
            | "original-uri"
            | "original-url"
            | "override-url"
            | "path-info"
            | "rewrite-url"
            | "script-name"
            // The host and the scheme.
            | "front-end-https"
            | "host-override"
            | "http-host-override"
            | "https"
            | "original-host"
            | "original-proto"
            | "original-scheme"
            | "scheme"
            | "url-scheme"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statements_about_method_target_and_client_are_spoofable_and_other_headers_are_not() {
        for name in [
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
            "x-https",
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
            "client-cert",
            "client-cert-chain",
            "x-client-cert",
            "ssl-client-cert",
            "x-ssl-client-s-dn",
            "x-ssl-client-verify",
            "x-amzn-mtls-clientcert",
            "x-arr-clientcert",
            "x-client-dn",
            "x-client-verify",
            "x-ssl-cert",
            "x-tls-client-cert",
            "proxy",
        ] {
            assert!(is_spoofable(name), "{name}");
        }
        for name in NEVER_FORWARDED {
            assert!(is_spoofable(name), "{name}");
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
            "x-client-certainty",
            "x-ssl-client",
            "client",
            "x-amzn-trace-id",
            "traceparent",
            "",
            "x-",
        ] {
            assert!(!is_spoofable(other), "{other}");
        }
    }
}
