//! Tokens that are accepted and tokens that are not; issuers whose keys are fetched are in `issuers`.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use futures::FutureExt as _;
use http::{HeaderMap, HeaderValue, Method};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm as Alg, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use sluice_wire::{
    Algorithm, AuthorizerKind, AuthorizerPart, Behavior, Issuer, Jwt, KeySource, ObjectRef, TokenSource, Unknown,
    default_token_types,
};

use super::{KeySets, TokenError};
use crate::auth::by_request::RequestAuthorizer;
use crate::auth::{AuthRequest, Authorizer, Decision, Identity, Means, RequestFacts, Services};
use crate::template::NoVariables;
use issuers::Web;

mod claims;
mod issuers;
mod keys;
mod service_accounts;
mod user_pools;

const ISSUER: &str = "https://idp.example";

struct Signer {
    key: EncodingKey,
    algorithm: Alg,
    jwk: Value,
    public_pem: String,
}

impl Signer {
    fn new(kid: &str, pair: &KeyPair, algorithm: Alg) -> Self {
        let pem = pair.serialize_pem();
        let key = match algorithm {
            Alg::ES256 => EncodingKey::from_ec_pem(pem.as_bytes()).unwrap(),
            _ => EncodingKey::from_rsa_pem(pem.as_bytes()).unwrap(),
        };
        let mut jwk = serde_json::to_value(Jwk::from_encoding_key(&key, algorithm).unwrap()).unwrap();
        jwk["kid"] = json!(kid);
        Self { key, algorithm, jwk, public_pem: pair.public_key_pem() }
    }

    fn sign(&self, header: &Value, claims: &Value) -> String {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let message = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }

    fn header(&self) -> Value {
        json!({"alg": format!("{:?}", self.algorithm), "kid": self.jwk["kid"], "typ": "JWT"})
    }

    fn token(&self, claims: &Value) -> String {
        self.sign(&self.header(), claims)
    }
}

static EC: LazyLock<Signer> =
    LazyLock::new(|| Signer::new("ec", &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), Alg::ES256));
static OTHER: LazyLock<Signer> =
    LazyLock::new(|| Signer::new("ec", &KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256).unwrap(), Alg::ES256));
static ED: LazyLock<Signer> = LazyLock::new(|| {
    let document = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
    let pair = Ed25519KeyPair::from_pkcs8(document.as_ref()).unwrap();
    let x = URL_SAFE_NO_PAD.encode(pair.public_key().as_ref());
    Signer {
        key: EncodingKey::from_ed_der(document.as_ref()),
        algorithm: Alg::EdDSA,
        jwk: json!({"kty": "OKP", "crv": "Ed25519", "kid": "ed", "x": x}),
        public_pem: String::new(),
    }
});
static RSA: LazyLock<Signer> = LazyLock::new(|| {
    Signer::new("rsa", &KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048).unwrap(), Alg::RS256)
});

fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs()
}

fn claims() -> Value {
    json!({"iss": ISSUER, "sub": "anna", "aud": "shop", "exp": now() + 600, "scope": "read write", "tier": 3})
}

fn with(name: &str, value: Value) -> Value {
    let mut claims = claims();
    claims[name] = value;
    claims
}

fn without(name: &str) -> Value {
    let mut claims = claims();
    claims.as_object_mut().unwrap().remove(name);
    claims
}

fn set(keys: &[&Value]) -> String {
    json!({ "keys": keys }).to_string()
}

fn jwt(keys: KeySource) -> Jwt {
    Jwt {
        issuers: vec![Issuer {
            issuer: ISSUER.into(),
            audiences: vec!["shop".into(), "till".into()],
            any_audience: false,
            keys,
        }],
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        token_from: vec![TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) }],
        clock_skew_s: 60,
        required_claims: [("tier".to_owned(), "3".to_owned())].into(),
        token_types: default_token_types(),
    }
}

fn part(jwt: Jwt) -> AuthorizerPart {
    AuthorizerPart { object: ObjectRef::new("Authorizer", "shop", "idp"), kind: AuthorizerKind::Jwt(jwt) }
}

