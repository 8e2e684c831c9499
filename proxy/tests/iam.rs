//! Signed requests over sockets: who is let in, what a backend gets of the request, and how AWS rejects the others.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};
use std::time::{Duration, SystemTime};

use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_kit::eventually;
use sluice_kit::http2::Http2;
use sluice_proxy::run::RequestToExplain;
use sluice_sigv4::{BodyHash, RequestParts, Signer, signing_key};
use sluice_wire::*;

use crate::harness::*;

const ID: &str = "AKIDEXAMPLE000000001";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const REGION: &str = "eu-west-1";
const ARN: &str = "arn:aws:iam::111122223333:user/ann";
const ALLOW: &str =
    r#"{"Version":"2012-10-17","Statement":{"Effect":"Allow","Action":"execute-api:Invoke","Resource":"*"}}"#;

fn today() -> String {
    signer().sign(&parts("GET", "/", &HeaderMap::new()), &BodyHash::of(b"")).unwrap()["x-amz-date"].to_str().unwrap()
        [..8]
        .to_owned()
}

fn principal(policies: &[&str]) -> (PartName, PartBody) {
    let day = |date: String| {
        let key = signing_key(SECRET, &date, REGION, "execute-api").to_bytes();
        let key = base64::Engine::encode(&base64::engine::general_purpose::STANDARD, key);
        DayKey { date, region: REGION.into(), service: "execute-api".into(), key }
    };
    let part = PrincipalPart {
        object: ObjectRef::new("Principal", "shop", "ann"),
        account: "111122223333".into(),
        arn: ARN.into(),
        tags: BTreeMap::from([("team".to_owned(), "checkout".to_owned())]),
        authorizers: vec![authorizer_name()],
        keys: vec![AccessKey { id: ID.into(), signing_keys: vec![day(today())] }],
        session_keys: Vec::new(),
        policies: policies.iter().map(|text| (*text).to_owned()).collect(),
        invalid: None,
    };
    (PartName::of_object(PartKind::Principal, "shop", "ann"), PartBody::Principal(part))
}

fn authorizer_name() -> PartName {
    PartName::of_object(PartKind::Authorizer, "shop", "iam")
}

fn authorizer(unsigned_payload: bool) -> (PartName, PartBody) {
    let (regions, service, session_tokens) = (vec![REGION.into()], "execute-api".into(), true);
    let iam = Iam { regions, service, clock_skew_s: 300, unsigned_payload, session_tokens };
    let object = ObjectRef::new("Authorizer", "shop", "iam");
    (authorizer_name(), PartBody::Authorizer(AuthorizerPart { object, kind: AuthorizerKind::Iam(iam) }))
}

fn of_iam(integration: Integration) -> RulePolicy {
    RulePolicy { authorizer: Some(AuthorizerUse { part: authorizer_name(), scopes: vec![] }), ..policy(integration) }
}

fn stage_of(behavior: Behavior) -> StagePart {
    StagePart { behavior, arn: Some("arn:aws:execute-api:eu-west-1:111122223333:shop".into()), ..stage() }
}

fn signer() -> Signer<'static> {
    Signer::new(ID, SECRET, REGION, "execute-api", SystemTime::now())
}

fn parts<'a>(method: &str, target: &'a str, headers: &'a HeaderMap) -> RequestParts<'a> {
    let method: &'static http::Method = Box::leak(Box::new(method.parse().unwrap()));
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    RequestParts { method, path, query, headers, host: None }
}

/// The headers of a signed request for `shop.example`.
fn headers(
    signer: &Signer<'_>,
    method: &str,
    target: &str,
    own: &[(&str, &str)],
    body: &[u8],
) -> Vec<(String, String)> {
    let mut unsigned = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("shop.example"))]);
    for (name, value) in own {
        unsigned.append(name.parse::<HeaderName>().unwrap(), value.parse().unwrap());
    }
    let added = signer.sign(&parts(method, target, &unsigned), &BodyHash::of(body)).unwrap();
    let all = unsigned.iter().chain(&added).filter(|(name, _)| *name != http::header::HOST);
    all.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect()
}

