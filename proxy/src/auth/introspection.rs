//! Token introspection (RFC 7662): an endpoint decides whether a token is active, and states its claims. `calls` makes and
//! shares the calls; how long a result is remembered is decided here.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use http::{HeaderValue, StatusCode};
use serde_json::{Map, Value};
use sluice_sigv4::uri_encode;
use sluice_wire::{ClientAuthentication, Hash};

use super::calls::CallResult;
use super::claims::{self, Times};
use super::credential::Source;
use super::failure_log::FailureLog;
use super::fetch::{Endpoint, FetchError, Fetcher};
use super::identity::{Identity, cache_identity};
use super::json;
use super::remembered::Grant;
use super::token_error::{IntrospectionFailure, TokenError};
use crate::key::Presented;

/// A longer response is not read.
const MAX_RESPONSE_BYTES: usize = 64 << 10;
/// AWS's limit for authorizers.
const MAX_TIMEOUT: Duration = Duration::from_secs(29);
/// The tolerated difference between the clocks of endpoint and proxy. The endpoint has compared the times with its own clock.
const SKEW: Duration = Duration::from_secs(60);
/// Requests that arrive at the same time wait for one call also if nothing is remembered.
const MIN_CALL_AGE: Duration = Duration::from_secs(1);

/// One authorizer.
pub(super) struct Introspection {
    sources: Vec<Source>,
    client: Arc<Client>,
}

/// What calls the endpoint.
struct Client {
    endpoint: Endpoint,
    /// With a secret: it is never printed.
    authorization: Option<HeaderValue>,
    /// Credentials in the form, encoded; empty: they are in the header.
    in_form: String,
    timeout: Duration,
    rules: Rules,
    log: FailureLog,
}

/// What is accepted of the tokens that are active.
pub(crate) struct Rules {
    url: String,
    issuer: Option<String>,
    /// None: tokens for every audience are accepted.
    audiences: Option<Vec<String>>,
    required: BTreeMap<String, String>,
    result_ttl: Duration,
}

impl Introspection {
    pub(super) fn compile(
        part: &sluice_wire::Introspection,
        name: &str,
        namespace: &str,
        fetcher: Option<&Fetcher>,
    ) -> Result<Self, String> {
        if part.token_from.is_empty() {
            return Err("The Authorizer needs at least one place for the token.".to_owned());
        }
        let fetcher = fetcher.ok_or("The Authorizer needs a network.")?;
        let endpoint = fetcher.endpoint(&part.url, namespace).map_err(|error| format!("The URL: {error}."))?;
        let sources: Option<Vec<Source>> = part.token_from.iter().map(Source::compile).collect();
        let (id, secret) = (uri_encode(&part.client_id), uri_encode(&part.client_secret));
        let (authorization, in_form) = match part.client_authentication {
            ClientAuthentication::Basic => {
                let text = format!("Basic {}", STANDARD.encode(format!("{id}:{secret}")));
                let mut value = HeaderValue::try_from(text).map_err(|_| "The client's credentials are too long.")?;
                value.set_sensitive(true);
                (Some(value), String::new())
            }
            ClientAuthentication::Post => (None, format!("&client_id={id}&client_secret={secret}")),
        };
        Ok(Self {
            sources: sources.ok_or("The Authorizer names a header that is not valid.")?,
            client: Arc::new(Client {
                endpoint,
                authorization,
                in_form,
                timeout: Duration::from_millis(part.timeout_ms).min(MAX_TIMEOUT),
                rules: Rules::compile(part),
                log: FailureLog::new(name, "cannot introspect tokens"),
            }),
        })
    }

    /// The places that may have a token.
    pub(super) fn sources(&self) -> &[Source] {
        &self.sources
    }

    /// For how long a request waits for a call.
    pub(super) fn timeout(&self) -> Duration {
        self.client.timeout
    }

    /// Requests wait for a call that began less than this ago: a token is accepted for no longer than if its result had been
    /// remembered.
    pub(super) fn max_call_age(&self) -> Duration {
        self.client.rules.result_ttl.max(MIN_CALL_AGE)
    }

    /// Asks the endpoint about a token.
    pub(super) fn call(&self, token: &str, digest: Hash) -> impl Future<Output = CallResult> + Send + use<> {
        let (client, token) = (self.client.clone(), token.to_owned());
        async move { client.decide(&token, digest).await }
    }
}

impl Client {
    async fn decide(&self, token: &str, digest: Hash) -> CallResult {
        let form = format!("token={}&token_type_hint=access_token{}", uri_encode(token), self.in_form);
        // The result is remembered from here on: a token that is revoked meanwhile is not accepted for longer.
        let began = SystemTime::now();
        let response =
            self.endpoint.post(Bytes::from(form), self.authorization.as_ref(), self.timeout, MAX_RESPONSE_BYTES);
        let result = match response.await {
            Ok(body) => self.rules.decide(&body, &digest, began),
            Err(error) => {
                self.log.write(&error);
                return Err(TokenError::Introspection(failure(&error)));
            }
        };
        if result.as_ref().err() == Some(&TokenError::Introspection(IntrospectionFailure::InvalidResponse)) {
            self.log.write(&InvalidResponse);
        }
        result
    }
}

