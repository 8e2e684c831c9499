//! Functions of Lambda authorizers behind Services: their endpoints are those of the Service's part, whatever its name resolves to.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use base64::Engine as _;
use http::{HeaderMap, HeaderName, HeaderValue, Method};
use sluice_kit::tls::issue;
use sluice_sigv4::{BodyHash, Options, Presented, RequestParts, signing_key};
use sluice_wire::*;

use crate::harness::*;
use crate::lambda_authorizer::{ask, authorizer, guarded, lambda, output, response, rules, stage_of};

fn functions() -> PartName {
    PartName::of_upstream("shop", "functions", 8080)
}

/// The part of the Service.
fn endpoints(addresses: &[SocketAddr], tls: Option<UpstreamTls>) -> (PartName, PartBody) {
    let part = UpstreamPart {
        object: ObjectRef::new("Service", "shop", "functions"),
        endpoints: Endpoints::Addresses(addresses.to_vec()),
        h2c: false,
        tls,
    };
    (functions(), PartBody::Upstream(part))
}

/// Each request causes a call.
fn called(invoke: Option<Invocation>, path: &str) -> (PartName, PartBody) {
    let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
    let host = "functions.shop.svc:8080".to_owned();
    let function =
        LambdaFunction::Service(LambdaService { upstream: functions(), host, path: path.to_owned(), invoke });
    authorizer(Lambda { function, result_ttl_ms: 0, ..lambda(nowhere, LambdaEvent::Token) })
}

/// A function that counts its calls and keeps the last one.
fn function(seen: &Arc<Mutex<(String, String)>>) -> Backend {
    let seen = seen.clone();
    Backend::start(move |head, body| {
        *seen.lock().unwrap() = (head.to_owned(), body.to_owned());
        response(&output("Allow", "*"))
    })
}

#[test]
fn events_are_sent_to_the_endpoints_of_the_service_and_to_no_others() {
    let seen = Arc::default();
    let (one, two) = (function(&seen), function(&seen));
    let calls = || (one.requests(), two.requests());
    let mut gate = Gate::start();
    // The endpoints are known before the Authorizer, because a route has the same Service as its backend.
    let forwarded = RulePolicy { authorizer: None, ..policy(Integration::Service(functions())) };
    gate.put(vec![
        stage_part(stage_of(Behavior::Native)),
        endpoints(&[one.address, two.address], None),
        rules(),
        route("open", vec![rule("open", "GET", "/open", forwarded)]),
    ]);
    assert_eq!(gate.put(vec![called(None, "/authorize/v1")]), []);
    assert!((0..40).all(|_| ask(&gate, "/a", "t").status == 200));
    let (first, second) = calls();
    assert!(first > 0 && second > 0 && first + second == 40, "{first} and {second}");
    let (head, body) = seen.lock().unwrap().clone();
    assert!(head.starts_with("POST /authorize/v1 HTTP/1.1\r\n"), "{head}");
    assert!(head.to_lowercase().contains("\r\nhost: functions.shop.svc:8080\r\n"), "{head}");
    assert!(head.to_lowercase().contains("\r\ncontent-type: application/json\r\n"), "{head}");
    assert!(body.contains(r#""authorizationToken":"t""#), "{body}");
    assert_eq!(gate.get("/open").status, 200);
    let (first, second) = calls();
    assert_eq!(first + second, 41);
    // Only the ready ones.
    gate.put(vec![endpoints(&[two.address], None)]);
    assert!((0..10).all(|_| ask(&gate, "/a", "t").status == 200));
    assert_eq!(calls(), (first, second + 10));
    // One that does not listen is left for another.
    one.close();
    gate.put(vec![endpoints(&[one.address, two.address], None)]);
    assert!((0..10).all(|_| ask(&gate, "/a", "t").status == 200));
    assert_eq!(calls(), (first, second + 20));
}

#[test]
fn without_endpoints_requests_are_rejected_as_if_the_function_were_unreachable() {
    let seen = Arc::default();
    let backend = function(&seen);
    let mut gate = Gate::start();
    gate.put(vec![stage_part(stage_of(Behavior::Native)), rules()]);
    let unknown = gate.put(vec![called(None, "/")]);
    let messages: Vec<(&str, &str)> = unknown.iter().map(|found| (&*found.object.kind, &*found.message)).collect();
    let known_nothing = "It calls the Service shop/functions:8080, of which this proxy knows nothing.";
    assert_eq!(messages, [("Authorizer", known_nothing)]);
    let rejected = |gate: &mut Gate, what: &str| {
        for (behavior, status) in [(Behavior::AwsRest, 500), (Behavior::AwsHttp, 500), (Behavior::Native, 503)] {
            gate.put(vec![stage_part(stage_of(behavior))]);
            assert_eq!(ask(gate, "/a", "t").status, status, "{what} {behavior:?}");
        }
    };
    rejected(&mut gate, "no part");
    // They arrive after the Authorizer.
    assert_eq!(gate.put(vec![endpoints(&[backend.address], None)]), []);
    assert_eq!(ask(&gate, "/a", "t").status, 200);
    gate.put(vec![endpoints(&[], None)]);
    rejected(&mut gate, "no endpoints");
    gate.put(vec![endpoints(&[backend.address], None)]);
    assert_eq!(ask(&gate, "/a", "t").status, 200);
    assert_eq!(gate.remove(functions()).len(), 1);
    rejected(&mut gate, "removed");
    eventually("logged", || gate.log.lines().iter().filter(|line| line["reason"] == "lambda_unavailable").count() == 9);
    gate.put(vec![endpoints(&[backend.address], None)]);
    assert_eq!(ask(&gate, "/a", "t").status, 200);
    // The Authorizer calls something else: nothing is missing any more.
    gate.remove(functions());
    assert_eq!(gate.put(vec![authorizer(lambda(backend.address, LambdaEvent::Token))]), []);
    assert_eq!(ask(&gate, "/a", "t").status, 200);
}

#[test]
fn a_call_of_the_api_invoke_of_a_service_is_signed_for_its_host() {
    let seen = Arc::default();
    let backend = function(&seen);
    let secret = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
    let credentials =
        AwsCredentials { access_key_id: "AKIDEXAMPLE".into(), secret_access_key: secret.into(), session_token: None };
    let path = "/2015-03-31/functions/auth%3Alive/invocations";
    let invocation = Invocation { region: "eu-west-1".into(), credentials: Some(credentials) };
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage_of(Behavior::Native)),
        endpoints(&[backend.address], None),
        called(Some(invocation), path),
        rules(),
    ]);
    assert_eq!(ask(&gate, "/a", "t").status, 200);
    let (head, body) = seen.lock().unwrap().clone();
    let mut lines = head.lines();
    assert_eq!(lines.next(), Some(format!("POST {path} HTTP/1.1").as_str()));
    let mut headers = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(": ")) {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    assert_eq!(
        (&headers["host"], &headers["x-amz-invocation-type"]),
        (&"functions.shop.svc:8080".parse().unwrap(), &"RequestResponse".parse().unwrap())
    );
    let presented = Presented::find(&headers, None, Options::default()).unwrap().unwrap();
    let key = signing_key(secret, presented.date(), "eu-west-1", "lambda");
    let request = RequestParts { method: &Method::POST, path, query: None, headers: &headers, host: None };
    presented.verify(&key, &request, &BodyHash::of(body.as_bytes())).unwrap();
}

