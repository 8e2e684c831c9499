//! Translates Stages to hosts, base path, certificate and defaults. `routes` decides which rules a Stage serves.

use std::collections::BTreeSet;
use std::sync::Arc;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::jiff::Timestamp;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::{Value, json};
use sluice_crds::Stage;
use sluice_crds::accepts::NamespacesFrom;
use sluice_crds::condition::reason;
use sluice_crds::stage::{
    self as api, AccessLogFormat, ApiKeySourceType, InvalidationAuthorization, UnauthorizedInvalidation,
};
use sluice_wire::{
    ApiKeySource, Behavior, CLIENT_AUTH_REQUIRED, CertificatePart, DoubleEncoding, EmptySegments, EncodedSlashes,
    FleetName, HeaderNames, HeaderValues, HostPattern, Hsts, Invalidation, POLICY_REQUIRED, PartBody, PartKind,
    PartName, PathCharacters, PlainHttp, QueryCharacters, RequestPolicy, Semicolons, StageCache, StagePart, StageTls,
    TrailingSlash, Unauthorized,
};

use crate::fields;
use crate::objects::{Kind, ObjectKey, Unparsable, UnparsableStage};
use crate::problem::Problems;
use crate::translate::client_auth;
use crate::translate::conflicts::{Claim, HostName, Since};
use crate::translate::desired::Detail;
use crate::translate::hosts::{
    self, Recorded, base_path_problem, claims, conflict, conflict_of_other_hosts, fleet, is_served, lost, names,
};
use crate::translate::kind::{Translate, Translated};
use crate::translate::node::Node;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::resource_policy::{resource_policy, stage_arn};
use crate::translate::view::View;
use crate::translate::warnings::{certificates, policies, revocation};
use crate::warning::Warnings;

/// The longest time of `Strict-Transport-Security`: two years, in seconds.
const MAX_HSTS_S: u64 = 17_520 * 3_600;

/// The name of a Stage's part.
pub(crate) fn part_name(key: &ObjectKey) -> PartName {
    PartName::of_object(PartKind::Stage, &key.namespace, &key.name)
}

/// The name of the part for the certificate in a Secret.
pub(crate) fn certificate_name(secret: &ObjectKey) -> PartName {
    PartName::of_object(PartKind::Certificate, &secret.namespace, &secret.name)
}

/// The Stage that routes of a namespace attach to. For a Stage of another namespace, `spec.accepts` decides, and the message
/// does not disclose whether the Stage exists.
pub(crate) fn attach<'a>(view: &View<'a>, namespace: &str, stage: &ObjectKey) -> Result<&'a Arc<Stage>, Unresolved> {
    let found = view.get::<Stage>(stage);
    if stage.namespace == namespace {
        let why = || view.absence(Kind::Stage, stage);
        return found.ok_or_else(|| Unresolved { reason: reason::STAGE_NOT_FOUND, why: why() });
    }
    let accepts = |stage: &Stage| match &stage.spec.accepts.namespaces {
        set if set.from == NamespacesFrom::Selector => {
            let found = view.get::<Namespace>(&ObjectKey::new("", namespace));
            set.contains(namespace, found.and_then(|found| found.metadata.labels.as_ref()))
        }
        set => set.contains(namespace, None),
    };
    found.filter(|found| accepts(found)).ok_or_else(|| Unresolved {
        reason: reason::NOT_ALLOWED_BY_STAGE,
        why: format!(
            "Stage {stage} does not exist or does not accept ApiRoutes of namespace {namespace}; see its field spec.accepts"
        ),
    })
}

impl Translate for Stage {
    fn claims(&self, _view: &View<'_>, _key: &ObjectKey) -> BTreeSet<Claim> {
        claims(self)
    }

    /// Its host names: a Stage that only a newer version can parse must not hand them to another namespace.
    fn claims_of_unparsable(object: &Unparsable) -> BTreeSet<Claim> {
        object.stage.iter().flat_map(|stage| names(&stage.hostnames)).map(Claim::Name).collect()
    }

    fn since(&self, claim: &Claim) -> Since {
        Recorded::of(self).since(claim)
    }

    fn since_of_unparsable(object: &Unparsable, claim: &Claim) -> Since {
        Recorded::of_unparsable(object.stage.as_deref()).since(claim)
    }

