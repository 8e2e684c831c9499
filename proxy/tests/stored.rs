//! Which request may get which stored response: what the gateway sends, bodies, conditions, content codings, `Vary`, age, and changes
//! by other requests.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::channel;
use std::sync::{Arc, Mutex};

use sluice_wire::*;

use crate::harness::*;

type Fields<'a> = &'a [(&'a str, &'a str)];

fn cached(cache: RuleCache) -> RulePolicy {
    RulePolicy { cache: Some(cache), ..policy(service()) }
}

fn gate_of(stage: StagePart, backend: &Backend, policy: RulePolicy) -> Gate {
    let mut gate = Gate::start();
    let parts =
        vec![stage_part(stage), upstream(&[backend.address]), route("r", vec![rule("all", "ANY", "/{p+}", policy)])];
    assert_eq!(gate.put(parts), vec![]);
    gate
}

/// A gateway that stores the responses of a backend for all callers.
fn gate(backend: &Backend) -> Gate {
    gate_of(stage_with_cache(), backend, cached(shared_cache()))
}

/// A response with these headers, `number` as its body, and its length.
fn respond(headers: &str, number: usize) -> String {
    let body = number.to_string();
    format!("HTTP/1.1 200 OK\r\n{headers}content-length: {}\r\n\r\n{body}", body.len())
}

/// A backend that counts its responses: the body of the first is 0. `headers` gets the request's head.
fn counting(headers: impl Fn(&str) -> String + Send + Sync + 'static) -> Backend {
    let count = AtomicUsize::new(0);
    Backend::start(move |head, _| respond(&headers(&head.to_ascii_lowercase()), count.fetch_add(1, Ordering::SeqCst)))
}

fn result(response: &Response) -> &str {
    let text = response.header("cache-status").unwrap_or("bypass");
    ["hit", "stored", "collapsed"].into_iter().find(|word| text.contains(word)).unwrap_or(text)
}

#[test]
fn no_host_gets_the_response_of_another_host() {
    let backend = Backend::echo();
    let any_host = StagePart { hostnames: vec![], ..stage_with_cache() };
    let gate = gate_of(any_host, &backend, cached(shared_cache()));
    let get = |host: &str| gate.request("GET", "/a", &[("host", host)], "");
    for host in ["evil.example", "good.example", "good.example:8080", "good.example.", "[::1]", "10.0.0.1"] {
        let first = get(host);
        assert_eq!(result(&first), "stored", "{host}");
        assert!(first.body.contains(&format!("host: {host}\r\n")), "{host}: {first:?}");
        let second = get(host);
        assert_eq!((result(&second), &second.body), ("hit", &first.body), "{host}");
    }
    // HTTP/1.0 without a host.
    let first = gate.raw("GET /a HTTP/1.0\r\n\r\n");
    assert!(result(&first) == "stored" && !first.body.contains("good.example"), "{first:?}");
}

#[test]
fn every_variable_that_the_gateway_sends_is_part_of_the_key() {
    let rows: [(&str, Fields<'_>, Fields<'_>); 5] = [
        ("${request.header.accept-language}", &[("accept-language", "de")], &[("accept-language", "en")]),
        ("a-${request.header.x-tenant}-b", &[("x-tenant", "1")], &[("x-tenant", "2")]),
        ("${request.header.x-tenant}", &[("x-tenant", "1"), ("x-tenant", "2")], &[("x-tenant", "1,2")]),
        ("${context.domainName}", &[("host", "a.example")], &[("host", "b.example")]),
        ("${context.identity.sourceIp}${request.header.x-tenant}", &[("x-tenant", "")], &[]),
    ];
    for (template, one, other) in rows {
        for add in [false, true] {
            let backend = Backend::echo();
            let mut policy = cached(shared_cache());
            let edits = vec![("x-sent".to_owned(), template.parse().unwrap())];
            let headers = &mut policy.request_headers;
            *(if add { &mut headers.add } else { &mut headers.set }) = edits;
            let gate = gate_of(StagePart { hostnames: vec![], ..stage_with_cache() }, &backend, policy);
            let get = |fields| gate.request("GET", "/a", fields, "");
            let (first, second) = (get(one), get(other));
            assert_eq!((result(&first), result(&second)), ("stored", "stored"), "{template}");
            assert_eq!((result(&get(one)), result(&get(other))), ("hit", "hit"), "{template}");
        }
    }
}

