//! Which keys verify which tokens.

use super::*;

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
    assert_eq!(rejected(&authorizer, &bearer(&good)), None);
    for (what, token) in rows {
        let reason = rejected(&authorizer, &bearer(&token));
        assert!(reason.is_some_and(|reason| reason.starts_with("token_")), "{what}: {reason:?}");
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
        // A key set without a key that can verify is an Authorizer that cannot be used.
        let sets = KeySets::new(runtime(), Web::default());
        let authorizer = Authorizer::compile(&part(jwt(KeySource::Inline(set(&[&jwk])))), &services(sets));
        let accepted = |authorizer: Arc<Authorizer>| rejected(&authorizer, &bearer(&EC.token(&claims()))).is_none();
        assert_eq!(authorizer.is_ok_and(accepted), usable, "{jwk}");
    }
}

#[test]
fn names_of_keys_may_be_missing_on_either_side() {
    let named = |kid: Option<&str>, signer: &Signer| {
        let mut jwk = signer.jwk.clone();
        match kid {
            Some(kid) => jwk["kid"] = json!(kid),
            None => drop(jwk.as_object_mut().unwrap().remove("kid")),
        }
        jwk
    };
    let (a, b, c) = (named(Some("a"), &OTHER), named(Some("b"), &EC), named(Some("c"), &RSA));
    let (nameless, nameless_other) = (named(None, &EC), named(None, &OTHER));
    let bad = Some("token_bad_signature");
    for (kid, keys, expected) in [
        // A token without a name is tried with each key that fits.
        (None, vec![&b], None),
        (None, vec![&a, &b, &c], None),
        (None, vec![&nameless_other, &nameless], None),
        (None, vec![&a, &c], bad),
        // A key without a name is tried for each token that it fits.
        (Some("b"), vec![&a, &nameless], None),
        (Some("a"), vec![&a, &nameless], None),
        (Some("b"), vec![&nameless_other, &nameless], None),
        (Some("b"), vec![&nameless_other, &c], bad),
        // A name is compared where both have one.
        (Some("a"), vec![&a, &b], bad),
        (Some("d"), vec![&a, &b], bad),
    ] {
        let header = kid.map_or_else(|| json!({"alg": "ES256"}), |kid| json!({"alg": "ES256", "kid": kid}));
        let token = EC.sign(&header, &claims());
        assert_eq!(rejected(&inline(&keys), &bearer(&token)), expected, "{kid:?} {keys:?}");
    }
    // The number of keys that are tried is limited.
    let many: Vec<Value> = (0..16).map(|n| named(Some(&n.to_string()), &OTHER)).collect();
    let mut keys: Vec<&Value> = many.iter().collect();
    keys.push(&b);
    let token = EC.sign(&json!({"alg": "ES256"}), &claims());
    assert_eq!(rejected(&inline(&keys), &bearer(&token)), bad);
    assert_eq!(rejected(&inline(&keys[1..]), &bearer(&token)), None);
}

#[test]
fn aws_http_apis_need_the_name_of_the_key() {
    let authorizer = inline(&[&EC.jwk]);
    let (named, nameless) = (EC.token(&claims()), EC.sign(&json!({"alg": "ES256"}), &claims()));
    for _ in 0..2 {
        for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
            let decide = |token: &str| {
                let headers = bearer(token);
                let request = AuthRequest {
                    method: &Method::GET,
                    headers: &headers,
                    route: None,
                    behavior,
                    with_scopes: false,
                    variables: &NoVariables,
                    facts: &RequestFacts::default,
                };
                match decides(&authorizer).authorize(&request).now_or_never().unwrap().decision {
                    Decision::Allow(_) => None,
                    Decision::Reject { reason, .. } => Some(reason),
                }
            };
            assert_eq!(decide(&named), None, "{behavior:?}");
            let expected = (behavior == Behavior::AwsHttp).then_some("token_no_kid");
            assert_eq!(decide(&nameless), expected, "{behavior:?}");
        }
    }
}

#[test]
fn a_key_of_an_issuer_that_writes_leading_zeros_verifies() {
    let mut jwk = RSA.jwk.clone();
    let modulus = URL_SAFE_NO_PAD.decode(jwk["n"].as_str().unwrap()).unwrap();
    jwk["n"] = json!(URL_SAFE.encode([&[0], modulus.as_slice()].concat()));
    jwk["e"] = json!("AAEAAQ==");
    assert_eq!(rejected(&inline(&[&jwk]), &bearer(&RSA.token(&claims()))), None);
    let mut jwk = EC.jwk.clone();
    let x = URL_SAFE_NO_PAD.decode(jwk["x"].as_str().unwrap()).unwrap();
    jwk["x"] = json!(URL_SAFE_NO_PAD.encode([&[0], x.as_slice()].concat()));
    assert_eq!(rejected(&inline(&[&jwk]), &bearer(&EC.token(&claims()))), None);
}
