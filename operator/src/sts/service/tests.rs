use http::{Method, Request, StatusCode};
use prometheus::Registry;
use sluice_sigv4::{BodyHash, Signer};

use super::*;
use crate::objects::ObjectKey;
use crate::sts::callers::tests::{ARN, callers, role, user};
use crate::sts::verifier::TokenError;
use crate::translate::Caller;

const SECRET: &str = "wJalrXUtnFEMI-K7MDENG-bPxRfiCYEXAMPLEKEY";

/// Tokens are `NAMESPACE/NAME`, and the names of errors.
fn service(all: &[(&str, &str, Arc<Caller>)]) -> TokenService {
    let verifier = Verifier::local(|token| match token {
        "expired" => Err(TokenError::Expired),
        "audience" => Err(TokenError::Audience),
        "unavailable" => Err(TokenError::Unavailable),
        _ => token.split_once('/').map(|(namespace, name)| ObjectKey::new(namespace, name)).ok_or(TokenError::Invalid),
    });
    let metrics = Metrics::new(&Registry::new()).unwrap();
    TokenService { callers: callers(all), ..TokenService::new(verifier, metrics) }
}

fn roles() -> TokenService {
    service(&[
        ("shop", "reporting", role(ARN, &[("shop", "jobs")])),
        ("shop", "ann", user("SLCEANNANNANNANNANNA", SECRET)),
    ])
}

async fn post(service: &TokenService, form: &str) -> Response<String> {
    let request = Request::post("/").body(()).unwrap();
    service.respond(&request.into_parts().0, form.as_bytes(), 0).await
}

fn assume(changes: &[(&str, &str)]) -> String {
    let mut parameters = vec![
        ("Action", "AssumeRoleWithWebIdentity"),
        ("Version", "2011-06-15"),
        ("RoleArn", ARN),
        ("RoleSessionName", "nightly"),
        ("WebIdentityToken", "shop/jobs"),
    ];
    for (name, value) in changes {
        parameters.retain(|(known, _)| known != name);
        parameters.push((name, value));
    }
    form_urlencoded::Serializer::new(String::new()).extend_pairs(parameters).finish()
}

/// The text of the first element with a name.
fn field<'a>(body: &'a str, name: &str) -> &'a str {
    let start = body.find(&format!("<{name}>")).map(|at| at + name.len() + 2).unwrap_or_default();
    let end = body.find(&format!("</{name}>")).unwrap_or(start);
    body.get(start..end).unwrap_or_default()
}

#[tokio::test]
async fn a_service_account_gets_credentials_of_a_role_that_trusts_it() {
    let service = roles();
    let response = post(&service, &assume(&[])).await;
    assert_eq!((response.status(), response.headers()["content-type"].to_str().unwrap()), (StatusCode::OK, "text/xml"));
    let body = response.body();
    assert_eq!(field(body, "Arn"), "arn:aws:sts::000000000000:assumed-role/reporting/nightly");
    assert_eq!(field(body, "AssumedRoleId"), "shop/reporting:nightly");
    assert_eq!(field(body, "SubjectFromWebIdentityToken"), "system:serviceaccount:shop:jobs");
    assert!(field(body, "AccessKeyId").starts_with("SLTE"), "{body}");
    let expires: Timestamp = field(body, "Expiration").parse().unwrap();
    let valid_s = expires.as_second() - Timestamp::now().as_second();
    assert!((3_590..=3_600).contains(&valid_s), "{valid_s}");
    assert_eq!(field(body, "RequestId"), response.headers()["x-amzn-requestid"].to_str().unwrap());
    let again = post(&service, &assume(&[("DurationSeconds", "7200")])).await;
    assert_ne!(field(body, "SecretAccessKey"), field(again.body(), "SecretAccessKey"));
}

