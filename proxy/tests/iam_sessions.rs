//! Requests with temporary credentials over sockets: sessions of a role, whose tokens the operator has sealed.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::header::HOST;
use http::{HeaderMap, HeaderValue, Method};
use sluice_session::{Session, SessionKey, day};
use sluice_sigv4::{BodyHash, RequestParts, Signer};
use sluice_wire::*;

use crate::harness::*;

const ID: &str = "SLTEAAAABBBBCCCCDDDD";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
const ROLE: &str = "arn:aws:iam::111122223333:role/team/reporting";
const SESSION: &str = "arn:aws:sts::111122223333:assumed-role/reporting/nightly";
const PREFIX: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop";

/// When the tests began: sessions were issued then, and the role's key is that of this day.
fn began_s() -> u64 {
    static BEGAN: std::sync::OnceLock<u64> = std::sync::OnceLock::new();
    *BEGAN.get_or_init(|| SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn today() -> String {
    day(began_s())
}

/// The token of a session that ends after some seconds; 0: that has ended.
fn token(seed: &str, lifetime_s: u64) -> String {
    let session = Session {
        access_key_id: ID.into(),
        secret_access_key: SECRET.into(),
        name: "nightly".into(),
        issued: began_s(),
        expires: began_s() + lifetime_s,
    };
    session.seal("shop/reporting", &today(), &SessionKey::derive(seed.as_bytes(), &today())).unwrap()
}

fn authorizer_name() -> PartName {
    PartName::of_object(PartKind::Authorizer, "shop", "iam")
}

fn authorizer(session_tokens: bool) -> (PartName, PartBody) {
    let regions = vec!["eu-west-1".into()];
    let (service, clock_skew_s) = ("execute-api".into(), 300);
    let iam = Iam { regions, service, clock_skew_s, unsigned_payload: false, session_tokens };
    let object = ObjectRef::new("Authorizer", "shop", "iam");
    (authorizer_name(), PartBody::Authorizer(AuthorizerPart { object, kind: AuthorizerKind::Iam(iam) }))
}

fn role(seed: &str, policies: &[&str]) -> (PartName, PartBody) {
    let key = STANDARD.encode(SessionKey::derive(seed.as_bytes(), &today()).to_bytes());
    let part = PrincipalPart {
        object: ObjectRef::new("Principal", "shop", "reporting"),
        account: "111122223333".into(),
        arn: ROLE.into(),
        tags: [("team".to_owned(), "checkout".to_owned())].into(),
        authorizers: vec![authorizer_name()],
        keys: Vec::new(),
        session_keys: vec![SessionDayKey { date: today(), key }],
        policies: policies.iter().map(|text| (*text).to_owned()).collect(),
        invalid: None,
    };
    (PartName::of_object(PartKind::Principal, "shop", "reporting"), PartBody::Principal(part))
}

fn statement(effect: &str, principal: &str) -> String {
    let principal =
        if principal.is_empty() { String::new() } else { format!(r#","Principal":{{"AWS":"{principal}"}}"#) };
    format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"execute-api:Invoke","Resource":"{PREFIX}/prod/GET/*"{principal}}}]}}"#
    )
}

fn gate(accepts: bool, resource: Option<String>, identity: &[&str], address: Option<std::net::SocketAddr>) -> Gate {
    let policy = resource.map(|document| Box::new(StagePolicy { document, arn: PREFIX.into() }));
    let stage = StagePart { behavior: Behavior::AwsRest, arn: Some(PREFIX.into()), policy, ..stage() };
    let caller = "${context.identity.accessKey} ${context.identity.accountId} ${context.identity.userArn} ${context.identity.caller}";
    let integration = if address.is_some() { service() } else { mock("in") };
    let mut of_rule = RulePolicy {
        authorizer: Some(AuthorizerUse { part: authorizer_name(), scopes: vec![] }),
        ..crate::harness::policy(integration)
    };
    of_rule.response_headers.set = vec![("x-caller".into(), caller.parse().unwrap())];
    let mut gate = Gate::start();
    let mut parts = vec![stage_part(stage), authorizer(accepts), role("seed", identity)];
    parts.extend(address.map(|address| upstream(&[address])));
    parts.push(route("r", vec![rule("r", "ANY", "/{path+}", of_rule)]));
    let problems = gate.put(parts);
    assert!(problems.is_empty(), "{problems:?}");
    gate
}

fn host() -> HeaderMap {
    HeaderMap::from_iter([(HOST, HeaderValue::from_static("shop.example"))])
}

fn parts<'a>(path: &'a str, query: Option<&'a str>, headers: &'a HeaderMap) -> RequestParts<'a> {
    RequestParts { method: &Method::GET, path, query, headers, host: None }
}

/// A GET of a path, signed with temporary credentials.
fn call(gate: &Gate, path: &str, id: &str, secret: &str, token: Option<&str>) -> Response {
    let mut signer = Signer::new(id, secret, "eu-west-1", "execute-api", SystemTime::now());
    if let Some(token) = token {
        signer = signer.with_session_token(token);
    }
    let added = signer.sign(&parts(path, None, &host()), &BodyHash::of(b"")).unwrap();
    let added: Vec<(&str, &str)> = added.iter().map(|(name, value)| (name.as_str(), value.to_str().unwrap())).collect();
    gate.request("GET", path, &added, "")
}

