//! Requests that two programs could interpret differently: what each setting does, and that no spelling of a path bypasses the
//! rule for it under any of them.

use std::io::Write as _;

use sluice_wire::*;

use crate::harness::*;

fn policy_of(text: &str) -> RequestPolicy {
    text.parse().unwrap()
}

fn with(policy: &str) -> (PartName, PartBody) {
    stage_part(StagePart { request_policy: policy_of(policy), ..stage() })
}

const LENIENT: &str =
    "encodedSlashes=Forward,doubleEncoding=Forward,semicolons=Forward,emptySegments=Forward,pathCharacters=Encode";

/// A proxy with a backend that repeats requests, and these rules.
fn gate(stage: (PartName, PartBody), rules: Vec<Rule>) -> (Gate, Backend) {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    gate.put(vec![stage, upstream(&[backend.address]), route("r", rules)]);
    (gate, backend)
}

fn open(name: &str, path: &str) -> Rule {
    rule(name, "ANY", path, policy(service()))
}

fn closed(name: &str, path: &str) -> Rule {
    rule(name, "ANY", path, policy(mock(name)))
}

/// What the backend received: the target of the request line. Otherwise the status, or the text of a mock.
fn outcome(response: &Response) -> String {
    let line = response.body.lines().next().unwrap_or_default();
    match (response.status, line.strip_prefix("GET ").and_then(|line| line.strip_suffix(" HTTP/1.1"))) {
        (200, Some(target)) => target.to_owned(),
        (200, None) => response.body.clone(),
        (status, _) => status.to_string(),
    }
}

