//! What an Authorizer configures: how callers are identified.

use std::collections::BTreeMap;
use std::fmt;

use serde::de::{IgnoredAny, MapAccess};
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tagged::{self, Tagged, Unknown};
use crate::{Lambda, ObjectRef, PartName, TokenSource};

/// One Authorizer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuthorizerPart {
    /// The Authorizer.
    pub object: ObjectRef,
    /// How it identifies callers.
    pub kind: AuthorizerKind,
}

impl AuthorizerPart {
    /// The part of the Service that it calls; none: it calls none.
    #[must_use]
    pub fn upstream(&self) -> Option<&PartName> {
        match &self.kind {
            AuthorizerKind::Lambda(lambda) => lambda.function.upstream(),
            _ => None,
        }
    }
}

/// The kinds of authorizer.
#[derive(Clone, Debug, PartialEq)]
pub enum AuthorizerKind {
    /// JSON Web Tokens (RFC 7519).
    Jwt(Jwt),
    /// JSON Web Tokens of Cognito user pools: `audiences` are the ids of app clients.
    Cognito(Jwt),
    /// Tokens that an endpoint decides about (RFC 7662).
    Introspection(Introspection),
    /// Tokens of ServiceAccounts of the cluster.
    ServiceAccount(ServiceAccount),
    /// Requests that are signed with AWS Signature Version 4.
    Iam(Iam),
    /// A function that decides about requests.
    Lambda(Lambda),
    /// It is not valid: every rule that uses it rejects all requests.
    Invalid {
        /// Why, in a sentence.
        why: String,
    },
    /// A kind of a newer version: as `Invalid`.
    Unknown(Unknown),
}

#[derive(Serialize, Deserialize)]
struct Invalid<T> {
    why: T,
}

impl<'de> Tagged<'de> for AuthorizerKind {
    fn read<A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Option<Self>, A::Error> {
        Ok(Some(match name {
            "Jwt" => Self::Jwt(map.next_value()?),
            "Cognito" => Self::Cognito(map.next_value()?),
            "Introspection" => Self::Introspection(map.next_value()?),
            "ServiceAccount" => Self::ServiceAccount(map.next_value()?),
            "Iam" => Self::Iam(map.next_value()?),
            "Lambda" => Self::Lambda(map.next_value()?),
            "Invalid" => Self::Invalid { why: map.next_value::<Invalid<String>>()?.why },
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl<'de> Deserialize<'de> for AuthorizerKind {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        tagged::deserialize(deserializer)
    }
}

impl Serialize for AuthorizerKind {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Jwt(jwt) => tagged::serialize("Jwt", jwt, to),
            Self::Cognito(jwt) => tagged::serialize("Cognito", jwt, to),
            Self::Introspection(introspection) => tagged::serialize("Introspection", introspection, to),
            Self::ServiceAccount(accounts) => tagged::serialize("ServiceAccount", accounts, to),
            Self::Iam(iam) => tagged::serialize("Iam", iam, to),
            Self::Lambda(lambda) => tagged::serialize("Lambda", lambda, to),
            Self::Invalid { why } => tagged::serialize("Invalid", &Invalid { why }, to),
            Self::Unknown(unknown) => unknown.serialize(to),
        }
    }
}

/// Kinds whose content may be stored on a disk: no secret is in it.
const WITHOUT_SECRETS: [&str; 5] = ["Jwt", "Cognito", "ServiceAccount", "Iam", "Invalid"];

/// Whether the text of a part may hold a secret: that of an Authorizer of another kind, or of none that can be read.
pub(crate) fn may_hold_secrets(text: &str) -> bool {
    #[derive(Deserialize)]
    struct Outline {
        kind: BTreeMap<String, IgnoredAny>,
    }
    let outline = serde_json::from_str::<Outline>(text);
    !outline.is_ok_and(|part| part.kind.keys().all(|kind| WITHOUT_SECRETS.contains(&kind.as_str())))
}

/// Which tokens are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Jwt {
    /// At least one.
    pub issuers: Vec<Issuer>,
    /// Signature algorithms; the key must agree.
    pub algorithms: Vec<Algorithm>,
    /// Where the token is; the first place that has one counts.
    pub token_from: Vec<TokenSource>,
    /// Tolerance for `exp` and `nbf`, in seconds.
    pub clock_skew_s: u64,
    /// Claims that must have exactly this text.
    pub required_claims: BTreeMap<String, String>,
    /// Accepted types of tokens (`typ` of the header) in lower case and without `application/`; a token without a type is a `jwt`.
    #[serde(default = "default_token_types", skip_serializing_if = "is_default_token_types")]
    pub token_types: Vec<String>,
}

/// Tokens without a specific type, and access tokens (RFC 9068).
#[must_use]
pub fn default_token_types() -> Vec<String> {
    vec!["jwt".into(), "at+jwt".into()]
}

fn is_default_token_types(types: &[String]) -> bool {
    types == default_token_types()
}

/// The form of a token's type that types are compared in: lower case, without `application/` (RFC 7515, 4.1.9). `JOSE`, which SPIFFE
/// permits, names no specific type.
#[must_use]
pub fn normalized_token_type(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    match lower.strip_prefix("application/").unwrap_or(&lower) {
        "jose" => "jwt".to_owned(),
        other => other.to_owned(),
    }
}

/// How an endpoint is asked about tokens, and which ones are accepted.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Introspection {
    /// The endpoint: an http or https URL.
    pub url: String,
    /// The gateway's client id at the endpoint.
    pub client_id: String,
    /// Its secret.
    pub client_secret: String,
    /// How both are sent.
    pub client_authentication: ClientAuthentication,
    /// Where the token is; the first place that has one counts.
    pub token_from: Vec<TokenSource>,
    /// Must equal `iss`; none: it is not looked at.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// One must be in `aud`, or equal `client_id` where `aud` is absent.
    pub audiences: Vec<String>,
    /// Whether tokens for every audience, or for none, are accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_audience: bool,
    /// Members of the response that must have exactly this text.
    pub required_claims: BTreeMap<String, String>,
    /// For how long a token is accepted without another call, in milliseconds; 0: for no time.
    pub result_ttl_ms: u64,
    /// The time for a call, in milliseconds.
    pub timeout_ms: u64,
}

