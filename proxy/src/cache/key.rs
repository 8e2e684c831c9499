//! Cache keys: digests over length-prefixed fields, so that no two lists of fields have the same key.

use std::hash::{Hash, Hasher};

use aws_lc_rs::digest;
use http::header::{AUTHORIZATION, COOKIE};
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use serde::Serialize;
use sluice_wire::ObjectRef;

use super::invalidated::PathPlace;
use crate::key::API_KEY;

/// Headers by which a backend may identify callers, whether or not the gateway checked them.
const CREDENTIALS: [HeaderName; 3] = [AUTHORIZATION, COOKIE, API_KEY];

/// The key of a response.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    digest: [u8; 32],
    /// Of the request's path, which is part of the digest.
    pub(super) place: PathPlace,
}

impl Hash for Key {
    /// A part of a digest is a hash.
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(u64::from_le_bytes(self.digest.first_chunk().copied().unwrap_or_default()));
    }
}

impl Key {
    pub(super) fn new(fields: Fields, path: &str) -> Self {
        Self { digest: fields.finish(), place: PathPlace::of(path) }
    }

    /// For tests and benchmarks.
    pub(crate) fn of_digest(digest: [u8; 32]) -> Self {
        Self { digest, place: PathPlace::default() }
    }

    pub(super) fn digest(&self) -> &[u8] {
        &self.digest
    }

    /// The same path with another digest.
    pub(super) fn with_digest(self, digest: [u8; 32]) -> Self {
        Self { digest, ..self }
    }
}

/// Where a request is sent, as far as the gateway repeats it to the backend.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Target<'a> {
    pub(crate) method: &'a Method,
    /// Canonical, after the base path.
    pub(crate) path: &'a str,
    /// Host and port as the client sent them: `Host` and `X-Forwarded-Host` of the backend's request.
    pub(crate) authority: Option<&'a HeaderValue>,
    /// `X-Forwarded-Proto`.
    pub(crate) tls: bool,
    /// `X-Forwarded-Port`.
    pub(crate) port: &'a HeaderValue,
    /// The fingerprint of the certificate in `Client-Cert`; none: the request has no such header.
    pub(crate) certificate: Option<&'a str>,
}

/// The caller of a request, for keys that separate callers.
#[derive(Clone, Copy, Debug)]
pub(crate) struct CallerKey<'a> {
    /// The caller that an authorizer identified: what distinguishes it from all others.
    pub(crate) identity: Option<&'a [u8]>,
    /// The header with the credential that the identity was made from, so that another credential of the same caller finds the
    /// same responses.
    pub(crate) credential: Option<&'a HeaderName>,
    /// The ApiKey that the request was admitted with.
    pub(crate) api_key: Option<&'a ObjectRef>,
    /// The fingerprint of its certificate.
    pub(crate) certificate: Option<&'a str>,
    /// The request's headers, for credentials that the gateway did not verify.
    pub(crate) headers: &'a HeaderMap,
}

impl CallerKey<'_> {
    /// Whether identity or ApiKey replace the header.
    fn covers(&self, name: &HeaderName) -> bool {
        self.credential == Some(name) || (self.api_key.is_some() && *name == API_KEY)
    }

    pub(super) fn add_to(&self, fields: &mut Fields) {
        fields.add(self.identity);
        fields.add(self.api_key.map(|key| key.namespace.as_bytes()));
        fields.add(self.api_key.map(|key| key.name.as_bytes()));
        fields.add(self.certificate.map(str::as_bytes));
        for name in CREDENTIALS.iter().filter(|name| !self.covers(name)) {
            for value in self.headers.get_all(name) {
                fields.add(Some(value.as_bytes()));
            }
            fields.add(None);
        }
    }
}

/// Fields of a digest.
pub(super) struct Fields(Vec<u8>);

impl Fields {
    pub(super) fn new() -> Self {
        Self(Vec::with_capacity(128))
    }

    pub(super) fn finish(self) -> [u8; 32] {
        let mut out = [0; 32];
        out.copy_from_slice(digest::digest(&digest::SHA256, &self.0).as_ref());
        out
    }

    pub(super) fn add(&mut self, field: Option<&[u8]>) {
        let Some(bytes) = field else { return self.0.push(0) };
        // The length and one, seven bits in each byte (LEB128): most fields are short, and each byte costs time in SHA-256.
        let mut length = bytes.len() + 1;
        while length >= 0x80 {
            self.0.push(length.to_le_bytes()[0] | 0x80);
            length >>= 7;
        }
        self.0.push(length.to_le_bytes()[0]);
        self.0.extend_from_slice(bytes);
    }

    /// A field that has this length in each key of a policy.
    pub(super) fn add_fixed(&mut self, field: &[u8]) {
        self.0.extend_from_slice(field);
    }

    /// A piece of configuration.
    pub(super) fn add_config(&mut self, config: &impl Serialize) {
        self.add(serde_json::to_vec(config).ok().as_deref());
    }
}