#[test]
fn each_setting_of_the_path_rejects_changes_or_forwards() {
    let rows = [
        // policy, request, outcome
        ("", "/x/a%2Fb", "400"),
        ("encodedSlashes=Reject", "/x/a%5cb", "400"),
        ("encodedSlashes=Decode", "/x/a%2Fb", "/x/a/b"),
        ("encodedSlashes=Decode", "/x%2fa%5Cb", "/x/a/b"),
        ("encodedSlashes=Decode", "/x/a%2F%2Fb", "400"),
        ("encodedSlashes=Decode,emptySegments=Collapse", "/x/a%2F%2Fb%2F", "/x/a/b/"),
        ("encodedSlashes=Decode", "/x/a%252Fb", "400"),
        ("encodedSlashes=Decode", "/x/a%2F..%2Fb", "400"),
        ("encodedSlashes=Decode", "/%61dmin%2Fx", "admin"),
        ("encodedSlashes=Forward", "/x/a%2fb", "/x/a%2Fb"),
        ("encodedSlashes=Forward", "/x/a%5Cb", "/x/a%5Cb"),
        ("encodedSlashes=Forward", "/x/a%2F..%5Cb", "400"),
        ("encodedSlashes=Forward", "/x/a%2F..;y%2Fb", "400"),
        ("encodedSlashes=Forward", "/x%2Fa", "400"), // decoded, the rule `x`
        ("", "/x/50%2525", "400"),
        ("doubleEncoding=Forward", "/x/50%2525", "/x/50%2525"),
        ("doubleEncoding=Forward", "/x/http%253A%252f%252fa", "/x/http%253A%252f%252fa"),
        ("doubleEncoding=Forward", "/x/%252e%252e/admin", "400"),
        ("doubleEncoding=Forward", "/x/%252500", "400"),
        ("", "/x;v=1/a", "400"),
        ("semicolons=Drop", "/x;v=1/a;w", "/x/a"),
        ("semicolons=Drop", "/x/a%3bw/b", "/x/a/b"),
        ("semicolons=Drop", "/;w/x/a", "400"),
        ("semicolons=Drop,emptySegments=Collapse", "/;w/x/a", "/x/a"),
        ("semicolons=Drop,emptySegments=Forward", "/;w/x/;w/a", "/x//a"),
        ("semicolons=Forward", "/x;v=1/a;w", "/x;v=1/a;w"),
        ("semicolons=Forward", "/admin;w/a", "admin"),
        ("semicolons=Forward", "/admin%3Bw", "admin"),
        ("semicolons=Forward", "/x/..;w/admin", "400"),
        ("", "/x//a", "400"),
        ("emptySegments=Collapse", "//x//a//", "/x/a/"),
        ("emptySegments=Collapse", "//admin", "admin"),
        ("emptySegments=Forward", "/x//a//", "/x//a//"),
        ("emptySegments=Forward", "//x///a", "/x///a"),
        ("emptySegments=Forward", "//admin", "admin"),
        ("emptySegments=Forward", "/admin//a", "admin"),
        ("", "/x/é", "400"),
        ("pathCharacters=Reject", "/x/[a]", "400"),
        ("pathCharacters=Encode", "/x/é", "/x/%C3%A9"),
        ("pathCharacters=Encode", "/x/[a]|{b}^\"", "/x/%5Ba%5D%7C%7Bb%7D%5E%22"),
        ("pathCharacters=Encode", "/x/a\\b", "400"),
        ("pathCharacters=Encode,encodedSlashes=Forward", "/x/a\\b", "/x/a%5Cb"),
        ("pathCharacters=Encode,encodedSlashes=Decode", "/x/a\\b", "/x/a/b"),
        ("pathCharacters=Encode", "/x/a<b", "400"),
        ("", "/x/a?q=[1]|{2}^`\\é", "/x/a?q=[1]|{2}^`\\é"),
        ("queryCharacters=Forward", "/x/a?q=é", "/x/a?q=é"),
        (
            "queryCharacters=Encode",
            "/x/a?q=[1]|{2}^`\\é&r=%zz%20?/:@",
            "/x/a?q=%5B1%5D%7C%7B2%7D%5E%60%5C%C3%A9&r=%zz%20?/:@",
        ),
        ("queryCharacters=Encode", "/x/a?", "/x/a?"),
        ("queryCharacters=Reject", "/x/a?q=[1]", "400"),
        ("queryCharacters=Reject", "/x/a?q=%5B1%5D;r='*", "/x/a?q=%5B1%5D;r='*"),
        ("queryCharacters=Encode", "/x/a?q=\"", "400"),
        (LENIENT, "/x/%zz", "400"),
        (LENIENT, "/x/%00", "400"),
        (LENIENT, "/x/%c0%af", "400"),
        (LENIENT, "/x/../admin", "400"),
    ];
    let rules = || {
        let slashes = rule("x", "ANY", "/x/{p+}", policy(service()));
        vec![open("all", "/{p+}"), slashes, closed("admin", "/admin"), closed("admin", "/admin/{p+}")]
    };
    let (mut gate, _backend) = gate(with(""), rules());
    let mut limited = policy(service());
    limited.throttle = Some(Throttle { rate: 1_000_000, per_ms: 1000, burst: 1_000_000 });
    let mut rules = rules();
    rules[1] = rule("x", "ANY", "/x/{p+}", limited);
    gate.put(vec![route("r", rules)]);
    for (settings, path, expected) in rows {
        gate.put(vec![with(settings)]);
        assert_eq!(outcome(&gate.get(path)), expected, "{settings:?} {path}");
    }
}

