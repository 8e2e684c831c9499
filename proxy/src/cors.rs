//! Cross-origin resource sharing (Fetch standard): preflight responses, and the headers of actual responses. The backend's
//! CORS headers are replaced, not merged.

use http::header::{
    ACCESS_CONTROL_ALLOW_CREDENTIALS, ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_ALLOW_ORIGIN, ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ACCESS_CONTROL_REQUEST_HEADERS,
    ACCESS_CONTROL_REQUEST_METHOD, HeaderName, ORIGIN, VARY,
};
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use sluice_wire as wire;

const ANY: HeaderValue = HeaderValue::from_static("*");
const TRUE: HeaderValue = HeaderValue::from_static("true");
const VARY_ORIGIN: HeaderValue = HeaderValue::from_static("origin");
const VARY_PREFLIGHT: HeaderValue =
    HeaderValue::from_static("origin, access-control-request-method, access-control-request-headers");
/// Methods of simple requests (Fetch, "CORS-safelisted method").
const SAFE_METHODS: [&str; 3] = ["GET", "HEAD", "POST"];
const RESPONSE_HEADERS: [HeaderName; 6] = [
    ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_ALLOW_CREDENTIALS,
    ACCESS_CONTROL_ALLOW_HEADERS,
    ACCESS_CONTROL_ALLOW_METHODS,
    ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE,
];

/// A preflight request: what it asks for.
#[derive(Clone, Copy)]
pub(crate) struct Preflight<'a> {
    origin: &'a HeaderValue,
    method: &'a HeaderValue,
    headers: Option<&'a HeaderValue>,
}

impl<'a> Preflight<'a> {
    /// None: the request is not one.
    pub(crate) fn of(method: &Method, headers: &'a HeaderMap) -> Option<Self> {
        if *method != Method::OPTIONS {
            return None;
        }
        Some(Self {
            origin: headers.get(ORIGIN)?,
            method: headers.get(ACCESS_CONTROL_REQUEST_METHOD)?,
            headers: headers.get(ACCESS_CONTROL_REQUEST_HEADERS),
        })
    }

    /// The method of the request that it asks for; none: it is not a method.
    pub(crate) fn method(&self) -> Option<Method> {
        Method::from_bytes(self.method.as_bytes()).ok()
    }
}

/// A list of allowed methods or headers, and its header value.
#[derive(Debug)]
struct Allowed {
    any: bool,
    items: Vec<String>,
    text: Option<HeaderValue>,
}

impl Allowed {
    fn compile(items: &[String]) -> Self {
        let text = items.join(", ");
        let text = if text.is_empty() { None } else { HeaderValue::from_str(&text).ok() };
        Self { any: items.iter().any(|item| item == "*"), items: items.to_vec(), text }
    }

    /// Whether the method is allowed. Methods are case-sensitive (RFC 9110, 9.1). An empty list allows the methods that need
    /// no preflight by themselves: a preflight request can contain them because of the request's headers.
    fn admits_method(&self, method: &str) -> bool {
        match self.items.is_empty() {
            true => SAFE_METHODS.contains(&method),
            false => is_token(method) && (self.any || self.items.iter().any(|item| item == method)),
        }
    }

    /// Whether all requested headers are allowed. Header names are not case-sensitive.
    fn admits<'a>(&self, mut names: impl Iterator<Item = &'a str>) -> bool {
        names.all(|name| is_token(name) && (self.any || self.items.iter().any(|item| item.eq_ignore_ascii_case(name))))
    }
}

/// The CORS settings of one stage.
#[derive(Debug)]
pub(crate) struct Cors {
    any_origin: bool,
    any_https: bool,
    any_http: bool,
    origins: Vec<String>,
    /// Scheme and suffix of origins whose host is below a domain: `https://` and `.shop.example`.
    below: Vec<(String, String)>,
    methods: Allowed,
    headers: Allowed,
    expose: Allowed,
    credentials: bool,
    max_age: Option<HeaderValue>,
}

impl Cors {
    /// Compiles the settings.
    pub(crate) fn compile(part: &wire::Cors) -> Self {
        let has = |pattern: &str| part.allow_origins.iter().any(|origin| origin == pattern);
        let any_origin = has("*");
        // Browsers send origins in lower case.
        let lower = || part.allow_origins.iter().map(|origin| origin.to_ascii_lowercase());
        let below = lower().filter_map(|origin| {
            let (scheme, suffix) = origin.split_once("://*.")?;
            Some((format!("{scheme}://"), format!(".{suffix}")))
        });
        Self {
            any_origin,
            any_https: has("https://*"),
            any_http: has("http://*"),
            origins: lower().filter(|origin| !origin.contains('*')).collect(),
            below: below.collect(),
            methods: Allowed::compile(&part.allow_methods),
            headers: Allowed::compile(&part.allow_headers),
            expose: Allowed::compile(&part.expose_headers),
            // Never credentials for any origin, even if the configuration is invalid.
            credentials: part.allow_credentials && !any_origin,
            max_age: part.max_age_s.map(HeaderValue::from),
        }
    }