fn send(gate: &Gate, method: &str, target: &str, headers: &[(String, String)], body: &str) -> Response {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (&**name, &**value)).collect();
    gate.request(method, target, &headers, body)
}

fn call(gate: &Gate, method: &str, target: &str, body: &str) -> Response {
    send(gate, method, target, &headers(&signer(), method, target, &[], body.as_bytes()), body)
}

type Seen = Arc<Mutex<Vec<(String, String)>>>;

/// A gate in front of a backend that keeps what it gets.
fn forwarding(behavior: Behavior, change: impl FnOnce(&mut RulePolicy)) -> (Gate, Seen, Backend) {
    let seen = Seen::default();
    let kept = seen.clone();
    let backend = Backend::start(move |head, body| {
        kept.lock().unwrap().push((head.to_owned(), body.to_owned()));
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into()
    });
    let mut gate = Gate::start();
    let mut rule_policy = of_iam(service());
    change(&mut rule_policy);
    gate.put(vec![
        stage_part(stage_of(behavior)),
        authorizer(false),
        principal(&[ALLOW]),
        upstream(&[backend.address]),
        route("r", vec![rule("r", "ANY", "/{path+}", rule_policy)]),
    ]);
    (gate, seen, backend)
}

#[test]
fn signed_requests_reach_the_backend_without_their_credentials() {
    let (gate, seen, _backend) = forwarding(Behavior::Native, |_| {});
    for (method, target, body) in [
        ("GET", "/orders", ""),
        ("GET", "/orders/a%20b/%E2%82%AC?q=a%2Bb&q=c&empty&%41=1", ""),
        ("GET", "/orders/(1)/~x/@y:z", ""),
        ("PUT", "/orders/1", "{\"a\":1}"),
        ("POST", "/orders", "x"),
        ("DELETE", "/orders/1", ""),
        ("GET", "/orders/with-body", "content"),
    ] {
        let response = call(&gate, method, target, body);
        assert_eq!(response.status, 200, "{method} {target}: {}", response.body);
        let (head, sent) = seen.lock().unwrap().pop().unwrap();
        assert!(head.starts_with(&format!("{method} {target} HTTP/1.1\r\n")), "{head}");
        assert!(sent == body && !head.to_ascii_lowercase().contains("authorization"), "{head}{sent}");
    }
    // Presigned: the parameters of the credential are removed, others are not.
    let unsigned = HeaderMap::from_iter([(http::header::HOST, HeaderValue::from_static("shop.example"))]);
    let query = signer().presign(&parts("GET", "/file?part=1", &unsigned), Duration::from_secs(60), &BodyHash::of(b""));
    let target = format!("/file?{}", query.unwrap());
    assert_eq!(gate.get(&target).status, 200);
    let (head, _) = seen.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("GET /file?part=1 HTTP/1.1\r\n"), "{head}");
    assert_eq!(gate.get(&target.replace("part=1", "part=2")).status, 401);
    // Each of them was counted, and no other.
    let line = r#"sluice_authorizer_decisions_total{kind="Iam",outcome="allowed",stage="shop/prod"}"#;
    assert!(gate.metric(line) >= 8.0, "{}", gate.metric(line));
}