#[test]
fn parameters_are_what_the_client_wrote() {
    let mut served = policy(service());
    served.request_headers.set = vec![("x-id".into(), "${request.path.id}".parse().unwrap())];
    let target = HttpTarget { tls: false, host: "127.0.0.1".into(), port: 1, path: Some("/v2/{id}/".into()) };
    let backend = Backend::echo();
    let target = HttpTarget { port: backend.address.port(), ..target };
    let mut gate = Gate::start();
    let rules = vec![
        rule("one", "GET", "/a/{id}", served.clone()),
        rule("rest", "GET", "/b/{id+}", served),
        rule("url", "GET", "/c/{id+}", policy(Integration::Http(target))),
    ];
    let base = StagePart { base_path: "/v1".into(), request_policy: policy_of(LENIENT), ..stage() };
    gate.put(vec![stage_part(base), upstream(&[backend.address]), route("r", rules)]);
    for (path, target, id) in [
        ("/v1/a/x%2fy", "/a/x%2Fy", "x%2Fy"),
        ("/v1/a/%2541", "/a/%2541", "%2541"),
        ("//v1//a//x;y=1", "/a//x;y=1", "x;y=1"),
        ("/v1;z/a;z/é", "/a;z/%C3%A9", "%C3%A9"),
        ("/v1/b/x//y;z//w", "/b/x//y;z//w", "x//y;z//w"),
        ("/v1/b//x/", "/b//x/", "x/"),
    ] {
        let response = gate.get(path);
        assert_eq!(outcome(&response), target, "{path}");
        assert!(response.body.contains(&format!("x-id: {id}\r\n")), "{path}: {}", response.body);
    }
    for (path, target) in [("/v1/c/x//y;z", "/v2/x//y;z/"), ("/v1/c/%2541%2fb", "/v2/%2541%2Fb/")] {
        assert_eq!(outcome(&gate.get(path)), target, "{path}");
    }
    eventually("logged", || gate.log.lines().len() == 8);
    let logged = gate.log.lines().iter().any(|line| line["path"] == "/v1//a//x;y=1");
    assert!(logged, "{:?}", gate.log.lines());
}

#[test]
fn settings_of_the_fleet_apply_to_stages_without_their_own() {
    let backend = Backend::echo();
    let mut gate =
        Gate::configured(|settings| settings.request_policy = policy_of("semicolons=Drop,emptySegments=Collapse"));
    let rules = || route("r", vec![open("all", "/{p+}")]);
    gate.put(vec![with(""), upstream(&[backend.address]), rules()]);
    assert_eq!(outcome(&gate.get("/a//b;c")), "/a/b");
    gate.put(vec![with("semicolons=Forward")]);
    assert_eq!(outcome(&gate.get("/a//b;c")), "/a/b;c");
    gate.put(vec![with("emptySegments=Reject")]);
    assert_eq!(outcome(&gate.get("/a//b;c")), "400");
    // The settings of the fleet come before the defaults of the behavior.
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() })]);
    assert_eq!(outcome(&gate.get("/a//b")), "/a/b");
}

#[test]
fn aws_stages_match_without_empty_segments_and_forward_them() {
    let rules = vec![
        open("root", "/"),
        open("mine", "/pets/mine"),
        open("files", "/files/{proxy+}"),
        open("proxy", "/proxy-value/{proxy+}"),
    ];
    let (mut gate, _backend) = gate(with(""), rules);
    for behavior in [Behavior::AwsRest, Behavior::AwsHttp] {
        gate.put(vec![stage_part(StagePart { behavior, base_path: "/test".into(), ..stage() })]);
        for (path, target) in [
            ("/test/files/a//b", "/files/a//b"),
            ("/test//pets/mine", "/pets/mine"),
            ("//test/pets/mine", "/pets/mine"),
            ("///test///pets/mine", "/pets/mine"),
            ("/test/pets//mine", "/pets//mine"),
            ("/test/files//a", "/files//a"),
            ("/test/proxy-value/x//double-slash", "/proxy-value/x//double-slash"),
            ("/test//", "/"),
            ("//test", "/"),
        ] {
            assert_eq!(outcome(&gate.get(path)), target, "{behavior:?} {path}");
        }
    }
    gate.put(vec![stage_part(StagePart { behavior: Behavior::AwsRest, ..stage() })]);
    for (path, target) in
        [("/files/a%2Fb", "/files/a%2Fb"), ("/files/a%252Fb/", "/files/a%252Fb/"), ("/files//", "403")]
    {
        assert_eq!(outcome(&gate.get(path)), target, "{path}");
    }
}