    fn translate_unparsable(view: &View<'_>, key: &ObjectKey, object: &Unparsable) -> Option<Translated> {
        let stage = object.stage.as_deref()?;
        let UnparsableStage { hostnames, fleet, .. } = stage;
        let fleet = fleet.as_ref().and_then(|name| name.parse().ok()).unwrap_or_default();
        let part = closed_part(view, key, &fleet, hostnames, "it cannot be parsed");
        let claims = hosts::times_of_unparsable(view, key, stage);
        Some(Translated {
            fleet: Some(fleet),
            closed: true,
            ..Translated::of(
                part.map(|part| (part_name(key), PartBody::Stage(part))),
                Detail::Stage { rules: 0, claims },
            )
        })
    }

    fn part_name(key: &ObjectKey) -> PartName {
        part_name(key)
    }

    fn translate(&self, view: &View<'_>, key: &ObjectKey, problems: &mut Problems) -> Translated {
        let (part, secrets) = part(view, key, self, problems);
        Translated {
            relies_on: secrets.iter().map(certificate_name).collect(),
            needs: secrets.into_iter().map(Node::Certificate).collect(),
            fleet: fleet(self).ok(),
            closed: !is_served(view, key, self),
            ..Translated::of(
                part.map(|part| (part_name(key), part)),
                Detail::Stage { rules: 0, claims: hosts::times_of(view, key, self) },
            )
        }
    }

    fn warnings(&self, view: &View<'_>, key: &ObjectKey, warnings: &mut Warnings) {
        certificates::of_stage(view, key, self, warnings);
        revocation::of_stage(view, key, self, warnings);
        policies::of_stage(key, self, warnings);
    }

    fn desired_detail(detail: &Detail, proxies: Value, now: Timestamp) -> Value {
        let Detail::Stage { rules, claims } = detail else { return Value::Null };
        let mut status = hosts::as_status(claims, now);
        status["proxies"] = proxies;
        status["rules"] = json!(i32::try_from(*rules).unwrap_or(i32::MAX));
        status
    }

    fn present_detail(&self) -> Value {
        let found = self.status.as_ref();
        let mut status = Recorded::of(self).as_status();
        status["proxies"] = json!(found.and_then(|found| found.proxies.as_ref()));
        status["rules"] = json!(found.and_then(|found| found.rules));
        status
    }
}