    /// The response to a preflight request. If it asks for what is not allowed, the response has no CORS headers, and the browser
    /// blocks the actual request.
    pub(crate) fn preflight(&self, preflight: Preflight<'_>) -> (StatusCode, HeaderMap) {
        let Preflight { origin, method: requested_method, headers: requested_headers } = preflight;
        let mut response = HeaderMap::with_capacity(6);
        response.insert(VARY, VARY_PREFLIGHT);
        let Some(allow_origin) = self.allow_origin(origin) else { return (StatusCode::NO_CONTENT, response) };
        let method_fits = requested_method.to_str().is_ok_and(|method| self.methods.admits_method(method));
        let names = requested_headers.map_or(Some(""), |value| value.to_str().ok());
        let headers_fit = names
            .is_some_and(|names| self.headers.admits(names.split(',').map(str::trim).filter(|name| !name.is_empty())));
        if method_fits && headers_fit {
            response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allow_origin);
            let methods = if self.methods.any { Some(requested_method) } else { self.methods.text.as_ref() };
            // `*` does not include Authorization, and is literal with credentials: the requested names are repeated.
            let names = if self.headers.any { requested_headers } else { self.headers.text.as_ref() };
            put(&mut response, ACCESS_CONTROL_ALLOW_METHODS, methods);
            put(&mut response, ACCESS_CONTROL_ALLOW_HEADERS, names);
            put(&mut response, ACCESS_CONTROL_MAX_AGE, self.max_age.as_ref());
            put(&mut response, ACCESS_CONTROL_ALLOW_CREDENTIALS, self.credentials.then_some(&TRUE));
        }
        (StatusCode::NO_CONTENT, response)
    }

    /// Replaces the backend's CORS headers by the stage's.
    pub(crate) fn decorate(&self, origin: Option<&HeaderValue>, response: &mut HeaderMap) {
        for name in &RESPONSE_HEADERS {
            response.remove(name);
        }
        if !varies_on_origin(response) {
            response.append(VARY, VARY_ORIGIN);
        }
        let Some(allow_origin) = origin.and_then(|origin| self.allow_origin(origin)) else { return };
        response.insert(ACCESS_CONTROL_ALLOW_ORIGIN, allow_origin);
        // With credentials, browsers treat `*` as a header name: the headers must be listed.
        let listed = if self.expose.any && self.credentials { names(response) } else { None };
        put(response, ACCESS_CONTROL_EXPOSE_HEADERS, listed.as_ref().or(self.expose.text.as_ref()));
        put(response, ACCESS_CONTROL_ALLOW_CREDENTIALS, self.credentials.then_some(&TRUE));
    }

    fn allow_origin(&self, origin: &HeaderValue) -> Option<HeaderValue> {
        if self.any_origin {
            return Some(ANY);
        }
        let text = origin.to_str().ok()?;
        let has_scheme = |scheme: &str| text.strip_prefix(scheme).is_some_and(|host| !host.is_empty());
        let is_below = |(scheme, suffix): &(String, String)| {
            let labels = text.strip_prefix(scheme.as_str()).and_then(|rest| rest.strip_suffix(suffix.as_str()));
            labels.is_some_and(is_labels)
        };
        let fits = self.origins.iter().any(|known| known == text)
            || self.below.iter().any(is_below)
            || (self.any_https && has_scheme("https://"))
            || (self.any_http && has_scheme("http://"));
        fits.then(|| origin.clone())
    }
}

/// Whether the text is one or more labels of a host name.
fn is_labels(text: &str) -> bool {
    let label = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
    };
    text.split('.').all(label)
}

fn put(headers: &mut HeaderMap, name: HeaderName, value: Option<&HeaderValue>) {
    if let Some(value) = value {
        headers.insert(name, value.clone());
    }
}

fn names(response: &HeaderMap) -> Option<HeaderValue> {
    let names: Vec<&str> = response.keys().map(HeaderName::as_str).collect();
    HeaderValue::from_str(&names.join(", ")).ok()
}

fn varies_on_origin(headers: &HeaderMap) -> bool {
    let names = headers.get_all(VARY).iter().filter_map(|value| value.to_str().ok()).flat_map(|value| value.split(','));
    names.map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case("origin"))
}