#[test]
fn header_names_are_rejected_dropped_or_forwarded() {
    let (mut gate, _backend) = gate(with(""), vec![open("all", "/{p+}")]);
    let ask = |gate: &Gate, name: &str| gate.request("GET", "/a", &[("x-user", "1"), (name, "evil")], "");
    for name in ["x_trace", "x.trace", "x!trace", "X_Trace"] {
        let forwarded = |gate: &Gate| {
            let response = ask(gate, name);
            let body = response.body.to_ascii_lowercase();
            (
                response.status,
                body.contains("x-user: 1"),
                body.contains(&format!("{}: evil", name.to_ascii_lowercase())),
            )
        };
        gate.put(vec![with("")]);
        assert_eq!(forwarded(&gate), (400, false, false), "{name}");
        gate.put(vec![with("headerNames=Drop")]);
        assert_eq!(forwarded(&gate), (200, true, false), "{name}");
        gate.put(vec![with("headerNames=Forward")]);
        assert_eq!(forwarded(&gate), (200, true, true), "{name}");
    }
    for name in
        ["x_user", "x.user", "x_forwarded_for", "X-Real_IP", "content_length", "transfer_encoding", "x_http_method"]
    {
        let response = ask(&gate, name);
        assert!(response.status == 200 && !response.body.contains("evil"), "{name}: {}", response.body);
    }
}

#[test]
fn header_values_outside_ascii_are_forwarded_dropped_or_rejected() {
    let mut copying = policy(service());
    copying.request_headers.set = vec![("x-copy".into(), "[${request.header.x-name}]".parse().unwrap())];
    let (mut gate, backend) = gate(with(""), vec![rule("all", "ANY", "/{p+}", copying)]);
    let ask = |gate: &Gate, line: &[u8]| {
        let mut stream = gate.connect();
        let request = [b"GET /a HTTP/1.1\r\nhost: shop.example\r\nx-user: 1\r\n", line, b"\r\n\r\n"].concat();
        stream.write_all(&request).unwrap();
        read_response(&mut stream)
    };
    for line in
        ["Cookie: n=€", "user-agent: Größe", "x-name: é", "referer: /ü", "content-disposition: a; filename=\"ø\""]
    {
        gate.put(vec![with("")]);
        let response = ask(&gate, line.as_bytes());
        let (_, value) = line.split_once(": ").unwrap();
        assert!(response.status == 200 && response.body.contains(value), "{line}: {}", response.body);
        gate.put(vec![with("headerValues=Reject")]);
        assert_eq!(ask(&gate, line.as_bytes()).status, 400, "{line}");
        gate.put(vec![with("headerValues=Drop")]);
        let response = ask(&gate, line.as_bytes());
        let body = response.body;
        assert!(response.status == 200 && body.contains("x-user: 1") && !body.contains(value), "{line}: {body}");
    }
    // What the proxy interprets has one meaning under every setting.
    let before = backend.requests();
    for settings in ["", "headerValues=Drop", "headerValues=Reject"] {
        gate.put(vec![with(settings)]);
        for line in ["connection: x-user, é", "te: é", "upgrade: é", "host: é"] {
            assert_eq!(ask(&gate, line.as_bytes()).status, 400, "{settings} {line}");
        }
    }
    assert_eq!(backend.requests(), before);
    // A variable is text: what is not UTF-8 has no value, instead of another one.
    gate.put(vec![with("")]);
    assert!(ask(&gate, "x-name: é".as_bytes()).body.contains("x-copy: [é]"));
    assert!(!ask(&gate, b"x-name: \xff").body.contains("\u{fffd}]"));
}

#[test]
fn values_that_are_not_text_have_cache_entries_of_their_own() {
    let mut cached = policy(service());
    let keys = vec!["request.header.x-name".parse().unwrap()];
    cached.cache =
        Some(RuleCache { ttl_ms: None, keys, methods: vec!["GET".into()], scope: CacheScope::Shared, unkeyed: vec![] });
    let stage_cache = StageCache {
        ttl_ms: 60_000,
        max_bytes: 1 << 20,
        invalidation: Invalidation::Required,
        unauthorized: Unauthorized::SucceedSilently,
    };
    let stage = stage_part(StagePart { cache: Some(stage_cache), ..stage() });
    let (gate, backend) = gate(stage, vec![rule("all", "GET", "/{p+}", cached)]);
    for value in [&b"\xff"[..], b"\xfe", b"\xef\xbf\xbd", "ÿ".as_bytes()] {
        let mut stream = gate.connect();
        let request = [b"GET /a HTTP/1.1\r\nhost: shop.example\r\nx-name: ", value, b"\r\n\r\n"].concat();
        stream.write_all(&request).unwrap();
        assert_eq!(read_response(&mut stream).status, 200);
    }
    assert_eq!(backend.requests(), 4);
}

