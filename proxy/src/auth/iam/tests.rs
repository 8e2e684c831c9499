use sluice_sigv4::{Signer, signing_key};
use sluice_wire::{DayKey, ObjectRef, PartKind, PrincipalPart};

use super::*;
use crate::auth::PrincipalRing;

const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ID: &str = "AKIDEXAMPLE000000001";
/// 2026-11-27T12:00:00Z
const NOW: u64 = 1_795_780_800;
const DAY: &str = "20261127";

fn at(seconds: i64) -> SystemTime {
    SystemTime::UNIX_EPOCH + Duration::from_secs(NOW.saturating_add_signed(seconds))
}

fn iam(unsigned_payload: bool) -> Iam {
    let principals = Principals::default();
    let mut ring = PrincipalRing::new(principals.clone());
    let name = |name: &str| PartName::of_object(PartKind::Authorizer, "shop", name);
    for (principal, id, authorizer) in [("ann", ID, "iam"), ("eve", "AKIDOTHER", "other")] {
        let key = signing_key(SECRET, DAY, "eu-west-1", "execute-api").to_bytes();
        let day = DayKey {
            date: DAY.into(),
            region: "eu-west-1".into(),
            service: "execute-api".into(),
            key: base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key),
        };
        let part = PrincipalPart {
            object: ObjectRef::new("Principal", "shop", principal),
            account: "000000000000".into(),
            arn: format!("arn:aws:iam::000000000000:user/{principal}"),
            tags: Default::default(),
            authorizers: vec![name(authorizer)],
            keys: vec![sluice_wire::AccessKey { id: id.into(), signing_keys: vec![day] }],
            session_keys: Vec::new(),
            policies: Vec::new(),
            invalid: None,
        };
        ring.set(&PartName::of_object(PartKind::Principal, "shop", principal), Some(&part)).unwrap();
    }
    ring.publish();
    let regions = vec!["eu-west-1".to_owned(), "eu-central-1".to_owned()];
    let (service, session_tokens) = ("execute-api".into(), true);
    let part = sluice_wire::Iam { regions, service, clock_skew_s: 300, unsigned_payload, session_tokens };
    Iam::compile(name("iam"), &part, &principals).unwrap()
}

fn signer() -> Signer<'static> {
    Signer::new(ID, SECRET, "eu-west-1", "execute-api", at(0))
}

