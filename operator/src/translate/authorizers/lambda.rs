//! Translates Lambda authorizers. Credentials are in the part, which proxies treat as they treat private keys.

use k8s_openapi::api::core::v1::Secret;
use sluice_crds::authorizer::{self, ContextSource, LambdaAuthorizer, LambdaFunctionType, LambdaPayload};
use sluice_crds::condition::reason;
use sluice_crds::reference::Reference;
use sluice_wire::{
    AwsCredentials, IdentitySource, Lambda, LambdaEvent, LambdaFunction, LambdaInvoke, LambdaResponses, TokenPattern,
    TokenSource, Variable,
};

use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;

const MAX_RESULT_TTL_MS: u64 = 3_600_000;
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=29_000;
const MAX_KEY_BYTES: usize = 256;
/// AWS names no cap.
const MAX_SESSION_TOKEN_BYTES: usize = 8192;

/// None: the function cannot be called.
pub(super) fn lambda(
    view: &View<'_>,
    key: &ObjectKey,
    spec: &LambdaAuthorizer,
    problems: &mut Problems,
) -> Option<Lambda> {
    let event = match (spec.event, spec.payload) {
        (authorizer::LambdaEvent::Token, None | Some(LambdaPayload::V1)) => LambdaEvent::Token,
        (authorizer::LambdaEvent::Token, Some(LambdaPayload::V2)) => {
            problems.invalid("spec.lambda.payload", "event Token has payload 1.0");
            LambdaEvent::Token
        }
        (authorizer::LambdaEvent::Request, Some(LambdaPayload::V1)) => LambdaEvent::RequestV1,
        (authorizer::LambdaEvent::Request, None | Some(LambdaPayload::V2)) => LambdaEvent::RequestV2,
    };
    let responses = match spec.responses {
        authorizer::LambdaResponses::Policy => LambdaResponses::Policy,
        authorizer::LambdaResponses::Simple => LambdaResponses::Simple,
    };
    if responses == LambdaResponses::Simple && event != LambdaEvent::RequestV2 {
        problems.invalid("spec.lambda.responses", "responses Simple requires event Request with payload 2.0");
    }
    let milliseconds = |time: sluice_crds::field::Duration| u64::try_from(time.get().as_millis()).unwrap_or(u64::MAX);
    let (result_ttl_ms, timeout_ms) = (milliseconds(spec.result_ttl), milliseconds(spec.timeout));
    if result_ttl_ms > MAX_RESULT_TTL_MS {
        problems.invalid("spec.lambda.resultTtl", "must be at most 1h");
    }
    if !TIMEOUT_MS.contains(&timeout_ms) {
        problems.invalid("spec.lambda.timeout", "must be from 100ms to 29s");
    }
    let identity_sources = identity_sources(spec, event, problems);
    if identity_sources.is_empty() && result_ttl_ms > 0 {
        let why = "without identity sources, results cannot be remembered: add one, or resultTtl: 0s";
        problems.invalid("spec.lambda.identitySources", why);
    }
    if let Some(pattern) = &spec.validation {
        if event != LambdaEvent::Token {
            problems.invalid("spec.lambda.validation", "validation requires event Token");
        }
        if let Err(why) = TokenPattern::compile(pattern) {
            problems.invalid("spec.lambda.validation", why);
        }
    }
    Some(Lambda {
        function: function(view, key, &spec.function, problems)?,
        event,
        responses,
        identity_sources,
        validation: spec.validation.clone(),
        result_ttl_ms,
        timeout_ms,
    })
}

fn identity_sources(spec: &LambdaAuthorizer, event: LambdaEvent, problems: &mut Problems) -> Vec<IdentitySource> {
    if event == LambdaEvent::Token {
        match spec.identity_sources.as_slice() {
            [] => {
                let place = TokenSource::Header { header: "authorization".to_owned(), scheme: None };
                return vec![IdentitySource::Place(place)];
            }
            [one] if one.header.is_some() => {}
            _ => {
                let why = "event Token has one identity source, which is a header";
                problems.invalid("spec.lambda.identitySources", why);
            }
        }
    }
    let mut found = Vec::new();
    for (at, source) in spec.identity_sources.iter().enumerate() {
        let field = format!("spec.lambda.identitySources[{at}]");
        let source = match (&source.header, &source.query, &source.cookie, source.context) {
            (Some(header), None, None, None) => match fields::header_name(header) {
                Ok(header) => IdentitySource::Place(TokenSource::Header { header, scheme: None }),
                Err(why) => {
                    problems.invalid(&format!("{field}.header"), why);
                    continue;
                }
            },
            (None, Some(query), None, None) => IdentitySource::Place(TokenSource::Query { query: query.clone() }),
            (None, None, Some(cookie), None) => IdentitySource::Place(TokenSource::Cookie { cookie: cookie.clone() }),
            (None, None, None, Some(context)) => IdentitySource::Context { context: variable(context) },
            _ => {
                problems.invalid(&field, "exactly one of header, query, cookie and context is required");
                continue;
            }
        };
        if found.contains(&source) {
            problems.invalid(&field, "the identity source is listed twice");
        }
        found.push(source);
    }
    found
}

