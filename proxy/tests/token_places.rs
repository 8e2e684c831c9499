//! Tokens in the query, in cookies and in the names of WebSocket subprotocols: where they are found, and what of them is forwarded,
//! logged and stored.

use std::io::Write as _;

use sluice_wire::*;

use crate::harness::*;
use crate::policy::{signer, token};

/// An Authorizer that accepts tokens in these places.
fn login_in(set: String, places: Vec<TokenSource>) -> (PartName, AuthorizerPart) {
    let (name, mut login) = login(set);
    if let AuthorizerKind::Jwt(jwt) = &mut login.kind {
        jwt.token_from = places;
    }
    (name, login)
}

#[test]
fn tokens_in_the_query_a_cookie_or_a_subprotocol_are_found_and_only_verified_ones_are_forwarded() {
    let (key, set) = signer();
    let bearer = token(&key, "ann", "");
    let token = bearer.trim_start_matches("Bearer ");
    let places = vec![
        TokenSource::Header { header: "authorization".into(), scheme: Some("Bearer".into()) },
        TokenSource::Query { query: "access_token".into() },
        TokenSource::Cookie { cookie: "session".into() },
        TokenSource::WebSocketProtocol { web_socket_protocol: "bearer.".into() },
    ];
    let (name, login) = login_in(set, places);
    let backend = Backend::echo();
    let mut guarded = policy(service());
    guarded.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec![] });
    let mut gate = Gate::start();
    let parts = vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(login)),
        route("r", vec![rule("r", "GET", "/a", guarded)]),
    ];
    assert_eq!(gate.put(parts), vec![]);
    let cookie = format!("a=b; session={token}; c=d");
    let protocols = format!("bearer.{token}, graphql-ws");
    let target = |query: &str| format!("/a?page=2&{query}&sort=up").replace("&&", "&");
    let in_query = format!("access%5Ftoken={token}");
    let ws = "sec-websocket-protocol";
    // The query, the headers, the status, and whether the backend gets the token.
    type Row<'a> = (&'a str, &'a [(&'a str, &'a str)], u16, bool);
    let rows: [Row<'_>; 14] = [
        ("", &[("authorization", &bearer)], 200, true),
        ("access_token=forged", &[("authorization", &bearer)], 200, true),
        ("Access_Token=forged&access_token=", &[("authorization", &bearer)], 200, true),
        (
            "",
            &[("authorization", &bearer), ("cookie", "session=forged; a=b"), (ws, "bearer.forged, graphql-ws")],
            200,
            true,
        ),
        (&in_query, &[], 200, false),
        (&in_query, &[("cookie", "SESSION=forged"), (ws, "graphql-ws,Bearer.forged")], 200, false),
        (&in_query, &[("authorization", "Basic forged")], 200, false),
        (&format!("{in_query}&access_token=forged"), &[], 401, false),
        ("access_token=forged", &[("cookie", &cookie)], 401, false),
        ("", &[("cookie", &cookie)], 200, true),
        ("", &[("cookie", &format!("{cookie}; session =forged; Session=forged")), (ws, "bearer.forged")], 200, true),
        ("", &[("cookie", &format!("{cookie}; session=forged"))], 401, false),
        ("", &[(ws, &protocols)], 200, false),
        ("", &[(ws, "bearer.forged, graphql-ws")], 401, false),
    ];
    for (query, headers, status, forwarded) in rows {
        let response = gate.request("GET", &target(query), headers, "");
        assert_eq!(response.status, status, "{query} {headers:?} {response:?}");
        if status == 200 {
            let body = &response.body;
            assert_eq!(body.contains(token), forwarded, "{query} {headers:?} {body}");
            assert!(
                body.starts_with("GET /a?page=2&sort=up ") && !body.contains("forged"),
                "{query} {headers:?} {body}"
            );
            let lower = body.to_ascii_lowercase();
            let offers = headers.iter().any(|(name, value)| *name == ws && value.contains("graphql-ws"));
            assert_eq!(lower.contains("sec-websocket-protocol: graphql-ws\r\n"), offers, "{headers:?} {body}");
        }
    }
    // No line of the log has the token, or what was sent instead.
    eventually("logged", || gate.log.lines().len() == rows.len());
    let lines = format!("{:?}", gate.log.lines());
    assert!(!lines.contains(token) && !lines.contains("forged"), "{lines}");
}

#[test]
fn a_token_in_the_query_is_no_part_of_the_key_of_a_stored_response() {
    let (key, set) = signer();
    let tokens: Vec<String> =
        ["ann", "bob"].iter().map(|name| token(&key, name, "").trim_start_matches("Bearer ").to_owned()).collect();
    let (name, login) = login_in(set, vec![TokenSource::Query { query: "access_token".into() }]);
    let backend = Backend::echo();
    let mut guarded = policy(service());
    guarded.authorizer = Some(AuthorizerUse { part: name.clone(), scopes: vec![] });
    guarded.cache = Some(shared_cache());
    let mut gate = Gate::start();
    let parts = vec![
        stage_part(stage_with_cache()),
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(login)),
        route("r", vec![rule("r", "GET", "/a", guarded)]),
    ];
    assert_eq!(gate.put(parts), vec![]);
    for token in &tokens {
        let response = gate.get(&format!("/a?page=2&access_token={token}"));
        assert!(response.status == 200 && !response.body.contains(token.as_str()), "{response:?}");
    }
    assert_eq!(backend.requests(), 1, "one response for both");
}

#[test]
fn a_browser_opens_a_websocket_with_a_token_and_the_backend_selects_its_other_subprotocol() {
    let (key, set) = signer();
    let bearer = token(&key, "ann", "");
    let token = bearer.trim_start_matches("Bearer ");
    let (name, login) = login_in(set, vec![TokenSource::WebSocketProtocol { web_socket_protocol: "bearer.".into() }]);
    let backend = Backend::start(|head, _| {
        let offered = head
            .lines()
            .find_map(|line| line.to_ascii_lowercase().strip_prefix("sec-websocket-protocol: ").map(str::to_owned));
        let offered = offered.unwrap_or_default();
        format!(
            "HTTP/1.1 101 Switching Protocols\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-protocol: {offered}\r\n\r\n"
        )
    });
    let guarded =
        RulePolicy { authorizer: Some(AuthorizerUse { part: name.clone(), scopes: vec![] }), ..policy(service()) };
    let mut gate = Gate::start();
    gate.put(vec![
        stage_part(stage()),
        upstream(&[backend.address]),
        (name, PartBody::Authorizer(login)),
        route("r", vec![rule("r", "GET", "/a", guarded)]),
    ]);
    let open = |token: &str| {
        let mut stream = gate.connect();
        let request = format!(
            "GET /a HTTP/1.1\r\nhost: shop.example\r\nconnection: upgrade\r\nupgrade: websocket\r\nsec-websocket-version: 13\r\n\
             sec-websocket-key: dGhlIHNhbXBsZSBub25jZQ==\r\nsec-websocket-protocol: bearer.{token}, graphql-ws\r\n\r\n"
        );
        stream.write_all(request.as_bytes()).unwrap();
        read_head(&mut stream)
    };
    let opened = open(token);
    assert_eq!((opened.status, opened.header("sec-websocket-protocol")), (101, Some("graphql-ws")));
    assert_eq!(open("forged").status, 401);
}
