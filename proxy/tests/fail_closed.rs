//! Every server that an authorizer needs, in every way in which it can fail: key servers, introspection endpoints, functions, and the
//! operator that reviews access. No failure authorizes a request, and each has the rejection that the documentation states. What a server
//! of one kind can do in addition, such as a policy that is not valid, is in the tests of that kind.

use std::net::{SocketAddr, TcpListener};
use std::sync::{Arc, Mutex};

use serde_json::{Value, json};
use sluice_kit::duplex::{Duplex, listen};
use sluice_proxy::config::{Sink, Subscriber, stream};
use sluice_wire::*;
use tokio::sync::mpsc;

use crate::harness::*;
use crate::lambda_authorizer::{lambda, output};
use crate::policy::{signer, token};

/// A failure, by what it means.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// There is no complete response.
    Unreachable,
    /// A status of a server that cannot serve the request now.
    ServerError,
    /// A status by which it rejects the credentials of the proxy.
    NotPermitted,
    NotFound,
    /// A redirect, or another status than 200.
    OtherStatus,
    /// More than is read, or another document.
    Malformed,
}

/// What a server does: it writes a text, and closes the connection or keeps it open. No text: it does not listen.
struct Fault {
    name: &'static str,
    text: Option<String>,
    close: bool,
    class: Class,
}

fn page(status: &str, more: &str, body: &str) -> String {
    format!("HTTP/1.1 {status}\r\ncontent-type: application/json\r\n{more}content-length: {}\r\n\r\n{body}", body.len())
}

/// Every fault of a server whose document would authorize the request. `elsewhere` serves it.
fn faults(good: &str, elsewhere: SocketAddr) -> Vec<Fault> {
    use Class::*;
    let ok = |body: &str| page("200 OK", "", body);
    let redirect = format!("location: http://{elsewhere}/\r\n");
    let (start, _) = good.split_at(good.len() / 2);
    // Blanks: a reader without a limit would accept the document.
    let padded = " ".repeat(300_000) + good;
    let rows = [
        ("not listening", None, true, Unreachable),
        ("slow", Some(String::new()), false, Unreachable),
        ("slow, after half of the body", Some(page("200 OK", "", good).replace(good, start)), false, Unreachable),
        ("closed", Some(String::new()), true, Unreachable),
        ("half a head", Some("HTTP/1.1 200 OK\r\ncontent-le".into()), true, Unreachable),
        ("half a body", Some(page("200 OK", "", good).replace(good, start)), true, Unreachable),
        (
            "half of a chunk",
            Some(format!("HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nffff\r\n{good}")),
            true,
            Unreachable,
        ),
        ("no HTTP", Some("SSH-2.0-x\r\n".into()), true, Unreachable),
        ("500", Some(page("500 Internal Server Error", "", good)), true, ServerError),
        ("503", Some(page("503 Service Unavailable", "", good)), true, ServerError),
        ("429", Some(page("429 Too Many Requests", "", good)), true, ServerError),
        ("401", Some(page("401 Unauthorized", "", good)), true, NotPermitted),
        ("403", Some(page("403 Forbidden", "", good)), true, NotPermitted),
        ("404", Some(page("404 Not Found", "", good)), true, NotFound),
        ("redirected", Some(page("302 Found", &redirect, "")), true, OtherStatus),
        ("redirected, with the method", Some(page("307 Temporary Redirect", &redirect, good)), true, OtherStatus),
        ("201", Some(page("201 Created", "", good)), true, OtherStatus),
        ("204", Some("HTTP/1.1 204 No Content\r\n\r\n".into()), true, OtherStatus),
        ("huge", Some(ok(&padded)), true, Malformed),
        ("huge, without a length", Some(format!("HTTP/1.1 200 OK\r\n\r\n{padded}")), true, Malformed),
        ("empty", Some(ok("")), true, Malformed),
        ("not JSON", Some(ok("<html>")), true, Malformed),
        ("half a document", Some(ok(start)), true, Malformed),
        ("two documents", Some(ok(&format!("{good}{good}"))), true, Malformed),
        ("a list", Some(ok(&format!("[{good}]"))), true, Malformed),
        ("null", Some(ok("null")), true, Malformed),
        ("an empty object", Some(ok("{}")), true, Malformed),
    ];
    rows.map(|(name, text, close, class)| Fault { name, text, close, class }).into()
}

