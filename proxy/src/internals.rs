//! Entry points for the fuzz targets (`fuzz/`) and the micro-benchmarks (`tests/microbench`), which call single functions that the
//! proxy does not offer. Not an API: anything here may change or go.

use std::borrow::Cow;
use std::sync::Arc;

use futures::future::BoxFuture;
use http::HeaderMap;
use sluice_wire::{AuthorizerPart, Part, Parts};

use crate::auth::{Authorizer, Fetch, FetchError, KeySets, Verdict};
use crate::config::store::Store;
use crate::gateway::path;

/// The canonical form of a path; none: the request is rejected.
#[must_use]
pub fn canonical_path(path: &str) -> Option<String> {
    path::canonical(path).ok().map(Cow::into_owned)
}

/// The pairs of a query, decoded as they are matched.
#[must_use]
pub fn query_pairs(query: &str) -> Vec<(String, String)> {
    let owned = |(name, value): (Cow<'_, str>, Cow<'_, str>)| (name.into_owned(), value.into_owned());
    path::query_pairs(query).map(owned).collect()
}

/// Writes versions of a configuration one after the other, as a proxy does that receives them.
pub async fn save_all(store: &Store, versions: &[Parts<Part>]) {
    for parts in versions {
        store.save(parts).await;
    }
}

/// An authorizer without a network: its key sets must stand in the configuration.
pub struct Tokens(Arc<Authorizer>);

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.fmt(f)
    }
}

impl Tokens {
    /// Compiles an authorizer. `runtime` is where key sets would be fetched.
    #[must_use]
    pub fn new(part: &AuthorizerPart, runtime: tokio::runtime::Handle) -> Self {
        Self(Authorizer::compile(part, &KeySets::new(runtime, Offline)))
    }

    /// Whether a request with these headers is authorized.
    #[must_use]
    pub fn accept(&self, headers: &HeaderMap) -> bool {
        matches!(self.0.verify_now(headers), Verdict::Ok(_))
    }
}

struct Offline;

impl Fetch for Offline {
    fn get<'a>(&'a self, url: &'a str) -> BoxFuture<'a, Result<Vec<u8>, FetchError>> {
        Box::pin(async move { Err(FetchError::Url(url.to_owned())) })
    }
}
