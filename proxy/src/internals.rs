//! Entry points for the fuzz targets (`fuzz/`) and the micro-benchmarks (`tests/microbench`), which call single functions that the
//! proxy does not offer. Not an API: anything here may change or go.

use std::borrow::Cow;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::FutureExt as _;
use futures::future::BoxFuture;
use http::header::{AUTHORIZATION, FORWARDED};
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, StatusCode, Uri};
use sluice_wire::{
    AuthorizerPart, Behavior, CertificateField, FieldMatch, Hash, Introspection, KeyEntry, KeysPart, ObjectRef, Part,
    PartKind, PartName, Parts,
};

use crate::auth::{
    AuthRequest, Authorizer, Decision, Fetch, FetchError, IntrospectionRules, KeySets, Means, Place, RequestFacts,
    Services,
};
use crate::cache::{Cache, Head, Key};
use crate::client_certificate::Details;
use crate::config::store::Store;
use crate::gateway::path;
use crate::gateway::router::{Conditions, Matching, Methods, Position, RouteInput, Router, Tie};
use crate::key::{KeyRing, Keys};
use crate::limit::Buckets;
use crate::pipeline;
use crate::source::{AddressHeader, Trusted, TrustedProxies};
use crate::template::NoVariables;

/// The canonical form of a path; none: the request is rejected, unless its Stage accepts what is unusual about the path.
#[must_use]
pub fn canonical_path(path: &str) -> Option<String> {
    path::canonical(path).ok().filter(|path| path.traits.is_plain()).map(|path| path.text.into_owned())
}

/// The pairs of a query, decoded as they are matched.
#[must_use]
pub fn query_pairs(query: &str) -> Vec<(String, String)> {
    let owned = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    path::query_pairs(query).map(owned).collect()
}

/// The client that a trusted proxy at 10.0.0.1 states in its header; none: what it states cannot be read. The network
/// 10.0.0.0/8 is trusted.
#[must_use]
pub fn stated_client(header: AddressHeader, value: HeaderValue) -> Option<IpAddr> {
    let networks = "10.0.0.0/8".parse().into_iter().collect();
    let name = match header {
        AddressHeader::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
        AddressHeader::Forwarded => FORWARDED,
    };
    let trusted = Trusted::new(&TrustedProxies { networks, header, hops: None });
    trusted.client(IpAddr::from([10, 0, 0, 1]), &HeaderMap::from_iter([(name, value)])).ok()
}

/// The fields of a client's certificate as variables have them; none: it cannot be read.
#[must_use]
pub fn certificate_fields(der: &[u8]) -> Option<Vec<(CertificateField, String)>> {
    use CertificateField::{Dns, Fingerprint, Issuer, NotAfter, NotBefore, Serial, Subject, Uri};
    let details = Details::read(der)?;
    let all = [Subject, Issuer, Serial, Fingerprint, Dns, Uri, NotBefore, NotAfter];
    Some(all.into_iter().filter_map(|field| Some((field, details.field(field)?.to_owned()))).collect())
}

/// Writes versions of a configuration one after the other, as a proxy does that receives them.
pub async fn save_all(store: &Store, versions: &[Parts<Part>]) {
    for parts in versions {
        store.save(parts);
        store.flush().await;
    }
}

/// An authorizer without a network: its key sets must be in the configuration.
pub struct Tokens(Arc<Authorizer>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Tokens {
    /// Compiles an authorizer; an error is a sentence. `runtime` is where key sets would be fetched.
    pub fn new(part: &AuthorizerPart, runtime: tokio::runtime::Handle) -> Result<Self, String> {
        let key_sets = KeySets::new(runtime.clone(), Offline);
        Authorizer::compile(part, &Services::without_network(runtime, key_sets)).map(Self)
    }

    /// Whether a request with these headers is authorized.
    #[must_use]
    pub fn accept(&self, headers: &HeaderMap) -> bool {
        // Nothing is fetched, so nothing is waited for.
        let request = AuthRequest {
            method: &Method::GET,
            headers,
            route: None,
            behavior: Behavior::Native,
            with_scopes: false,
            variables: &NoVariables,
            facts: &RequestFacts::default,
        };
        let Means::Request(authorizer) = self.0.means() else { return false };
        let decision = authorizer.authorize(&request).now_or_never();
        matches!(decision, Some(made) if matches!(made.decision, Decision::Allow(_)))
    }

    /// The query and the headers that are forwarded of a request whose credential in `authorization` was verified; none: it is
    /// rejected.
    #[must_use]
    pub fn forwarded(&self, uri: Uri, headers: HeaderMap) -> Option<(String, HeaderMap)> {
        let mut parts = Request::new(()).into_parts().0;
        (parts.uri, parts.headers) = (uri, headers);
        let parts = pipeline::forwarded(&self.0, Place::Header(&AUTHORIZATION), parts)?;
        Some((parts.uri.query().unwrap_or_default().to_owned(), parts.headers))
    }
}

/// Whether a token is accepted for the response of an introspection endpoint at this time.
#[must_use]
pub fn introspected(part: &Introspection, response: &[u8], now: SystemTime) -> bool {
    IntrospectionRules::compile(part).accept(response, now)
}

struct Offline;

impl Fetch for Offline {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchError>> {
        Box::pin(async move { Err(FetchError::Url(url.to_owned())) })
    }
}

/// A router for GET.
pub struct Routes(Router<usize>);

impl std::fmt::Debug for Routes {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Routes")
    }
}

