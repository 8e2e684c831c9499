//! Translates Authorizers to trusted issuers and their keys, and to introspection endpoints. Proxies verify tokens.

mod cognito;
mod introspection;
mod token;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sluice_crds::Authorizer;
use sluice_crds::authorizer::{AuthorizerType, JwksSource, JwksSourceType, JwtAlgorithm, JwtAuthorizer, JwtIssuer};
use sluice_crds::condition::reason;
use sluice_crds::field::Duration;
use sluice_crds::reference::KeyReference;
use sluice_wire::{
    Algorithm, AuthorizerKind, AuthorizerPart, Issuer, Jwt, KeySetError, KeySource, PartBody, PartKind, PartName,
    PublicKey, normalized_token_type,
};

use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::desired::Detail;
use crate::translate::kind::{Translate, Translated};
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;
use crate::translate::warnings::authorizers;
use crate::warning::Warnings;
use cognito::cognito;
use introspection::introspection;
use token::token_sources;

const MAX_CLOCK_SKEW_S: u64 = 300;
/// Keys of an unusable set that its condition explains.
const MAX_REASONS: usize = 4;

/// The name of an Authorizer's part.
pub(crate) fn part_name(key: &ObjectKey) -> PartName {
    PartName::of_object(PartKind::Authorizer, &key.namespace, &key.name)
}

impl Translate for Authorizer {
    fn part_name(key: &ObjectKey) -> PartName {
        part_name(key)
    }

    fn translate(&self, view: &View<'_>, key: &ObjectKey, problems: &mut Problems) -> Translated {
        Translated::of([(part_name(key), part(view, key, self, problems))], Detail::None)
    }

    fn warnings(&self, _view: &View<'_>, _key: &ObjectKey, warnings: &mut Warnings) {
        authorizers::of_authorizer(self, warnings);
    }
}

/// The part; with any problem it is one that authorizes no request.
fn part(view: &View<'_>, key: &ObjectKey, authorizer: &Authorizer, problems: &mut Problems) -> PartBody {
    let object = Kind::Authorizer.object(key);
    let spec = &authorizer.spec;
    if spec.jwt.is_some() != (spec.type_ == AuthorizerType::Jwt) {
        problems.invalid("spec.jwt", "type Jwt requires the field jwt, which is not allowed with other types");
    }
    if spec.introspection.is_some() != (spec.type_ == AuthorizerType::Introspection) {
        let why = "type Introspection requires the field introspection, which is not allowed with other types";
        problems.invalid("spec.introspection", why);
    }
    if spec.cognito.is_some() != (spec.type_ == AuthorizerType::Cognito) {
        let why = "type Cognito requires the field cognito, which is not allowed with other types";
        problems.invalid("spec.cognito", why);
    }
    let kind = match spec.type_ {
        AuthorizerType::Jwt => spec.jwt.as_ref().map(|spec| AuthorizerKind::Jwt(jwt(view, key, spec, problems))),
        AuthorizerType::Cognito => {
            spec.cognito.as_ref().map(|spec| AuthorizerKind::Cognito(cognito(view, key, spec, problems)))
        }
        AuthorizerType::Introspection => {
            let spec = spec.introspection.as_ref();
            spec.and_then(|spec| introspection(view, key, spec, problems)).map(AuthorizerKind::Introspection)
        }
    };
    let kind = match kind.filter(|_| problems.count() == 0) {
        Some(kind) => kind,
        None => AuthorizerKind::Invalid { why: problems.sentences() },
    };
    PartBody::Authorizer(AuthorizerPart { object, kind })
}

fn jwt(view: &View<'_>, key: &ObjectKey, spec: &JwtAuthorizer, problems: &mut Problems) -> Jwt {
    if spec.issuers.is_empty() {
        problems.invalid("spec.jwt.issuers", "at least one issuer is required");
    }
    if spec.algorithms.is_empty() {
        problems.invalid("spec.jwt.algorithms", "at least one algorithm is required");
    }
    let token_from = token_sources("spec.jwt.tokenFrom", &spec.token_from, problems);
    if spec.token_types.is_empty() {
        problems.invalid("spec.jwt.tokenTypes", "at least one type is required");
    }
    let clock_skew_s = clock_skew("spec.jwt.clockSkew", spec.clock_skew, problems);
    let mut issuers: Vec<Issuer> = Vec::new();
    for (at, issuer) in spec.issuers.iter().enumerate() {
        let field = format!("spec.jwt.issuers[{at}]");
        if issuers.iter().any(|earlier| earlier.issuer == issuer.issuer) {
            problems.invalid(&field, format_args!("the issuer {:?} is listed twice", issuer.issuer));
        }
        if issuer.audiences.is_empty() != issuer.any_audience {
            problems.invalid(&field, "either audiences with at least one entry, or anyAudience: true, is required");
        }
        let keys = keys(view, key, &field, issuer, problems);
        issuers.push(Issuer {
            issuer: issuer.issuer.clone(),
            audiences: issuer.audiences.clone(),
            any_audience: issuer.any_audience,
            keys,
        });
    }
    Jwt {
        issuers,
        algorithms: spec.algorithms.iter().copied().map(algorithm).collect(),
        token_from,
        clock_skew_s,
        required_claims: spec.required_claims.clone(),
        token_types: spec.token_types.iter().map(|text| normalized_token_type(text)).collect(),
    }
}