/// A Stage's part and the Secrets of its certificates. No part: nothing of the Stage can be served.
fn part(
    view: &View<'_>,
    key: &ObjectKey,
    stage: &Stage,
    problems: &mut Problems,
) -> (Option<PartBody>, Vec<ObjectKey>) {
    let spec = &stage.spec;
    let fleet = match fleet(stage) {
        Ok(fleet) => fleet,
        Err(why) => {
            problems.invalid("spec.fleet.name", why);
            return (None, Vec::new());
        }
    };
    if let Some(why) = base_path_problem(&spec.base_path) {
        problems.invalid("spec.basePath", why);
    }
    let mut hostnames: Vec<HostPattern> = Vec::new();
    for (at, host) in spec.hostnames.iter().enumerate() {
        let field = format!("spec.hostnames[{at}]");
        match host.parse::<HostPattern>() {
            Err(why) => problems.invalid(&field, why),
            Ok(host) => {
                if let Some(lost) = lost(view, key, &fleet, &HostName::from(&host), &spec.base_path) {
                    let why = conflict(&lost, &key.namespace, &host.to_string(), &spec.base_path);
                    problems.accept(reason::CONFLICTED, &field, why);
                } else if !hostnames.contains(&host) {
                    hostnames.push(host);
                }
            }
        }
    }
    if spec.hostnames.is_empty()
        && let Some(lost) = lost(view, key, &fleet, &HostName::any(), &spec.base_path)
    {
        let why = conflict_of_other_hosts(&lost, &key.namespace, &spec.base_path);
        problems.accept(reason::CONFLICTED, "spec.hostnames", why);
    }
    let source = spec.source.as_ref().and_then(|source| fields::source("spec.source", source, problems));
    let arn = stage_arn(key, spec.aws.as_ref());
    let policy = spec.policy.as_ref().and_then(|policy| resource_policy(policy, &arn, problems));
    let api_key_source = spec.api_key_source.as_ref().and_then(|source| api_key_source(source, problems)).map(Box::new);
    let throttle = spec.throttle.and_then(|limit| fields::throttle("spec.throttle", limit, problems));
    let client_throttle =
        spec.client_throttle.and_then(|limit| fields::client_throttle("spec.clientThrottle", limit, problems));
    let cache = spec.cache.as_ref().and_then(|settings| cache(settings, problems));
    let cors = spec.cors.as_ref().map(|settings| Box::new(fields::cors("spec.cors", settings, problems)));
    let secrets = certificates(view, key, spec.tls.as_ref(), problems);
    let tls = spec.tls.as_ref().map(|settings| tls(key, settings, &secrets, problems));
    let settings = spec.tls.as_ref().and_then(|tls| tls.client_auth.as_ref());
    let client_auth = settings.and_then(|settings| client_auth::translate(view, key, settings, problems));
    if base_path_problem(&spec.base_path).is_some() {
        let part = closed_part(view, key, &fleet, &spec.hostnames, "its base path is invalid");
        return (part.map(PartBody::Stage), Vec::new());
    }
    if !is_served(view, key, stage) {
        // Serving it without its hosts would mean serving it on every host.
        return (None, Vec::new());
    }
    // A default that cannot be used must not become no default: a limit would be gone.
    let loses_check = (spec.throttle.is_some() && throttle.is_none())
        || (spec.client_throttle.is_some() && client_throttle.is_none())
        || (spec.source.is_some() && source.is_none())
        || (spec.policy.is_some() && policy.is_none())
        || (settings.is_some() && client_auth.is_none())
        || (spec.api_key_source.is_some() && api_key_source.is_none());
    // Proxies that know the first know the second.
    let required = || match (&client_auth, &policy) {
        (Some(_), _) => Some(CLIENT_AUTH_REQUIRED.to_owned()),
        (None, Some(_)) => Some(POLICY_REQUIRED.to_owned()),
        (None, None) => None,
    };
    let invalid = problems_of_defaults(loses_check, problems).or_else(required);
    let part = StagePart {
        object: Kind::Stage.object(key),
        hostnames,
        base_path: spec.base_path.clone(),
        behavior: match spec.behavior {
            api::Behavior::Native => Behavior::Native,
            api::Behavior::AwsRest => Behavior::AwsRest,
            api::Behavior::AwsHttp => Behavior::AwsHttp,
        },
        trailing_slash: spec.trailing_slash.map(|slash| match slash {
            api::TrailingSlash::Exact => TrailingSlash::Exact,
            api::TrailingSlash::Ignore => TrailingSlash::Ignore,
        }),
        certificates: secrets.iter().map(certificate_name).collect(),
        tls,
        client_auth: client_auth.map(Box::new),
        source: source.map(Box::new),
        policy: policy.map(Box::new),
        arn: Some(arn),
        api_key_source,
        throttle,
        client_throttle,
        rate_limit_headers: spec.rate_limit_headers,
        cache,
        cors,
        request_policy: spec.request_policy.as_ref().map(request_policy).unwrap_or_default(),
        forward_client_headers: spec.forward_client_headers.clone(),
        access_log: spec.access_log.format == AccessLogFormat::Json,
        invalid,
    };
    (Some(PartBody::Stage(part)), secrets)
}

/// The part of a Stage that serves nothing: it rejects all requests for its hosts. Without it a wildcard of another namespace,
/// or its Stage without hostnames, would get them. Hosts that another Stage of the namespace serves at the root are left out.
fn closed_part(
    view: &View<'_>,
    key: &ObjectKey,
    fleet: &FleetName,
    hostnames: &[String],
    why: &str,
) -> Option<StagePart> {
    let keeps = |host: &HostName| lost(view, key, fleet, host, "/").is_none();
    let kept = hostnames.iter().filter_map(|host| host.parse::<HostPattern>().ok());
    let kept: BTreeSet<HostPattern> = kept.filter(|host| keeps(&HostName::from(host))).collect();
    let any = hostnames.is_empty() && keeps(&HostName::any());
    (any || !kept.is_empty()).then(|| StagePart {
        object: Kind::Stage.object(key),
        hostnames: kept.into_iter().collect(),
        base_path: "/".to_owned(),
        behavior: Behavior::Native,
        trailing_slash: None,
        certificates: Vec::new(),
        tls: None,
        client_auth: None,
        source: None,
        policy: None,
        arn: None,
        api_key_source: None,
        throttle: None,
        client_throttle: None,
        rate_limit_headers: false,
        cache: None,
        cors: None,
        request_policy: RequestPolicy::default(),
        forward_client_headers: Vec::new(),
        access_log: true,
        invalid: Some(why.to_owned()),
    })
}