/// A kind of server.
struct Server {
    name: &'static str,
    /// The document of the server at this address that authorizes the request, and the Authorizer that needs it, with the other parts
    /// that it needs.
    make: Box<dyn Fn(SocketAddr) -> Needed + Send + Sync>,
    /// The status at a native Stage, and the reason in the log.
    rejected: fn(Class) -> (u16, &'static str),
}

struct Needed {
    document: String,
    kind: AuthorizerKind,
    parts: Vec<(PartName, PartBody)>,
    authorization: String,
}

fn name() -> PartName {
    PartName::new(PartKind::Authorizer, "shop/any")
}

fn authorizer(kind: AuthorizerKind) -> (PartName, PartBody) {
    (name(), PartBody::Authorizer(AuthorizerPart { object: ObjectRef::new("Authorizer", "shop", "any"), kind }))
}

fn jwt(issuer: &str, keys: KeySource) -> Jwt {
    let AuthorizerKind::Jwt(mut jwt) = login("{}".to_owned()).1.kind else { panic!("another kind") };
    jwt.issuers[0].issuer = issuer.to_owned();
    jwt.issuers[0].keys = keys;
    jwt
}

fn signed(key: &jsonwebtoken::EncodingKey, issuer: &str) -> String {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let mut header = jsonwebtoken::Header::new(jsonwebtoken::Algorithm::ES256);
    header.kid = Some("k".into());
    let claims = json!({"iss": issuer, "aud": "shop", "sub": "ann", "token_use": "id", "exp": now + 600});
    format!("Bearer {}", jsonwebtoken::encode(&header, &claims, key).unwrap())
}

/// A server that responds with the document of another thread.
fn serving(document: &Arc<Mutex<String>>) -> Backend {
    let document = document.clone();
    Backend::start(move |_, _| page("200 OK", "", &document.lock().unwrap()))
}

fn servers() -> Vec<Server> {
    const ISSUER: &str = "https://id.example";
    let by_key_server = |_: Class| (503, "issuer_unavailable");
    let of_function = |class| match class {
        Class::Unreachable | Class::ServerError => (503, "lambda_unavailable"),
        Class::NotPermitted | Class::NotFound => (500, "lambda_rejected"),
        Class::OtherStatus | Class::Malformed => (500, "lambda_invalid_response"),
    };
    let (key, set) = signer();
    let (key, set) = (Arc::new(key), Arc::new(set));
    let keys_at = |cognito: bool| {
        let (key, set) = (key.clone(), set.clone());
        move |address: SocketAddr| {
            let jwt = jwt(ISSUER, KeySource::Uri(format!("http://{address}/keys")));
            let kind = if cognito { AuthorizerKind::Cognito(jwt) } else { AuthorizerKind::Jwt(jwt) };
            Needed { document: set.to_string(), kind, parts: vec![], authorization: signed(&key, ISSUER) }
        }
    };
    let discovery = {
        let (key, set) = (key.clone(), set.clone());
        move |address: SocketAddr| {
            let issuer = format!("http://{address}");
            let keys = serving(&Arc::new(Mutex::new(set.to_string())));
            let document = json!({"issuer": issuer, "jwks_uri": format!("http://{}/keys", keys.address)}).to_string();
            let kind = AuthorizerKind::Jwt(jwt(&issuer, KeySource::Discovery));
            Needed { document, kind, parts: vec![], authorization: signed(&key, &issuer) }
        }
    };
    let discovered = {
        let (key, set) = (key.clone(), set.clone());
        move |address: SocketAddr| {
            let document = Arc::new(Mutex::new(String::new()));
            let issuer = format!("http://{}", serving(&document).address);
            *document.lock().unwrap() =
                json!({"issuer": issuer, "jwks_uri": format!("http://{address}/keys")}).to_string();
            let kind = AuthorizerKind::Jwt(jwt(&issuer, KeySource::Discovery));
            Needed { document: set.to_string(), kind, parts: vec![], authorization: signed(&key, &issuer) }
        }
    };
    let introspection = |address: SocketAddr| {
        let kind = AuthorizerKind::Introspection(Introspection {
            url: format!("http://{address}/introspect"),
            client_id: "gateway".into(),
            client_secret: "s3cret".into(),
            client_authentication: ClientAuthentication::Basic,
            token_from: vec![TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) }],
            issuer: None,
            audiences: vec!["shop".into()],
            any_audience: false,
            required_claims: Default::default(),
            result_ttl_ms: 60_000,
            timeout_ms: 300,
        });
        let document = json!({"active": true, "aud": "shop", "sub": "ann"}).to_string();
        Needed { document, kind, parts: vec![], authorization: "Bearer t".into() }
    };
    let function = |function: LambdaFunction, parts| {
        let nowhere = SocketAddr::from(([127, 0, 0, 1], 1));
        let settings = Lambda { function, timeout_ms: 300, ..lambda(nowhere, LambdaEvent::RequestV1) };
        let (document, kind) = (output("Allow", "*"), AuthorizerKind::Lambda(settings));
        Needed { document, kind, parts, authorization: "t".into() }
    };
    let invocation = || Invocation { region: "eu-west-1".into(), credentials: None };
    let by_url = move |address: SocketAddr| function(LambdaFunction::Url(format!("http://{address}/")), vec![]);
    let by_invoke = move |address: SocketAddr| {
        let url = format!("http://{address}/2015-03-31/functions/f/invocations");
        function(LambdaFunction::Invoke(LambdaInvoke { url, invocation: invocation() }), vec![])
    };
    let by_service = move |address: SocketAddr| {
        let (path, host) = ("/".to_owned(), "orders.shop.svc".to_owned());
        let service = LambdaService { upstream: upstream_name(), host, path, invoke: None };
        function(LambdaFunction::Service(service), vec![upstream(&[address])])
    };
    let of_endpoint = |class| match class {
        Class::Unreachable | Class::ServerError => (503, "introspection_unavailable"),
        Class::NotPermitted => (503, "introspection_client_rejected"),
        Class::NotFound | Class::OtherStatus | Class::Malformed => (503, "introspection_invalid_response"),
    };
    vec![
        Server { name: "key set", make: Box::new(keys_at(false)), rejected: by_key_server },
        Server { name: "key set of a user pool", make: Box::new(keys_at(true)), rejected: by_key_server },
        Server { name: "discovery document", make: Box::new(discovery), rejected: by_key_server },
        Server { name: "key set of a discovery document", make: Box::new(discovered), rejected: by_key_server },
        Server { name: "introspection", make: Box::new(introspection), rejected: of_endpoint },
        Server { name: "function by URL", make: Box::new(by_url), rejected: of_function },
        Server { name: "function by Invoke", make: Box::new(by_invoke), rejected: of_function },
        Server { name: "function of a Service", make: Box::new(by_service), rejected: of_function },
    ]
}