impl fmt::Debug for Introspection {
    // It holds a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Introspection({} as {})", self.url, self.client_id)
    }
}

/// Which tokens of ServiceAccounts are accepted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ServiceAccount {
    /// How they are verified: the issuer is the cluster's.
    pub tokens: Jwt,
    /// Whether the API server must allow each call: see [`crate::AccessReview`].
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub access_reviews: bool,
}

/// Which signatures are accepted. The Principals are those of the Authorizer's namespace.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Iam {
    /// The regions of accepted credential scopes. At least one.
    pub regions: Vec<String>,
    /// The service of accepted credential scopes.
    pub service: String,
    /// How far a request's time may be from the proxy's, in seconds.
    pub clock_skew_s: u64,
    /// Whether requests are accepted whose signature does not cover the body (`UNSIGNED-PAYLOAD`).
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unsigned_payload: bool,
    /// Whether requests with the session token of a role are accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub session_tokens: bool,
}

/// How a client authenticates (RFC 6749, section 2.3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ClientAuthentication {
    /// In the header `authorization`.
    Basic,
    /// In the form.
    Post,
}

/// One issuer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Issuer {
    /// Must equal `iss`.
    pub issuer: String,
    /// One must be in `aud`, or equal `client_id` where `aud` is absent.
    pub audiences: Vec<String>,
    /// Whether tokens for every audience, or for none, are accepted.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub any_audience: bool,
    /// Its keys.
    pub keys: KeySource,
}

/// Where an issuer's keys come from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum KeySource {
    /// `ISSUER/.well-known/openid-configuration` (OpenID Connect Discovery 1.0).
    Discovery,
    /// A key set's URL.
    Uri(String),
    /// A key set (RFC 7517) as JSON text.
    Inline(String),
}

/// Signature algorithms (RFC 7518, RFC 8037).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the registered ones")]
pub enum Algorithm {
    RS256,
    RS384,
    RS512,
    PS256,
    PS384,
    PS512,
    ES256,
    ES384,
    EdDSA,
}

impl Algorithm {
    const NAMES: [(&'static str, Self); 9] = [
        ("RS256", Self::RS256),
        ("RS384", Self::RS384),
        ("RS512", Self::RS512),
        ("PS256", Self::PS256),
        ("PS384", Self::PS384),
        ("PS512", Self::PS512),
        ("ES256", Self::ES256),
        ("ES384", Self::ES384),
        ("EdDSA", Self::EdDSA),
    ];

    /// The algorithm with a registered name. `none` and symmetric algorithms have no value at all.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        // The name without parameters (RFC 9864).
        let name = if name == "Ed25519" { "EdDSA" } else { name };
        Self::NAMES.iter().find(|(known, _)| *known == name).map(|(_, algorithm)| *algorithm)
    }