fn bearer(token: &str) -> HeaderMap {
    HeaderMap::from_iter([(http::header::AUTHORIZATION, HeaderValue::from_str(&format!("Bearer {token}")).unwrap())])
}

fn runtime() -> tokio::runtime::Handle {
    static RUNTIME: LazyLock<tokio::runtime::Runtime> =
        LazyLock::new(|| tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap());
    RUNTIME.handle().clone()
}

fn block<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async { tokio::time::timeout(Duration::from_secs(30), future).await.unwrap() })
}

fn services(sets: KeySets) -> Services {
    Services::without_network(runtime(), sets)
}

fn compiled(part: &AuthorizerPart, services: &Services) -> Arc<Authorizer> {
    Authorizer::compile(part, services).unwrap()
}

/// It decides by the token of a request.
fn decides(authorizer: &Authorizer) -> &RequestAuthorizer {
    match authorizer.means() {
        Means::Request(by_request) => by_request,
        Means::Signature(_) => panic!("{authorizer:?} needs signatures"),
    }
}

fn inline(keys: &[&Value]) -> Arc<Authorizer> {
    let sets = KeySets::new(runtime(), Web::default());
    compiled(&part(jwt(KeySource::Inline(set(keys)))), &services(sets))
}

/// The caller, or the reason of the rejection.
async fn authorize(authorizer: &Authorizer, headers: &HeaderMap) -> Result<Arc<Identity>, &'static str> {
    let request = AuthRequest {
        method: &Method::GET,
        headers,
        route: None,
        behavior: Behavior::Native,
        with_scopes: false,
        variables: &NoVariables,
        facts: &RequestFacts::default,
    };
    match decides(authorizer).authorize(&request).await.decision {
        Decision::Allow(identity) => Ok(identity),
        Decision::Reject { reason, .. } => Err(reason),
    }
}

/// The same for a request that need not wait.
fn authorize_now(authorizer: &Authorizer, headers: &HeaderMap) -> Result<Arc<Identity>, &'static str> {
    authorize(authorizer, headers).now_or_never().expect("the keys are there")
}

fn rejected(authorizer: &Authorizer, headers: &HeaderMap) -> Option<&'static str> {
    authorize_now(authorizer, headers).err()
}

fn issuer_of(identity: &Identity) -> &str {
    identity.attributes["iss"].as_str().unwrap()
}

#[test]
fn each_kind_of_key_verifies_its_own_tokens() {
    let authorizer = inline(&[&EC.jwk, &RSA.jwk, &ED.jwk]);
    for signer in [&*EC, &*RSA, &*ED] {
        for _ in 0..2 {
            let caller = authorize_now(&authorizer, &bearer(&signer.token(&claims()))).unwrap();
            assert_eq!((caller.kind, issuer_of(&caller), caller.id.as_deref()), ("Jwt", ISSUER, Some("anna")));
            assert_eq!(caller.attribute("tier").as_deref(), Some("3"));
            assert!(caller.has_any_scope(&["admin".into(), "write".into()]));
            assert!(!caller.has_any_scope(&["admin".into()]));
        }
    }
}