/// Tries every fault of one kind of server with one proxy.
fn try_all(server: &Server) {
    let document = Arc::new(Mutex::new(String::new()));
    let elsewhere = serving(&document);
    let mut gate = Gate::start();
    let guarded =
        RulePolicy { authorizer: Some(AuthorizerUse { part: name(), scopes: Vec::new() }), ..policy(mock("in")) };
    gate.put(vec![route("r", vec![rule("a", "GET", "/a", guarded)])]);
    let put = |gate: &mut Gate, needed: Needed, behavior| {
        let stage = stage_part(StagePart { behavior, ..stage() });
        let parts = [stage, authorizer(needed.kind)].into_iter().chain(needed.parts).collect();
        assert_eq!(gate.put(parts), vec![], "{}", server.name);
    };
    let (some, mut lines) = ((server.make)(elsewhere.address), 0);
    for number in 0..faults(&some.document, elsewhere.address).len() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let needed = (server.make)(address);
        let fault = faults(&needed.document, elsewhere.address).swap_remove(number);
        let what = format!("{}: {}", server.name, fault.name);
        *document.lock().unwrap() = needed.document.clone();
        match fault.text {
            Some(text) => drop(raw_server_at(listener, text, fault.close)),
            None => drop(listener),
        }
        let authorization = needed.authorization.clone();
        let (native, reason) = (server.rejected)(fault.class);
        put(&mut gate, needed, Behavior::Native);
        for (behavior, status) in [(Behavior::Native, native), (Behavior::AwsRest, 500), (Behavior::AwsHttp, 500)] {
            gate.put(vec![stage_part(StagePart { behavior, ..stage() })]);
            let response = gate.request("GET", "/a", &[("authorization", &authorization)], "");
            assert_eq!(response.status, status, "{what}, {behavior:?}");
            lines += 1;
            let line = eventually("logged", || gate.log.lines().get(lines - 1).cloned());
            assert_eq!(line["reason"], reason, "{what}, {behavior:?}");
        }
    }
    assert_eq!(elsewhere.requests(), 0, "{}: a redirect was followed", server.name);
    let remembered = r#"sluice_authorizer_remembered_decisions{authorizer="shop/any""#;
    let kinds = ["Jwt", "Cognito", "Introspection", "Lambda"];
    assert!(
        kinds.iter().all(|kind| gate.metric(&format!(r#"{remembered},kind="{kind}"}}"#)) == 0.0),
        "{}",
        server.name
    );
    // The same request is authorized by a server that does not fail: nothing else has rejected it.
    let needed = (server.make)(elsewhere.address);
    *document.lock().unwrap() = needed.document.clone();
    let authorization = needed.authorization.clone();
    put(&mut gate, needed, Behavior::Native);
    let response = gate.request("GET", "/a", &[("authorization", &authorization)], "");
    assert_eq!((response.status, response.body.as_str()), (200, "in"), "{}", server.name);
}

#[test]
fn no_failure_of_a_server_authorizes_a_request() {
    let servers = servers();
    std::thread::scope(|scope| {
        let all: Vec<_> = servers.iter().map(|server| scope.spawn(|| try_all(server))).collect();
        let failed: Vec<_> = all.into_iter().filter_map(|one| one.join().err()).collect();
        assert!(failed.is_empty(), "{} kinds of servers failed", failed.len());
    });
}

/// What an operator does with a question.
#[derive(Clone, Copy, Debug)]
enum Operator {
    /// It is not connected, or does not review.
    Absent,
    DoesNotReview,
    /// The API server has not decided.
    Undecided,
    /// It replies to another question.
    RepliesToAnother,
    Disconnects,
    /// It sends something that is no frame.
    SendsNoFrame,
    /// A frame whose content is not valid.
    SendsAnOddResult,
    Denies,
    Allows,
}

async fn hello(connections: &mut mpsc::Receiver<Duplex>) -> Duplex {
    let mut connection = connections.recv().await.unwrap();
    let hello: Up = connection.receive().await;
    assert!(matches!(hello, Up::Hello(_)), "{hello:?}");
    connection
}

async fn welcome(connection: &mut Duplex, capabilities: &[&str]) {
    connection.send(&json!({"Welcome": {"program": "test", "capabilities": capabilities}})).await;
    // What follows is read after the capabilities.
    connection.send(&json!({"Ping": {}})).await;
    assert_eq!(connection.receive::<Up>().await, Up::Pong);
}

#[test]
fn no_failure_of_the_operator_authorizes_a_request() {
    let (key, set) = signer();
    let mut gate = Gate::start();
    let tokens = jwt("https://id.example", KeySource::Inline(set));
    let guarded =
        RulePolicy { authorizer: Some(AuthorizerUse { part: name(), scopes: Vec::new() }), ..policy(mock("in")) };
    gate.put(vec![
        stage_part(stage()),
        authorizer(AuthorizerKind::ServiceAccount(ServiceAccount { tokens, access_reviews: true })),
        route("r", vec![rule("a", "ANY", "/a", guarded)]),
    ]);
    let bearer = token(&key, "system:serviceaccount:shop:orders", "");
    let ask = || gate.request("GET", "/a", &[("authorization", &bearer)], "").status;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
    let (address, mut connections) = runtime.block_on(listen(None));
    assert_eq!(ask(), 503, "{:?}", Operator::Absent);
    let sink = Sink {
        apply: Box::new(|_, _, _| Vec::new()),
        set_fleet: Box::new(|_| {}),
        set_connected: Box::new(|_| {}),
        rejected: Box::new(|| {}),
        access_reviews: gate.proxy.access_reviews(),
        key_uses: gate.proxy.key_uses(),
    };
    let following = runtime.spawn(async move {
        let mut subscriber = Subscriber::start("one".into(), FleetName::default(), sink, None);
        let operator = format!("http://{address}").parse().unwrap();
        match stream::run(&stream::StreamSettings { operator, authority: None, token: None }, &mut subscriber).await {}
    });
    let mut connection = runtime.block_on(hello(&mut connections));
    runtime.block_on(welcome(&mut connection, &["frame/Ping"]));
    assert_eq!(ask(), 503, "{:?}", Operator::DoesNotReview);
    for (operator, expected) in [
        (Operator::Undecided, 503),
        (Operator::RepliesToAnother, 503),
        (Operator::SendsNoFrame, 503),
        (Operator::SendsAnOddResult, 503),
        (Operator::Disconnects, 503),
        (Operator::Allows, 200),
        (Operator::Denies, 403),
    ] {
        runtime.block_on(welcome(&mut connection, &["frame/Review", "frame/Reviewed"]));
        // A result for another method is not remembered for this one.
        let method = if matches!(operator, Operator::Denies) { "POST" } else { "GET" };
        let (status, next) = std::thread::scope(|scope| {
            let request = scope.spawn(|| gate.request(method, "/a", &[("authorization", &bearer)], "").status);
            let next = runtime.block_on(react(operator, connection, &mut connections));
            (request.join().unwrap(), next)
        });
        connection = next;
        assert_eq!(status, expected, "{operator:?}");
    }
    following.abort();
}

/// The connection after it, which may be another one.
async fn react(operator: Operator, mut connection: Duplex, connections: &mut mpsc::Receiver<Duplex>) -> Duplex {
    let id = match connection.receive().await {
        Up::Review(review) => review.id,
        other => panic!("{other:?} instead of a question"),
    };
    let result = |id: u64, allowed: Value| json!({"Reviewed": {"id": id, "allowed": allowed}});
    match operator {
        Operator::Absent | Operator::DoesNotReview => {}
        Operator::Undecided => connection.send(&result(id, Value::Null)).await,
        Operator::RepliesToAnother => connection.send(&result(id + 1, json!(true))).await,
        Operator::Allows => connection.send(&result(id, json!(true))).await,
        Operator::Denies => connection.send(&result(id, json!(false))).await,
        Operator::SendsNoFrame => {
            connection.send(&json!(true)).await;
            return hello(connections).await;
        }
        Operator::SendsAnOddResult => {
            connection.send(&result(id, json!("true"))).await;
            return hello(connections).await;
        }
        Operator::Disconnects => {
            drop(connection);
            return hello(connections).await;
        }
    }
    connection
}
