//! Tokens that are believed and tokens that are not; issuers that must be asked are in `issuers`.

use std::future::Future;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use base64::Engine as _;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use http::{HeaderMap, HeaderValue};
use jsonwebtoken::jwk::Jwk;
use jsonwebtoken::{Algorithm as Alg, EncodingKey};
use rcgen::{KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_RSA_SHA256, RsaKeySize};
use serde_json::{Value, json};
use sluice_wire::{Algorithm, AuthorizerPart, Issuer, Jwt, KeySource, ObjectRef, TokenSource};

use super::*;
use issuers::Web;

mod issuers;

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
        issuers: vec![Issuer { issuer: ISSUER.into(), audiences: vec!["shop".into(), "till".into()], keys }],
        algorithms: vec![Algorithm::RS256, Algorithm::ES256, Algorithm::EdDSA],
        token_from: vec![TokenSource { header: "authorization".into(), scheme: Some("Bearer".into()) }],
        clock_skew_s: 60,
        required_claims: [("tier".to_owned(), "3".to_owned())].into(),
    }
}

fn part(jwt: Jwt) -> AuthorizerPart {
    AuthorizerPart { object: ObjectRef::new("Authorizer", "shop", "idp"), jwt: Some(jwt), invalid: None }
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

fn inline(keys: &[&Value]) -> Arc<Authorizer> {
    let sets = KeySets::new(runtime(), Web::default());
    Authorizer::compile(&part(jwt(KeySource::Inline(set(keys)))), &sets)
}

fn refusal(authorizer: &Authorizer, headers: &HeaderMap) -> Option<Refusal> {
    match authorizer.verify_now(headers) {
        Verdict::Ok(_) => None,
        Verdict::Refused(refusal) => Some(refusal),
        Verdict::NeedsKeys => panic!("an inline set needs no fetch"),
    }
}

#[test]
fn each_kind_of_key_confirms_its_own_tokens() {
    let authorizer = inline(&[&EC.jwk, &RSA.jwk, &ED.jwk]);
    for signer in [&*EC, &*RSA, &*ED] {
        for _ in 0..2 {
            let Verdict::Ok(caller) = authorizer.verify_now(&bearer(&signer.token(&claims()))) else {
                panic!("refused")
            };
            assert_eq!((caller.issuer.as_str(), caller.subject.as_deref()), (ISSUER, Some("anna")));
            assert_eq!(caller.claim("tier").as_deref(), Some("3"));
            assert!(caller.has_any_scope(&["admin".into(), "write".into()]));
            assert!(!caller.has_any_scope(&["admin".into()]));
        }
    }
}

#[test]
fn what_a_token_says_is_judged() {
    use Refusal::{Expired, Malformed, MissingClaim, NotYetValid, UnknownIssuer, WrongAudience};
    let authorizer = inline(&[&EC.jwk]);
    let rows: Vec<(Value, Option<Refusal>)> = vec![
        (claims(), None),
        (with("exp", json!(now() - 30)), None),
        (with("exp", json!(now() - 90)), Some(Expired)),
        (with("exp", json!((now() + 60) as f64 + 0.5)), None),
        (with("exp", json!((now() + 600).to_string())), Some(Malformed)),
        (with("exp", json!(null)), Some(Malformed)),
        (with("exp", json!(-1)), Some(Malformed)),
        (with("exp", json!(1e300)), Some(Malformed)),
        (without("exp"), Some(Malformed)),
        (with("nbf", json!(now() + 30)), None),
        (with("nbf", json!(now() + 90)), Some(NotYetValid)),
        (with("nbf", json!("0")), Some(Malformed)),
        (with("nbf", json!([])), Some(Malformed)),
        (with("iat", json!(now() + 90)), Some(NotYetValid)),
        (with("iat", json!({})), Some(Malformed)),
        (with("iss", json!("https://idp.example/")), Some(UnknownIssuer)),
        (with("iss", json!([ISSUER])), Some(Malformed)),
        (without("iss"), Some(Malformed)),
        (with("sub", json!(7)), Some(Malformed)),
        (with("jti", json!(7)), Some(Malformed)),
        (with("aud", json!(["other", "till"])), None),
        (with("aud", json!(["other"])), Some(WrongAudience)),
        (with("aud", json!([])), Some(WrongAudience)),
        (with("aud", json!(["shop", 7])), Some(Malformed)),
        (with("aud", json!({"shop": 1})), Some(Malformed)),
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
        (without("tier"), Some(MissingClaim)),
        (with("tier", json!(4)), Some(MissingClaim)),
        // Of a list one element must be equal; what stands deeper does not count.
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
        assert_eq!(refusal(&authorizer, &bearer(&EC.token(&claims))), expected, "{claims}");
    }
}

#[test]
fn truth_values_are_written_as_text() {
    let mut rules = jwt(KeySource::Inline(set(&[&EC.jwk])));
    rules.required_claims = [("verified".to_owned(), "true".to_owned())].into();
    let authorizer = Authorizer::compile(&part(rules), &KeySets::new(runtime(), Web::default()));
    for (value, fits) in [
        (json!(true), true),
        (json!("true"), true),
        (json!([false, true]), true),
        (json!(false), false),
        (json!(1), false),
    ] {
        let headers = bearer(&EC.token(&with("verified", value.clone())));
        assert_eq!(refusal(&authorizer, &headers), (!fits).then_some(Refusal::MissingClaim), "{value}");
    }
}

#[test]
fn keys_and_algorithms_cannot_be_confused() {
    let authorizer = inline(&[&EC.jwk, &RSA.jwk]);
    let hmac = |secret: &[u8], alg: &str, kid: &str| {
        let signer = Signer {
            key: EncodingKey::from_secret(secret),
            algorithm: Alg::HS256,
            jwk: json!({}),
            public_pem: String::new(),
        };
        signer.sign(&json!({"alg": alg, "kid": kid}), &claims())
    };
    let modulus = URL_SAFE_NO_PAD.decode(RSA.jwk["n"].as_str().unwrap()).unwrap();
    let good = EC.token(&claims());
    let (message, signature) = good.rsplit_once('.').unwrap();
    let header = |more: Value| {
        let mut header = EC.header();
        header.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        header
    };
    let unsigned = |alg: &str| {
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        format!("{}.{}.", part(&json!({"alg": alg, "kid": "ec"})), part(&claims()))
    };
    let padded = |segment: &str| format!("{segment}{}", "=".repeat((4 - segment.len() % 4) % 4));
    let pad = {
        // Claims whose text has a length that needs padding.
        let mut claims = claims();
        while claims.to_string().len().is_multiple_of(3) {
            claims["sub"] = json!(format!("{}a", claims["sub"].as_str().unwrap()));
        }
        let (header, body) = (URL_SAFE_NO_PAD.encode(EC.header().to_string()), URL_SAFE.encode(claims.to_string()));
        assert!(body.ends_with('='));
        let message = format!("{header}.{body}");
        format!("{message}.{}", jsonwebtoken::crypto::sign(message.as_bytes(), &EC.key, Alg::ES256).unwrap())
    };
    let zeros = URL_SAFE_NO_PAD.encode([0_u8; 64]);
    let rows: Vec<(&str, String)> = vec![
        ("public key as a secret (PEM)", hmac(RSA.public_pem.as_bytes(), "HS256", "rsa")),
        ("public key as a secret (modulus)", hmac(&modulus, "HS256", "rsa")),
        ("empty secret", hmac(b"", "HS256", "rsa")),
        ("empty secret, no kid in the set", hmac(b"", "HS256", "none")),
        ("HMAC that says RS256", hmac(RSA.public_pem.as_bytes(), "RS256", "rsa")),
        ("alg none", unsigned("none")),
        ("alg None", unsigned("None")),
        ("alg NONE", unsigned("NONE")),
        ("alg empty", unsigned("")),
        ("signature cut off", unsigned("ES256")),
        ("psychic signature", format!("{message}.{zeros}")),
        ("another key of the same name", OTHER.token(&claims())),
        ("EC signature for the RSA key", EC.sign(&json!({"alg": "RS256", "kid": "rsa"}), &claims())),
        ("EC signature that says ES384", EC.sign(&json!({"alg": "ES384", "kid": "ec"}), &claims())),
        ("RSA signature that says PS256", RSA.sign(&json!({"alg": "PS256", "kid": "rsa"}), &claims())),
        ("RSA signature that says RS512", RSA.sign(&json!({"alg": "RS512", "kid": "rsa"}), &claims())),
        ("embedded jwk", OTHER.sign(&json!({"alg": "ES256", "jwk": OTHER.jwk}), &claims())),
        ("jku", OTHER.sign(&json!({"alg": "ES256", "kid": "ec", "jku": "https://evil.example"}), &claims())),
        ("x5u", OTHER.sign(&json!({"alg": "ES256", "kid": "ec", "x5u": "https://evil.example"}), &claims())),
        ("unknown kid", EC.sign(&json!({"alg": "ES256", "kid": "other"}), &claims())),
        ("kid with a path", EC.sign(&json!({"alg": "ES256", "kid": "../../dev/null"}), &claims())),
        ("kid is a number", EC.sign(&json!({"alg": "ES256", "kid": 7}), &claims())),
        ("crit", EC.sign(&header(json!({"crit": ["exp"]})), &claims())),
        ("crit empty", EC.sign(&header(json!({"crit": []})), &claims())),
        ("b64 false", EC.sign(&header(json!({"crit": ["b64"], "b64": false})), &claims())),
        ("padded signature", format!("{message}.{}", padded(signature))),
        ("padded claims", pad),
        ("white space", format!("{message} .{signature}")),
        ("four segments", format!("{good}.x")),
        ("two segments", message.to_owned()),
        ("claims exchanged", {
            let other = EC.token(&with("sub", json!("root")));
            let body = other.split('.').nth(1).unwrap();
            format!("{}.{body}.{signature}", message.split('.').next().unwrap())
        }),
        ("too long", EC.token(&with("x", json!("y".repeat(8192))))),
    ];
    assert_eq!(refusal(&authorizer, &bearer(&good)), None);
    for (what, token) in rows {
        let refusal = refusal(&authorizer, &bearer(&token));
        assert!(matches!(refusal, Some(Refusal::BadSignature | Refusal::Malformed)), "{what}: {refusal:?}");
    }
}

#[test]
fn keys_that_may_not_verify_are_passed_over() {
    let changed = |name: &str, value: Value| {
        let mut jwk = EC.jwk.clone();
        jwk[name] = value;
        jwk
    };
    let oct = json!({"kty": "oct", "kid": "ec", "k": URL_SAFE_NO_PAD.encode("secret"), "alg": "HS256"});
    for (jwk, usable) in [
        (EC.jwk.clone(), true),
        (changed("use", json!("sig")), true),
        (changed("key_ops", json!(["verify"])), true),
        (changed("use", json!("enc")), false),
        (changed("key_ops", json!(["sign"])), false),
        (changed("key_ops", json!([])), false),
        (changed("key_ops", json!("verify")), false),
        (changed("alg", json!("ES384")), false),
        (changed("alg", json!("HS256")), false),
        (changed("alg", json!("none")), false),
        (changed("crv", json!("P-384")), false),
        (changed("crv", json!("P-256K")), false),
        (changed("kty", json!("RSA")), false),
        (changed("x", json!("AA")), false),
        (changed("kid", json!("other")), false),
        (oct, false),
        (json!("no key"), false),
    ] {
        let authorizer = inline(&[&jwk]);
        assert_eq!(refusal(&authorizer, &bearer(&EC.token(&claims()))).is_none(), usable, "{jwk}");
    }
}

#[test]
fn a_token_without_a_key_name_needs_an_only_key() {
    let token = EC.sign(&json!({"alg": "ES256"}), &claims());
    assert_eq!(refusal(&inline(&[&EC.jwk, &RSA.jwk]), &bearer(&token)), None);
    let mut twin = OTHER.jwk.clone();
    twin["kid"] = json!("twin");
    assert_eq!(refusal(&inline(&[&EC.jwk, &twin]), &bearer(&token)), Some(Refusal::BadSignature));
}

#[test]
fn where_tokens_stand() {
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
        (vec![], Some(Refusal::Missing)),
        (vec![""], Some(Refusal::Missing)),
        (vec!["Basic YTpi"], Some(Refusal::Missing)),
        (vec!["Bearer"], Some(Refusal::Malformed)),
        (vec![bearer.as_str()], None),
        (vec![&format!("bEARER   {token} ")], None),
        (vec![token.as_str()], Some(Refusal::Missing)),
        (vec![bearer.as_str(), bearer.as_str()], Some(Refusal::Malformed)),
        (vec!["Basic YTpi", bearer.as_str()], Some(Refusal::Malformed)),
        (vec!["Bearer \u{e9}"], Some(Refusal::Malformed)),
        (vec![&format!("Bearer {token}, Bearer {token}")], Some(Refusal::Malformed)),
    ] {
        assert_eq!(refusal(&authorizer, &headers(&values)), expected, "{values:?}");
    }
    let mut second = jwt(KeySource::Inline(set(&[&EC.jwk])));
    second.token_from.push(TokenSource { header: "x-token".into(), scheme: None });
    let authorizer = Authorizer::compile(&part(second), &KeySets::new(runtime(), Web::default()));
    let mut both = headers(&["Basic YTpi"]);
    both.insert("x-token", HeaderValue::from_str(&token).unwrap());
    assert_eq!(refusal(&authorizer, &both), None);
}

#[test]
fn what_cannot_be_used_refuses_everybody() {
    let sets = KeySets::new(runtime(), Web::default());
    let mut nowhere = jwt(KeySource::Inline(set(&[&EC.jwk])));
    nowhere.token_from.clear();
    let object = ObjectRef::new("Authorizer", "shop", "idp");
    for part in [
        part(jwt(KeySource::Inline("{}".into()))),
        part(jwt(KeySource::Inline(set(&[])))),
        part(jwt(KeySource::Inline(set(&[&json!({"kty": "oct", "kid": "ec", "k": "c2VjcmV0"})])))),
        part(nowhere),
        AuthorizerPart { object: object.clone(), jwt: None, invalid: None },
        AuthorizerPart { object, jwt: Some(jwt(KeySource::Inline(set(&[&EC.jwk])))), invalid: Some("No.".into()) },
    ] {
        let authorizer = Authorizer::compile(&part, &sets);
        assert!(authorizer.problem().is_some());
        assert_eq!(refusal(&authorizer, &bearer(&EC.token(&claims()))), Some(Refusal::InvalidConfig));
    }
}
