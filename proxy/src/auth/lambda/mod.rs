//! Lambda authorizers: a function decides about requests, with a policy or with a simple response. Its output is remembered for the
//! values of the identity sources, and the policy is evaluated again for each request. `calls` makes and shares the calls.

mod event;
mod output;

use std::borrow::Cow;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use sluice_sigv4::{BodyHash, RequestParts, Signer};
use sluice_wire::{
    Hash, IdentitySource, Invocation, LambdaEvent, LambdaFunction, LambdaResponses, TokenPattern, Variable,
};

use super::calls::CallResult;
use super::credential::{self, Source};
use super::facts::RequestFacts;
use super::failure_log::FailureLog;
use super::fetch::{Endpoint, FetchError, Fetcher};
use super::identity::{Identity, cache_identity};
use super::remembered::Grant;
use super::request::AuthRequest;
use super::token_error::{LambdaFailure, TokenError};
use output::{Failed, Output};

/// A longer response is not read.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// AWS's limit for authorizers.
const MAX_TIMEOUT: Duration = Duration::from_secs(29);
/// AWS's limit for the time that a result is used.
const MAX_RESULT_TTL: Duration = Duration::from_secs(3600);
/// Set by the API `Invoke` if the function has failed.
const FUNCTION_ERROR: HeaderName = HeaderName::from_static("x-amz-function-error");
const INVOCATION_TYPE: HeaderName = HeaderName::from_static("x-amz-invocation-type");
/// A policy takes about this many times the memory of its text.
const POLICY_MEMORY: usize = 8;

/// One authorizer.
pub(super) struct Lambda {
    /// Places of the identity sources in requests.
    places: Vec<Source>,
    /// All identity sources, in their order.
    sources: Vec<Value>,
    pattern: Option<TokenPattern>,
    event: LambdaEvent,
    result_ttl: Duration,
    function: Arc<Function>,
}

/// An identity source.
enum Value {
    /// A place, by its number.
    Place(usize),
    Variable(Variable),
}

/// What calls the function.
struct Function {
    endpoint: Endpoint,
    /// How calls are signed; none: the event is the body of a POST.
    invocation: Option<Invocation>,
    responses: LambdaResponses,
    /// The context has no lists and objects.
    flat_context: bool,
    result_ttl: Duration,
    timeout: Duration,
    log: FailureLog,
}

/// What a request is decided by.
pub(super) struct Caller<'r> {
    values: Vec<Cow<'r, str>>,
    /// Of the Stage and each value: what results are remembered by.
    pub(super) digest: Hash,
}

impl Lambda {
    pub(super) fn compile(
        part: &sluice_wire::Lambda,
        name: &str,
        namespace: &str,
        fetcher: Option<&Fetcher>,
    ) -> Result<Self, String> {
        let fetcher = fetcher.ok_or("The Authorizer needs a network.")?;
        let result_ttl = Duration::from_millis(part.result_ttl_ms).min(MAX_RESULT_TTL);
        if part.identity_sources.is_empty() && !result_ttl.is_zero() {
            return Err("The Authorizer needs an identity source to remember results.".to_owned());
        }
        if part.event == LambdaEvent::Token && part.identity_sources.len() != 1 {
            return Err("The Authorizer needs exactly one identity source for the token.".to_owned());
        }
        if part.responses == LambdaResponses::Simple && part.event != LambdaEvent::RequestV2 {
            return Err("Simple responses need the format 2.0.".to_owned());
        }
        let (mut places, mut sources) = (Vec::new(), Vec::new());
        for source in &part.identity_sources {
            sources.push(match source {
                IdentitySource::Place(place) => {
                    places.push(Source::compile(place).ok_or("The Authorizer names a header that is not valid.")?);
                    Value::Place(places.len() - 1)
                }
                IdentitySource::Context { context } => Value::Variable(context.clone()),
            });
        }
        let (endpoint, invocation) = match &part.function {
            LambdaFunction::Url(url) => (fetcher.endpoint(url, namespace), None),
            LambdaFunction::Invoke(invoke) => {
                (fetcher.endpoint(&invoke.url, namespace), Some(invoke.invocation.clone()))
            }
            LambdaFunction::Service(service) => {
                (fetcher.service(&service.upstream, &service.host, &service.path), service.invoke.clone())
            }
        };
        let endpoint = endpoint.map_err(|error| format!("The URL: {error}."))?;
        let pattern = part.validation.as_deref().map(TokenPattern::compile).transpose();
        Ok(Self {
            places,
            sources,
            pattern: pattern.map_err(|why| format!("The validation: {why}."))?,
            event: part.event,
            result_ttl,
            function: Arc::new(Function {
                endpoint,
                invocation,
                responses: part.responses,
                flat_context: part.event != LambdaEvent::RequestV2,
                result_ttl,
                timeout: Duration::from_millis(part.timeout_ms).min(MAX_TIMEOUT),
                log: FailureLog::new(name, "cannot call a Lambda authorizer"),
            }),
        })
    }

    /// The places that may have an identity source.
    pub(super) fn places(&self) -> &[Source] {
        &self.places
    }

    /// For how long a request waits for a call.
    pub(super) fn timeout(&self) -> Duration {
        self.function.timeout
    }

    /// Requests wait for a call that began less than this ago. Without a time for results, each request has its own call: the
    /// function may decide by more than the identity sources.
    pub(super) fn max_call_age(&self) -> Duration {
        self.result_ttl
    }