#[test]
fn claims_are_checked() {
    use TokenError::{
        Expired, InvalidAudience, InvalidExpiry, InvalidId, InvalidIssuedAt, InvalidIssuer, InvalidNotBefore,
        InvalidSubject, KeyBound, Malformed, MissingClaim, NoExpiry, NoIssuer, NotYetValid, UnknownIssuer,
        WrongAudience,
    };
    let authorizer = inline(&[&EC.jwk]);
    let rows: Vec<(Value, Option<TokenError>)> = vec![
        (claims(), None),
        (with("exp", json!(now() - 30)), None),
        (with("exp", json!(now() - 90)), Some(Expired)),
        (with("exp", json!((now() + 60) as f64 + 0.5)), None),
        (with("exp", json!((now() + 600).to_string())), Some(InvalidExpiry)),
        (with("exp", json!(null)), Some(InvalidExpiry)),
        (with("exp", json!(-1)), Some(InvalidExpiry)),
        (with("exp", json!(1e300)), Some(InvalidExpiry)),
        (without("exp"), Some(NoExpiry)),
        (with("nbf", json!(now() + 30)), None),
        (with("nbf", json!(now() + 90)), Some(NotYetValid)),
        (with("nbf", json!("0")), Some(InvalidNotBefore)),
        (with("nbf", json!([])), Some(InvalidNotBefore)),
        (with("iat", json!(now() + 90)), Some(NotYetValid)),
        (with("iat", json!({})), Some(InvalidIssuedAt)),
        (with("iss", json!("https://idp.example/")), Some(UnknownIssuer)),
        (with("iss", json!([ISSUER])), Some(InvalidIssuer)),
        (without("iss"), Some(NoIssuer)),
        (with("sub", json!(7)), Some(InvalidSubject)),
        (with("jti", json!(7)), Some(InvalidId)),
        (with("aud", json!(["other", "till"])), None),
        (with("aud", json!(["other"])), Some(WrongAudience)),
        (with("aud", json!([])), Some(WrongAudience)),
        (with("aud", json!(["shop", 7])), Some(InvalidAudience)),
        (with("aud", json!({"shop": 1})), Some(InvalidAudience)),
        (without("aud"), Some(WrongAudience)),
        (
            {
                let mut c = without("aud");
                c["client_id"] = json!("shop");
                c
            },
            None,
        ),
        (
            {
                let mut c = with("aud", json!("other"));
                c["client_id"] = json!("shop");
                c
            },
            Some(WrongAudience),
        ),
        (with("cnf", json!({"jkt": "k"})), Some(KeyBound)),
        (with("cnf", json!({"x5t#S256": "k"})), Some(KeyBound)),
        (with("cnf", json!(7)), Some(KeyBound)),
        (with("cnf", json!(null)), None),
        (without("tier"), Some(MissingClaim)),
        (with("tier", json!(4)), Some(MissingClaim)),
        // Of a list one element must be equal; elements of inner lists do not count.
        (with("tier", json!(["3"])), None),
        (with("tier", json!([1, 3])), None),
        (with("tier", json!([])), Some(MissingClaim)),
        (with("tier", json!(["1", "33"])), Some(MissingClaim)),
        (with("tier", json!([["3"]])), Some(MissingClaim)),
        (with("tier", json!({"3": "3"})), Some(MissingClaim)),
        (with("tier", json!(null)), Some(MissingClaim)),
        (with("tier", json!("3")), None),
        (json!([1]), Some(Malformed)),
    ];
    for (claims, expected) in rows {
        let reason = rejected(&authorizer, &bearer(&EC.token(&claims)));
        assert_eq!(reason, expected.map(TokenError::reason), "{claims}");
    }
}

#[test]
fn tokens_have_an_accepted_type() {
    let with_types = |types: &[&str]| {
        let mut rules = jwt(KeySource::Inline(set(&[&EC.jwk])));
        rules.token_types = types.iter().map(|text| (*text).to_owned()).collect();
        compiled(&part(rules), &services(KeySets::new(runtime(), Web::default())))
    };
    let token = |token_type: Value| {
        let mut header = EC.header();
        header["typ"] = token_type;
        EC.sign(&header, &claims())
    };
    let usual = inline(&[&EC.jwk]);
    let access_only = with_types(&["at+jwt"]);
    for (token_type, accepted, accepted_as_access) in [
        (json!("JWT"), true, false),
        (json!("jwt"), true, false),
        (json!("JOSE"), true, false),
        (json!("application/jwt"), true, false),
        (json!("at+jwt"), true, true),
        (json!("application/AT+JWT"), true, true),
        (json!("logout+jwt"), false, false),
        (json!("dpop+jwt"), false, false),
        (json!("application/secevent+jwt"), false, false),
        (json!("kb+jwt"), false, false),
        (json!("id_token+jwt"), false, false),
        (json!("token-introspection+jwt"), false, false),
        (json!("text/jwt"), false, false),
        (json!("JWT "), false, false),
        (json!(""), false, false),
        (json!(null), false, false),
        (json!(["JWT"]), false, false),
    ] {
        let headers = bearer(&token(token_type.clone()));
        let reason = |accepted: bool| (!accepted).then_some("token_wrong_type");
        assert_eq!(rejected(&usual, &headers), reason(accepted), "{token_type}");
        assert_eq!(rejected(&access_only, &headers), reason(accepted_as_access), "{token_type}");
    }
    let untyped = bearer(&EC.sign(&json!({"alg": "ES256", "kid": "ec"}), &claims()));
    assert_eq!(rejected(&usual, &untyped), None);
    assert_eq!(rejected(&access_only, &untyped), Some("token_wrong_type"));
    // A logout token without `typ`.
    let events = json!({"http://schemas.openid.net/event/backchannel-logout": {}});
    assert_eq!(rejected(&usual, &bearer(&EC.token(&with("events", events)))), Some("token_wrong_type"));
    assert_eq!(rejected(&usual, &bearer(&EC.token(&with("events", json!("x"))))), None);
}