#[test]
fn a_service_with_tls_must_have_a_certificate_of_its_authorities() {
    let (right, wrong) = (issue("functions.example"), issue("functions.example"));
    let backend = Backend::start_tls(&right, |_, _| response(&output("Allow", "*")));
    let tls = |issued: &sluice_kit::tls::Issued, name: &str| {
        let roots = Some(vec![base64::engine::general_purpose::STANDARD.encode(&issued.der)]);
        Some(UpstreamTls { server_name: name.into(), roots })
    };
    let mut gate = Gate::start();
    gate.put(vec![stage_part(stage_of(Behavior::Native)), called(None, "/"), rules()]);
    for (tls, status) in [
        (tls(&right, "functions.example"), 200),
        (tls(&wrong, "functions.example"), 503),
        (tls(&right, "other.example"), 503),
        (None, 503),
        (tls(&right, "functions.example"), 200),
    ] {
        let what = format!("{tls:?}");
        gate.put(vec![endpoints(&[backend.address], tls)]);
        assert_eq!(ask(&gate, "/a", "t").status, status, "{what}");
    }
    // Without a name to verify, nothing is sent.
    assert_eq!(gate.put(vec![endpoints(&[backend.address], tls(&right, "no name"))]).len(), 1);
    assert_eq!(ask(&gate, "/a", "t").status, 503);
}

#[test]
fn an_endpoint_that_is_not_allowed_is_not_called() {
    let seen = Arc::default();
    let backend = function(&seen);
    let mut gate = Gate::with(false, Vec::new());
    gate.put(vec![
        stage_part(stage_of(Behavior::Native)),
        endpoints(&[backend.address], None),
        called(None, "/"),
        route("r", vec![rule("a", "GET", "/a", guarded(mock("in")))]),
    ]);
    assert_eq!((ask(&gate, "/a", "t").status, backend.requests()), (503, 0));
}