    /// The values of the identity sources: each must be there once, and none be empty.
    pub(super) fn identify<'r>(&self, request: &AuthRequest<'r>) -> Result<Caller<'r>, TokenError> {
        let mut values = Vec::with_capacity(self.sources.len());
        for source in &self.sources {
            values.push(match source {
                Value::Place(at) => {
                    let place = self.places.get(*at).map_or(&[][..], std::slice::from_ref);
                    credential::find(place, request.headers, request.variables)?.0
                }
                Value::Variable(variable) => {
                    let value = request.variables.get(variable).map(|value| value.text().into_owned());
                    Cow::Owned(value.filter(|text| !text.is_empty()).ok_or(TokenError::Missing)?)
                }
            });
        }
        if let (Some(pattern), Some(token)) = (&self.pattern, values.first())
            && !pattern.matches(token)
        {
            return Err(TokenError::InvalidFormat);
        }
        let stage = request.variables.get(&Variable::StageId);
        let stage = stage.as_ref().map(|id| id.text()).unwrap_or_default();
        let digest =
            Hash::of_list(std::iter::once(&*stage).chain(values.iter().map(|value| &**value)).map(str::as_bytes));
        Ok(Caller { values, digest })
    }

    /// Calls the function. None: the ARN of the method is longer than AWS allows.
    pub(super) fn call(
        &self,
        request: &AuthRequest<'_>,
        caller: &Caller<'_>,
    ) -> Option<impl Future<Output = CallResult> + Send + use<>> {
        let facts: RequestFacts = (request.facts)();
        let arn = facts.arn.as_deref()?;
        let event = event::Request {
            behavior: request.behavior,
            headers: request.headers,
            variables: request.variables,
            facts: &facts,
            arn,
            identity: &caller.values,
            time: SystemTime::now(),
        };
        let body = Bytes::from(event::event(self.event, &event));
        // `arn:aws:execute-api:REGION:ACCOUNT:API`
        let prefix = arn.split('/').next().unwrap_or_default().to_owned();
        let (function, digest) = (self.function.clone(), caller.digest);
        Some(async move { function.decide(body, &digest, &prefix).await })
    }
}

impl Function {
    async fn decide(&self, body: Bytes, digest: &Hash, prefix: &str) -> CallResult {
        // The result is used from here on: one that changes meanwhile is not used for longer.
        let began = SystemTime::now();
        let headers = self.headers(&body, began).ok_or(TokenError::Lambda(LambdaFailure::Rejected))?;
        let (headers, body) = match self.endpoint.post_json(body, &headers, self.timeout, MAX_RESPONSE_BYTES).await {
            Ok(received) => received,
            Err(error) => {
                self.log.write(&error);
                return Err(TokenError::Lambda(failure(&error)));
            }
        };
        let is_error = headers.contains_key(FUNCTION_ERROR);
        match Output::parse(&body, is_error, self.responses, self.flat_context, prefix) {
            Ok(output) => Ok(self.grant(output, digest, began)),
            Err(Failed::Unauthorized) => Err(TokenError::FunctionUnauthorized),
            Err(Failed::Failure(failure)) => {
                self.log.write(&Undecided(failure));
                Err(TokenError::Lambda(failure))
            }
        }
    }

    /// The headers of a call; none: it cannot be signed.
    fn headers(&self, body: &[u8], now: SystemTime) -> Option<HeaderMap> {
        let mut headers = HeaderMap::new();
        let Some(Invocation { region, credentials }) = &self.invocation else { return Some(headers) };
        headers.insert(INVOCATION_TYPE, HeaderValue::from_static("RequestResponse"));
        let Some(credentials) = credentials else { return Some(headers) };
        let mut signed = headers.clone();
        signed.insert(header::HOST, HeaderValue::from_str(self.endpoint.authority()).ok()?);
        signed.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let request = RequestParts {
            method: &Method::POST,
            path: self.endpoint.path(),
            query: None,
            headers: &signed,
            host: None,
        };
        let signer = Signer::new(&credentials.access_key_id, &credentials.secret_access_key, region, "lambda", now);
        let signer = match &credentials.session_token {
            Some(token) => signer.with_session_token(token),
            None => signer,
        };
        let mut added = signer.sign(&request, &BodyHash::of(body)).ok()?;
        added.values_mut().for_each(|value| value.set_sensitive(true));
        headers.extend(added);
        Some(headers)
    }

    fn grant(&self, output: Output, digest: &Hash, began: SystemTime) -> Grant {
        /// Results that are not remembered are for one request.
        static REQUESTS: AtomicU64 = AtomicU64::new(0);
        let expires = began.checked_add(self.result_ttl).unwrap_or(began);
        let cache_identity = if self.result_ttl.is_zero() {
            let number = REQUESTS.fetch_add(1, Ordering::Relaxed).to_be_bytes();
            cache_identity(&[b"Lambda", b"request", &number])
        } else {
            cache_identity(&[b"Lambda", b"values", digest.bytes()])
        };
        let identity = Identity {
            kind: "Lambda",
            id: output.principal,
            scopes: Vec::new(),
            attributes: output.context,
            policies: Some(Arc::new(Output::policies(output.policy))),
            api_key: output.api_key,
            expires,
            cache_identity,
        };
        Grant::new(identity, 0, 0, true).with_memory(POLICY_MEMORY * output.size)
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the function does not decide: {}", .0.text())]
struct Undecided(LambdaFailure);

fn failure(error: &FetchError) -> LambdaFailure {
    match error {
        FetchError::Status(
            StatusCode::BAD_REQUEST | StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND,
        ) => LambdaFailure::Rejected,
        FetchError::TooLong(_) => LambdaFailure::InvalidResponse,
        FetchError::Status(status) if !status.is_server_error() && *status != StatusCode::TOO_MANY_REQUESTS => {
            LambdaFailure::InvalidResponse
        }
        _ => LambdaFailure::Unavailable,
    }
}

#[cfg(test)]
mod tests;
