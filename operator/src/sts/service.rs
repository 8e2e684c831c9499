//! The actions of the service, without sockets.

use std::sync::Arc;

use http::request::Parts;
use http::{HeaderName, Response};
use k8s_openapi::jiff::Timestamp;
use sluice_sigv4::RequestParts;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::metrics::Metrics;
use crate::publish::Current;
use crate::random::request_id;
use crate::sts::assume::assume;
use crate::sts::callers::Callers;
use crate::sts::fault::Fault;
use crate::sts::identity::caller;
use crate::sts::parameters::Parameters;
use crate::sts::verifier::Verifier;
use crate::sts::xml::{self, Element};
use crate::translate::Statuses;

const ASSUME: &str = "AssumeRoleWithWebIdentity";
const IDENTITY: &str = "GetCallerIdentity";
/// The label of other actions in the metric: clients choose their names.
const OTHER: &str = "Other";

/// The token service. Clones are the same.
#[derive(Clone)]
pub struct TokenService {
    callers: Callers,
    verifier: Verifier,
    metrics: Metrics,
}

impl std::fmt::Debug for TokenService {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("TokenService")
    }
}

impl TokenService {
    /// A service that knows no Principals yet: see [`TokenService::follow`].
    #[must_use]
    pub fn new(verifier: Verifier, metrics: Metrics) -> Self {
        Self { callers: Callers::default(), verifier, metrics }
    }

    /// Follows the published configurations until `stop`.
    pub async fn follow(self, current: watch::Receiver<Option<Arc<Current>>>, stop: CancellationToken) {
        self.callers.follow(current, stop).await;
    }

    /// Takes over another configuration, where nothing is published.
    pub fn update(&self, statuses: &Statuses) {
        self.callers.update(statuses);
    }

    /// The response to a request with its whole body; it comes from the address `source`.
    pub(super) async fn respond(&self, parts: &Parts, body: &[u8], source: u128) -> Response<String> {
        let id = request_id();
        let (action, outcome) = self.act(parts, body, source, Timestamp::now()).await;
        let code = outcome.as_ref().map_or_else(|fault| fault.code, |_| "OK");
        self.metrics.sts_request(action, code);
        match outcome {
            Ok(elements) => xml::result(action, &elements, &id),
            Err(fault) => xml::fault(&fault, &id),
        }
    }

    /// The action of a request, and its result.
    async fn act(
        &self,
        parts: &Parts,
        body: &[u8],
        source: u128,
        now: Timestamp,
    ) -> (&'static str, Result<Vec<Element>, Fault>) {
        let parameters = match Parameters::read(&parts.method, parts.uri.query(), body) {
            Ok(parameters) => parameters,
            Err(fault) => return (OTHER, Err(fault)),
        };
        match parameters.action() {
            Ok(ASSUME) => (ASSUME, assume(&self.callers, &self.verifier, &parameters, source, now).await),
            Ok(IDENTITY) => {
                let host = parts.headers.get(http::header::HOST).and_then(|host| host.to_str().ok());
                let request = RequestParts {
                    method: &parts.method,
                    path: parts.uri.path(),
                    query: parts.uri.query(),
                    headers: &parts.headers,
                    host,
                };
                (IDENTITY, caller(&self.callers, &request, body, now))
            }
            Ok(_) => {
                let why = format!("This service has the actions {ASSUME} and {IDENTITY}");
                (OTHER, Err(Fault::bad_request("InvalidAction", why)))
            }
            Err(fault) => (OTHER, Err(fault)),
        }
    }
}

/// The fault as a response, for requests that cannot be read.
pub(super) fn unreadable(metrics: &Metrics, fault: &Fault) -> Response<String> {
    metrics.sts_request(OTHER, fault.code);
    let mut response = xml::fault(fault, &request_id());
    response.headers_mut().insert(HeaderName::from_static("connection"), http::HeaderValue::from_static("close"));
    response
}

#[cfg(test)]
mod tests;