#[test]
fn repeated_members_of_a_token_are_rejected() {
    let sign = |header: &str, claims: &str| {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &EC.key, Alg::ES256).unwrap())
    };
    let good = claims().to_string();
    let open = good.strip_suffix('}').unwrap();
    let header = r#"{"alg":"ES256","kid":"ec"}"#;
    let authorizer = inline(&[&EC.jwk]);
    for (header, claims, expected) in [
        (header, good.clone(), None),
        (r#"{"alg":"none","alg":"ES256","kid":"ec"}"#, good.clone(), Some("token_duplicate_member")),
        (r#"{"alg":"ES256","kid":"ec","kid":"ec"}"#, good.clone(), Some("token_duplicate_member")),
        (r#"{"alg":"ES256","kid":"ec","\u0061lg":"ES256"}"#, good.clone(), Some("token_duplicate_member")),
        (header, format!(r#"{open},"sub":"root"}}"#), Some("token_duplicate_member")),
        (header, format!(r#"{open},"exp":1}}"#), Some("token_duplicate_member")),
        (header, format!(r#"{open},"address":{{"a":1,"a":2}}}}"#), Some("token_duplicate_member")),
        (header, format!(r#"{open},"Sub":"x"}}"#), None),
    ] {
        assert_eq!(rejected(&authorizer, &bearer(&sign(header, &claims))), expected, "{header} {claims}");
    }
}

#[test]
fn a_token_that_is_too_long_and_a_bad_header_have_reasons_of_their_own() {
    let authorizer = inline(&[&EC.jwk]);
    let header = |name: &str, value: Value| {
        let mut header = EC.header();
        header[name] = value;
        EC.sign(&header, &claims())
    };
    for (token, expected) in [
        (EC.token(&with("x", json!("y".repeat(8192)))), "token_too_long"),
        ("x".repeat(8193), "token_too_long"),
        (header("alg", json!("PS256")), "token_wrong_algorithm"),
        (header("alg", json!("none")), "token_wrong_algorithm"),
        (header("alg", json!(null)), "token_wrong_algorithm"),
        (header("kid", json!(7)), "token_invalid_kid"),
        (header("kid", json!("k".repeat(257))), "token_invalid_kid"),
        (header("crit", json!(["exp"])), "token_invalid_crit"),
        ("a.b".to_owned(), "token_malformed"),
    ] {
        assert_eq!(rejected(&authorizer, &bearer(&token)), Some(expected), "{token}");
    }
}

#[test]
fn places_of_tokens() {
    let token = EC.token(&claims());
    let authorizer = inline(&[&EC.jwk]);
    let headers = |values: &[&str]| {
        let mut map = HeaderMap::new();
        for value in values {
            map.append("authorization", HeaderValue::from_bytes(value.as_bytes()).unwrap());
        }
        map
    };
    let bearer = format!("Bearer {token}");
    for (values, expected) in [
        (vec![], Some(TokenError::Missing)),
        (vec![""], Some(TokenError::Missing)),
        (vec!["Basic YTpi"], Some(TokenError::Missing)),
        (vec!["Bearer"], Some(TokenError::Malformed)),
        (vec![bearer.as_str()], None),
        (vec![&format!("bEARER   {token} ")], None),
        (vec![token.as_str()], Some(TokenError::Missing)),
        (vec![bearer.as_str(), bearer.as_str()], Some(TokenError::Repeated)),
        (vec!["Basic YTpi", bearer.as_str()], Some(TokenError::Repeated)),
        (vec!["Bearer \u{e9}"], Some(TokenError::Malformed)),
        (vec![&format!("Bearer {token}, Bearer {token}")], Some(TokenError::Malformed)),
    ] {
        let reason = rejected(&authorizer, &headers(&values));
        assert_eq!(reason, expected.map(TokenError::reason), "{values:?}");
    }
    let mut second = jwt(KeySource::Inline(set(&[&EC.jwk])));
    second.token_from.push(TokenSource::Header { header: "x-token".into(), scheme: None });
    let authorizer = compiled(&part(second), &services(KeySets::new(runtime(), Web::default())));
    let mut both = headers(&["Basic YTpi"]);
    both.insert("x-token", HeaderValue::from_str(&token).unwrap());
    assert_eq!(rejected(&authorizer, &both), None);
}

#[test]
fn an_authorizer_that_cannot_be_used_is_none() {
    let sets = services(KeySets::new(runtime(), Web::default()));
    let mut nowhere = jwt(KeySource::Inline(set(&[&EC.jwk])));
    nowhere.token_from.clear();
    let object = ObjectRef::new("Authorizer", "shop", "idp");
    for part in [
        part(jwt(KeySource::Inline("{}".into()))),
        part(jwt(KeySource::Inline(set(&[])))),
        part(jwt(KeySource::Inline(set(&[&json!({"kty": "oct", "kid": "ec", "k": "c2VjcmV0"})])))),
        part(nowhere),
        AuthorizerPart { object: object.clone(), kind: AuthorizerKind::Invalid { why: "No.".into() } },
        AuthorizerPart { object, kind: AuthorizerKind::Unknown(Unknown { name: "Saml".into(), essential: false }) },
    ] {
        assert!(Authorizer::compile(&part, &sets).is_err());
    }
}

#[test]
fn a_cache_identity_is_that_of_one_caller_whatever_its_token() {
    let foreign = "https://other.example";
    let mut two = jwt(KeySource::Inline(set(&[&EC.jwk])));
    let keys = KeySource::Inline(set(&[&EC.jwk]));
    two.issuers.push(Issuer { issuer: foreign.into(), audiences: vec!["shop".into()], any_audience: false, keys });
    let authorizer = compiled(&part(two), &services(KeySets::new(runtime(), Web::default())));
    let of = |claims: &Value| authorize_now(&authorizer, &bearer(&EC.token(claims))).unwrap().cache_identity.clone();
    let mut client = without("sub");
    client["client_id"] = json!("till");
    let all = [
        of(&claims()),
        of(&with("sub", json!("bert"))),
        of(&with("iss", json!(foreign))),
        of(&without("sub")),
        of(&client),
        of(&with("sub", json!(""))),
        of(&{
            let mut nameless = with("sub", json!(""));
            nameless["email"] = json!("bert@shop.example");
            nameless
        }),
    ];
    for (n, one) in all.iter().enumerate() {
        assert!(all.iter().skip(n + 1).all(|other| other != one), "{n}");
    }
    assert_eq!(all[0], of(&with("exp", json!(now() + 900))));
}

#[test]
fn each_error_has_its_response() {
    use crate::reject::{Challenge, Reject};
    let response = |error: TokenError| match error.into() {
        Decision::Reject { reject, .. } => reject,
        Decision::Allow(_) => panic!("{error:?} allows"),
    };
    assert!(matches!(response(TokenError::Missing), Reject::Unauthorized(Challenge::Missing)));
    assert!(matches!(response(TokenError::Unavailable), Reject::AuthorizerUnavailable));
    // The text of an AWS JWT authorizer, letter for letter.
    let audience = Challenge::InvalidToken("the token does not have a valid audience");
    assert!(matches!(response(TokenError::WrongAudience), Reject::Unauthorized(challenge) if challenge == audience));
}