/// A tolerance for times, in seconds.
fn clock_skew(field: &str, skew: Duration, problems: &mut Problems) -> u64 {
    let seconds = fields::whole_seconds(field, skew, problems);
    if seconds > MAX_CLOCK_SKEW_S {
        problems.invalid(field, "must be at most 5m");
    }
    seconds
}

fn keys(view: &View<'_>, key: &ObjectKey, field: &str, issuer: &JwtIssuer, problems: &mut Problems) -> KeySource {
    match (&issuer.jwks_uri, &issuer.jwks) {
        (Some(_), Some(_)) => {
            problems.invalid(field, "set either jwksUri or jwks, not both");
            KeySource::Discovery
        }
        (Some(uri), None) => {
            if let Err(why) = fields::http_url(uri) {
                problems.invalid(&format!("{field}.jwksUri"), why);
            }
            KeySource::Uri(uri.clone())
        }
        (None, Some(source)) => KeySource::Inline(inline(view, key, &format!("{field}.jwks"), source, problems)),
        (None, None) => {
            if fields::http_url(issuer.issuer.trim_end_matches('/')).is_err() {
                let why = "an issuer that is not an http or https URL has no discovery document: add jwksUri or jwks";
                problems.invalid(&format!("{field}.issuer"), why);
            }
            KeySource::Discovery
        }
    }
}

/// The public keys of a key set in the cluster; empty, with a problem, when there are none.
fn inline(view: &View<'_>, key: &ObjectKey, field: &str, source: &JwksSource, problems: &mut Problems) -> String {
    let (member, named, read): (_, _, Read<'_>) = match source.type_ {
        JwksSourceType::ConfigMap => ("configMap", &source.config_map, in_config_map),
        JwksSourceType::Secret => ("secret", &source.secret, in_secret),
    };
    let Some(named) = named else {
        problems.invalid(field, format_args!("type {:?} requires the field {member}", source.type_));
        return String::new();
    };
    match read(view, key, named) {
        Ok(text) => text,
        Err(unresolved) => {
            unresolved.report(&format!("{field}.{member}"), problems);
            String::new()
        }
    }
}

type Read<'a> = fn(&View<'a>, &ObjectKey, &KeyReference) -> Result<String, Unresolved>;

fn in_secret(view: &View<'_>, key: &ObjectKey, named: &KeyReference) -> Result<String, Unresolved> {
    let holder = key.target(&named.object);
    let secret = resolve::<Secret>(view, Referrer::new(Kind::Authorizer, key), &holder)?;
    let bytes = secret.data.as_ref().and_then(|data| data.get(&named.key)).map(|ByteString(bytes)| bytes.as_slice());
    public_keys(bytes, &holder, Kind::Secret, &named.key, reason::SECRET_INVALID)
}

fn in_config_map(view: &View<'_>, key: &ObjectKey, named: &KeyReference) -> Result<String, Unresolved> {
    let holder = key.target(&named.object);
    let map = resolve::<ConfigMap>(view, Referrer::new(Kind::Authorizer, key), &holder)?;
    let text = map.data.as_ref().and_then(|data| data.get(&named.key)).map(String::as_bytes);
    let binary = || map.binary_data.as_ref().and_then(|data| data.get(&named.key)).map(|bytes| bytes.0.as_slice());
    public_keys(text.or_else(binary), &holder, Kind::ConfigMap, &named.key, reason::CONFIG_MAP_INVALID)
}

fn public_keys(
    bytes: Option<&[u8]>,
    holder: &ObjectKey,
    kind: Kind,
    name: &str,
    reason: &'static str,
) -> Result<String, Unresolved> {
    let Some(bytes) = bytes else {
        return Err(Unresolved {
            reason,
            why: format!("{kind} {holder} has no data key {name:?}; add it or correct the name"),
        });
    };
    let unusable = |why: String| Unresolved { reason, why: format!("the key {name:?} of {kind} {holder} {why}") };
    let set = PublicKey::read_set(bytes).map_err(|why| unusable(why.to_string()))?;
    if set.keys.is_empty() {
        let reasons: Vec<String> = set.skipped.iter().take(MAX_REASONS).map(ToString::to_string).collect();
        return Err(unusable(format!("{}: {}", KeySetError::NoUsableKey, reasons.join("; "))));
    }
    let keys: Vec<PublicKey> = set.keys.into_iter().map(|(_, key)| key).collect();
    Ok(PublicKey::write_set(&keys))
}

fn algorithm(algorithm: JwtAlgorithm) -> Algorithm {
    match algorithm {
        JwtAlgorithm::RS256 => Algorithm::RS256,
        JwtAlgorithm::RS384 => Algorithm::RS384,
        JwtAlgorithm::RS512 => Algorithm::RS512,
        JwtAlgorithm::PS256 => Algorithm::PS256,
        JwtAlgorithm::PS384 => Algorithm::PS384,
        JwtAlgorithm::PS512 => Algorithm::PS512,
        JwtAlgorithm::ES256 => Algorithm::ES256,
        JwtAlgorithm::ES384 => Algorithm::ES384,
        JwtAlgorithm::EdDSA => Algorithm::EdDSA,
    }
}