#[test]
fn variables_of_a_mock_are_part_of_the_key() {
    let mut gate = Gate::start();
    let headers = vec![("x-query".into(), "${request.querystring.q}".parse().unwrap())];
    let mock = Mock { status: 200, headers, body: "m".into() };
    let policy = RulePolicy { cache: Some(shared_cache()), ..policy(Integration::Mock(mock)) };
    gate.put(vec![stage_part(stage_with_cache()), route("r", vec![rule("r", "GET", "/a", policy)])]);
    for query in ["1", "2", "1"] {
        assert_eq!(gate.get(&format!("/a?q={query}")).header("x-query"), Some(query));
    }
}

#[test]
fn a_request_id_in_the_request_prevents_storing_unless_the_rule_leaves_it_out() {
    let backend = Backend::echo();
    let mut policy = cached(shared_cache());
    policy.request_headers.set = vec![("x-trace".into(), "${context.requestId}".parse().unwrap())];
    let gate_with = |unkeyed: Vec<Variable>| {
        let mut policy = policy.clone();
        policy.cache.as_mut().unwrap().unkeyed = unkeyed;
        gate_of(StagePart { hostnames: vec![], ..stage_with_cache() }, &backend, policy)
    };
    let gate = gate_with(vec![]);
    for _ in 0..2 {
        let response = gate.get("/a");
        assert_eq!(response.header("cache-status"), Some("sluice; fwd=miss; detail=request-id"));
    }
    let gate = gate_with(vec![Variable::RequestId]);
    assert_eq!((result(&gate.get("/a")), result(&gate.get("/a"))), ("stored", "hit"));
    let other_host = |gate: &Gate| gate.request("GET", "/a", &[("host", "other.example")], "");
    assert_eq!(result(&other_host(&gate)), "stored");
    let gate = gate_with(vec![Variable::RequestId, Variable::DomainName]);
    assert_eq!((result(&gate.get("/a")), result(&other_host(&gate))), ("stored", "hit"));
}

#[test]
fn requests_with_a_body_neither_fill_the_cache_nor_read_it() {
    let chunked = "GET /a HTTP/1.1\r\nhost: shop.example\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n";
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        let backend = Backend::echo();
        let gate = gate_of(StagePart { behavior, ..stage_with_cache() }, &backend, cached(shared_cache()));
        let poison = gate.request("GET", "/a", &[], "evil");
        assert!(poison.body.contains("evil") && result(&poison) == "bypass", "{behavior:?} {poison:?}");
        assert_eq!(result(&gate.raw(chunked)), "bypass", "{behavior:?}");
        let first = gate.get("/a");
        assert!(!first.body.contains("evil") && result(&first) == "stored", "{behavior:?} {first:?}");
        assert_eq!(result(&gate.request("GET", "/a", &[], "evil")), "bypass", "{behavior:?}");
        assert_eq!(result(&gate.request("GET", "/a", &[("content-length", "0")], "")), "hit", "{behavior:?}");
    }
    // A rule of an AWS stage may list POST, whose body AWS ignores.
    for (behavior, results) in [(Behavior::Native, ["bypass", "bypass"]), (Behavior::AwsRest, ["stored", "hit"])] {
        let backend = Backend::echo();
        let cache = RuleCache { methods: vec!["POST".into()], ..shared_cache() };
        let gate = gate_of(StagePart { behavior, ..stage_with_cache() }, &backend, cached(cache));
        let post = || gate.request("POST", "/a", &[], "order");
        let found = [post(), post()];
        assert_eq!([result(&found[0]), result(&found[1])], results, "{behavior:?}");
    }
}