    /// Its registered name.
    #[must_use]
    pub fn name(self) -> &'static str {
        Self::NAMES.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartBody;

    const INTROSPECTION: &str = r#"{"Introspection":{"url":"https://idp.example/i","client_id":"gateway","client_secret":"s3cret","client_authentication":"Basic","token_from":[],"audiences":["shop"],"required_claims":{},"result_ttl_ms":60000,"timeout_ms":5000}}"#;

    #[test]
    fn a_client_secret_is_never_printed_and_its_part_is_known_to_hold_one() {
        let text =
            |kind: &str| format!(r#"{{"object":{{"kind":"Authorizer","namespace":"shop","name":"a"}},"kind":{kind}}}"#);
        let part: AuthorizerPart = serde_json::from_str(&text(INTROSPECTION)).unwrap();
        let printed = format!("{part:?} {:#?}", PartBody::Authorizer(part.clone()));
        assert!(printed.contains("idp.example") && !printed.contains("s3cret"), "{printed}");
        for (kind, expected) in [
            (INTROSPECTION, true),
            (r#"{"Jwt":{}}"#, false),
            (r#"{"Cognito":{}}"#, false),
            (r#"{"Invalid":{"why":"No."}}"#, false),
            (r#"{"Lambda":{"function":"x"}}"#, true),
            (r#"{"Saml":{"key":"s3cret"}}"#, true),
            (r#"{"Jwt":{},"Saml":{}}"#, true),
            (r#""Jwt""#, true),
        ] {
            assert_eq!(may_hold_secrets(&text(kind)), expected, "{kind}");
        }
        assert!(may_hold_secrets("{"));
    }

    #[test]
    fn places_of_tokens_survive_their_text_and_unknown_ones_cannot_be_read() {
        for place in [
            r#"{"header":"authorization","scheme":"Bearer"}"#,
            r#"{"header":"x-token"}"#,
            r#"{"query":"access_token"}"#,
            r#"{"cookie":"session"}"#,
            r#"{"web_socket_protocol":"bearer."}"#,
        ] {
            let source: TokenSource = serde_json::from_str(place).unwrap();
            assert_eq!(serde_json::to_string(&source).unwrap(), place);
        }
        assert!(serde_json::from_str::<TokenSource>(r#"{"form":"access_token"}"#).is_err());
    }

    #[test]
    fn kinds_survive_their_text_and_a_kind_of_a_newer_version_is_unknown() {
        let part = |kind: &str| {
            let text = format!(r#"{{"object":{{"kind":"Authorizer","namespace":"shop","name":"a"}},"kind":{kind}}}"#);
            serde_json::from_str::<AuthorizerPart>(&text)
        };
        for kind in [
            r#"{"Invalid":{"why":"No."}}"#,
            r#"{"Jwt":{"issuers":[],"algorithms":["ES256"],"token_from":[],"clock_skew_s":0,"required_claims":{}}}"#,
            r#"{"Cognito":{"issuers":[],"algorithms":["RS256"],"token_from":[],"clock_skew_s":0,"required_claims":{}}}"#,
            INTROSPECTION,
            r#"{"ServiceAccount":{"tokens":{"issuers":[],"algorithms":["RS256"],"token_from":[],"clock_skew_s":0,"required_claims":{}},"access_reviews":true}}"#,
            r#"{"Iam":{"regions":["eu-west-1"],"service":"execute-api","clock_skew_s":300}}"#,
            r#"{"Lambda":{"function":{"Url":"http://a/"},"event":"Token","responses":"Policy","identity_sources":[{"header":"authorization"}],"validation":"a","result_ttl_ms":1,"timeout_ms":100}}"#,
        ] {
            assert_eq!(serde_json::to_string(&part(kind).unwrap().kind).unwrap(), kind);
        }
        let newer = part(r#"{"Saml":{"x":[1]}}"#).unwrap().kind;
        assert!(matches!(&newer, AuthorizerKind::Unknown(unknown) if unknown.name == "Saml"), "{newer:?}");
        // A known kind with content of a newer version is none that can be read.
        assert!(part(r#"{"Jwt":{"issuers":[],"algorithms":["ES512"]}}"#).is_err());
        assert!(part("{}").is_err());
    }
}