/// Spellings of `/admin` and of paths near it, for every kind of program that might be behind the proxy.
const SPELLINGS: &[&str] = &[
    "/admin",
    "/%61dmin",
    "/adm%69n",
    "/admin/",
    "/admin//",
    "//admin",
    "///admin//",
    "/./admin",
    "/x/../admin",
    "/x/%2e%2e/admin",
    "/x/.%2e/admin",
    "/%2e/admin",
    "/admin/.",
    "/admin/x/..",
    "/admin;",
    "/admin;x=1",
    "/admin;/",
    "/;/admin",
    "/;x/admin",
    "/x/..;/admin",
    "/..;x/admin",
    "/.;/admin",
    "/admin/..;/admin",
    "/admin%3b",
    "/admin%3Bx",
    "/%3b/admin",
    "/x/..%3b/admin",
    "/%2fadmin",
    "/%2Fadmin",
    "/admin%2f",
    "/admin%2F",
    "/admin%2fx",
    "/x%2f..%2fadmin",
    "/x/..%2fadmin",
    "/x%2f../admin",
    "/%5cadmin",
    "/admin%5C",
    "/admin%5cx",
    "/x%5c..%5cadmin",
    "/x/..%5cadmin",
    "/\\admin",
    "/admin\\",
    "/admin\\x",
    "/x/..\\admin",
    "/x\\..\\admin",
    "/%2561dmin",
    "/adm%2569n",
    "/%252561dmin",
    "/%2525252561dmin",
    "/%252fadmin",
    "/admin%252f",
    "/admin%252fx",
    "/x/%252e%252e/admin",
    "/x/%252e%252e%252fadmin",
    "/x%252f..%252fadmin",
    "/x/%25%32e%25%32e/admin",
    "/x/%25%32f",
    "/%255cadmin",
    "/admin%255c",
    "/admin%253b",
    "/admin%253bx",
    "/%253b/admin",
    "/x/..%253b/admin",
    "/admin%00",
    "/admin%2500",
    "/admin%0a",
    "/admin%250a",
    "/x/%c0%ae%c0%ae/admin",
    "/x%c0%afadmin",
    "/%e0%80%afadmin",
    "/admin%c0%af",
    "/x/%25c0%25ae/admin",
    "//%2fadmin",
    "/;%2fadmin",
    "/%2f;x/admin",
    "/admin;%2f",
    "/admin;a%2fb/x",
    "/admin%2f;x",
    "/admin%2f%2f",
    "/%2f%2fadmin",
    "/%2f/admin",
    "/admin/%2f",
    "/%5c%2fadmin",
    "/x%2f;y%2f..%2fadmin",
    "/admin%2f?q",
    "/admin%252f%253fq",
    "/admin%252f%2523",
    "/%2f..%2fadmin",
    "/..%2fadmin",
    "/%2e%2e%2fadmin",
    "/admin%2f..",
    "/admin/%2e%2e%2f",
    "/x",
    "/x/y",
    "/x%2fy",
    "/x//y",
    "/x;y",
    "/x/%2525",
    "/xadmin",
    "/adminx",
    "/admin.x",
    "/admin%20",
    "/ad%2fmin",
    "/x/admin",
];

