//! Translates Authorizers to trusted issuers and their keys, to introspection endpoints, to functions and to accepted signatures.
//! Proxies verify tokens and signatures.

mod cognito;
mod iam;
mod introspection;
mod keys;
mod lambda;
mod service_account;
mod token;

use sluice_crds::Authorizer;
use sluice_crds::authorizer::{AuthorizerType, JwtAlgorithm, JwtAuthorizer};
use sluice_wire::{
    Algorithm, AuthorizerKind, AuthorizerPart, Issuer, Jwt, PartBody, PartKind, PartName, normalized_token_type,
};

use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::desired::Detail;
use crate::translate::kind::{Translate, Translated};
use crate::translate::view::View;
use crate::translate::warnings::authorizers;
use crate::warning::Warnings;
use cognito::cognito;
pub(crate) use iam::iam;
use introspection::introspection;
use keys::keys;
use lambda::lambda;
use service_account::service_account;
use token::{clock_skew, token_sources};

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

    fn warnings(&self, view: &View<'_>, key: &ObjectKey, warnings: &mut Warnings) {
        authorizers::of_authorizer(view, key, self, warnings);
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
    if spec.service_account.is_some() != (spec.type_ == AuthorizerType::ServiceAccount) {
        let why = "type ServiceAccount requires the field serviceAccount, which is not allowed with other types";
        problems.invalid("spec.serviceAccount", why);
    }
    if spec.iam.is_some() != (spec.type_ == AuthorizerType::Iam) {
        let why = "type Iam requires the field iam, which is not allowed with other types";
        problems.invalid("spec.iam", why);
    }
    if spec.lambda.is_some() != (spec.type_ == AuthorizerType::Lambda) {
        let why = "type Lambda requires the field lambda, which is not allowed with other types";
        problems.invalid("spec.lambda", why);
    }
    let kind = match spec.type_ {
        AuthorizerType::Jwt => spec.jwt.as_ref().map(|spec| AuthorizerKind::Jwt(jwt(view, key, spec, problems))),
        AuthorizerType::Cognito => {
            spec.cognito.as_ref().map(|spec| AuthorizerKind::Cognito(cognito(view, key, spec, problems)))
        }
        AuthorizerType::ServiceAccount => {
            let spec = spec.service_account.as_ref();
            spec.map(|spec| AuthorizerKind::ServiceAccount(service_account(view, spec, problems)))
        }
        AuthorizerType::Introspection => {
            let spec = spec.introspection.as_ref();
            spec.and_then(|spec| introspection(view, key, spec, problems)).map(AuthorizerKind::Introspection)
        }
        AuthorizerType::Iam => spec.iam.as_ref().map(|spec| AuthorizerKind::Iam(iam(spec, problems))),
        AuthorizerType::Lambda => {
            let spec = spec.lambda.as_ref();
            spec.and_then(|spec| lambda(view, key, spec, problems)).map(AuthorizerKind::Lambda)
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
