//! Signing, and verifying what differs in one place.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::{HeaderMap, HeaderValue, Method};
use sluice_sigv4::{BodyHash, Options, Presented, RequestParts, SignError, Signer, SigningKey, signing_key};

use crate::{ACCESS_KEY_ID, SECRET};

/// 2015-08-30T12:36:00Z, the time of AWS's test suite.
fn then() -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(1_440_938_160)
}

fn signer() -> Signer<'static> {
    Signer::new(ACCESS_KEY_ID, SECRET, "us-east-1", "service", then())
}

fn key() -> SigningKey {
    signing_key(SECRET, "20150830", "us-east-1", "service")
}

fn request(headers: &HeaderMap) -> RequestParts<'_> {
    RequestParts { method: &Method::GET, path: "/", query: None, headers, host: Some("example.amazonaws.com") }
}

#[test]
fn a_signature_is_that_of_the_test_suite() {
    let added = signer().sign(&request(&HeaderMap::new()), &BodyHash::of(b"")).unwrap();
    assert_eq!(
        added["authorization"],
        "AWS4-HMAC-SHA256 Credential=AKIDEXAMPLE/20150830/us-east-1/service/aws4_request, \
         SignedHeaders=host;x-amz-date, \
         Signature=5fa00fa31553b73ebf1942676e86291e8372ff2a2260956d9b8aae1d763fbf31"
    );
    assert_eq!(added["x-amz-date"], "20150830T123600Z");
    assert_eq!(added.len(), 2);
}

#[test]
fn a_text_shows_what_should_have_been_signed() {
    let headers = signer().sign(&request(&HeaderMap::new()), &BodyHash::of(b"")).unwrap();
    let presented = Presented::find(&headers, None, Options::default()).unwrap().unwrap();
    let mismatch = presented.verify(&SigningKey::from_bytes([0; 32]), &request(&headers), &BodyHash::of(b""));
    let mismatch = mismatch.unwrap_err();
    assert_eq!(
        mismatch.to_string(),
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access \
         Key and signing method. Consult the service documentation for details.\n\nThe Canonical String for this \
         request should have been\n'GET\n/\n\nhost:example.amazonaws.com\nx-amz-date:20150830T123600Z\n\n\
         host;x-amz-date\ne3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855'\n\nThe String-to-Sign \
         should have been\n'AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/service/aws4_request\n\
         bb579772317eb040ac9ed261061d46c1f17a8133879d6129b6e1c25292927e63'\n"
    );
    assert_eq!(mismatch.error_type(), "InvalidSignatureException");
    assert_eq!(format!("{mismatch:?}"), "Mismatch(..)");
}

#[test]
fn a_declared_hash_is_not_that_of_another_body() {
    let mut headers = HeaderMap::new();
    headers.insert("x-amz-content-sha256", HeaderValue::try_from(BodyHash::of(b"body").to_string()).unwrap());
    headers.extend(signer().sign(&request(&headers), &BodyHash::of(b"body")).unwrap());
    let presented = Presented::find(&headers, None, Options::default()).unwrap().unwrap();
    let declared = presented.declared_body().unwrap();
    assert_eq!(declared, &BodyHash::of(b"body"));
    assert!(presented.verify(&key(), &request(&headers), declared).is_ok());
    assert!(presented.verify(&key(), &request(&headers), &BodyHash::of(b"other")).is_err());
    assert!(presented.verify(&key(), &request(&headers), &BodyHash::Unsigned).is_err());
}

#[test]
fn a_body_that_is_not_signed_is_declared() {
    let streaming = BodyHash::Streaming("STREAMING-UNSIGNED-PAYLOAD-TRAILER".into());
    for body in [BodyHash::Unsigned, streaming] {
        let headers = signer().sign(&request(&HeaderMap::new()), &body).unwrap();
        let presented = Presented::find(&headers, None, Options::default()).unwrap().unwrap();
        assert_eq!(presented.declared_body(), Some(&body));
        assert!(presented.verify(&key(), &request(&headers), &body).is_ok());
        assert!(presented.verify(&key(), &request(&headers), &BodyHash::of(b"")).is_err());
        let query = signer().presign(&request(&HeaderMap::new()), Duration::from_secs(60), &body).unwrap();
        let presented = Presented::find(&HeaderMap::new(), Some(&query), Options::default()).unwrap().unwrap();
        assert_eq!(presented.declared_body(), Some(&body));
    }
}

#[test]
fn the_authority_replaces_the_header_host() {
    let mut headers = signer().sign(&request(&HeaderMap::new()), &BodyHash::of(b"")).unwrap();
    headers.insert("host", HeaderValue::from_static("example.amazonaws.com"));
    let presented = Presented::find(&headers, None, Options::default()).unwrap().unwrap();
    let verifies = |host| presented.verify(&key(), &RequestParts { host, ..request(&headers) }, &BodyHash::of(b""));
    assert!(verifies(None).is_ok());
    assert!(verifies(Some("other.example.com")).is_err());
}

#[test]
fn a_session_token_can_be_outside_of_the_signature() {
    let options = Options { unsigned_session_token: true, ..Options::default() };
    let signer = signer().with_session_token("token").with_options(options);
    let headers = signer.sign(&request(&HeaderMap::new()), &BodyHash::of(b"")).unwrap();
    assert!(Presented::find(&headers, None, Options::default()).is_err());
    let presented = Presented::find(&headers, None, options).unwrap().unwrap();
    assert_eq!(presented.session_token(), Some("token"));
    assert!(presented.verify(&key(), &request(&headers), &BodyHash::of(b"")).is_ok());
}

#[test]
fn headers_that_change_on_the_way_are_not_signed() {
    let mut headers = HeaderMap::new();
    for name in ["user-agent", "x-amzn-trace-id", "traceparent", "connection", "x-mine"] {
        headers.insert(name, HeaderValue::from_static("1"));
    }
    headers.extend(signer().sign(&request(&headers), &BodyHash::of(b"")).unwrap());
    let presented = Presented::find(&headers, None, Options::default()).unwrap().unwrap();
    assert_eq!(presented.signed_headers().collect::<Vec<_>>(), ["host", "x-amz-date", "x-mine"]);
}

#[test]
fn what_cannot_be_signed_is_an_error() {
    let (headers, body) = (HeaderMap::new(), BodyHash::of(b""));
    for seconds in [0, 604_801] {
        let result = signer().presign(&request(&headers), Duration::from_secs(seconds), &body);
        assert_eq!(result, Err(SignError::Expires));
    }
    let result = signer().with_session_token("a\nb").sign(&request(&headers), &body);
    assert_eq!(result, Err(SignError::Header));
    let debug = format!("{:?}", signer().with_session_token("token"));
    assert!(debug.contains(ACCESS_KEY_ID) && !debug.contains("token") && !debug.contains("wJalr"), "{debug}");
}