fn request(method: &str, target: &str, headers: &[(&'static str, &str)]) -> SignedRequest {
    let headers = headers.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    SignedRequest { method: method.parse().unwrap(), uri: target.parse().unwrap(), headers: headers.collect() }
}

fn signed(mut request: SignedRequest, signer: &Signer<'_>, body: &BodyHash) -> SignedRequest {
    let added = signer.sign(&request.parts(), body).unwrap();
    request.headers.extend(added);
    request
}

/// The reason of the rejection; empty: it is accepted.
fn decide(iam: &Iam, request: &SignedRequest, body: &[u8], now: SystemTime) -> &'static str {
    let decided = iam.find(request, now).and_then(|unverified| {
        let declared = unverified.declared().cloned();
        let hash = declared.clone().unwrap_or_else(|| BodyHash::of(body));
        let (identity, _) = unverified.verify(request, &hash)?;
        match declared {
            Some(BodyHash::Sha256(_)) if hash != BodyHash::of(body) => Err(SignatureError::OtherBody),
            _ => Ok(identity),
        }
    });
    match decided {
        Ok(identity) => {
            assert_eq!(identity.id.as_deref(), Some("arn:aws:iam::000000000000:user/ann"));
            ""
        }
        Err(error) => error.reason(),
    }
}

const HOST: (&str, &str) = ("host", "shop.example");

#[test]
fn a_signed_request_is_accepted_and_a_changed_one_is_not() {
    let iam = iam(false);
    let body = b"{\"a\":1}";
    let hash = BodyHash::of(body);
    let original = || signed(request("POST", "/orders/a%20b?x=1&y", &[HOST, ("x-tenant", "t1")]), &signer(), &hash);
    assert_eq!(decide(&iam, &original(), body, at(0)), "");
    type Change = fn(&mut SignedRequest);
    let changes: [(&str, Change); 8] = [
        ("method", |request| request.method = Method::PUT),
        ("path", |request| request.uri = "/orders/a%20c?x=1&y".parse().unwrap()),
        ("escape", |request| request.uri = "/orders/a b?x=1&y".replace(' ', "%2520").parse().unwrap()),
        ("query", |request| request.uri = "/orders/a%20b?x=2&y".parse().unwrap()),
        ("more query", |request| request.uri = "/orders/a%20b?x=1&y&z".parse().unwrap()),
        ("header", |request| drop(request.headers.insert("x-tenant", "t2".parse().unwrap()))),
        ("header twice", |request| assert!(request.headers.append("x-tenant", "t2".parse().unwrap()))),
        ("host", |request| drop(request.headers.insert("host", "other.example".parse().unwrap()))),
    ];
    for (what, change) in changes {
        let mut changed = original();
        change(&mut changed);
        assert_eq!(decide(&iam, &changed, body, at(0)), "signature_mismatch", "{what}");
    }
    assert_eq!(decide(&iam, &original(), b"{}", at(0)), "signature_mismatch", "body");
    // A header that is not signed can be added on the way, unless it is one of AWS.
    let mut added = original();
    added.headers.insert("x-other", "1".parse().unwrap());
    assert_eq!(decide(&iam, &added, body, at(0)), "");
    added.headers.insert("x-amz-other", "1".parse().unwrap());
    assert_eq!(decide(&iam, &added, body, at(0)), "signature_incomplete");
}

#[test]
fn times_scopes_and_keys_are_checked() {
    let iam = iam(false);
    let empty = BodyHash::of(b"");
    let get = |signer: Signer<'_>| signed(request("GET", "/", &[HOST]), &signer, &empty);
    let valid = || get(signer());
    for (seconds, expected) in [
        (0, ""),
        (300, ""),
        (301, "signature_expired"),
        (-300, ""),
        (-301, "signature_not_yet_current"),
        (360, "signature_expired"),
        (-360, "signature_not_yet_current"),
    ] {
        assert_eq!(decide(&iam, &valid(), b"", at(seconds)), expected, "{seconds}");
    }
    let other = |id, region, service| get(Signer::new(id, SECRET, region, service, at(0)));
    for (request, expected) in [
        (other(ID, "us-east-1", "execute-api"), "signature_wrong_scope"),
        (other(ID, "eu-west-1", "lambda"), "signature_wrong_scope"),
        (other("AKIDUNKNOWN", "eu-west-1", "execute-api"), "access_key_unknown"),
        // The Principal of another Authorizer.
        (other("AKIDOTHER", "eu-west-1", "execute-api"), "access_key_unknown"),
        // An accepted region whose key the operator has not sent.
        (other(ID, "eu-central-1", "execute-api"), "signing_key_unavailable"),
        (get(Signer::new(ID, "another secret", "eu-west-1", "execute-api", at(0))), "signature_mismatch"),
        (get(signer().with_session_token("FwoG")), "session_token_invalid"),
        (request("GET", "/", &[HOST]), "signature_missing"),
        (request("GET", "/", &[HOST, ("authorization", "Bearer abc")]), "signature_incomplete"),
        (request("GET", "/", &[HOST, ("authorization", "AWS4-HMAC-SHA256 Credential=a")]), "signature_incomplete"),
    ] {
        assert_eq!(decide(&iam, &request, b"", at(0)), expected, "{:?}", request.headers);
    }
    // A day whose key is not there, at its own time.
    let tomorrow = get(Signer::new(ID, SECRET, "eu-west-1", "execute-api", at(86_400)));
    assert_eq!(decide(&iam, &tomorrow, b"", at(86_400)), "signing_key_unavailable");
}

#[test]
fn presigned_requests_are_valid_until_they_expire() {
    let iam = iam(false);
    let unsigned = request("GET", "/file?part=1", &[HOST]);
    let query = signer().presign(&unsigned.parts(), Duration::from_secs(600), &BodyHash::of(b"")).unwrap();
    let presigned = |query: &str| request("GET", &format!("/file?{query}"), &[HOST]);
    for (seconds, expected) in [(0, ""), (600, ""), (601, "signature_expired"), (-301, "signature_not_yet_current")] {
        assert_eq!(decide(&iam, &presigned(&query), b"", at(seconds)), expected, "{seconds}");
    }
    for changed in
        [query.replace("part=1", "part=2"), query.replace("Expires=600", "Expires=6000"), format!("{query}&a=b")]
    {
        assert_eq!(decide(&iam, &presigned(&changed), b"", at(0)), "signature_mismatch", "{changed}");
    }
    let mut both = presigned(&query);
    both.headers.insert("authorization", "AWS4-HMAC-SHA256 Credential=a".parse().unwrap());
    assert_eq!(decide(&iam, &both, b"", at(0)), "signature_incomplete");
    let twice = format!("{query}&X-Amz-Signature=00");
    assert_eq!(decide(&iam, &presigned(&twice), b"", at(0)), "signature_incomplete");
}

#[test]
fn a_declared_body_must_be_the_body() {
    let body = b"content";
    let hash = BodyHash::of(body);
    let declare = |text: &str| {
        let unsigned = request("PUT", "/", &[HOST, ("x-amz-content-sha256", text)]);
        // What is declared is the last line of what is signed.
        let declared = match text {
            "UNSIGNED-PAYLOAD" => BodyHash::Unsigned,
            text if text.starts_with("STREAMING") => BodyHash::Streaming(text.into()),
            _ => hash.clone(),
        };
        signed(unsigned, &signer(), &declared)
    };
    let hex = hash.to_string();
    for (unsigned_payload, text, sent, expected) in [
        (false, &*hex, &body[..], ""),
        (false, &*hex, b"other", "payload_mismatch"),
        (false, &*hex, b"", "payload_mismatch"),
        (false, "UNSIGNED-PAYLOAD", body, "payload_not_signed"),
        (true, "UNSIGNED-PAYLOAD", body, ""),
        (true, "UNSIGNED-PAYLOAD", b"other", ""),
        (true, "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", body, "payload_streaming"),
        (true, "STREAMING-UNSIGNED-PAYLOAD-TRAILER", body, "payload_streaming"),
    ] {
        assert_eq!(decide(&iam(unsigned_payload), &declare(text), sent, at(0)), expected, "{text} {sent:?}");
    }
    let bad = request("PUT", "/", &[HOST, ("x-amz-content-sha256", "none")]);
    assert_eq!(decide(&iam(true), &signed(bad, &signer(), &hash), body, at(0)), "signature_incomplete");
}

#[test]
fn the_host_of_http2_is_the_one_that_was_signed() {
    let iam = iam(false);
    let valid = signed(request("GET", "https://shop.example/a", &[]), &signer(), &BodyHash::of(b""));
    assert_eq!(decide(&iam, &valid, b"", at(0)), "");
    let moved = SignedRequest { uri: "https://other.example/a".parse().unwrap(), ..valid };
    assert_eq!(decide(&iam, &moved, b"", at(0)), "signature_mismatch");
}

#[test]
fn every_reason_is_in_the_docs() {
    let docs = include_str!("../../../../docs/iam.md");
    for reason in SignatureError::REASONS {
        assert!(docs.contains(&format!("`{reason}`")), "{reason}");
    }
}