/// Whether the text is a token (RFC 9110, 5.6.2). Other text is not repeated to a browser.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cors(origins: &[&str], credentials: bool) -> Cors {
        let list = |items: &[&str]| items.iter().map(|s| (*s).to_owned()).collect();
        Cors::compile(&wire::Cors {
            allow_origins: list(origins),
            allow_methods: list(&["GET", "PUT"]),
            allow_headers: list(&["Authorization", "x-trace"]),
            expose_headers: list(&["x-total"]),
            allow_credentials: credentials,
            max_age_s: Some(600),
        })
    }

    fn respond(cors: &Cors, method: &Method, headers: &HeaderMap) -> Option<(StatusCode, HeaderMap)> {
        Preflight::of(method, headers).map(|preflight| cors.preflight(preflight))
    }

    fn request(fields: &[(HeaderName, &str)]) -> HeaderMap {
        fields.iter().map(|(name, value)| (name.clone(), HeaderValue::from_str(value).unwrap())).collect()
    }

    #[test]
    fn allowed_origins_and_their_headers() {
        // (configured, credentials, origin, allowed origin, with credentials)
        for (configured, credentials, sent, allowed, with) in [
            ("*", false, "https://a.example", Some("*"), false),
            ("*", true, "https://a.example", Some("*"), false),
            ("https://*", true, "https://a.example", Some("https://a.example"), true),
            ("https://*", true, "https://", None, false),
            ("https://*", true, "http://a.example", None, false),
            ("http://*", false, "https://a.example", None, false),
            ("https://A.example", true, "https://a.example", Some("https://a.example"), true),
            ("https://a.example", true, "https://a.example.evil", None, false),
            ("https://a.example", true, "null", None, false),
            ("null", false, "null", Some("null"), false),
            ("https://*.Shop.example", true, "https://a.shop.example", Some("https://a.shop.example"), true),
            ("https://*.shop.example", true, "https://a.b.shop.example", Some("https://a.b.shop.example"), true),
            ("https://*.shop.example", true, "https://shop.example", None, false),
            ("https://*.shop.example", true, "https://evilshop.example", None, false),
            ("https://*.shop.example", true, "https://.shop.example", None, false),
            ("https://*.shop.example", true, "https://a..shop.example", None, false),
            ("https://*.shop.example", true, "https://evil.example/.shop.example", None, false),
            ("https://*.shop.example", true, "https://evil.example:443@a.shop.example", None, false),
            ("https://*.shop.example", true, "https://a.shop.example.evil.example", None, false),
            ("https://*.shop.example", true, "http://a.shop.example", None, false),
            ("https://*.shop.example", true, "https://a.shop.example:8443", None, false),
            (
                "https://*.shop.example:8443",
                true,
                "https://a.shop.example:8443",
                Some("https://a.shop.example:8443"),
                true,
            ),
            ("https://*.shop.example:8443", true, "https://a.shop.example", None, false),
            ("capacitor://localhost", true, "capacitor://localhost", Some("capacitor://localhost"), true),
            ("capacitor://localhost", true, "ionic://localhost", None, false),
            ("capacitor://localhost", true, "capacitor://localhost.evil.example", None, false),
        ] {
            let mut response = HeaderMap::new();
            cors(&[configured], credentials).decorate(Some(&HeaderValue::from_str(sent).unwrap()), &mut response);
            let origin = response.get(ACCESS_CONTROL_ALLOW_ORIGIN).map(|v| v.to_str().unwrap());
            assert_eq!(origin, allowed, "{configured} {sent}");
            assert_eq!(response.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS), with, "{configured} {sent}");
            assert_eq!(response[VARY], "origin");
        }
    }

    #[test]
    fn preflights() {
        let origin = (ORIGIN, "https://a.example");
        let put_method = (ACCESS_CONTROL_REQUEST_METHOD, "PUT");
        // (fields, whether it is a preflight, whether it is allowed)
        for (fields, is_one, allowed) in [
            (vec![origin.clone()], false, false),
            (vec![put_method.clone()], false, false),
            (vec![origin.clone(), put_method.clone()], true, true),
            (
                vec![origin.clone(), put_method.clone(), (ACCESS_CONTROL_REQUEST_HEADERS, "authorization,X-Trace")],
                true,
                true,
            ),
            (vec![origin.clone(), put_method.clone(), (ACCESS_CONTROL_REQUEST_HEADERS, "x-other")], true, false),
            (vec![origin.clone(), (ACCESS_CONTROL_REQUEST_METHOD, "DELETE")], true, false),
            (vec![origin.clone(), (ACCESS_CONTROL_REQUEST_METHOD, "put")], true, false),
            (vec![(ORIGIN, "https://evil.example"), put_method.clone()], true, false),
        ] {
            let response = respond(&cors(&["https://a.example"], true), &Method::OPTIONS, &request(&fields));
            assert_eq!(response.is_some(), is_one, "{fields:?}");
            let Some((status, headers)) = response else { continue };
            assert_eq!(status, StatusCode::NO_CONTENT);
            assert_eq!(headers.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN), allowed, "{fields:?}");
            assert!(headers[VARY].to_str().unwrap().contains("origin"));
            if allowed {
                assert_eq!(headers[ACCESS_CONTROL_ALLOW_METHODS], "GET, PUT");
                assert_eq!(headers[ACCESS_CONTROL_MAX_AGE], "600");
            }
        }
        assert!(respond(&cors(&["*"], false), &Method::GET, &request(&[origin, put_method])).is_none());
    }

    #[test]
    fn the_cors_headers_of_the_backend_are_replaced() {
        let mut response = request(&[
            (ACCESS_CONTROL_ALLOW_ORIGIN, "*"),
            (ACCESS_CONTROL_ALLOW_CREDENTIALS, "true"),
            (ACCESS_CONTROL_EXPOSE_HEADERS, "x-secret"),
            (VARY, "Accept, Origin"),
        ]);
        cors(&["https://a.example"], false)
            .decorate(Some(&HeaderValue::from_static("https://a.example")), &mut response);
        assert_eq!(response[ACCESS_CONTROL_ALLOW_ORIGIN], "https://a.example");
        assert_eq!(response[ACCESS_CONTROL_EXPOSE_HEADERS], "x-total");
        assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_CREDENTIALS));
        assert_eq!(response.get_all(VARY).iter().count(), 1);
        cors(&["https://a.example"], false).decorate(None, &mut response);
        assert!(!response.contains_key(ACCESS_CONTROL_ALLOW_ORIGIN));
    }

    #[test]
    fn empty_lists_allow_what_needs_no_preflight_and_wildcards_allow_everything() {
        let origin = (ORIGIN, "https://a.example");
        let rules = |list: &[&str], credentials| {
            let list: Vec<String> = list.iter().map(|item| (*item).to_owned()).collect();
            Cors::compile(&wire::Cors {
                allow_origins: vec!["https://a.example".into()],
                allow_methods: list.clone(),
                allow_headers: list.clone(),
                expose_headers: list,
                allow_credentials: credentials,
                max_age_s: None,
            })
        };
        // (lists, method, headers, allowed, allowed methods, allowed headers)
        for (list, method, requested, allowed, methods, names) in [
            (&[][..], "GET", None, true, None, None),
            (&[], "HEAD", None, true, None, None),
            (&[], "POST", None, true, None, None),
            (&[], "PUT", None, false, None, None),
            (&[], "get", None, false, None, None),
            (&[], "GET", Some("x-trace"), false, None, None),
            (&["*"], "PUT", Some("x-trace,authorization"), true, Some("PUT"), Some("x-trace,authorization")),
            (&["*"], "PURGE", None, true, Some("PURGE"), None),
            (&["*"], "A B", None, false, None, None),
            (&["*"], "GET", Some("x trace"), false, None, None),
        ] {
            for credentials in [false, true] {
                let mut fields = vec![origin.clone(), (ACCESS_CONTROL_REQUEST_METHOD, method)];
                fields.extend(requested.map(|names| (ACCESS_CONTROL_REQUEST_HEADERS, names)));
                let (_, response) = respond(&rules(list, credentials), &Method::OPTIONS, &request(&fields)).unwrap();
                let text = |name: HeaderName| response.get(name).map(|value| value.to_str().unwrap());
                assert_eq!(text(ACCESS_CONTROL_ALLOW_ORIGIN).is_some(), allowed, "{list:?} {method} {requested:?}");
                assert_eq!(text(ACCESS_CONTROL_ALLOW_METHODS), methods, "{list:?} {method}");
                assert_eq!(text(ACCESS_CONTROL_ALLOW_HEADERS), names, "{list:?} {requested:?}");
            }
        }
        for (list, credentials, exposed) in [
            (&[][..], false, None),
            (&["x-total"], false, Some("x-total")),
            (&["*"], false, Some("*")),
            (&["x-total"], true, Some("x-total")),
            (&["*"], true, Some("x-a, vary, access-control-allow-origin")),
        ] {
            let mut response = request(&[(HeaderName::from_static("x-a"), "1")]);
            rules(list, credentials).decorate(Some(&HeaderValue::from_static("https://a.example")), &mut response);
            let text = response.get(ACCESS_CONTROL_EXPOSE_HEADERS).map(|value| value.to_str().unwrap());
            assert_eq!(text, exposed, "{list:?} {credentials}");
        }
    }
}
