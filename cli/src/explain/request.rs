//! The request that the arguments describe.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use sluice_proxy::run::{RequestToExplain, TlsClient};

use super::keys::Keys;
use crate::args;

/// A longer body, client certificate or key is not read: the proxy would reject or stream it.
const MAX_FILE: u64 = 64 << 20;

/// Builds the request, which is not signed.
pub(crate) fn build(settings: &args::Explain, keys: &Keys) -> anyhow::Result<RequestToExplain> {
    let url = keys.insert_in_url(&settings.url)?;
    let Url { is_secure, authority, target } = Url::parse(&url)?;
    let mut headers = Vec::new();
    for line in &settings.headers {
        let Some((name, value)) = line.split_once(':') else { bail!("{line:?} is not a header: write 'NAME: VALUE'") };
        headers.push((name.to_owned(), keys.insert(value.trim())?));
    }
    let has =
        |headers: &[(String, String)], name: &str| headers.iter().any(|(known, _)| known.eq_ignore_ascii_case(name));
    let body = body(settings.data.as_deref())?;
    if !has(&headers, "host") {
        headers.insert(0, ("host".to_owned(), authority.clone()));
    }
    if settings.data.is_some() && !has(&headers, "content-length") && !has(&headers, "transfer-encoding") {
        headers.push(("content-length".to_owned(), body.len().to_string()));
    }
    let (host, port) = host_and_port(&authority, if is_secure { 443 } else { 80 })?;
    let tls = match (is_secure, &settings.client_certificate) {
        (false, None) => None,
        (false, Some(_)) => bail!("--client-certificate needs an https URL"),
        (true, None) => Some(TlsClient { host, identity_pem: None }),
        (true, Some(path)) => {
            let what = || format!("cannot read the client certificate {}", path.display());
            check_length(path.as_ref()).with_context(what)?;
            Some(TlsClient { host, identity_pem: Some(std::fs::read_to_string(path).with_context(what)?) })
        }
    };
    let (method, source) = (settings.method.clone(), settings.source);
    Ok(RequestToExplain { method, target, headers, body, source, port, tls })
}

/// A URL. What the proxy decides about, such as characters of its path, is not checked.
#[derive(Debug, PartialEq, Eq)]
struct Url {
    is_secure: bool,
    authority: String,
    target: String,
}

impl Url {
    fn parse(text: &str) -> anyhow::Result<Self> {
        let scheme = |name: &str| {
            let (start, rest) = text.split_at_checked(name.len())?;
            start.eq_ignore_ascii_case(name).then_some(rest)
        };
        let (is_secure, rest) = match (scheme("http://"), scheme("https://")) {
            (Some(rest), _) => (false, rest),
            (None, Some(rest)) => (true, rest),
            (None, None) => bail!("{text:?} is not a URL: it must begin with http:// or https://"),
        };
        // Clients do not send the fragment.
        let rest = rest.split('#').next().unwrap_or_default();
        let (authority, path) = rest.split_at(rest.find(['/', '?']).unwrap_or(rest.len()));
        if authority.is_empty() || authority.contains('@') {
            bail!("{text:?} needs a host, without a user");
        }
        let slash = if path.starts_with('/') { "" } else { "/" };
        Ok(Self { is_secure, authority: authority.to_owned(), target: format!("{slash}{path}") })
    }
}

fn host_and_port(authority: &str, usual: u16) -> anyhow::Result<(String, u16)> {
    let (host, port) = match authority.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, port)) => (host, port.strip_prefix(':')),
        None => authority.split_once(':').map_or((authority, None), |(host, port)| (host, Some(port))),
    };
    let port = port.filter(|port| !port.is_empty()).map(str::parse).transpose();
    let port = port.with_context(|| format!("the port of {authority:?} is not valid"))?;
    Ok((host.to_owned(), port.unwrap_or(usual)))
}

fn body(data: Option<&str>) -> anyhow::Result<Bytes> {
    match data.map(|data| data.strip_prefix('@').ok_or(data)) {
        None => Ok(Bytes::new()),
        Some(Err(text)) => Ok(Bytes::from(text.to_owned())),
        Some(Ok(path)) => {
            let what = || format!("cannot read the body {path}");
            check_length(path.as_ref()).with_context(what)?;
            Ok(std::fs::read(path).with_context(what)?.into())
        }
    }
}

fn check_length(path: &std::path::Path) -> anyhow::Result<()> {
    let length = std::fs::metadata(path)?.len();
    if length > MAX_FILE {
        bail!("the file has {length} bytes; at most {MAX_FILE} are read");
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_has_a_scheme_a_host_and_a_target_as_it_is_sent() {
        for (text, expected) in [
            ("http://shop.example", Some((false, "shop.example", "/"))),
            ("HTTPS://Shop.Example:8443/a/../b?c=%20#d", Some((true, "Shop.Example:8443", "/a/../b?c=%20"))),
            ("http://[::1]:80?x", Some((false, "[::1]:80", "/?x"))),
            ("shop.example/a", None),
            ("ftp://shop.example/a", None),
            ("http:///a", None),
            ("http://user@shop.example/a", None),
        ] {
            let expected = expected.map(|(is_secure, authority, target)| Url {
                is_secure,
                authority: authority.to_owned(),
                target: target.to_owned(),
            });
            assert_eq!(Url::parse(text).ok(), expected, "{text}");
        }
        for (authority, expected) in [
            ("a", Some(("a", 80))),
            ("a:8080", Some(("a", 8080))),
            ("[::1]:1", Some(("::1", 1))),
            ("a:", Some(("a", 80))),
            ("a:x", None),
        ] {
            let found = host_and_port(authority, 80).ok();
            assert_eq!(found.as_ref().map(|(host, port)| (host.as_str(), *port)), expected, "{authority}");
        }
    }
}