#[test]
fn a_session_calls_as_its_role_and_its_credentials_go_no_further() {
    let heads = std::sync::Arc::new(std::sync::Mutex::new(Vec::new()));
    let seen = heads.clone();
    let backend = Backend::start(move |head, _| {
        seen.lock().unwrap().push(head.to_ascii_lowercase());
        "HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nok".into()
    });
    let allow = statement("Allow", "");
    let gate = gate(true, None, &[&allow], Some(backend.address));
    let token = token("seed", 900);
    // Twice: the second time the session is remembered.
    for _ in 0..2 {
        let response = call(&gate, "/orders", ID, SECRET, Some(&token));
        assert_eq!(response.status, 200, "{}", response.body);
        let caller = format!("{ID} 111122223333 {SESSION} shop/reporting:nightly");
        assert_eq!(response.header("x-caller"), Some(&*caller));
    }
    // Presigned.
    let signer = Signer::new(ID, SECRET, "eu-west-1", "execute-api", SystemTime::now()).with_session_token(&token);
    let query = signer.presign(&parts("/file", Some("part=1"), &host()), Duration::from_secs(60), &BodyHash::of(b""));
    assert_eq!(gate.get(&format!("/file?{}", query.unwrap())).status, 200);
    let heads = heads.lock().unwrap();
    assert_eq!(heads.len(), 3);
    assert!(heads[2].starts_with("get /file?part=1 http/1.1\r\n"), "{}", heads[2]);
    for head in heads.iter() {
        assert!(!head.contains("security-token") && !head.contains("authorization"), "{head}");
    }
}

#[test]
fn policies_name_the_role_or_the_session() {
    let everywhere = |effect, principal: &str| Some(statement(effect, principal));
    let tagged = statement("Allow", "").replace(
        r#""Action""#,
        r#""Condition":{"StringEquals":{"aws:PrincipalTag/team":"checkout","aws:PrincipalType":"AssumedRole","aws:userid":"shop/reporting:nightly"},"ArnEquals":{"aws:PrincipalArn":"arn:aws:iam::111122223333:role/team/reporting"},"DateGreaterThan":{"aws:TokenIssueTime":"2026-01-01T00:00:00Z"}},"Action""#,
    );
    for (resource, identity, status) in [
        (None, None, 403),
        (None, Some(tagged.clone()), 200),
        (None, Some(tagged.replace("shop/reporting:nightly", "shop/reporting")), 403),
        (everywhere("Allow", ROLE), None, 200),
        (everywhere("Allow", SESSION), None, 200),
        (everywhere("Allow", "arn:aws:sts::111122223333:assumed-role/reporting/other"), None, 403),
        (everywhere("Deny", ROLE), Some(tagged.clone()), 403),
        (everywhere("Deny", SESSION), Some(tagged.clone()), 403),
    ] {
        let identity: Vec<&str> = identity.iter().map(String::as_str).collect();
        let gate = gate(true, resource.clone(), &identity, None);
        let response = call(&gate, "/a", ID, SECRET, Some(&token("seed", 900)));
        assert_eq!(response.status, status, "{resource:?} {identity:?}: {}", response.body);
    }
}

#[test]
fn every_other_token_is_rejected_in_the_words_of_aws() {
    let allow = statement("Allow", "");
    let mut open = gate(true, None, &[&allow], None);
    let closed = gate(false, None, &[&allow], None);
    let (valid, expired, other_seed) = (token("seed", 900), token("seed", 0), token("other", 900));
    let mut changed = valid.clone();
    let last = if changed.pop() == Some('A') { 'B' } else { 'A' };
    changed.push(last);
    let invalid = "The security token included in the request is invalid.";
    let ended = "The security token included in the request is expired";
    let (unrecognized, session_ended) = ("UnrecognizedClientException", "ExpiredTokenException");
    for (gate, id, secret, token, kind, text) in [
        (&open, ID, SECRET, Some(&*expired), session_ended, ended),
        (&open, ID, SECRET, Some(&*other_seed), unrecognized, invalid),
        (&open, ID, SECRET, Some(&*changed), unrecognized, invalid),
        (&open, ID, SECRET, Some("no-token"), unrecognized, invalid),
        (&open, ID, SECRET, None, unrecognized, invalid),
        (&open, "SLTEOTHER", SECRET, Some(&*valid), unrecognized, invalid),
        (
            &open,
            ID,
            "another secret",
            Some(&*valid),
            "InvalidSignatureException",
            "The request signature we calculated",
        ),
        (&closed, ID, SECRET, Some(&*valid), unrecognized, invalid),
    ] {
        let response = call(gate, "/a", id, secret, token);
        assert_eq!((response.status, response.header("x-amzn-errortype")), (403, Some(kind)), "{}", response.body);
        assert!(response.body.contains(text) && !response.body.contains(&*valid), "{}", response.body);
    }
    assert_eq!(call(&open, "/a", ID, SECRET, Some(&valid)).status, 200);
    // Another seed ends all sessions, also those that are remembered; so does the end of the role.
    open.put(vec![role("another", &[&allow])]);
    assert_eq!(call(&open, "/a", ID, SECRET, Some(&valid)).status, 403);
    assert_eq!(call(&open, "/a", ID, SECRET, Some(&token("another", 900))).status, 200);
}
