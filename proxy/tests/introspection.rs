//! Token introspection against an endpoint: what is sent to it, what of its responses is accepted, and every way in which it
//! can fail.

use std::collections::BTreeSet;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, mpsc};
use std::time::Duration;

use sluice_wire::*;

use crate::harness::*;

fn introspection(address: SocketAddr) -> Introspection {
    Introspection {
        url: format!("http://{address}/oauth2/introspect"),
        client_id: "shop gateway".into(),
        client_secret: "s3cret:+/".into(),
        client_authentication: ClientAuthentication::Basic,
        token_from: vec![TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) }],
        issuer: None,
        audiences: vec!["shop".into()],
        any_audience: false,
        required_claims: Default::default(),
        result_ttl_ms: 60_000,
        timeout_ms: 5_000,
    }
}

fn authorizer(kind: Introspection) -> (PartName, PartBody) {
    let part = AuthorizerPart {
        object: ObjectRef::new("Authorizer", "shop", "opaque"),
        kind: AuthorizerKind::Introspection(kind),
    };
    (PartName::new(PartKind::Authorizer, "shop/opaque"), PartBody::Authorizer(part))
}

/// A rule that needs the scope `read`, and a mock that shows the caller.
fn guarded() -> (PartName, PartBody) {
    let part = PartName::new(PartKind::Authorizer, "shop/opaque");
    let caller = "${context.authorizer.claims.sub}/${context.authorizer.claims.tenant.id}";
    let guarded = RulePolicy {
        authorizer: Some(AuthorizerUse { part, scopes: vec!["read".into()] }),
        response_headers: HeaderEdits {
            set: vec![("x-caller".into(), caller.parse().unwrap())],
            ..HeaderEdits::default()
        },
        ..policy(mock("in"))
    };
    route("r", vec![rule("r", "GET", "/a", guarded)])
}

fn gate(kind: Introspection) -> Gate {
    let mut gate = Gate::start();
    gate.put(vec![stage_part(stage()), authorizer(kind), guarded()]);
    gate
}

fn ask(gate: &Gate, token: &str) -> Response {
    gate.request("GET", "/a", &[("authorization", &format!("Bearer {token}"))], "")
}