#[derive(Debug, thiserror::Error)]
#[error("the response is not that of a token introspection (RFC 7662): a JSON object in which active is true or false")]
struct InvalidResponse;

fn failure(error: &FetchError) -> IntrospectionFailure {
    match error {
        FetchError::Status(StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) => IntrospectionFailure::ClientRejected,
        FetchError::TooLong(_) => IntrospectionFailure::InvalidResponse,
        FetchError::Status(status) if !status.is_server_error() && *status != StatusCode::TOO_MANY_REQUESTS => {
            IntrospectionFailure::InvalidResponse
        }
        _ => IntrospectionFailure::Unavailable,
    }
}

impl Rules {
    pub(crate) fn compile(part: &sluice_wire::Introspection) -> Self {
        Self {
            url: part.url.clone(),
            issuer: part.issuer.clone(),
            audiences: (!part.any_audience).then(|| part.audiences.clone()),
            required: part.required_claims.clone(),
            result_ttl: Duration::from_millis(part.result_ttl_ms),
        }
    }

    /// Whether a token is accepted for this response to a call at `began`.
    pub(crate) fn accept(&self, body: &[u8], began: SystemTime) -> bool {
        self.decide(body, &Hash::of(b"token"), began).is_ok()
    }

    /// Decides about the token with this digest, from the endpoint's response to a call at `began`.
    fn decide(&self, body: &[u8], digest: &Hash, began: SystemTime) -> CallResult {
        const INVALID: TokenError = TokenError::Introspection(IntrospectionFailure::InvalidResponse);
        let claims = json::object(body).map_err(|_| INVALID)?;
        match claims.get("active") {
            Some(Value::Bool(true)) => {}
            Some(Value::Bool(false)) => return Err(TokenError::Inactive),
            _ => return Err(INVALID),
        }
        if !permits_calls(&claims) {
            return Err(TokenError::WrongType);
        }
        if claims::is_key_bound(&claims) {
            return Err(TokenError::KeyBound);
        }
        let times = Times::of(&claims).map_err(|_| INVALID)?;
        times.check(began, SKEW)?;
        if let Some(expected) = &self.issuer {
            match claims::text(&claims, "iss", INVALID)? {
                None => return Err(TokenError::NoIssuer),
                Some(issuer) if issuer != expected => return Err(TokenError::UnknownIssuer),
                Some(_) => {}
            }
        }
        if let Some(accepted) = &self.audiences
            && !claims::audience_fits(&claims, accepted).map_err(|_| INVALID)?
        {
            return Err(TokenError::WrongAudience);
        }
        let until = began.checked_add(self.result_ttl).unwrap_or(began);
        let expires = times.expires().map_or(until, |exp| exp.min(until));
        let identity = self.identity(claims, digest, expires)?;
        if !claims::has_all(&identity, &self.required) {
            return Err(TokenError::MissingClaim);
        }
        Ok(Grant::new(identity, 0, 0, true))
    }

    fn identity(&self, claims: Map<String, Value>, digest: &Hash, expires: SystemTime) -> Result<Identity, TokenError> {
        const INVALID: TokenError = TokenError::Introspection(IntrospectionFailure::InvalidResponse);
        let text = |name: &str| Ok(claims::text(&claims, name, INVALID)?.filter(|text| !text.is_empty()));
        let subject = text("sub")?;
        let cache_identity = match (subject, text("iss")?) {
            (Some(subject), issuer) => {
                let issuer = issuer.unwrap_or_default().as_bytes();
                cache_identity(&[b"Introspection", self.url.as_bytes(), issuer, b"sub", subject.as_bytes()])
            }
            // Without a subject, two users of one client may have the same claims.
            (None, _) => cache_identity(&[b"Introspection", self.url.as_bytes(), b"token", digest.bytes()]),
        };
        let name = match (subject, text("username")?, text("client_id")?) {
            (Some(name), _, _) | (None, Some(name), _) | (None, None, Some(name)) => Some(name.to_owned()),
            (None, None, None) => None,
        };
        let scopes = claims::scopes(&claims);
        Ok(Identity {
            kind: "Introspection",
            id: name,
            scopes,
            attributes: claims,
            policies: None,
            api_key: Presented::Nothing,
            expires,
            cache_identity,
        })
    }
}

/// Whether a token is one that a client sends to an API as it is. Endpoints report refresh tokens as active too, and tokens
/// whose holder must prove the possession of a key (RFC 9449), which is not verified here.
fn permits_calls(claims: &Map<String, Value>) -> bool {
    let is = |name: &str, accepted: &[&str]| match claims.get(name) {
        None | Some(Value::Null) => true,
        Some(Value::String(text)) => accepted.iter().any(|one| one.eq_ignore_ascii_case(text)),
        Some(_) => false,
    };
    is("token_type", &["Bearer", "access_token"]) && is("token_use", &["access", "access_token"])
}

#[cfg(test)]
mod tests;