#[tokio::test]
async fn each_wrong_request_has_its_error() {
    let service = roles();
    let long = "a".repeat(20_001);
    for (changes, status, code) in [
        (&[("WebIdentityToken", "shop/others")][..], 403, "AccessDenied"),
        (&[("RoleArn", "arn:aws:iam::000000000000:role/other")], 403, "AccessDenied"),
        (&[("RoleArn", "arn:aws:iam::000000000000:user/ann")], 403, "AccessDenied"),
        (&[("WebIdentityToken", "invalid")], 400, "InvalidIdentityToken"),
        (&[("WebIdentityToken", "audience")], 400, "InvalidIdentityToken"),
        (&[("WebIdentityToken", "expired")], 400, "ExpiredTokenException"),
        (&[("WebIdentityToken", "unavailable")], 400, "IDPCommunicationError"),
        (&[("WebIdentityToken", "")], 400, "MissingParameter"),
        (&[("WebIdentityToken", &long)], 400, "ValidationError"),
        (&[("RoleArn", "short")], 400, "ValidationError"),
        (&[("RoleSessionName", "a b")], 400, "ValidationError"),
        (&[("RoleSessionName", "a")], 400, "ValidationError"),
        (&[("DurationSeconds", "899")], 400, "ValidationError"),
        (&[("DurationSeconds", "7201")], 400, "ValidationError"),
        (&[("DurationSeconds", "-1")], 400, "ValidationError"),
        (&[("DurationSeconds", "99999999999999999999999")], 400, "ValidationError"),
        (&[("Policy", "{}")], 400, "ValidationError"),
        (&[("PolicyArns.member.1.arn", "a")], 400, "ValidationError"),
        (&[("ProviderId", "www.example.com")], 400, "ValidationError"),
        (&[("Version", "2010-01-01")], 400, "InvalidAction"),
        (&[("Action", "AssumeRole")], 400, "InvalidAction"),
        (&[("Action", "")], 400, "MissingAction"),
    ] {
        let response = post(&service, &assume(changes)).await;
        let seen = (response.status().as_u16(), field(response.body(), "Code"));
        assert_eq!(seen, (status, code), "{changes:?} {}", response.body());
        assert!(field(response.body(), "SecretAccessKey").is_empty());
    }
    // Nothing is known about Principals yet.
    let empty = TokenService { callers: Callers::default(), ..roles() };
    assert_eq!(post(&empty, &assume(&[])).await.status(), StatusCode::SERVICE_UNAVAILABLE);
}

#[tokio::test]
async fn two_roles_of_other_namespaces_with_one_arn_are_ambiguous() {
    let trusted = &[("shop", "jobs")][..];
    let others = service(&[("a", "reporting", role(ARN, trusted)), ("b", "reporting", role(ARN, trusted))]);
    assert_eq!(field(post(&others, &assume(&[])).await.body(), "Code"), "AccessDenied");
    let own = service(&[("a", "reporting", role(ARN, trusted)), ("shop", "reporting", role(ARN, trusted))]);
    assert_eq!(field(post(&own, &assume(&[])).await.body(), "AssumedRoleId"), "shop/reporting:nightly");
}

const IDENTITY_FORM: &str = "Action=GetCallerIdentity&Version=2011-06-15";

struct Signed<'a> {
    id: &'a str,
    secret: &'a str,
    token: Option<&'a str>,
    service: &'a str,
    body: &'a str,
    at: std::time::SystemTime,
}

async fn identity(to: &TokenService, signed: &Signed<'_>) -> Response<String> {
    let mut request = Request::post("/").header("host", "sts.example").body(()).unwrap();
    let mut signer = Signer::new(signed.id, signed.secret, "eu-west-1", signed.service, signed.at);
    if let Some(token) = signed.token {
        signer = signer.with_session_token(token);
    }
    let headers = request.headers().clone();
    let parts =
        RequestParts { method: &Method::POST, path: "/", query: None, headers: &headers, host: Some("sts.example") };
    let added = signer.sign(&parts, &BodyHash::of(IDENTITY_FORM.as_bytes())).unwrap();
    request.headers_mut().extend(added);
    to.respond(&request.into_parts().0, signed.body.as_bytes(), 0).await
}