fn json(body: &str) -> String {
    format!("HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
}

const ACTIVE: &str = r#"{"active": true, "sub": "ann", "aud": "shop", "scope": "read", "tenant": {"id": "t1"}}"#;

/// An endpoint that knows these tokens as active.
fn endpoint(tokens: Arc<Mutex<BTreeSet<String>>>) -> Backend {
    Backend::start(move |_, body| {
        let token = body.split('&').find_map(|pair| pair.strip_prefix("token=")).unwrap_or_default();
        json(if tokens.lock().unwrap().contains(token) { ACTIVE } else { r#"{"active": false}"# })
    })
}

#[test]
fn a_token_is_sent_with_the_credentials_of_the_client_and_its_caller_is_known() {
    for authentication in [ClientAuthentication::Basic, ClientAuthentication::Post] {
        let seen = Arc::new(Mutex::new(Vec::new()));
        let calls = seen.clone();
        let backend = Backend::start(move |head, body| {
            calls.lock().unwrap().push((head.to_ascii_lowercase(), head.to_owned(), body.to_owned()));
            json(ACTIVE)
        });
        let kind = Introspection { client_authentication: authentication, ..introspection(backend.address) };
        let gate = gate(kind);
        let response = ask(&gate, "opaque+token/1=");
        assert_eq!((response.status, response.header("x-caller")), (200, Some("ann/t1")), "{authentication:?}");
        let calls = seen.lock().unwrap();
        let [(lower, head, body)] = calls.as_slice() else { panic!("{calls:?}") };
        assert!(head.starts_with("POST /oauth2/introspect HTTP/1.1\r\n"), "{head}");
        assert!(lower.contains("content-type: application/x-www-form-urlencoded\r\n"), "{head}");
        assert!(lower.contains("accept: application/json\r\n"), "{head}");
        let form = "token=opaque%2Btoken%2F1%3D&token_type_hint=access_token";
        match authentication {
            // shop%20gateway:s3cret%3A%2B%2F
            ClientAuthentication::Basic => {
                let expected = "Basic c2hvcCUyMGdhdGV3YXk6czNjcmV0JTNBJTJCJTJG\r\n";
                assert!(head.contains(expected) && body == form, "{head}{body}");
            }
            ClientAuthentication::Post => {
                let expected = format!("{form}&client_id=shop%20gateway&client_secret=s3cret%3A%2B%2F");
                assert!(!lower.contains("authorization") && *body == expected, "{head}{body}");
            }
        }
    }
}

#[test]
fn rejections_follow_the_behavior_of_the_stage() {
    let backend = Backend::start(|_, body| {
        let response = if body.contains("token=writer") { ACTIVE.replace("read", "write") } else { String::new() };
        json(if response.is_empty() { r#"{"active": false}"# } else { &response })
    });
    let mut gate = gate(introspection(backend.address));
    let bearer = |parameters: &str| Some(format!("Bearer {parameters}"));
    let inactive = r#"error="invalid_token", error_description="the token is not active""#;
    let rest = r#"scope="" error="invalid_token" error_description="the token is not active""#;
    let scope = "the token has none of the required scopes";
    let rows = [
        (Behavior::Native, None, 401, Some("Bearer".to_owned()), "token_missing"),
        (Behavior::Native, Some("gone"), 401, bearer(inactive), "token_inactive"),
        (
            Behavior::Native,
            Some("writer"),
            403,
            bearer(&format!(r#"error="insufficient_scope", error_description="{scope}""#)),
            "ScopeMissing",
        ),
        (Behavior::AwsRest, Some("gone"), 401, None, "token_inactive"),
        (Behavior::AwsHttp, Some("gone"), 401, bearer(rest), "token_inactive"),
    ];
    for (number, (behavior, token, status, challenge, reason)) in rows.into_iter().enumerate() {
        gate.put(vec![stage_part(StagePart { behavior, ..stage() })]);
        let headers: Vec<(&str, String)> =
            token.iter().map(|token| ("authorization", format!("Bearer {token}"))).collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let response = gate.request("GET", "/a", &headers, "");
        let found = response.header("www-authenticate").or(response.header("x-amzn-remapped-www-authenticate"));
        assert_eq!((response.status, found), (status, challenge.as_deref()), "{behavior:?} {token:?}");
        eventually("logged", || gate.log.lines().get(number).is_some_and(|line| line["reason"] == reason));
    }
}

#[test]
fn requests_with_one_token_cause_one_call_and_a_revoked_token_is_rejected_within_the_time() {
    let tokens = Arc::new(Mutex::new(BTreeSet::from(["good".to_owned()])));
    let backend = endpoint(tokens.clone());
    let mut gate = gate(introspection(backend.address));
    std::thread::scope(|scope| {
        let all: Vec<_> = (0..20).map(|_| scope.spawn(|| ask(&gate, "good").status)).collect();
        assert!(all.into_iter().all(|one| one.join().unwrap() == 200));
    });
    assert_eq!(backend.requests(), 1);
    let metric = |line: &str| gate.metric(line);
    assert_eq!(metric(r#"sluice_authorizer_remembered_decisions{authorizer="shop/opaque",kind="Introspection"}"#), 1.0);
    let outcome = |outcome: &str| {
        metric(&format!(
            r#"sluice_authorizer_decisions_total{{kind="Introspection",outcome="{outcome}",stage="shop/prod"}}"#
        ))
    };
    assert_eq!(outcome("remembered") + outcome("allowed"), 20.0);
    let calls = metric(r#"sluice_authorizer_duration_seconds_count{kind="Introspection",stage="shop/prod"}"#);
    assert_eq!(calls, outcome("allowed"));
    // With a short time, an old result is not used; inactive tokens are not remembered.
    let short = Introspection { result_ttl_ms: 300, ..introspection(backend.address) };
    gate.put(vec![authorizer(short)]);
    assert_eq!(ask(&gate, "good").status, 200);
    tokens.lock().unwrap().clear();
    eventually("a revoked token is rejected", || ask(&gate, "good").status == 401);
    tokens.lock().unwrap().insert("good".to_owned());
    assert_eq!(ask(&gate, "good").status, 200, "it is active again");
    // Without a time, each request causes a call.
    gate.put(vec![authorizer(Introspection { result_ttl_ms: 0, ..introspection(backend.address) })]);
    let before = backend.requests();
    assert!((0..3).all(|_| ask(&gate, "good").status == 200));
    assert_eq!(backend.requests() - before, 3);
    tokens.lock().unwrap().clear();
    assert_eq!(ask(&gate, "good").status, 401);
}

#[test]
fn whatever_the_endpoint_does_instead_of_deciding_the_request_is_rejected_and_nothing_is_remembered() {
    let status = |status: &str, more: &str| format!("HTTP/1.1 {status}\r\n{more}content-length: 0\r\n\r\n");
    let closed = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap();
    let (unavailable, client, invalid) =
        ("introspection_unavailable", "introspection_client_rejected", "introspection_invalid_response");
    let elsewhere = Backend::start(|_, _| json(ACTIVE));
    let redirect = format!("location: http://{}/oauth2/introspect\r\n", elsewhere.address);
    let huge = format!("{{\"active\": true, \"aud\": \"shop\", \"x\": \"{}\"}}", "x".repeat(70_000));
    let cut = |text: &str| format!("HTTP/1.1 200 OK\r\ncontent-length: 500\r\n\r\n{text}");
    let rows = [
        ("refused", closed, unavailable),
        ("slow", raw_server(String::new(), false), unavailable),
        ("slow body", raw_server(cut(ACTIVE), false), unavailable),
        ("closed before a response", raw_server(String::new(), true), unavailable),
        ("half a head", raw_server("HTTP/1.1 200 OK\r\ncontent-le".into(), true), unavailable),
        ("half a body", raw_server(cut(ACTIVE), true), unavailable),
        ("no HTTP", raw_server("SSH-2.0-x\r\n".into(), true), unavailable),
        ("500", raw_server(status("500 Internal Server Error", ""), true), unavailable),
        ("503", raw_server(status("503 Service Unavailable", ""), true), unavailable),
        ("429", raw_server(status("429 Too Many Requests", ""), true), unavailable),
        ("401", raw_server(status("401 Unauthorized", "www-authenticate: Basic\r\n"), true), client),
        ("403", raw_server(status("403 Forbidden", ""), true), client),
        ("redirect", raw_server(status("302 Found", &redirect), true), invalid),
        ("redirect that keeps the method", raw_server(status("307 Temporary Redirect", &redirect), true), invalid),
        ("404", raw_server(status("404 Not Found", ""), true), invalid),
        ("204", raw_server(status("204 No Content", ""), true), invalid),
        ("201", raw_server(json(ACTIVE).replace("200 OK", "201 Created"), true), invalid),
        ("huge", raw_server(json(&huge), true), invalid),
        ("empty", raw_server(json(""), true), invalid),
        ("not JSON", raw_server(json("<html>"), true), invalid),
        ("malformed JSON", raw_server(json(r#"{"active": true,"#), true), invalid),
        ("a list", raw_server(json(&format!("[{ACTIVE}]")), true), invalid),
        ("without active", raw_server(json(r#"{"sub": "ann", "aud": "shop"}"#), true), invalid),
        ("active as text", raw_server(json(&ACTIVE.replace("true", "\"true\"")), true), invalid),
        ("active twice", raw_server(json(&ACTIVE.replace("true,", "false, \"active\": true,")), true), invalid),
        ("an odd exp", raw_server(json(&ACTIVE.replace("true,", "true, \"exp\": \"never\",")), true), invalid),
    ];
    let mut gate = Gate::start();
    gate.put(vec![guarded()]);
    let mut lines = 0;
    for (name, address, reason) in rows {
        gate.put(vec![authorizer(Introspection { timeout_ms: 300, ..introspection(address) })]);
        for (behavior, status) in [(Behavior::Native, 503), (Behavior::AwsRest, 500), (Behavior::AwsHttp, 500)] {
            gate.put(vec![stage_part(StagePart { behavior, ..stage() })]);
            assert_eq!(ask(&gate, "t").status, status, "{name} {behavior:?}");
            lines += 1;
            let line = eventually("logged", || gate.log.lines().get(lines - 1).cloned());
            assert_eq!(line["reason"], reason, "{name}");
        }
    }
    assert_eq!(elsewhere.requests(), 0, "a redirect was followed");
    let line = r#"sluice_authorizer_remembered_decisions{authorizer="shop/opaque",kind="Introspection"}"#;
    assert_eq!(gate.metric(line), 0.0);
    // The same proxy accepts the token as soon as the endpoint decides.
    gate.put(vec![stage_part(stage()), authorizer(introspection(elsewhere.address))]);
    assert_eq!(ask(&gate, "t").status, 200);
}

#[test]
fn an_address_that_is_not_allowed_is_not_called() {
    let backend = Backend::start(|_, _| json(ACTIVE));
    let mut gate = Gate::with(false, Vec::new());
    gate.put(vec![stage_part(stage()), authorizer(introspection(backend.address)), guarded()]);
    assert_eq!((ask(&gate, "t").status, backend.requests()), (503, 0));
}

#[test]
fn an_endpoint_with_tls_must_have_a_trusted_certificate() {
    let (right, wrong) = (sluice_kit::tls::issue("localhost"), sluice_kit::tls::issue("localhost"));
    let backend = Backend::start_tls(&right, |_, _| json(ACTIVE));
    let url = format!("https://localhost:{}/introspect", backend.address.port());
    for (roots, status) in [(vec![right.der.clone()], 200), (vec![wrong.der], 503)] {
        let mut gate = Gate::with(true, roots);
        let kind = Introspection { url: url.clone(), ..introspection(backend.address) };
        gate.put(vec![stage_part(stage()), authorizer(kind), guarded()]);
        assert_eq!(ask(&gate, "t").status, status);
    }
}

#[test]
fn at_most_256_requests_wait_and_remembered_tokens_are_served_meanwhile() {
    let (release, wait) = mpsc::channel::<()>();
    let (wait, held) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
    let holding = held.clone();
    let backend = Backend::start(move |_, body| {
        if !body.contains("token=known") {
            holding.fetch_add(1, Ordering::SeqCst);
            wait.lock().unwrap().recv_timeout(Duration::from_secs(20)).unwrap_or_default();
        }
        json(ACTIVE)
    });
    let gate = gate(Introspection { timeout_ms: 29_000, ..introspection(backend.address) });
    assert_eq!(ask(&gate, "known").status, 200);
    let token =
        |number: usize| format!("GET /a HTTP/1.1\r\nhost: shop.example\r\nauthorization: Bearer t{number}\r\n\r\n");
    let mut waiting: Vec<_> = (0..256)
        .map(|number| {
            let mut stream = gate.connect();
            stream.write_all(token(number).as_bytes()).unwrap();
            stream
        })
        .collect();
    eventually("all wait", || held.load(Ordering::SeqCst) == 256);
    assert_eq!(ask(&gate, "one-more").status, 503);
    assert_eq!(ask(&gate, "known").status, 200);
    drop(release);
    assert!(waiting.iter_mut().all(|stream| read_response(stream).status == 200));
    assert_eq!(ask(&gate, "one-more").status, 200);
    eventually("logged", || gate.log.lines().iter().any(|line| line["reason"] == "authorizer_busy"));
}

#[test]
fn connections_to_the_endpoint_are_kept_and_a_lost_one_is_replaced() {
    // It closes each connection after two requests, without saying so.
    let backend = Backend::start({
        let served = AtomicUsize::new(0);
        move |_, _| match served.fetch_add(1, Ordering::SeqCst) % 3 {
            2 => String::new(),
            _ => json(ACTIVE),
        }
    });
    let gate = gate(Introspection { result_ttl_ms: 0, ..introspection(backend.address) });
    assert!((0..8).all(|number| ask(&gate, &format!("t{number}")).status == 200));
    assert!(backend.connections.load(Ordering::SeqCst) < 6, "{:?}", backend.connections);
}