#[test]
fn a_client_that_has_the_response_gets_304() {
    let backend = counting(|_| {
        "etag: \"v1\"\r\nlast-modified: Thu, 26 Nov 2026 05:00:00 GMT\r\ncontent-type: text/plain\r\nx-a: 1\r\ncache-control: max-age=50\r\n".into()
    });
    let gate = gate(&backend);
    let get = |path: &str, fields: Fields<'_>| gate.request("GET", path, fields, "");
    assert_eq!(result(&get("/a", &[])), "stored");
    let hits: [(Fields<'_>, u16); 10] = [
        (&[("if-none-match", "\"v1\"")], 304),
        (&[("if-none-match", "W/\"v1\"")], 304),
        (&[("if-none-match", "\"v0\", W/\"v1\"")], 304),
        (&[("if-none-match", "\"v0\""), ("if-none-match", "\"v1\"")], 304),
        (&[("if-none-match", "*")], 304),
        (&[("if-none-match", "\"v0\"")], 200),
        (&[("if-none-match", "\"v0\""), ("if-modified-since", "Thu, 26 Nov 2026 06:00:00 GMT")], 200),
        (&[("if-modified-since", "Thu, 26 Nov 2026 05:00:00 GMT")], 304),
        (&[("if-modified-since", "Thu, 26 Nov 2026 04:59:59 GMT")], 200),
        (&[("if-range", "\"v1\"")], 200),
    ];
    for (fields, status) in hits {
        let response = get("/a", fields);
        assert_eq!((response.status, result(&response)), (status, "hit"), "{fields:?}");
        let body = if status == 304 { "" } else { "0" };
        assert_eq!(response.body, body, "{fields:?}");
        assert_eq!(response.header("etag"), Some("\"v1\""), "{fields:?}");
        assert_eq!((response.header("x-a"), response.header("age")), (Some("1"), Some("0")), "{fields:?}");
        assert_eq!(response.header("content-length").is_some(), status == 200, "{fields:?}");
        assert_eq!(response.header("content-type").is_some(), status == 200, "{fields:?}");
        assert_eq!(response.header("last-modified").is_some(), status == 200, "{fields:?}");
        assert!(response.header("x-request-id").is_some_and(|id| !id.is_empty()), "{fields:?}");
    }
    // The backend is asked without the condition, so that its response can be stored, and the client gets 304 all the same.
    let first = get("/b", &[("if-none-match", "\"v1\"")]);
    assert_eq!((first.status, first.body.as_str(), result(&first)), (304, "", "stored"));
    eventually("the response is stored", || result(&get("/b", &[])) == "hit");
    let changed = get("/c", &[("if-none-match", "\"v0\"")]);
    assert_eq!((changed.status, result(&changed)), (200, "stored"));
    assert_eq!(gate.request("HEAD", "/a", &[("if-none-match", "\"v1\"")], "").status, 304);
}

#[test]
fn conditions_for_the_backend_and_ranges_do_not_reach_the_cache() {
    // A backend that evaluates them.
    let backend = Backend::start(|head, _| {
        let head = head.to_ascii_lowercase();
        let status = match () {
            () if head.contains("if-match") || head.contains("if-unmodified-since") => "412 Precondition Failed",
            () if head.contains("if-none-match") => return "HTTP/1.1 304 Not Modified\r\netag: \"v1\"\r\n\r\n".into(),
            () if head.contains("range: ") => "206 Partial Content",
            () => "200 OK",
        };
        format!("HTTP/1.1 {status}\r\netag: \"v1\"\r\ncontent-length: 2\r\n\r\nok")
    });
    for behavior in [Behavior::Native, Behavior::AwsRest] {
        let gate = gate_of(StagePart { behavior, ..stage_with_cache() }, &backend, cached(shared_cache()));
        let get = |fields: Fields<'_>| gate.request("GET", "/a", fields, "");
        let rows: [(Fields<'_>, u16); 4] = [
            (&[("if-match", "\"v0\"")], 412),
            (&[("if-unmodified-since", "Thu, 26 Nov 2026 05:00:00 GMT")], 412),
            (&[("range", "bytes=0-1")], 206),
            (&[("range", "bytes=0-1"), ("if-range", "\"v1\"")], 206),
        ];
        for _ in 0..2 {
            for (fields, status) in rows {
                let response = get(fields);
                assert_eq!((response.status, result(&response)), (status, "bypass"), "{behavior:?} {fields:?}");
            }
            assert_eq!(get(&[]).status, 200, "{behavior:?}");
        }
    }
}

#[test]
fn where_nothing_can_be_stored_the_backend_responds_with_304() {
    let backend = Backend::start(|head, _| {
        let fields = "etag: \"v1\"\r\ncache-control: no-store\r\n";
        if head.to_ascii_lowercase().contains("if-none-match") {
            return format!("HTTP/1.1 304 Not Modified\r\n{fields}\r\n");
        }
        respond(fields, 7)
    });
    let gate = gate(&backend);
    let get = || gate.request("GET", "/a", &[("if-none-match", "\"v1\"")], "");
    assert_eq!(get().status, 200);
    assert_eq!((get().status, get().status), (304, 304));
}

#[test]
fn a_client_gets_no_coding_that_it_does_not_accept() {
    // The backend compresses when it is asked to, and does not send Vary.
    let encode = |head: &str| match () {
        () if head.contains("gzip") => "content-encoding: gzip\r\n".to_owned(),
        () if head.contains("br") => "content-encoding: br\r\n".to_owned(),
        () => String::new(),
    };
    for vary in ["", "vary: Accept-Encoding\r\n"] {
        let backend = counting(move |head| format!("{}{vary}", encode(head)));
        let gate = gate(&backend);
        let get = |accepts: Option<&str>| {
            let fields = accepts.map(|value| ("accept-encoding", value));
            gate.request("GET", "/a", fields.as_slice(), "")
        };
        for (accepts, coding) in [
            (Some("gzip"), Some("gzip")),
            (None, None),
            (Some("br"), Some("br")),
            (Some("gzip, deflate"), Some("gzip")),
            (Some(""), None),
            (Some("gzip;q=0.5"), Some("gzip")),
            (Some("identity"), None),
        ] {
            let response = get(accepts);
            assert_eq!(response.header("content-encoding"), coding, "{vary} {accepts:?}");
            let again = get(accepts);
            assert_eq!((result(&again), &again.body), ("hit", &response.body), "{vary} {accepts:?}");
        }
    }
    // A response without a coding is for every client, unless it says that it depends on Accept-Encoding.
    let plain = counting(|_| String::new());
    let gate_of_plain = gate(&plain);
    let get = |accepts| gate_of_plain.request("GET", "/a", &[("accept-encoding", accepts)], "");
    assert_eq!((result(&get("gzip")), result(&get("br")), result(&gate_of_plain.get("/a"))), ("stored", "hit", "hit"));
    // What a client did not ask for, and codings that may depend on other headers, are not stored.
    for (accepts, coding) in [("br", "gzip"), ("gzip;q=0", "gzip"), ("gzip;q=high", "gzip"), ("dcb", "dcb")] {
        let backend = counting(move |_| format!("content-encoding: {coding}\r\n"));
        let gate = gate(&backend);
        let response = gate.request("GET", "/a", &[("accept-encoding", accepts)], "");
        let expected = Some("sluice; fwd=miss; detail=content-coding");
        assert_eq!(response.header("cache-status"), expected, "{accepts} {coding}");
    }
}

#[test]
fn coalesced_requests_get_the_response_of_their_own_kind() {
    let (release, wait) = channel::<()>();
    let (wait, calls) = (Mutex::new(wait), Arc::new(AtomicUsize::new(0)));
    let backend = Backend::start(move |head, _| {
        wait.lock().unwrap().recv().unwrap();
        let coding = if head.contains("gzip") { "content-encoding: gzip\r\n" } else { "" };
        respond(coding, calls.fetch_add(1, Ordering::SeqCst))
    });
    let gate = gate(&backend);
    let mut zipped = gate.connect();
    let ask = |stream: &mut std::net::TcpStream, coding: &str| {
        let request = format!("GET /a HTTP/1.1\r\nhost: shop.example\r\naccept-encoding: {coding}\r\n\r\n");
        std::io::Write::write_all(stream, request.as_bytes()).unwrap();
    };
    ask(&mut zipped, "gzip");
    eventually("the first call", || backend.requests() == 1);
    let mut plain = gate.connect();
    ask(&mut plain, "identity");
    release.send(()).unwrap();
    release.send(()).unwrap();
    assert_eq!(read_response(&mut zipped).header("content-encoding"), Some("gzip"));
    assert_eq!(read_response(&mut plain).header("content-encoding"), None);
}

#[test]
fn each_value_of_a_header_in_vary_has_an_entry() {
    let rows: [(&str, Fields<'_>, Fields<'_>); 4] = [
        ("Accept-Language", &[("accept-language", "de")], &[("accept-language", "en")]),
        (
            "origin, accept",
            &[("accept", "a/b"), ("origin", "https://a")],
            &[("accept", "a/b"), ("origin", "https://b")],
        ),
        ("Cookie", &[("cookie", "a=1")], &[]),
        ("X-Forwarded-Host, Host", &[("host", "a.example")], &[("host", "b.example")]),
    ];
    for (vary, one, other) in rows {
        let backend = counting(move |_| format!("vary: {vary}\r\n"));
        let gate = gate_of(StagePart { hostnames: vec![], ..stage_with_cache() }, &backend, cached(shared_cache()));
        let get = |fields| gate.request("GET", "/a", fields, "");
        let (first, second) = (get(one), get(other));
        assert_eq!((result(&first), result(&second)), ("stored", "stored"), "{vary}");
        let (first_again, second_again) = (get(one), get(other));
        assert_eq!((result(&first_again), result(&second_again)), ("hit", "hit"), "{vary}");
        assert_eq!((first_again.body, second_again.body), (first.body, second.body), "{vary}");
    }
    for vary in ["*", "accept, *", "x-forwarded-for", "forwarded", "cdn-loop", "accept; q"] {
        let backend = counting(move |_| format!("vary: {vary}\r\n"));
        let gate = gate(&backend);
        assert_eq!(gate.get("/a").header("cache-status"), Some("sluice; fwd=miss; detail=vary"), "{vary}");
    }
}

#[test]
fn a_response_brings_its_age() {
    let rows: [(&str, Option<u64>); 9] = [
        ("age: 30\r\n", Some(30)),
        ("age: 30\r\ncache-control: max-age=3600\r\n", Some(30)),
        ("age: 7200\r\ncache-control: max-age=3600\r\n", None),
        ("age: 3600\r\ncache-control: max-age=3600\r\n", None),
        ("age: 70\r\ncache-control: max-age=3600, s-maxage=60\r\n", None),
        ("date: Thu, 01 Jan 2026 00:00:00 GMT\r\ncache-control: max-age=60\r\n", None),
        ("expires: Thu, 01 Jan 2026 00:00:00 GMT\r\n", None),
        ("expires: 0\r\n", None),
        // A response without a lifetime has the rule's, from now on.
        ("age: 7200\r\n", Some(7200)),
    ];
    for (fields, age) in rows {
        let backend = counting(move |_| fields.to_owned());
        let gate = gate(&backend);
        let first = gate.get("/a");
        let Some(age) = age else {
            assert_eq!(first.header("cache-status"), Some("sluice; fwd=miss; detail=expired"), "{fields}");
            continue;
        };
        let second = gate.get("/a");
        assert_eq!(result(&second), "hit", "{fields}");
        let found: u64 = second.header("age").unwrap().parse().unwrap();
        assert!((age..age + 20).contains(&found), "{fields} {found}");
    }
}

#[test]
fn a_change_invalidates_the_stored_responses_of_its_path() {
    let rows = [
        ("PUT", "200 OK", "", true),
        ("POST", "201 Created", "", true),
        ("DELETE", "204 No Content", "", true),
        ("PATCH", "303 See Other", "", true),
        ("PURGE", "200 OK", "", true),
        ("PUT", "409 Conflict", "", false),
        ("POST", "500 Internal Server Error", "", false),
        ("OPTIONS", "200 OK", "", false),
    ];
    for (method, status, fields, invalidates) in rows {
        let backend = Backend::start(move |head, _| {
            if head.starts_with("GET") {
                return ok(head);
            }
            format!("HTTP/1.1 {status}\r\n{fields}content-length: 0\r\n\r\n")
        });
        let gate = gate(&backend);
        let get = |path: &str| result(&gate.get(path)).to_owned();
        for path in ["/orders/1?page=1", "/orders/2"] {
            assert_eq!((get(path).as_str(), get(path).as_str()), ("stored", "hit"));
        }
        gate.request(method, "/orders/1?x=2", &[], "body");
        assert_eq!(get("/orders/1?page=1") == "stored", invalidates, "{method} {status}");
        assert_eq!(get("/orders/2"), "hit", "{method} {status}");
        // What was fetched since is stored again.
        assert_eq!(get("/orders/1?page=1"), "hit", "{method} {status}");
    }
}

#[test]
fn a_change_invalidates_what_its_response_names_on_the_same_host() {
    for (fields, invalidates) in [
        ("location: /v1/orders/7\r\n", true),
        ("location: orders/7?x=1#y\r\n", true),
        ("content-location: http://shop.example/v1/orders/7\r\n", true),
        ("content-location: //SHOP.example:80/v1/orders/./7\r\n", true),
        ("location: http://other.example/v1/orders/7\r\n", false),
        ("location: /orders/7\r\n", false),
        ("location: /v1/orders/70\r\n", false),
    ] {
        let backend = Backend::start(move |head, _| {
            if head.starts_with("GET") {
                ok("order")
            } else {
                format!("HTTP/1.1 201 Created\r\n{fields}content-length: 0\r\n\r\n")
            }
        });
        let below = StagePart { base_path: "/v1".into(), ..stage_with_cache() };
        let gate = gate_of(below, &backend, cached(shared_cache()));
        let get = || result(&gate.get("/v1/orders/7")).to_owned();
        assert_eq!((get().as_str(), get().as_str()), ("stored", "hit"));
        gate.request("POST", "/v1/new", &[], "order");
        assert_eq!(get() == "stored", invalidates, "{fields}");
    }
}

#[test]
fn a_change_by_another_rule_or_caller_counts_and_aws_stages_ignore_it() {
    for (behavior, expected) in [(Behavior::Native, "stored"), (Behavior::AwsRest, "hit"), (Behavior::AwsHttp, "hit")] {
        let backend = Backend::echo();
        let mut gate = Gate::start();
        let reads = cached(RuleCache {
            scope: CacheScope::Caller,
            methods: vec!["GET".into(), "POST".into()],
            ..shared_cache()
        });
        gate.put(vec![
            stage_part(StagePart { behavior, ..stage_with_cache() }),
            upstream(&[backend.address]),
            route(
                "r",
                vec![
                    rule("read", "GET", "/a", reads.clone()),
                    rule("search", "POST", "/b", reads.clone()),
                    rule("read-b", "GET", "/b", reads),
                ],
            ),
            route("w", vec![rule("write", "PUT", "/a", policy(service()))]),
        ]);
        let get = |path: &str, cookie: &str| result(&gate.request("GET", path, &[("cookie", cookie)], "")).to_owned();
        for cookie in ["a=1", "a=2"] {
            assert_eq!((get("/a", cookie).as_str(), get("/a", cookie).as_str()), ("stored", "hit"));
        }
        gate.request("PUT", "/a", &[("cookie", "a=1")], "new");
        assert_eq!((get("/a", "a=1").as_str(), get("/a", "a=2").as_str()), (expected, expected), "{behavior:?}");
        // A rule that stores the responses to POST reads with it.
        assert_eq!(get("/b", "a=1"), "stored");
        gate.request("POST", "/b", &[], "query");
        assert_eq!(get("/b", "a=1"), "hit");
    }
}

#[test]
fn a_response_that_was_requested_before_a_change_is_not_stored_after_it() {
    let (release, wait) = channel::<()>();
    let wait = Mutex::new(wait);
    let count = AtomicUsize::new(0);
    let backend = Backend::start(move |head, _| {
        if head.starts_with("PUT") {
            return ok("changed");
        }
        let number = count.fetch_add(1, Ordering::SeqCst);
        if number == 0 {
            wait.lock().unwrap().recv().unwrap();
        }
        respond("", number)
    });
    let gate = gate(&backend);
    let mut before = gate.connect();
    std::io::Write::write_all(&mut before, b"GET /a HTTP/1.1\r\nhost: shop.example\r\n\r\n").unwrap();
    eventually("the first call", || backend.requests() == 1);
    assert_eq!(gate.request("PUT", "/a", &[], "new").body, "changed");
    // This request does not wait for the one before the change.
    let after = gate.get("/a");
    assert_eq!((after.body.as_str(), result(&after)), ("1", "stored"));
    release.send(()).unwrap();
    assert_eq!(read_response(&mut before).body, "0");
    let last = gate.get("/a");
    assert_eq!((last.body.as_str(), result(&last)), ("1", "hit"));
}

#[test]
fn a_response_that_ends_with_trailers_is_stored() {
    let chunked =
        "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\ntrailer: x-sum\r\n\r\n2\r\nok\r\n0\r\nx-sum: 1\r\n\r\n";
    let backend = Backend::start(move |_, _| chunked.to_owned());
    let gate = gate(&backend);
    let first = gate.get("/a");
    assert_eq!((first.body.as_str(), result(&first)), ("ok", "stored"));
    eventually("the response is stored", || result(&gate.get("/a")) == "hit");
}
