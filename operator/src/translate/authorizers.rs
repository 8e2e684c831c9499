//! Translates Authorizers to trusted issuers and their keys. Proxies verify tokens.

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::{ConfigMap, Secret};
use sluice_crds::authorizer::{JwksSource, JwksSourceType, JwtAlgorithm, JwtAuthorizer, JwtIssuer};
use sluice_crds::condition::reason;
use sluice_crds::reference::KeyRef;
use sluice_crds::{Authorizer, authorizer::TokenFrom};
use sluice_wire::{Algorithm, AuthorizerPart, Issuer, Jwt, KeySource, PartBody, PartKind, PartName, TokenSource};

use crate::fields;
use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::desired::Detail;
use crate::translate::key_sets;
use crate::translate::kind::{Translate, Translated};
use crate::translate::view::View;

const MAX_CLOCK_SKEW_S: u64 = 300;

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
}

/// The part; with any problem it is one that authorizes no request.
fn part(view: &View<'_>, key: &ObjectKey, authorizer: &Authorizer, problems: &mut Problems) -> PartBody {
    let object = Kind::Authorizer.object(key);
    let jwt = match &authorizer.spec.jwt {
        Some(spec) => Some(jwt(view, key, spec, problems)),
        None => {
            problems.invalid("spec.jwt", "type Jwt requires the field jwt");
            None
        }
    };
    if problems.count() > 0 {
        return PartBody::Authorizer(AuthorizerPart { object, jwt: None, invalid: Some(problems.sentences()) });
    }
    PartBody::Authorizer(AuthorizerPart { object, jwt, invalid: None })
}

fn jwt(view: &View<'_>, key: &ObjectKey, spec: &JwtAuthorizer, problems: &mut Problems) -> Jwt {
    if spec.issuers.is_empty() {
        problems.invalid("spec.jwt.issuers", "at least one issuer is required");
    }
    if spec.algorithms.is_empty() {
        problems.invalid("spec.jwt.algorithms", "at least one algorithm is required");
    }
    if spec.token_from.is_empty() {
        problems.invalid("spec.jwt.tokenFrom", "at least one entry is required");
    }
    let clock_skew_s = fields::whole_seconds("spec.jwt.clockSkew", spec.clock_skew, problems);
    if clock_skew_s > MAX_CLOCK_SKEW_S {
        problems.invalid("spec.jwt.clockSkew", "must be at most 5m");
    }
    let mut issuers: Vec<Issuer> = Vec::new();
    for (at, issuer) in spec.issuers.iter().enumerate() {
        let field = format!("spec.jwt.issuers[{at}]");
        if issuers.iter().any(|earlier| earlier.issuer == issuer.issuer) {
            problems.invalid(&field, format_args!("the issuer {:?} is listed twice", issuer.issuer));
        }
        if issuer.audiences.is_empty() {
            problems.invalid(&format!("{field}.audiences"), "at least one audience is required");
        }
        let keys = keys(view, key, &field, issuer, problems);
        issuers.push(Issuer { issuer: issuer.issuer.clone(), audiences: issuer.audiences.clone(), keys });
    }
    let token_from = spec.token_from.iter().enumerate().map(|(at, from)| token_source(at, from, problems)).collect();
    Jwt {
        issuers,
        algorithms: spec.algorithms.iter().copied().map(algorithm).collect(),
        token_from,
        clock_skew_s,
        required_claims: spec.required_claims.clone(),
    }
}

fn token_source(at: usize, from: &TokenFrom, problems: &mut Problems) -> TokenSource {
    let header = fields::header_name(&from.header).unwrap_or_else(|why| {
        problems.invalid(&format!("spec.jwt.tokenFrom[{at}].header"), why);
        String::new()
    });
    TokenSource { header, scheme: from.scheme.clone() }
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

fn inline(view: &View<'_>, key: &ObjectKey, field: &str, source: &JwksSource, problems: &mut Problems) -> String {
    let (kind, member, named) = match source.type_ {
        JwksSourceType::ConfigMap => (Kind::ConfigMap, "configMap", &source.config_map),
        JwksSourceType::Secret => (Kind::Secret, "secret", &source.secret),
    };
    let Some(named) = named else {
        problems.invalid(field, format_args!("type {kind} requires the field {member}"));
        return String::new();
    };
    let field = format!("{field}.{member}");
    let holder = ObjectKey::new(key.namespace.clone(), named.name.clone());
    match content(view, kind, &holder, named) {
        Err(why) => problems.unresolved(reason::SECRET_NOT_FOUND, &field, why),
        Ok(bytes) => match key_sets::public(bytes) {
            Err(why) => {
                let why = format!("the key {:?} of {kind} {holder} {why}", named.key);
                problems.unresolved(reason::SECRET_INVALID, &field, why);
            }
            Ok(text) => return text,
        },
    }
    String::new()
}

fn content<'a>(view: &View<'a>, kind: Kind, holder: &ObjectKey, named: &KeyRef) -> Result<&'a [u8], String> {
    let found = if kind == Kind::Secret {
        let secret = view.get::<Secret>(holder).ok_or_else(|| view.absence(kind, holder))?;
        secret.data.as_ref().and_then(|data| data.get(&named.key)).map(|ByteString(bytes)| bytes.as_slice())
    } else {
        let map = view.get::<ConfigMap>(holder).ok_or_else(|| view.absence(kind, holder))?;
        let text = map.data.as_ref().and_then(|data| data.get(&named.key)).map(String::as_bytes);
        text.or_else(|| map.binary_data.as_ref().and_then(|data| data.get(&named.key)).map(|bytes| bytes.0.as_slice()))
    };
    found.ok_or_else(|| format!("{kind} {holder} has no data key {:?}; add it or correct the name", named.key))
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