#[test]
fn a_body_that_was_not_signed_reaches_no_backend() {
    let (gate, seen, _backend) = forwarding(Behavior::Native, |policy| policy.buffer_limit = Some(1024));
    let signed = headers(&signer(), "POST", "/a", &[], b"content");
    assert_eq!(send(&gate, "POST", "/a", &signed, "Content").status, 401);
    assert_eq!(send(&gate, "POST", "/a", &signed, "").status, 401);
    let hash = BodyHash::of(b"content").to_string();
    let declared = headers(&signer(), "POST", "/a", &[("x-amz-content-sha256", &hash)], b"content");
    let response = send(&gate, "POST", "/a", &declared, "Content");
    assert!(response.status == 401 && response.body.contains("x-amz-content-sha256"), "{}", response.body);
    assert!(seen.lock().unwrap().is_empty());
    assert_eq!(send(&gate, "POST", "/a", &declared, "content").status, 200);
    let large = "x".repeat(1025);
    for own in [vec![], vec![("x-amz-content-sha256", BodyHash::of(large.as_bytes()).to_string())]] {
        let own: Vec<(&str, &str)> = own.iter().map(|(name, value)| (*name, &**value)).collect();
        let signed = headers(&signer(), "POST", "/a", &own, large.as_bytes());
        assert_eq!(send(&gate, "POST", "/a", &signed, &large).status, 413);
    }
    // In chunks, without a length.
    let mut chunked = headers(&signer(), "POST", "/a", &[], b"content");
    chunked.push(("transfer-encoding".into(), "chunked".into()));
    let lines: String = chunked.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    for (body, status) in [("7\r\ncontent\r\n0\r\n\r\n", 200), ("7\r\nContent\r\n0\r\n\r\n", 401), ("0\r\n\r\n", 401)] {
        let response = gate.raw(&format!("POST /a HTTP/1.1\r\nhost: shop.example\r\n{lines}\r\n{body}"));
        assert_eq!(response.status, status, "{body:?}: {}", response.body);
    }
    assert_eq!(seen.lock().unwrap().len(), 2);
    assert_eq!(seen.lock().unwrap().iter().filter(|(_, body)| body == "content").count(), 2);
}

#[test]
fn a_body_with_another_hash_is_a_rejection_and_takes_no_tokens() {
    let (gate, seen, _backend) = forwarding(Behavior::Native, |policy| {
        policy.throttle = Some(Throttle { rate: 1, per_ms: 86_400_000, burst: 2 });
        policy.buffer_limit = Some(64);
    });
    let hash = BodyHash::of(b"content").to_string();
    let declared = headers(&signer(), "POST", "/a", &[("x-amz-content-sha256", &hash)], b"content");
    for _ in 0..10 {
        assert_eq!(send(&gate, "POST", "/a", &declared, "Content").status, 401);
    }
    // Bodies that are too long.
    let lines: String = declared.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let head = format!("POST /a HTTP/1.1\r\nhost: shop.example\r\n{lines}");
    let long = format!("{head}transfer-encoding: chunked\r\n\r\n41\r\n{}\r\n0\r\n\r\n", "x".repeat(65));
    for _ in 0..5 {
        assert_eq!(gate.raw(&long).status, 413);
    }
    let decisions = |outcome: &str| {
        gate.metric(&format!(
            r#"sluice_authorizer_decisions_total{{kind="Iam",outcome="{outcome}",stage="shop/prod"}}"#
        ))
    };
    eventually("rejections are counted", || decisions("rejected") >= 15.0);
    assert!(decisions("allowed") < 1.0, "{}", decisions("allowed"));
    // Bodies that never arrive. The tokens of a connection that was closed come back with it.
    for _ in 0..5 {
        let mut stream = gate.connect();
        std::io::Write::write_all(&mut stream, format!("{head}content-length: 7\r\n\r\ncon").as_bytes()).unwrap();
    }
    eventually("two tokens are left", || {
        seen.lock().unwrap().len() == 2 || {
            send(&gate, "POST", "/a", &declared, "content");
            seen.lock().unwrap().len() == 2
        }
    });
    assert_eq!(send(&gate, "POST", "/a", &declared, "content").status, 429);
    // The body of a request that is throttled is not compared: its signature was valid.
    assert_eq!(send(&gate, "POST", "/a", &declared, "Content").status, 429);
    eventually("the other decisions are counted", || decisions("allowed") >= 4.0);
    assert!(decisions("rejected") < 21.0 && seen.lock().unwrap().len() == 2);
}

#[test]
fn http2_is_signed_with_its_authority() {
    let (gate, seen, _backend) = forwarding(Behavior::Native, |_| {});
    let connection = Http2::connect(&gate);
    for (body, sent, status) in [("", "", 200), ("content", "content", 200), ("content", "other", 401)] {
        let signed = headers(&signer(), "POST", "/a", &[], body.as_bytes());
        let mut request = http::Request::post("http://shop.example/a");
        for (name, value) in &signed {
            request = request.header(name, value);
        }
        let response =
            connection.ask(request.body(http_body_util::Full::new(bytes::Bytes::from(sent.to_owned()))).unwrap());
        assert_eq!(response.0, status, "{body} {sent}: {}", response.1);
    }
    assert_eq!(seen.lock().unwrap().len(), 2);
}