#[tokio::test]
async fn the_caller_of_a_signed_request_is_named() {
    let service = roles();
    let now = std::time::SystemTime::now();
    let ann = |secret| Signed {
        id: "SLCEANNANNANNANNANNA",
        secret,
        token: None,
        service: "sts",
        body: IDENTITY_FORM,
        at: now,
    };
    let response = identity(&service, &ann(SECRET)).await;
    let body = response.body();
    assert_eq!(field(body, "Arn"), "arn:aws:iam::000000000000:user/ann");
    assert_eq!((field(body, "UserId"), field(body, "Account")), ("shop/ann", "000000000000"));

    let issued = post(&service, &assume(&[])).await.into_body();
    let [id, secret, token] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| field(&issued, name));
    let session = Signed { id, secret, token: Some(token), ..ann(SECRET) };
    let response = identity(&service, &session).await;
    assert_eq!(field(response.body(), "Arn"), "arn:aws:sts::000000000000:assumed-role/reporting/nightly");
    assert_eq!(field(response.body(), "UserId"), "shop/reporting:nightly");

    let (hour, other_seed) = (std::time::Duration::from_secs(600), "x".repeat(64));
    let Some(mut replaced) = Some(role(ARN, &[("shop", "jobs")])).map(|role| (*role).clone()) else { return };
    replaced.role.as_mut().unwrap().seed = crate::translate::SecretText(other_seed);
    let with_another_seed = self::service(&[("shop", "reporting", Arc::new(replaced))]);
    for (to, signed, code) in [
        (&service, ann("another-secret"), "SignatureDoesNotMatch"),
        (&service, Signed { service: "execute-api", ..ann(SECRET) }, "SignatureDoesNotMatch"),
        (&service, Signed { at: now - hour, ..ann(SECRET) }, "SignatureDoesNotMatch"),
        (&service, Signed { body: "Action=GetCallerIdentity", ..ann(SECRET) }, "SignatureDoesNotMatch"),
        (&service, Signed { id: "SLCEUNKNOWN", ..ann(SECRET) }, "InvalidClientTokenId"),
        (&service, Signed { token: Some("no-token"), ..ann(SECRET) }, "InvalidClientTokenId"),
        // A token is worth nothing with another id, and an id nothing without its token.
        (&service, Signed { token: Some(token), ..ann(SECRET) }, "InvalidClientTokenId"),
        (&service, Signed { id, secret, ..ann(SECRET) }, "InvalidClientTokenId"),
        (&with_another_seed, Signed { id, secret, token: Some(token), ..ann(SECRET) }, "InvalidClientTokenId"),
    ] {
        let response = identity(to, &signed).await;
        assert_eq!((response.status().as_u16(), field(response.body(), "Code")), (403, code), "{}", response.body());
        assert!(!response.body().contains("execute-api/aws4_request"));
    }
    let unsigned = post(&service, IDENTITY_FORM).await;
    assert_eq!(field(unsigned.body(), "Code"), "MissingAuthenticationToken");
}

#[tokio::test]
async fn a_session_that_has_ended_is_rejected() {
    let service = roles();
    let before = Timestamp::now() - k8s_openapi::jiff::SignedDuration::from_hours(2);
    let request = Request::post("/").body(()).unwrap().into_parts().0;
    let form = assume(&[]);
    let (_, issued) = service.act(&request, form.as_bytes(), 0, before).await;
    let issued = xml::result("A", &issued.unwrap(), "id").into_body();
    let [id, secret, token] = ["AccessKeyId", "SecretAccessKey", "SessionToken"].map(|name| field(&issued, name));
    let (at, body) = (std::time::SystemTime::now(), IDENTITY_FORM);
    let response = identity(&service, &Signed { id, secret, token: Some(token), service: "sts", body, at }).await;
    assert_eq!(field(response.body(), "Code"), "ExpiredToken");
}