fn request_policy(policy: &api::RequestPolicy) -> RequestPolicy {
    let api::RequestPolicy {
        encoded_slashes,
        double_encoding,
        semicolons,
        empty_segments,
        path_characters,
        query_characters,
        header_names,
        header_values,
    } = policy;
    RequestPolicy {
        encoded_slashes: encoded_slashes.map(|value| match value {
            api::EncodedSlashes::Reject => EncodedSlashes::Reject,
            api::EncodedSlashes::Decode => EncodedSlashes::Decode,
            api::EncodedSlashes::Forward => EncodedSlashes::Forward,
        }),
        double_encoding: double_encoding.map(|value| match value {
            api::DoubleEncoding::Reject => DoubleEncoding::Reject,
            api::DoubleEncoding::Forward => DoubleEncoding::Forward,
        }),
        semicolons: semicolons.map(|value| match value {
            api::Semicolons::Reject => Semicolons::Reject,
            api::Semicolons::Drop => Semicolons::Drop,
            api::Semicolons::Forward => Semicolons::Forward,
        }),
        empty_segments: empty_segments.map(|value| match value {
            api::EmptySegments::Reject => EmptySegments::Reject,
            api::EmptySegments::Collapse => EmptySegments::Collapse,
            api::EmptySegments::Forward => EmptySegments::Forward,
        }),
        path_characters: path_characters.map(|value| match value {
            api::PathCharacters::Reject => PathCharacters::Reject,
            api::PathCharacters::Encode => PathCharacters::Encode,
        }),
        query_characters: query_characters.map(|value| match value {
            api::QueryCharacters::Reject => QueryCharacters::Reject,
            api::QueryCharacters::Encode => QueryCharacters::Encode,
            api::QueryCharacters::Forward => QueryCharacters::Forward,
        }),
        header_names: header_names.map(|value| match value {
            api::HeaderNames::Reject => HeaderNames::Reject,
            api::HeaderNames::Drop => HeaderNames::Drop,
            api::HeaderNames::Forward => HeaderNames::Forward,
        }),
        header_values: header_values.map(|value| match value {
            api::HeaderValues::Reject => HeaderValues::Reject,
            api::HeaderValues::Drop => HeaderValues::Drop,
            api::HeaderValues::Forward => HeaderValues::Forward,
        }),
    }
}

fn api_key_source(source: &api::ApiKeySource, problems: &mut Problems) -> Option<ApiKeySource> {
    let api::ApiKeySource { type_, name, scheme } = source;
    if scheme.is_some() && *type_ != ApiKeySourceType::Header {
        problems.invalid("spec.apiKeySource.scheme", "it is allowed with type Header only");
        return None;
    }
    match type_ {
        ApiKeySourceType::Header => match fields::header_name(name) {
            Ok(name) => Some(ApiKeySource::Header { name, scheme: scheme.clone() }),
            Err(why) => {
                problems.invalid("spec.apiKeySource.name", why);
                None
            }
        },
        ApiKeySourceType::Query => Some(ApiKeySource::Query(name.clone())),
        ApiKeySourceType::Cookie => Some(ApiKeySource::Cookie(name.clone())),
    }
}

fn problems_of_defaults(broken: bool, problems: &Problems) -> Option<String> {
    broken.then(|| problems.sentences())
}

fn cache(settings: &api::StageCache, problems: &mut Problems) -> Option<StageCache> {
    let ttl_ms = fields::cache_ttl("spec.cache.ttl", settings.ttl, problems)?;
    settings.enabled.then_some(StageCache {
        ttl_ms,
        max_bytes: settings.max_bytes.get(),
        invalidation: match settings.invalidation.authorization {
            InvalidationAuthorization::Required => Invalidation::Required,
            InvalidationAuthorization::None => Invalidation::None,
        },
        unauthorized: match settings.invalidation.unauthorized {
            UnauthorizedInvalidation::FailWith403 => Unauthorized::FailWith403,
            UnauthorizedInvalidation::SucceedWithWarning => Unauthorized::SucceedWithWarning,
            UnauthorizedInvalidation::SucceedSilently => Unauthorized::SucceedSilently,
        },
    })
}