/// The segments that a program finds in a path that decodes it `levels` times, and treats as much as possible as slashes and
/// parameters, or as little as possible.
fn segments(path: &str, levels: usize, backslash: bool, parameters: bool) -> Vec<String> {
    let mut bytes = path.split('?').next().unwrap().as_bytes().to_vec();
    for _ in 0..levels {
        let digit = |byte: Option<&u8>| byte.and_then(|byte| char::from(*byte).to_digit(16));
        let (mut out, mut at) = (Vec::new(), 0);
        while let Some(&byte) = bytes.get(at) {
            match (byte, digit(bytes.get(at + 1)), digit(bytes.get(at + 2))) {
                (b'%', Some(high), Some(low)) => {
                    out.extend(u8::try_from(high * 16 + low));
                    at += 3;
                }
                _ => {
                    out.push(byte);
                    at += 1;
                }
            }
        }
        bytes = out;
    }
    let mut found: Vec<String> = Vec::new();
    for segment in bytes.split(|byte| *byte == b'/' || backslash && *byte == b'\\') {
        let name = if parameters { segment.split(|byte| *byte == b';').next().unwrap() } else { segment };
        match name {
            b"" | b"." => {}
            b".." => drop(found.pop()),
            name => found.push(String::from_utf8_lossy(name).into_owned()),
        }
    }
    found
}

/// Whether any program could take the path for that of the administration.
fn reaches_admin(target: &str) -> bool {
    let readers = [(true, true), (true, false), (false, true), (false, false)];
    (0..=4).any(|levels| {
        readers.iter().any(|(backslash, parameters)| {
            segments(target, levels, *backslash, *parameters).first().is_some_and(|first| first == "admin")
        })
    })
}

/// Every combination of the settings of the path.
fn settings() -> Vec<RequestPolicy> {
    let mut all = Vec::new();
    for slashes in EncodedSlashes::ALL {
        for twice in DoubleEncoding::ALL {
            for semicolons in Semicolons::ALL {
                for empty in EmptySegments::ALL {
                    for characters in PathCharacters::ALL {
                        all.push(RequestPolicy {
                            encoded_slashes: Some(*slashes),
                            double_encoding: Some(*twice),
                            semicolons: Some(*semicolons),
                            empty_segments: Some(*empty),
                            path_characters: Some(*characters),
                            ..RequestPolicy::default()
                        });
                    }
                }
            }
        }
    }
    all
}

/// The responses to requests with these paths, on one connection.
fn outcomes(gate: &Gate, base: &str, paths: &[&str]) -> Vec<String> {
    let mut stream = gate.connect();
    let ask = |path: &&str| {
        let request = format!("GET {base}{path} HTTP/1.1\r\nhost: shop.example\r\n\r\n");
        stream.write_all(request.as_bytes()).unwrap();
        outcome(&read_response(&mut stream))
    };
    paths.iter().map(ask).collect()
}

#[test]
fn no_spelling_of_a_path_bypasses_its_rule_under_any_setting() {
    let rules = vec![
        open("all", "/{p+}"),
        open("root", "/"),
        rule("admin", "GET", "/admin", policy(mock("admin"))),
        closed("admin", "/admin/{p+}"),
    ];
    let (mut gate, _backend) = gate(with(""), rules);
    let mut forwarded = 0;
    for behavior in [Behavior::Native, Behavior::AwsRest] {
        for (at, request_policy) in settings().into_iter().enumerate() {
            let base = ["/", "/v1"][at % 2];
            gate.put(vec![stage_part(StagePart { behavior, request_policy, base_path: base.into(), ..stage() })]);
            let base = base.trim_end_matches('/');
            for (path, outcome) in SPELLINGS.iter().zip(outcomes(&gate, base, SPELLINGS)) {
                if outcome.starts_with('/') {
                    forwarded += 1;
                    assert!(
                        !reaches_admin(&outcome),
                        "{behavior:?} {request_policy}: {path} is forwarded as {outcome}"
                    );
                } else {
                    let known = ["admin", "400", "403", "404"].contains(&outcome.as_str());
                    assert!(known, "{behavior:?} {request_policy}: {path}: {outcome}");
                }
            }
        }
    }
    assert!(forwarded > 1_000, "{forwarded}");
}