fn variable(source: ContextSource) -> Variable {
    match source {
        ContextSource::DomainName => Variable::DomainName,
        ContextSource::HttpMethod => Variable::HttpMethod,
        ContextSource::Certificate => Variable::ClientCertificate(sluice_wire::CertificateField::Fingerprint),
        ContextSource::SourceIp => Variable::SourceIp,
        ContextSource::Path => Variable::Path,
        ContextSource::Route => Variable::Route,
        ContextSource::Rule => Variable::Rule,
    }
}

fn function(
    view: &View<'_>,
    key: &ObjectKey,
    spec: &authorizer::LambdaFunction,
    problems: &mut Problems,
) -> Option<LambdaFunction> {
    let mut url = |field: &str, url: &str| {
        if let Err(why) = fields::http_url(url) {
            problems.invalid(field, why);
        }
    };
    match (spec.type_, &spec.url, &spec.invoke) {
        (LambdaFunctionType::Url, Some(text), None) => {
            url("spec.lambda.function.url", text);
            Some(LambdaFunction::Url(text.clone()))
        }
        (LambdaFunctionType::Invoke, None, Some(invoke)) => {
            let region = &invoke.region;
            let endpoint = match &invoke.endpoint {
                Some(endpoint) => {
                    url("spec.lambda.function.invoke.endpoint", endpoint);
                    endpoint.trim_end_matches('/').to_owned()
                }
                None => format!("https://lambda.{region}.amazonaws.com"),
            };
            let url = format!("{endpoint}/2015-03-31/functions/{}/invocations", encoded(&invoke.function_name));
            let credentials = match &invoke.credentials {
                None => None,
                Some(named) => match credentials(view, key, named) {
                    Ok(found) => Some(found),
                    Err(unresolved) => {
                        unresolved.report("spec.lambda.function.invoke.credentials", problems);
                        return None;
                    }
                },
            };
            Some(LambdaFunction::Invoke(LambdaInvoke { url, region: region.clone(), credentials }))
        }
        _ => {
            let why = "type Url requires the field url, and type Invoke the field invoke; the other one is not allowed";
            problems.invalid("spec.lambda.function", why);
            None
        }
    }
}

/// A segment of a path, encoded as SDKs of AWS do it.
fn encoded(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    for byte in name.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => out.push(char::from(byte)),
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// The access key in a Secret. A line end after a value is not part of it.
fn credentials(view: &View<'_>, key: &ObjectKey, named: &Reference) -> Result<AwsCredentials, Unresolved> {
    let holder = key.target(named);
    let secret = resolve::<Secret>(view, Referrer::new(Kind::Authorizer, key), &holder)?;
    let value = |name: &str, most: usize| -> Result<Option<String>, Unresolved> {
        let Some(bytes) = secret.data.as_ref().and_then(|data| data.get(name)) else { return Ok(None) };
        let text = std::str::from_utf8(&bytes.0).ok().map(|text| text.trim_end_matches(['\r', '\n']));
        let good = |text: &&str| (1..=most).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic());
        let text = text.filter(good).ok_or_else(|| Unresolved {
            reason: reason::SECRET_INVALID,
            why: format!(
                "the key {name:?} of Secret {holder} is not valid: it must have 1 to {most} ASCII characters without spaces"
            ),
        })?;
        Ok(Some(text.to_owned()))
    };
    let required = |name: &str| {
        value(name, MAX_KEY_BYTES)?.ok_or_else(|| Unresolved {
            reason: reason::SECRET_INVALID,
            why: format!("Secret {holder} has no data key {name:?}; add it"),
        })
    };
    Ok(AwsCredentials {
        access_key_id: required("AWS_ACCESS_KEY_ID")?,
        secret_access_key: required("AWS_SECRET_ACCESS_KEY")?,
        session_token: value("AWS_SESSION_TOKEN", MAX_SESSION_TOKEN_BYTES)?,
    })
}