#[test]
fn removed_headers_were_part_of_the_signature() {
    // A client may sign headers that are not forwarded, such as those of the connection.
    let (gate, seen, _backend) = forwarding(Behavior::Native, |_| {});
    let own = [("x-original-url", "/admin"), ("x-custom", "a")];
    let signed = headers(&signer(), "GET", "/a", &own, b"");
    assert_eq!(send(&gate, "GET", "/a", &signed, "").status, 200);
    assert!(!seen.lock().unwrap().pop().unwrap().0.contains("x-original-url"));
    let mut changed = signed;
    changed.iter_mut().filter(|(name, _)| name == "x-original-url").for_each(|(_, value)| "/other".clone_into(value));
    assert_eq!(send(&gate, "GET", "/a", &changed, "").status, 401);
}

#[test]
fn another_method_must_be_signed() {
    let (gate, seen, _backend) = forwarding(Behavior::AwsRest, |_| {});
    let mut unsigned = headers(&signer(), "POST", "/a", &[], b"");
    unsigned.push(("x-http-method-override".into(), "DELETE".into()));
    let response = send(&gate, "POST", "/a", &unsigned, "");
    assert_eq!(response.status, 403);
    assert!(response.body.contains("'X-Http-Method-Override' must be a 'SignedHeader'"), "{}", response.body);
    // The same method can be named by anything on the way.
    unsigned.last_mut().unwrap().1 = "POST".into();
    assert_eq!(send(&gate, "POST", "/a", &unsigned, "").status, 200);
    let signed = headers(&signer(), "POST", "/a", &[("x-http-method-override", "DELETE")], b"");
    assert_eq!(send(&gate, "POST", "/a", &signed, "").status, 200);
    assert!(seen.lock().unwrap().pop().unwrap().0.starts_with("DELETE /a "));
}

#[test]
fn a_mismatch_shows_no_cookies_and_no_headers_of_others() {
    let (gate, _seen, _backend) = forwarding(Behavior::AwsRest, |_| {});
    let own = [("cookie", "session=s3cret"), ("x-origin-verify", "s3cret"), ("content-type", "text/plain")];
    let response = send(&gate, "GET", "/b", &headers(&signer(), "GET", "/a", &own, b""), "");
    assert_eq!(response.status, 403);
    for shown in ["content-type:text/plain", "host:shop.example", "cookie:(not shown)", "x-origin-verify:(not shown)"] {
        assert!(response.body.contains(shown), "{shown}: {}", response.body);
    }
    assert!(!response.body.contains("s3cret"), "{}", response.body);
}

#[test]
fn what_a_stage_changes_in_a_request_was_signed_as_it_came() {
    let (mut gate, seen, backend) = forwarding(Behavior::Native, |_| {});
    let mut stage = stage_of(Behavior::Native);
    stage.request_policy.header_names = Some(HeaderNames::Drop);
    gate.put(vec![stage_part(stage), upstream(&[backend.address])]);
    let signed = headers(&signer(), "GET", "/a", &[("x_trace", "1")], b"");
    assert_eq!(send(&gate, "GET", "/a", &signed, "").status, 200);
    assert!(!seen.lock().unwrap().pop().unwrap().0.contains("x_trace"));
}

/// A gate whose Stage and Principal have these policies.
fn gate(behavior: Behavior, resource: Option<&str>, identity: &[&str]) -> Gate {
    let mut stage = stage_of(behavior);
    stage.policy = resource.map(|document| {
        Box::new(StagePolicy { document: document.into(), arn: stage.arn.clone().unwrap_or_default() })
    });
    let mut gate = Gate::start();
    let caller = "${context.identity.accessKey} ${context.identity.accountId} ${context.identity.userArn} ${context.identity.caller}";
    let mut rule_policy = of_iam(mock("in"));
    rule_policy.response_headers.set = vec![("x-caller".into(), caller.parse().unwrap())];
    let problems = gate.put(vec![
        stage_part(stage),
        authorizer(false),
        principal(identity),
        route("r", vec![rule("r", "ANY", "/{path+}", rule_policy)]),
    ]);
    assert!(problems.is_empty(), "{problems:?}");
    gate
}