#[test]
fn another_stage_is_not_bypassed_either() {
    let backend = Backend::echo();
    let mut gate = Gate::start();
    let other = PartName::new(PartKind::Stage, "shop/admin");
    let inner = StagePart { object: ObjectRef::new("Stage", "shop", "admin"), base_path: "/admin".into(), ..stage() };
    let (name, PartBody::Route(of_inner)) = route("inner", vec![closed("admin", "/"), closed("admin", "/{p+}")]) else {
        unreachable!()
    };
    let of_inner = RoutePart { stages: vec![other.clone()], ..of_inner };
    gate.put(vec![
        (other.clone(), PartBody::Stage(inner.clone())),
        (name, PartBody::Route(of_inner)),
        upstream(&[backend.address]),
        route("outer", vec![open("all", "/{p+}"), open("root", "/")]),
    ]);
    for (at, request_policy) in settings().into_iter().enumerate() {
        // The settings of the inner Stage are the same, or its defaults.
        let of_inner = if at % 2 == 0 { request_policy } else { RequestPolicy::default() };
        gate.put(vec![
            stage_part(StagePart { request_policy, ..stage() }),
            (other.clone(), PartBody::Stage(StagePart { request_policy: of_inner, ..inner.clone() })),
        ]);
        for (path, outcome) in SPELLINGS.iter().zip(outcomes(&gate, "", SPELLINGS)) {
            let bypassed = outcome.starts_with('/') && reaches_admin(&outcome);
            assert!(!bypassed, "{request_policy}: {path} is forwarded as {outcome}");
        }
    }
}

#[test]
fn rule_key_limit_log_and_backend_see_one_path() {
    let mut cached = policy(service());
    cached.cache = Some(RuleCache {
        ttl_ms: None,
        keys: vec![],
        methods: vec!["GET".into()],
        scope: CacheScope::Shared,
        unkeyed: vec![],
    });
    let mut limited = policy(service());
    limited.throttle = Some(Throttle { rate: 1, per_ms: 86_400_000, burst: 3 });
    let stage_cache = StageCache {
        ttl_ms: 60_000,
        max_bytes: 8 << 20,
        invalidation: Invalidation::Required,
        unauthorized: Unauthorized::SucceedSilently,
    };
    let groups: [&[&str]; 5] = [
        &["/c/a/b", "/%63/a/b", "/c/%61/b", "/c//a/b", "/c/a;x/b", "/c/a%2fb", "/c%2fa/b"],
        &["/c/%C3%A9", "/c/%c3%a9", "/c/é", "/c//é", "/c/é;é"],
        &["/c/a%2Fb", "/c/%61%2fb", "/c/a%2fb;x", "/c//a%2fb", "/c/a\\b"],
        &["/c/%2541", "/c/%25%34%31", "/c//%2541"],
        &["/c/x/", "/c/x//", "/c/x;y/", "/c/x/;y"],
    ];
    for request_policy in settings() {
        let stage = StagePart { request_policy, cache: Some(stage_cache.clone()), ..stage() };
        let rules = vec![rule("c", "GET", "/c/{p+}", cached.clone()), rule("t", "GET", "/t/{p+}", limited.clone())];
        let (gate, backend) = gate(stage_part(stage), rules);
        let mut fetched = std::collections::BTreeSet::new();
        for path in groups.iter().flat_map(|group| group.iter()) {
            let response = gate.get(path);
            let outcome = outcome(&response);
            if !outcome.starts_with('/') {
                assert!(["400", "404"].contains(&outcome.as_str()), "{request_policy} {path}: {outcome}");
                continue;
            }
            // A response from the cache is one that the backend gave for the same path.
            let hit = response.header("cache-status").is_some_and(|status| status.contains("; hit"));
            assert_eq!(hit, !fetched.insert(outcome.clone()), "{request_policy} {path}: {outcome}");
            let id = response.header("x-request-id").unwrap();
            let logged = || gate.log.lines().into_iter().find(|line| line["requestId"] == id);
            eventually("logged", || logged().is_some());
            assert_eq!(logged().unwrap()["path"], outcome, "{request_policy} {path}");
        }
        assert_eq!(backend.requests(), fetched.len(), "{request_policy}");
        // All spellings take from one bucket.
        let spellings =
            ["/t/a", "/%74/a", "//t/a", "/t;x/a", "/t/%2fa", "/t%2fa", "/t/%2541", "/t/\\a", "/t/é", "/t/b"];
        let served = spellings.iter().filter(|path| gate.get(path).status == 200).count();
        assert_eq!(served, 3, "{request_policy}");
    }
}