/// The settings of TLS. `usable`: the Secrets of certificates that can be used.
fn tls(key: &ObjectKey, settings: &api::StageTls, usable: &[ObjectKey], problems: &mut Problems) -> StageTls {
    let hsts = settings.hsts.map(|hsts| {
        let max_age_s = fields::whole_seconds("spec.tls.hsts.maxAge", hsts.max_age, problems);
        if max_age_s > MAX_HSTS_S {
            problems.invalid("spec.tls.hsts.maxAge", "must be at most 17520h");
        }
        Hsts { max_age_s: max_age_s.min(MAX_HSTS_S), subdomains: hsts.scope == api::HstsScope::HostAndSubdomains }
    });
    let http = match settings.http {
        api::PlainHttp::Redirect => PlainHttp::Redirect,
        api::PlainHttp::Serve => PlainHttp::Serve,
        api::PlainHttp::Off => PlainHttp::Off,
    };
    let incomplete = settings.certificates.iter().any(|reference| !usable.contains(&key.target(reference)));
    StageTls { http, hsts, incomplete }
}

/// The Secrets of the certificates that can be used, in order.
fn certificates(
    view: &View<'_>,
    key: &ObjectKey,
    tls: Option<&api::StageTls>,
    problems: &mut Problems,
) -> Vec<ObjectKey> {
    let mut usable = Vec::new();
    for (at, reference) in tls.iter().flat_map(|tls| &tls.certificates).enumerate() {
        let field = format!("spec.tls.certificates[{at}]");
        let holder = key.target(reference);
        match resolve::<Secret>(view, Referrer::new(Kind::Stage, key), &holder) {
            Err(unresolved) => unresolved.report(&field, problems),
            Ok(secret) => match certificate(&holder, secret) {
                Ok(_) if usable.contains(&holder) => {}
                Ok(_) => usable.push(holder),
                Err(why) => problems.unresolved(reason::SECRET_INVALID, &field, format_args!("Secret {holder} {why}")),
            },
        }
    }
    usable
}

/// The part for the certificate in a Secret; none when it is gone or cannot be used.
pub(crate) fn certificate_part(view: &View<'_>, key: &ObjectKey) -> Option<PartBody> {
    view.get::<Secret>(key).and_then(|secret| certificate(key, secret).ok()).map(PartBody::Certificate)
}

/// Reads a chain and its key and checks that they belong together. Messages never show content.
fn certificate(key: &ObjectKey, secret: &Secret) -> Result<CertificatePart, String> {
    let text = |name: &str| {
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        let bytes = bytes.ok_or_else(|| format!("has no key {name:?}; tls.crt and tls.key are required"))?;
        String::from_utf8(bytes.0.clone()).map_err(|_| format!("has a {name} that is not PEM text"))
    };
    let (chain_pem, key_pem) = (text("tls.crt")?, text("tls.key")?);
    let chain = CertificateDer::pem_slice_iter(chain_pem.as_bytes()).collect::<Result<Vec<_>, _>>();
    let chain = chain.ok().filter(|chain| !chain.is_empty()).ok_or("has a tls.crt without a certificate in PEM")?;
    let private =
        PrivateKeyDer::from_pem_slice(key_pem.as_bytes()).map_err(|_| "has a tls.key without a private key in PEM")?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let not_after = certificates::expiry(&chain);
    rustls::sign::CertifiedKey::from_der(chain, private, &provider).map_err(|error| match error {
        rustls::Error::InconsistentKeys(_) => "has a tls.key that does not match tls.crt".to_owned(),
        _ => "has an unsupported certificate or key; RSA, ECDSA and Ed25519 are supported".to_owned(),
    })?;
    Ok(CertificatePart { object: Kind::Secret.object(key), chain_pem, key_pem, not_after })
}

#[cfg(test)]
mod tests {
    use kube::CustomResourceExt as _;

    use super::*;

    #[test]
    fn the_schema_permits_no_header_that_is_never_forwarded() {
        let schema = serde_json::to_value(Stage::crd()).unwrap();
        let field = "/spec/versions/0/schema/openAPIV3Schema/properties/spec/properties/forwardClientHeaders";
        let rule = schema.pointer(field).unwrap()["x-kubernetes-validations"][0]["rule"].as_str().unwrap();
        let names = sluice_wire::NEVER_FORWARDED.map(|name| format!("'{name}'")).join(", ");
        assert!(rule.contains(&format!("[{names}]")), "{rule}");
    }
}