fn statement(effect: &str, resource: &str, principal: &str) -> String {
    let principal = if principal.is_empty() { String::new() } else { format!(r#","Principal":{principal}"#) };
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"execute-api:Invoke","Resource":"{resource}"{principal}}}]}}"#
    )
}

#[test]
fn policies_of_caller_and_stage_decide_together() {
    let of_get = "arn:aws:execute-api:eu-west-1:111122223333:shop/prod/GET/*";
    let everything = "arn:aws:execute-api:*:*:*/*";
    let ann = format!(r#"{{"AWS":"{ARN}"}}"#);
    let tagged = r#"{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"execute-api:*","Resource":"*","Condition":{"StringEquals":{"aws:PrincipalTag/team":"checkout"}}}]}"#;
    for (resource, identity, get, post) in [
        (None, vec![], 403, 403),
        (None, vec![statement("Allow", of_get, "")], 200, 403),
        (None, vec![statement("Allow", everything, ""), statement("Deny", of_get, "")], 403, 200),
        (None, vec![tagged.to_owned()], 200, 200),
        (None, vec![tagged.replace("checkout", "other")], 403, 403),
        // Table A: one Allow is enough in the account of the Stage.
        (Some(statement("Allow", of_get, &ann)), vec![], 200, 403),
        (Some(statement("Allow", of_get, r#"{"AWS":"arn:aws:iam::111122223333:user/bob"}"#)), vec![], 403, 403),
        (Some(statement("Deny", of_get, "\"*\"")), vec![ALLOW.to_owned()], 403, 200),
    ] {
        let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
        let gate = gate(Behavior::AwsRest, resource.as_deref(), &identity);
        let statuses = [call(&gate, "GET", "/a", "").status, call(&gate, "POST", "/a", "x").status];
        assert_eq!(statuses, [get, post], "{resource:?} {identity:?}");
    }
    let gate = gate(Behavior::AwsRest, None, &[ALLOW]);
    let response = call(&gate, "GET", "/a", "");
    assert_eq!(response.header("x-caller"), Some(&*format!("{ID} 111122223333 {ARN} shop/ann")));
}

#[test]
fn rejections_have_the_words_of_aws() {
    let gate = gate(
        Behavior::AwsRest,
        None,
        &[
            &statement("Allow", "arn:aws:execute-api:*:*:*/GET/a", ""),
            &statement("Deny", "arn:aws:execute-api:*:*:*/GET/b", ""),
        ],
    );
    let error = |response: &Response| response.header("x-amzn-errortype").unwrap_or_default().to_owned();
    let missing = gate.get("/a");
    assert_eq!((missing.status, &*error(&missing)), (403, "MissingAuthenticationTokenException"));
    assert_eq!(missing.body, r#"{"message":"Missing Authentication Token"}"#);
    let bearer = gate.request("GET", "/a", &[("authorization", "Bearer s3cret")], "");
    assert_eq!((bearer.status, &*error(&bearer)), (403, "IncompleteSignatureException"));
    assert!(bearer.body.contains("equal-sign") && !bearer.body.contains("s3cret"), "{}", bearer.body);
    let unknown = Signer::new("AKIDUNKNOWN", SECRET, REGION, "execute-api", SystemTime::now());
    let unknown = send(&gate, "GET", "/a", &headers(&unknown, "GET", "/a", &[], b""), "");
    assert_eq!((unknown.status, &*error(&unknown)), (403, "UnrecognizedClientException"));
    assert_eq!(unknown.body, r#"{"message":"The security token included in the request is invalid."}"#);
    let old = Signer::new(ID, SECRET, REGION, "execute-api", SystemTime::now() - Duration::from_secs(360));
    let old = send(&gate, "GET", "/a", &headers(&old, "GET", "/a", &[], b""), "");
    assert_eq!((old.status, &*error(&old)), (403, "InvalidSignatureException"));
    assert!(
        old.body.starts_with(r#"{"message":"Signature expired: "#) && old.body.ends_with(" - 5 min.)\"}"),
        "{}",
        old.body
    );
    let other = headers(&signer(), "GET", "/b", &[], b"");
    let mismatch = send(&gate, "GET", "/a", &other, "");
    assert_eq!((mismatch.status, &*error(&mismatch)), (403, "InvalidSignatureException"));
    assert!(mismatch.body.contains("The Canonical String for this request should have been"), "{}", mismatch.body);
    let denied = call(&gate, "GET", "/c", "");
    assert_eq!((denied.status, &*error(&denied)), (403, "AccessDeniedException"));
    let resource = "arn:aws:execute-api:eu-west-1:********3333:shop/prod/GET/";
    let sentence = |path: &str| {
        format!(r#"User: {ARN} is not authorized to perform: execute-api:Invoke on resource: {resource}{path}"#)
    };
    assert_eq!(denied.body, format!(r#"{{"Message":"{}"}}"#, sentence("c")));
    let denied = call(&gate, "GET", "/b", "");
    assert_eq!(denied.body, format!(r#"{{"Message":"{} with an explicit deny"}}"#, sentence("b")));
    for reason in
        ["signature_missing", "signature_incomplete", "access_key_unknown", "signature_expired", "signature_mismatch"]
    {
        eventually("logged", || gate.log.lines().iter().any(|line| line["reason"] == reason));
    }

    let native = self::gate(Behavior::Native, None, &[ALLOW]);
    let missing = native.get("/a");
    assert_eq!((missing.status, missing.header("www-authenticate")), (401, Some("AWS4-HMAC-SHA256")));
    let mismatch = send(&native, "GET", "/a", &other, "");
    assert_eq!((mismatch.status, mismatch.json()["title"].as_str()), (401, Some("Unauthorized")));
    assert!(mismatch.json()["detail"].as_str().unwrap().contains("does not match the signature"), "{}", mismatch.body);
    let http = self::gate(Behavior::AwsHttp, None, &[ALLOW]);
    assert_eq!((http.get("/a").status, &*http.get("/a").body), (403, r#"{"message":"Forbidden"}"#));
}

#[test]
fn a_principal_that_changes_or_goes_is_another_or_no_caller() {
    let mut gate = gate(Behavior::Native, None, &[ALLOW]);
    assert_eq!(call(&gate, "GET", "/a", "").status, 200);
    gate.put(vec![principal(&[])]);
    assert_eq!(call(&gate, "GET", "/a", "").status, 403);
    gate.put(vec![principal(&[ALLOW])]);
    assert_eq!(call(&gate, "GET", "/a", "").status, 200);
    let problems = gate.put(vec![principal(&["{}"])]);
    assert!(problems.iter().any(|problem| problem.message.contains("policy")), "{problems:?}");
    assert_eq!(call(&gate, "GET", "/a", "").status, 401);
    gate.remove(PartName::of_object(PartKind::Principal, "shop", "ann"));
    assert_eq!(call(&gate, "GET", "/a", "").status, 401);
}

#[test]
fn a_stored_response_is_for_verified_requests_only() {
    let backend = Backend::start(|_, _| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into());
    let mut gate = Gate::start();
    let mut stage = stage_with_cache();
    stage.arn = stage_of(Behavior::Native).arn;
    let cached = RulePolicy { cache: Some(shared_cache()), ..of_iam(service()) };
    gate.put(vec![
        stage_part(stage),
        authorizer(false),
        principal(&[ALLOW]),
        upstream(&[backend.address]),
        route("r", vec![rule("r", "GET", "/{path+}", cached)]),
    ]);
    assert_eq!(call(&gate, "GET", "/a", "").status, 200);
    let stored = call(&gate, "GET", "/a", "");
    assert!(stored.status == 200 && stored.header("cache-status").is_some_and(|status| status.contains("hit")));
    assert_eq!(gate.get("/a").status, 401);
    let hash = BodyHash::of(b"content").to_string();
    let declared = headers(&signer(), "GET", "/a", &[("x-amz-content-sha256", &hash)], b"content");
    assert_eq!(send(&gate, "GET", "/a", &declared, "other").status, 401);
}

#[test]
fn a_key_beside_a_signature_decides_and_the_signature_is_not_forwarded() {
    let (mut gate, seen, _backend) = forwarding(Behavior::Native, |policy| {
        (policy.api_key, policy.alternative_key) = (true, true);
    });
    let plan = PartName::of_object(PartKind::Plan, "shop", "gold");
    let object = ObjectRef::new("UsagePlan", "shop", "gold");
    let at = PlanStage { stage: stage_name(), throttles: vec![] };
    let entry = KeyEntry {
        object: ObjectRef::new("ApiKey", "shop", "acme"),
        digest: Hash::of(b"key-0123456789"),
        customer: None,
        plans: vec![plan.clone()],
    };
    gate.put(vec![
        (plan, PartBody::Plan(PlanPart { object, stages: vec![at], throttle: None })),
        (PartName::new(PartKind::Keys, "0"), PartBody::Keys(KeysPart { keys: vec![entry] })),
    ]);
    assert_eq!(call(&gate, "GET", "/a", "").status, 200);
    let mut signed = headers(&signer(), "GET", "/a", &[], b"");
    signed.push(("x-api-key".into(), "key-0123456789".into()));
    assert_eq!(send(&gate, "GET", "/a?X-Amz-Signature=00&a=b", &signed, "").status, 200);
    let (head, _) = seen.lock().unwrap().pop().unwrap();
    assert!(head.starts_with("GET /a?a=b ") && !head.to_ascii_lowercase().contains("authorization"), "{head}");
}

#[test]
fn a_stored_response_is_refreshed_by_callers_whose_policies_allow_it() {
    let invoke = ALLOW;
    let both = ALLOW.replace("execute-api:Invoke", "execute-api:*");
    let denied = statement("Deny", "arn:aws:execute-api:*:*:*/GET/a", "").replace("Invoke", "InvalidateCache");
    for (policies, status) in [(vec![invoke], 403), (vec![&*both], 200), (vec![&*both, &*denied], 403)] {
        let backend = Backend::start(|_, _| "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into());
        let mut gate = Gate::start();
        let mut stage = stage_with_cache();
        stage.arn = stage_of(Behavior::Native).arn;
        if let Some(cache) = &mut stage.cache {
            (cache.invalidation, cache.unauthorized) = (Invalidation::Required, Unauthorized::FailWith403);
        }
        let cached = RulePolicy { cache: Some(shared_cache()), ..of_iam(service()) };
        let problems = gate.put(vec![
            stage_part(stage),
            authorizer(false),
            principal(&policies),
            upstream(&[backend.address]),
            route("r", vec![rule("r", "GET", "/{path+}", cached)]),
        ]);
        assert!(problems.is_empty(), "{problems:?}");
        assert_eq!(call(&gate, "GET", "/a", "").status, 200);
        let refresh = headers(&signer(), "GET", "/a", &[("cache-control", "max-age=0")], b"");
        assert_eq!(send(&gate, "GET", "/a", &refresh, "").status, status, "{policies:?}");
    }
}

#[test]
fn the_explanation_of_another_body_is_that_the_authorizer_rejects_it() {
    let (gate, _, _backend) = forwarding(Behavior::Native, |_| {});
    // Of `one`. A hash that the request states is compared with the body after the signature was verified.
    let hash = "7692c3ad3540bb803c020b3aee66cd8887123234ea0c6e7143c0add73ff431ed";
    let mut signed = headers(&signer(), "POST", "/orders", &[("x-amz-content-sha256", hash)], b"one");
    signed.extend([("host", "shop.example"), ("content-length", "3")].map(|(name, value)| (name.into(), value.into())));
    let explain = |body: &str| {
        let (method, target) = ("POST".to_owned(), "/orders".to_owned());
        let (headers, body, source) = (signed.clone(), body.to_owned().into(), [127, 0, 0, 1].into());
        let request = RequestToExplain { method, target, headers, body, source, port: 80, tls: None };
        let found = gate.proxy.explain(&request).unwrap();
        let authorizer = found.authorizer.unwrap();
        (authorizer.decision, authorizer.reason, found.response.unwrap().reason)
    };
    assert_eq!(explain("one"), (Some("allowed"), None, None));
    let reason = "payload_mismatch";
    assert_eq!(explain("two"), (Some("rejected"), Some(reason), Some(reason.to_owned())));
}
