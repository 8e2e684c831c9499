//! Plain HTTP for a Stage with TLS, hosts that the certificate of a connection does not cover, and certificates of clients.

use http::header::LOCATION;
use http::request::Parts;
use http::{HeaderMap, HeaderValue, StatusCode};
use sluice_wire::PlainHttp;

use super::exchange::Exchange;
use super::explain;
use super::response::Reply;
use crate::client_certificate::Standing;
use crate::explain::Check;
use crate::gateway::Stage;
use crate::reject::Reject;

/// The reason of a redirect in the access log.
const REDIRECT: &str = "HttpsRedirect";
/// The reason of a certificate that another Stage of the host accepts.
const NOT_OF_STAGE: &str = "certificate_untrusted";
/// The reason of a certificate that was accepted in the handshake for this host.
const LAPSED: &str = "certificate_lapsed";
/// Clients need not name it.
const DEFAULT_PORT: u16 = 443;

/// Rejects a request for a host of which the proxy has shown no certificate on this connection (RFC 9110, 15.5.20).
pub(super) fn covered(exchange: &Exchange) -> Result<(), Reject> {
    match &exchange.peer.origin.tls {
        Some(certified) if !certified.covers(&exchange.host) => {
            exchange.begin(Check::Tls);
            Err(Reject::MisdirectedRequest)
        }
        _ => Ok(()),
    }
}

/// The response to a request over plain HTTP, if the Stage does not serve it.
pub(super) fn plain_http(exchange: &mut Exchange, stage: &Stage, parts: &Parts) -> Result<Option<Reply>, Reject> {
    match &stage.tls {
        Some(tls) if !exchange.secure => match tls.http {
            PlainHttp::Serve => Ok(None),
            PlainHttp::Off => {
                exchange.begin(Check::Tls);
                Err(Reject::HttpsRequired)
            }
            PlainHttp::Redirect => {
                let location = location(&exchange.host, tls.https_port, parts).ok_or(Reject::HttpsRequired)?;
                exchange.begin(Check::Tls);
                exchange.reason = REDIRECT;
                let headers = HeaderMap::from_iter([(LOCATION, location)]);
                Ok(Some(Reply::fixed(StatusCode::PERMANENT_REDIRECT, headers)))
            }
        },
        _ => Ok(None),
    }
}

/// Finds the certificate of the client, if the Stage has client certificates. Where a new connection would have another result, the
/// response is 421: this connection is for another host, or it is older than the Stage's settings, or its certificate has lapsed.
/// If it is for this host, it ends, because not all clients open another one for 421.
pub(super) fn client_certificate(exchange: &mut Exchange, stage: &Stage) -> Result<(), Reject> {
    let Some(client_auth) = &stage.client_auth else { return Ok(()) };
    exchange.begin(Check::ClientCertificate);
    let missing = if client_auth.required { Err(Reject::ClientCertificateRequired) } else { Ok(()) };
    let Some(tls) = &exchange.peer.origin.tls else { return missing };
    let presented = tls.presented();
    let asked = presented.was_asked_for(&client_auth.trust);
    let of_host = tls.is_named(&exchange.host);
    match presented.certificate().map(|certificate| certificate.standing(&client_auth.trust, exchange.started)) {
        Some(Standing::Accepted) => {
            exchange.is_certified = true;
            explain::certificate(exchange);
            Ok(())
        }
        Some(Standing::Rejected) if asked => Err(Reject::ClientCertificateInvalid(NOT_OF_STAGE)),
        // Without a certificate an optional one is missing on every connection for the host.
        None if asked || (of_host && !client_auth.required) => missing,
        found => {
            if found.is_some() && of_host {
                exchange.reason = LAPSED;
            }
            exchange.ends_connection = of_host;
            Err(Reject::MisdirectedRequest)
        }
    }
}

/// The same target over HTTPS. None: without a host there is none.
fn location(host: &str, port: u16, parts: &Parts) -> Option<HeaderValue> {
    if host.is_empty() {
        return None;
    }
    let target = parts.uri.path_and_query().map_or("/", http::uri::PathAndQuery::as_str);
    let (open, close) = if host.contains(':') { ("[", "]") } else { ("", "") };
    let port = if port == DEFAULT_PORT { String::new() } else { format!(":{port}") };
    HeaderValue::try_from(format!("https://{open}{host}{close}{port}{target}")).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_redirect_keeps_host_path_and_query() {
        for (host, port, target, wanted) in [
            ("shop.example", 443, "/a/b?c=%20&d", "https://shop.example/a/b?c=%20&d"),
            ("shop.example", 8443, "http://shop.example:8080", "https://shop.example:8443/"),
            ("::1", 443, "/", "https://[::1]/"),
            ("shop.example", 443, "//other.example/", "https://shop.example//other.example/"),
        ] {
            let parts = http::Request::get(target).body(()).unwrap().into_parts().0;
            assert_eq!(location(host, port, &parts).unwrap(), wanted);
        }
        let parts = http::Request::get("/").body(()).unwrap().into_parts().0;
        assert!(location("", 443, &parts).is_none());
    }
}