impl Routes {
    /// Routes with these templates; one that does not parse is left out.
    pub fn new(templates: impl IntoIterator<Item = String>) -> Self {
        let mut routes = Self(Router::new(Matching::new(Behavior::Native, None)));
        for (number, template) in templates.into_iter().enumerate() {
            routes.add(number, &template, None);
        }
        routes
    }

    /// Rules of one path, each with one condition for a query parameter.
    pub fn with_conditions(path: &str, conditions: impl IntoIterator<Item = FieldMatch>) -> Self {
        let mut routes = Self(Router::new(Matching::new(Behavior::Native, None)));
        for (number, condition) in conditions.into_iter().enumerate() {
            let conditions = Conditions { headers: Vec::new(), query: vec![condition] };
            routes.add(number, path, Some(Arc::new(conditions)));
        }
        routes
    }

    fn add(&mut self, number: usize, template: &str, conditions: Option<Arc<Conditions>>) {
        let Ok(template) = template.parse() else { return };
        let tie = Tie { route: PartName::of_object(PartKind::Route, "shop", "r"), number };
        let place = Position { version: None, template, conditions, tie };
        self.0.add(&place, Methods::from(vec![Method::GET]), number);
    }

    /// Whether a route matches.
    #[must_use]
    pub fn find(&self, method: &Method, path: &str) -> bool {
        self.find_with(method, path, None)
    }

    /// Whether a route matches a request with a query.
    #[must_use]
    pub fn find_with(&self, method: &Method, path: &str, query: Option<&str>) -> bool {
        self.0.find(&RouteInput { method, path, query, headers: &HeaderMap::new() }).is_ok()
    }
}

/// The table of API keys.
#[derive(Debug)]
pub struct ApiKeys(Keys);

impl ApiKeys {
    /// Keys with the values `key-number-0`, `key-number-1`, …
    #[must_use]
    pub fn new(count: u32) -> Self {
        let key = |number| KeyEntry {
            object: ObjectRef::new("ApiKey", "shop", format!("key-{number}")),
            customer: None,
            digest: Hash::of(format!("key-number-{number}").as_bytes()),
            plans: Vec::new(),
        };
        let mut ring = KeyRing::default();
        let name = PartName::of_object(PartKind::Keys, "shop", "keys");
        ring.set_keys(&name, Some(KeysPart { keys: (0..count).map(key).collect() }));
        ring.join(&Buckets::default());
        Self(ring.keys())
    }

    /// Whether a key has this value.
    #[must_use]
    pub fn find(&self, key: &[u8]) -> bool {
        self.0.find(&Hash::of(key)).is_some()
    }
}

/// A cache of responses of 1 KiB.
#[derive(Debug)]
pub struct Responses(Arc<Cache>);

impl Responses {
    /// A cache with the responses 0, 1, …
    #[must_use]
    pub fn new(max_bytes: u64, count: u32) -> Self {
        let cache = Cache::new(max_bytes);
        for number in 0..count {
            let (stored_at, ttl) = (Instant::now(), Duration::from_secs(3600));
            let (headers, age) = (HeaderMap::new(), Duration::ZERO);
            let head = Head { status: StatusCode::OK, headers, stored_at, ttl, age, variant: None };
            cache.refresh(key(number)).keep(head, vec![b'x'; 1024].into());
        }
        Self(cache)
    }

    /// Whether the response with this number is there and fresh.
    #[must_use]
    pub fn hit(&self, number: u32) -> bool {
        self.0.fresh(&key(number), Instant::now()).is_some()
    }
}

fn key(number: u32) -> Key {
    let mut bytes = [0; 32];
    let spread = u64::from(number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    for (at, byte) in bytes.iter_mut().zip(spread.to_be_bytes().iter().cycle()) {
        *at = *byte;
    }
    Key::of_digest(bytes)
}
