//! Requests that could be read in two ways, that are too large, or that come too slowly.

use std::io::{Read as _, Write as _};
use std::time::{Duration, Instant};

use sluice_wire::*;

use crate::harness::*;

fn gate() -> (Gate, Backend) {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let rules =
        vec![rule("all", "ANY", "/{p+}", policy(service())), rule("admin", "ANY", "/admin", policy(mock("admin")))];
    gate.put(vec![stage_part(stage()), upstream(&[backend.address]), route("r", rules)]);
    (gate, backend)
}

#[test]
fn ambiguous_framing_never_reaches_a_backend() {
    let (gate, backend) = gate();
    let rows = [
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\nx",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: ,chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: x, chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked, chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding : chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.0\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n",
        "POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: +1\r\n\r\nx",
        "GET /a HTTP/1.1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nhost: other.example\r\n\r\n",
        "GET http://shop.example/a HTTP/1.1\r\nhost: other.example\r\n\r\n",
        "GET http://user@shop.example/a HTTP/1.1\r\nhost: user@shop.example\r\n\r\n",
        "CONNECT shop.example:443 HTTP/1.1\r\nhost: shop.example:443\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx_user: 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx.user: 1\r\n\r\n",
        "GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: \u{e9}\r\n\r\n",
    ];
    for request in rows {
        assert_eq!(gate.raw(request).status, 400, "{request}");
    }
    assert_eq!(backend.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn length_and_chunks_together_are_never_passed_on_together() {
    let (gate, _backend) = gate();
    for order in ["content-length: 6\r\ntransfer-encoding: chunked", "transfer-encoding: chunked\r\ncontent-length: 6"]
    {
        let mut stream = gate.connect();
        let request = format!(
            "POST /a HTTP/1.1\r\nhost: shop.example\r\n{order}\r\n\r\n0\r\n\r\nGET /admin HTTP/1.1\r\nhost: shop.example\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        let mut all = String::new();
        // The connection ends after the first answer: what follows is not a second request.
        stream.read_to_string(&mut all).unwrap_or_default();
        assert_eq!(all.matches("HTTP/1.1 ").count() - all.matches("POST /a HTTP/1.1 ").count(), 1, "{all}");
        assert!(!all.to_ascii_lowercase().contains("content-length: 6"), "{all}");
    }
}

#[test]
fn no_spelling_of_a_path_gets_past_its_rule() {
    let (gate, backend) = gate();
    for path in ["/admin", "/%61dmin", "/adm%69n", "/%61%64%6d%69%6e"] {
        assert_eq!(gate.get(path).body, "admin", "{path}");
    }
    let bad = [
        "/x/../admin",
        "/./admin",
        "/x/%2e%2e/admin",
        "/x/.%2e/admin",
        "//admin",
        "/x//admin",
        "/admin;x",
        "/admin%3bx",
        "/;/admin",
        "/x%2fadmin",
        "/x%2Fadmin",
        "/x%5cadmin",
        "/x%252e%252e/admin",
        "/x/%252e%252e/admin",
        "/x/%25%32e%25%32e/admin",
        "/x/%252%65%252%65/admin",
        "/x/%25%32f",
        "/admin%00",
        "/admin%0a",
        "/%zz",
        "/admin%",
    ];
    for path in bad {
        assert_eq!(gate.get(path).status, 400, "{path}");
    }
    assert_eq!(backend.requests.load(std::sync::atomic::Ordering::SeqCst), 0);
}

#[test]
fn everything_from_outside_is_capped() {
    let (mut gate, _backend) = gate();
    assert_eq!(gate.get(&format!("/{}", "a".repeat(9_000))).status, 414);
    let long = "a".repeat(17_000);
    assert_eq!(gate.request("GET", "/a", &[("x-long", &long)], "").status, 431);
    let many: Vec<String> = (0..101).map(|n| format!("x-{n}")).collect();
    let many: Vec<(&str, &str)> = many.iter().map(|name| (name.as_str(), "1")).collect();
    assert_eq!(gate.request("GET", "/a", &many, "").status, 431);
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() })]);
    let said = gate.raw("POST /a HTTP/1.1\r\nhost: shop.example\r\ncontent-length: 10485761\r\n\r\n");
    assert_eq!((said.status, said.body.as_str()), (413, r#"{"message":"Request Too Long"}"#));
}

#[test]
fn broken_rules_and_stages_refuse_in_their_place() {
    let mut gate = Gate::start();
    let invalid = Rule {
        action: RuleAction::Invalid { why: "secret words".into() },
        ..rule("b", "GET", "/b", policy(mock("b")))
    };
    let mut guarded = policy(mock("guarded"));
    let authorizer = PartName::new(PartKind::Authorizer, "shop/login");
    guarded.authorizer = Some(AuthorizerUse { part: authorizer, scopes: vec![] });
    let rules = vec![
        rule("a", "GET", "/a", policy(mock("a"))),
        invalid,
        rule("c", "GET", "/c", guarded),
        rule("any", "ANY", "/{p+}", policy(mock("open"))),
    ];
    let diagnostics = gate.put(vec![stage_part(stage()), route("r", rules)]);
    assert_eq!(diagnostics.len(), 1, "{diagnostics:?}");
    assert!(diagnostics[0].message.contains("shop/login"), "{diagnostics:?}");
    assert_eq!(gate.get("/a").body, "a");
    for path in ["/b", "/c"] {
        let answer = gate.get(path);
        assert_eq!(answer.status, 500, "{path}");
        assert!(!answer.body.contains("secret words") && !answer.body.contains("login"));
    }
    assert_eq!(gate.metric(r#"sluice_rejects_total{reason="InvalidConfig",stage="shop/prod"}"#), 2.0);
    gate.put(vec![stage_part(StagePart { invalid: Some("no".into()), ..stage() })]);
    assert_eq!(gate.get("/a").status, 500);
}

#[test]
fn a_head_that_comes_too_slowly_is_not_waited_for() {
    let (gate, _backend) = gate();
    let mut stream = gate.connect();
    stream.set_read_timeout(Some(Duration::from_secs(30))).unwrap();
    stream.write_all(b"GET /a HTTP/1.1\r\nhost: shop.example\r\nx-slow: ").unwrap();
    let started = Instant::now();
    let mut rest = Vec::new();
    stream.read_to_end(&mut rest).unwrap_or_default();
    assert!(started.elapsed() < Duration::from_secs(15), "{:?}", started.elapsed());
}
