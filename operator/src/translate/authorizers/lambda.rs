//! Translates Lambda authorizers. Credentials are in the part, which proxies treat as they treat private keys.

use std::collections::BTreeSet;

use sluice_crds::authorizer::{self, ContextSource, LambdaAuthorizer, LambdaFunctionType, LambdaPayload};
use sluice_crds::reference::{Reference, ServiceReference};
use sluice_sigv4::uri_encode;
use sluice_wire::{
    AwsCredentials, IdentitySource, Invocation, Lambda, LambdaEvent, LambdaFunction, LambdaInvoke, LambdaResponses,
    LambdaService, TokenPattern, TokenSource, Variable,
};

use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::node::Node;
use crate::translate::references::{Referrer, Unresolved};
use crate::translate::secret_values::{Form, SecretValues};
use crate::translate::view::View;
use crate::translate::{service_ports, upstreams};
use crate::{fields, lower};

const MAX_RESULT_TTL_MS: u64 = 3_600_000;
const TIMEOUT_MS: std::ops::RangeInclusive<u64> = 100..=29_000;
const ACCESS_KEY: Form = Form { length: 1..=256, characters: CHARACTERS, is_valid: |byte| byte.is_ascii_graphic() };
/// AWS names no cap.
const SESSION_TOKEN: Form = Form { length: 1..=8192, ..ACCESS_KEY };
const CHARACTERS: &str = "printable ASCII characters without spaces";

/// None: the function cannot be called. `needs` gets the port of a Service that it is behind.
pub(super) fn lambda(
    view: &View<'_>,
    key: &ObjectKey,
    spec: &LambdaAuthorizer,
    needs: &mut BTreeSet<Node>,
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
        function: function(view, key, &spec.function, needs, problems)?,
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
    needs: &mut BTreeSet<Node>,
    problems: &mut Problems,
) -> Option<LambdaFunction> {
    const FIELD: &str = "spec.lambda.function";
    match (spec.type_, &spec.url, &spec.service, &spec.invoke) {
        (LambdaFunctionType::Url, Some(url), None, None) => {
            if let Err(why) = fields::http_url(url) {
                problems.invalid(&format!("{FIELD}.url"), why);
            }
            Some(LambdaFunction::Url(url.clone()))
        }
        (LambdaFunctionType::Service, None, Some(named), None) => {
            let path = named.path.clone().unwrap_or_else(|| "/".to_owned());
            // As part of a URL.
            if !path.starts_with('/') || fields::http_url(&format!("http://service{path}")).is_err() {
                let why = format!("{path:?} is not the path of a URL: it begins with / and has no query or fragment");
                problems.invalid(&format!("{FIELD}.service.path"), why);
            }
            let service = service(view, key, &format!("{FIELD}.service"), &named.service, needs, problems)?;
            Some(LambdaFunction::Service(LambdaService { path, ..service }))
        }
        (LambdaFunctionType::Invoke, None, None, Some(invoke)) => {
            let invocation = Invocation {
                region: invoke.region.clone(),
                credentials: match &invoke.credentials {
                    None => None,
                    Some(named) => match credentials(view, key, named) {
                        Ok(found) => Some(found),
                        Err(unresolved) => {
                            unresolved.report(&format!("{FIELD}.invoke.credentials"), problems);
                            return None;
                        }
                    },
                },
            };
            let path = format!("/2015-03-31/functions/{}/invocations", uri_encode(&invoke.function_name));
            let endpoint = match (&invoke.endpoint, &invoke.service) {
                (Some(_), Some(_)) => {
                    problems.invalid(&format!("{FIELD}.invoke"), "endpoint and service exclude each other");
                    return None;
                }
                (None, Some(named)) => {
                    let service = service(view, key, &format!("{FIELD}.invoke.service"), named, needs, problems)?;
                    let service = LambdaService { path, invoke: Some(invocation), ..service };
                    return Some(LambdaFunction::Service(service));
                }
                (Some(endpoint), None) => {
                    if let Err(why) = fields::http_url(endpoint) {
                        problems.invalid(&format!("{FIELD}.invoke.endpoint"), why);
                    }
                    endpoint.trim_end_matches('/').to_owned()
                }
                (None, None) => format!("https://lambda.{}.amazonaws.com", invoke.region),
            };
            Some(LambdaFunction::Invoke(LambdaInvoke { url: endpoint + &path, invocation }))
        }
        _ => {
            let why = "type Service requires the field service, type Url the field url, and type Invoke the field invoke; the \
                       others are not allowed";
            problems.invalid(FIELD, why);
            None
        }
    }
}

/// A call of a port of a Service, without its path. `needs` gets the port.
fn service(
    view: &View<'_>,
    key: &ObjectKey,
    field: &str,
    named: &ServiceReference,
    needs: &mut BTreeSet<Node>,
    problems: &mut Problems,
) -> Option<LambdaService> {
    let port = lower::service_port(key, field, named, problems)?;
    let id = service_ports::resolve(view, Referrer::new(Kind::Authorizer, key), &port, problems)?;
    let ObjectKey { namespace, name } = &id.service;
    let host = match id.port {
        80 | 443 => format!("{name}.{namespace}.svc"),
        port => format!("{name}.{namespace}.svc:{port}"),
    };
    let upstream = upstreams::part_name(&id);
    needs.insert(Node::Upstream(id));
    Some(LambdaService { upstream, host, path: String::new(), invoke: None })
}

fn credentials(view: &View<'_>, key: &ObjectKey, named: &Reference) -> Result<AwsCredentials, Unresolved> {
    let values = SecretValues::of(view, Referrer::new(Kind::Authorizer, key), key.target(named))?;
    let (id, secret) = values.access_key(&ACCESS_KEY, &ACCESS_KEY)?;
    Ok(AwsCredentials {
        access_key_id: id.to_owned(),
        secret_access_key: secret.to_owned(),
        session_token: values.get("AWS_SESSION_TOKEN", &SESSION_TOKEN)?.map(str::to_owned),
    })
}
