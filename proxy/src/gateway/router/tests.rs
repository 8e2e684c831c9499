use proptest::prelude::*;
use sluice_wire::{FieldMatch, PartKind, PartName};

use super::*;

const NATIVE: (Behavior, Option<TrailingSlash>) = (Behavior::Native, None);
const LENIENT: (Behavior, Option<TrailingSlash>) = (Behavior::Native, Some(TrailingSlash::Ignore));
const REST: (Behavior, Option<TrailingSlash>) = (Behavior::AwsRest, None);
const HTTP: (Behavior, Option<TrailingSlash>) = (Behavior::AwsHttp, None);

fn place(path: &str, number: usize) -> Position {
    let tie = Tie { route: PartName::new(PartKind::Route, "shop/r"), number };
    Position { version: None, template: path.parse().unwrap(), conditions: None, tie }
}

fn versioned(scheme: VersionScheme, name: &str, path: &str, number: usize) -> Position {
    Position { version: Some(Arc::new(ApiVersion { name: name.into(), scheme })), ..place(path, number) }
}

fn only(method: &str) -> Methods {
    let methods: Vec<Method> = if method == "ANY" { vec![] } else { vec![method.parse().unwrap()] };
    methods.into()
}

fn empty((behavior, slash): (Behavior, Option<TrailingSlash>)) -> Router<usize> {
    Router::new(Matching::new(behavior, slash))
}

/// Rules that are numbered in order.
fn router(rules: &[(&str, &str)], matching: (Behavior, Option<TrailingSlash>)) -> Router<usize> {
    let mut router = empty(matching);
    for (at, (method, path)) in rules.iter().enumerate() {
        router.add(&place(path, at), only(method), at);
    }
    router
}

fn find(router: &Router<usize>, method: &str, path: &str) -> Option<usize> {
    outcome(router, method, path).ok()
}

fn outcome(router: &Router<usize>, method: &str, path: &str) -> Result<usize, Miss> {
    let headers = HeaderMap::new();
    let method = method.parse().unwrap();
    router.find(&RouteInput { method: &method, path, query: None, headers: &headers }).map(|found| *found.rule)
}

// The examples of AWS's documentation and of its recorded behavior (REST matching algorithm, HTTP API routes).
#[test]
fn specific_patterns_have_priority_and_aws_takes_the_next_one_for_another_method() {
    let pets = router(
        &[("GET", "/pets/dog/1"), ("GET", "/pets/dog/{id}"), ("GET", "/pets/{proxy+}"), ("ANY", "/{proxy+}")],
        HTTP,
    );
    let rows = [
        ("GET", "/pets/dog/1", Some(0)),
        ("GET", "/pets/dog/2", Some(1)),
        ("GET", "/pets/cat/1", Some(2)),
        ("POST", "/test/5", Some(3)),
        ("GET", "/", None),
        ("POST", "/pets/dog/1", Some(3)),
    ];
    for (method, path, expected) in rows {
        assert_eq!(find(&pets, method, path), expected, "{method} {path}");
    }
    let test = router(&[("POST", "/test"), ("ANY", "/test/any"), ("OPTIONS", "/{proxy+}")], REST);
    assert_eq!(find(&test, "OPTIONS", "/test"), Some(2));
    assert_eq!(find(&test, "POST", "/test"), Some(0));
    assert_eq!(find(&test, "POST", "/test/"), Some(0));
    assert_eq!(find(&test, "OPTIONS", "/test/any"), Some(1));
    let parts = router(&[("GET", "/part1"), ("GET", "/part1/hardcoded"), ("GET", "/{param+}")], REST);
    assert_eq!(find(&parts, "GET", "/part1/random"), Some(2));
    assert_eq!(find(&parts, "GET", "/part1"), Some(0));
    let greedy = router(&[("GET", "/a/{proxy+}")], REST);
    assert_eq!(find(&greedy, "GET", "/a"), None);
    assert_eq!(find(&greedy, "GET", "/a/"), None);
}

#[test]
fn a_branch_without_a_pattern_for_the_path_does_not_decide() {
    let deep = router(&[("GET", "/a/{x}/c"), ("GET", "/{y}/b/d")], NATIVE);
    assert_eq!(find(&deep, "GET", "/a/b/d"), Some(1));
    assert_eq!(find(&deep, "GET", "/a/b/c"), Some(0));
}

#[test]
fn the_most_specific_path_decides_about_the_method() {
    use Method as M;
    let rules = [
        ("GET", "/admin"),
        ("ANY", "/{proxy+}"),
        ("PUT", "/admin"),
        ("GET", "/users/{id}"),
        ("POST", "/users/{rest+}"),
        ("DELETE", "/{any}/me"),
    ];
    let native = router(&rules, NATIVE);
    let method = |methods: &[Method]| Err(Miss::Method(methods.to_vec()));
    for (name, path, expected) in [
        ("GET", "/admin", Ok(0)),
        ("DELETE", "/admin", method(&[M::GET, M::PUT])),
        ("OPTIONS", "/admin", method(&[M::GET, M::PUT])),
        ("DELETE", "/other", Ok(1)),
        ("POST", "/users/7", method(&[M::GET])),
        ("GET", "/users/7", Ok(3)),
        ("DELETE", "/users/me", method(&[M::GET])),
        ("DELETE", "/groups/me", Ok(5)),
        ("GET", "/groups/me", method(&[M::DELETE])),
        ("GET", "/users/7/8", method(&[M::POST])),
        ("POST", "/users/7/8", Ok(4)),
    ] {
        assert_eq!(outcome(&native, name, path), expected, "{name} {path}");
    }
    // AWS matches pairs of path and method.
    for matching in [REST, HTTP] {
        let aws = router(&rules, matching);
        for (name, path, expected) in [
            ("DELETE", "/admin", Ok(1)),
            ("POST", "/users/7", Ok(4)),
            ("DELETE", "/users/me", Ok(5)),
            ("GET", "/groups/me", Ok(1)),
        ] {
            assert_eq!(outcome(&aws, name, path), expected, "{matching:?} {name} {path}");
        }
    }
}

#[test]
fn no_path_with_a_slash_at_its_end_reaches_a_broader_rule() {
    // The open rule has number 0.
    let cases: [(&[&str], &[&str]); 6] = [
        (&["/secret", "/secret/{proxy+}"], &["/secret/"]),
        (&["/secret"], &["/secret/"]),
        (&["/secret/{proxy+}"], &["/secret/"]),
        (&["/secret/{id}"], &["/secret/", "/secret/7/"]),
        (&["/secret/"], &["/secret"]),
        (&["/a/{id}/secret", "/a/{id}/"], &["/a/7/secret/", "/a/7", "/a/"]),
    ];
    for (rules, paths) in cases {
        let rules: Vec<(&str, &str)> =
            std::iter::once(("ANY", "/{proxy+}")).chain(rules.iter().map(|path| ("ANY", *path))).collect();
        for matching in [NATIVE, HTTP, LENIENT] {
            let router = router(&rules, matching);
            for path in paths {
                assert_ne!(outcome(&router, "GET", path), Ok(0), "{matching:?} {rules:?} {path}");
                if matching != LENIENT {
                    assert_eq!(outcome(&router, "GET", path), Err(Miss::Closed), "{matching:?} {rules:?} {path}");
                }
            }
            assert_eq!(outcome(&router, "GET", "/secrets/"), Ok(0), "{matching:?} {rules:?}");
        }
    }
    // To an AWS REST API `/secret/` is `/secret`.
    let rest = router(&[("ANY", "/{proxy+}"), ("ANY", "/secret"), ("ANY", "/secret/{proxy+}")], REST);
    assert_eq!(find(&rest, "GET", "/secret/"), Some(1));
    assert_eq!(find(&rest, "GET", "/secret/a/"), Some(2));
}

#[test]
fn a_slash_at_the_end_can_be_written_in_every_kind_of_pattern() {
    let rules = [
        ("GET", "/orders"),
        ("GET", "/orders/"),
        ("GET", "/orders/{id}"),
        ("GET", "/orders/{id}/"),
        ("GET", "/files/{rest+}"),
        ("GET", "/files/{rest+}/"),
        ("GET", "/files/"),
        ("GET", "/dirs/{rest+}/"),
        ("GET", "/one"),
        ("GET", "/two/"),
        ("GET", "/three/{rest+}"),
        ("GET", "/"),
    ];
    // Native, ignoring slashes, AwsRest.
    for (path, native, lenient, rest) in [
        ("/orders", Some(0), Some(0), Some(0)),
        ("/orders/", Some(1), Some(1), Some(1)),
        ("/orders/7", Some(2), Some(2), Some(2)),
        ("/orders/7/", Some(3), Some(3), Some(3)),
        ("/files/a", Some(4), Some(4), Some(4)),
        ("/files/a/b/", Some(5), Some(5), Some(5)),
        ("/files/", Some(6), Some(6), Some(6)),
        ("/files", None, Some(6), Some(6)),
        ("/dirs/a/", Some(7), Some(7), Some(7)),
        ("/dirs/a", None, Some(7), Some(7)),
        ("/dirs/", None, None, None),
        ("/one/", None, Some(8), Some(8)),
        ("/two", None, Some(9), Some(9)),
        ("/three/a/", Some(10), Some(10), Some(10)),
        ("/three/", None, None, None),
        ("/", Some(11), Some(11), Some(11)),
    ] {
        for (matching, expected) in [(NATIVE, native), (HTTP, native), (LENIENT, lenient), (REST, rest)] {
            assert_eq!(find(&router(&rules, matching), "GET", path), expected, "{matching:?} {path}");
        }
    }
}

#[test]
fn the_value_of_a_greedy_parameter_has_the_slash_except_in_aws_rest_apis() {
    // `requestContext.path` keeps it, `pathParameters.proxy` does not (recorded behavior of AWS REST APIs).
    for (matching, pattern, path, expected) in [
        (REST, "/{proxy+}", "/proxy-value/", "proxy-value"),
        (REST, "/{proxy+}", "/proxy-value//double-slash", "proxy-value//double-slash"),
        (REST, "/{proxy+}", "//proxy-value", "proxy-value"),
        (NATIVE, "/{proxy+}", "/a/b/", "a/b/"),
        (LENIENT, "/{proxy+}", "/a/b/", "a/b/"),
        (NATIVE, "/{proxy+}/", "/a/b/", "a/b"),
        (HTTP, "/x/{proxy+}", "/x/b/", "b/"),
    ] {
        let router = router(&[("GET", pattern)], matching);
        let input = RouteInput { method: &Method::GET, path, query: None, headers: &HeaderMap::new() };
        let found = router.find(&input).unwrap();
        assert_eq!(slice(path, found.captures[0]), expected, "{matching:?} {pattern} {path}");
    }
}

#[test]
fn repeated_slashes_reach_the_rule_of_the_path_with_single_ones() {
    let rules = [("ANY", "/{proxy+}"), ("ANY", "/secret"), ("ANY", "/secret/{id}/x")];
    for matching in [NATIVE, HTTP, REST] {
        let router = router(&rules, matching);
        for (path, expected) in [("//secret", Some(1)), ("/secret//7/x", Some(2)), ("/secret/7//x", Some(2))] {
            assert_eq!(find(&router, "GET", path), expected, "{matching:?} {path}");
        }
        assert_ne!(find(&router, "GET", "/secret//"), Some(0), "{matching:?}");
    }
}

/// A rule with conditions, each written as `h:name`, `h:name=value`, `q:name` or `q:name=value`.
fn conditional(path: &str, number: usize, conditions: &[&str]) -> Position {
    let mut all = Conditions::default();
    for text in conditions {
        let (kind, text) = text.split_once(':').unwrap();
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value.into())));
        let list = if kind == "h" { &mut all.headers } else { &mut all.query };
        list.push(FieldMatch { name: name.into(), value });
    }
    Position { conditions: (!conditions.is_empty()).then(|| Arc::new(all)), ..place(path, number) }
}

fn ask(router: &Router<usize>, target: &str, headers: &[(&'static str, &'static str)]) -> Result<usize, Miss> {
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let headers: HeaderMap = headers
        .iter()
        .map(|(name, value)| (name.parse::<http::HeaderName>().unwrap(), value.parse().unwrap()))
        .collect();
    router.find(&RouteInput { method: &Method::GET, path, query, headers: &headers }).map(|found| *found.rule)
}

#[test]
fn of_the_rules_of_a_path_the_one_with_the_most_conditions_that_are_met_wins() {
    let mut router = empty(NATIVE);
    let rules: [(&str, &[&str]); 6] = [
        ("ANY", &[]),
        ("GET", &["h:x-beta=1"]),
        ("GET", &["h:x-beta=1", "q:page"]),
        ("GET", &["q:page=2"]),
        ("POST", &["q:post"]),
        ("ANY", &["q:any", "q:page", "h:x-beta"]),
    ];
    for (at, (method, conditions)) in rules.iter().enumerate() {
        router.add(&conditional("/o/{id}", at, conditions), only(method), at);
    }
    for (target, headers, expected) in [
        ("/o/77", &[][..], Ok(0)),
        ("/o/77", &[("x-beta", "1")], Ok(1)),
        ("/o/77", &[("x-beta", "2")], Ok(0)),
        ("/o/77", &[("x-beta", "2"), ("x-beta", "1")], Ok(1)),
        ("/o/77?page", &[("x-beta", "1")], Ok(2)),
        ("/o/77?page=2", &[], Ok(3)),
        ("/o/77?p%61ge=%32", &[], Ok(3)),
        ("/o/77?page=3&page=2", &[], Ok(3)),
        ("/o/77?post", &[], Ok(0)),
        // A listed method has priority over any method, whatever the conditions.
        ("/o/77?any&page", &[("x-beta", "1")], Ok(2)),
        ("/o/77?any&page", &[("x-beta", "3")], Ok(5)),
    ] {
        assert_eq!(ask(&router, target, headers), expected, "{target} {headers:?}");
    }
}

#[test]
fn a_request_that_does_not_meet_the_conditions_of_its_path_reaches_no_broader_rule() {
    for matching in [NATIVE, HTTP, REST] {
        let mut router = router(&[("ANY", "/{proxy+}")], matching);
        router.add(&conditional("/admin", 1, &["h:x-internal"]), only("GET"), 1);
        router.add(&conditional("/admin/{id}", 2, &["q:a=1", "h:x-internal"]), only("GET"), 2);
        router.add(&conditional("/admin/{id}", 3, &["q:a=1"]), only("PUT"), 3);
        assert_eq!(ask(&router, "/admin", &[("x-internal", "")]), Ok(1), "{matching:?}");
        assert_eq!(ask(&router, "/admin", &[]), Err(Miss::Closed), "{matching:?}");
        assert_eq!(ask(&router, "/admin/7", &[("x-internal", "")]), Err(Miss::Closed), "{matching:?}");
        assert_eq!(ask(&router, "/admin/7?a=1", &[]), Err(Miss::Method(vec![Method::PUT])), "{matching:?}");
        assert_eq!(ask(&router, "/other", &[]), Ok(0), "{matching:?}");
    }
}

#[test]
fn a_version_selects_its_rules_before_the_path_does() {
    let mut router = empty(NATIVE);
    let header = |name: &str| VersionScheme::Header(name.to_owned());
    let query = || VersionScheme::Query("version".to_owned());
    for (at, place) in [
        place("/{proxy+}", 0),
        versioned(header("x-api-version"), "v1", "/admin", 1),
        versioned(header("x-api-version"), "v2", "/admin", 2),
        versioned(query(), "v3", "/{rest+}", 3),
        versioned(VersionScheme::MediaType, "v4", "/admin", 4),
        versioned(VersionScheme::Path, "v5", "/", 5),
        versioned(VersionScheme::Path, "v5", "/{id}", 6),
        versioned(header("a-version"), "v1", "/first", 7),
    ]
    .iter()
    .enumerate()
    {
        router.add(place, only("GET"), at);
    }
    for (target, headers, expected) in [
        ("/admin", &[][..], Ok(0)),
        ("/admin", &[("x-api-version", "v1")], Ok(1)),
        ("/admin", &[("x-api-version", "v2")], Ok(2)),
        // A version that no rule has is none.
        ("/admin", &[("x-api-version", "v9")], Ok(0)),
        ("/admin", &[("x-api-version", "v9"), ("x-api-version", "v2"), ("x-api-version", "v1")], Ok(2)),
        // The rules without a version do not serve requests for another version.
        ("/other", &[("x-api-version", "v1")], Err(Miss::Path)),
        ("/admin?version=v3", &[], Ok(3)),
        ("/admin?version=v3", &[("x-api-version", "v1")], Ok(1)),
        ("/admin", &[("accept", "text/html, application/json; version=\"v4\"")], Ok(4)),
        ("/v5", &[], Ok(5)),
        ("/v5/", &[], Ok(5)),
        ("/v5/a", &[], Ok(6)),
        ("/v5/a/", &[], Err(Miss::Closed)),
        // The first header by name.
        ("/first", &[("x-api-version", "v1"), ("a-version", "v1")], Ok(7)),
    ] {
        assert_eq!(ask(&router, target, headers), expected, "{target} {headers:?}");
    }
}

const PATHS: [&str; 13] = [
    "/",
    "/a",
    "/a/",
    "/b/7",
    "/b/{x}",
    "/b/{x}/",
    "/b/{x}/c",
    "/b/7/c",
    "/{y}/8",
    "/{proxy+}",
    "/b/{proxy+}",
    "/{p+}/",
    "/b",
];
const CONDITIONS: [&[&str]; 6] = [&[], &["q:a=1"], &["q:a"], &["h:x-a"], &["q:a=1", "h:x-a"], &["h:x-a=2", "q:b"]];

/// The rule with this number: its method and its position.
fn numbered(n: usize) -> (&'static str, Position) {
    let place = conditional(PATHS[n % PATHS.len()], n, CONDITIONS[n / 3 % CONDITIONS.len()]);
    let scheme = match n % 11 {
        0 => VersionScheme::Path,
        1 => VersionScheme::Header("x-v".into()),
        2 => VersionScheme::MediaType,
        3 => VersionScheme::Query("v".into()),
        _ => return (["ANY", "GET", "PUT", "GET"][n % 4], place),
    };
    let version = Some(Arc::new(ApiVersion { name: ["a", "b"][n % 2].into(), scheme }));
    (["ANY", "GET", "PUT", "GET"][n % 4], Position { version, ..place })
}

/// The rule by the definition: all rules are compared.
fn by_definition(rules: &[usize], path: &str, query: &[(&str, &str)], headers: &[(&str, &str)]) -> Option<usize> {
    let met = |condition: &&str| {
        let (kind, text) = condition.split_once(':').unwrap();
        let fields = if kind == "h" { headers } else { query };
        let (name, value) = text.split_once('=').map_or((text, None), |(name, value)| (name, Some(value)));
        fields.iter().any(|(known, found)| *known == name && value.is_none_or(|value| value == *found))
    };
    let mut here: Vec<usize> = rules.iter().copied().filter(|n| PATHS[n % PATHS.len()] == path).collect();
    here.retain(|n| numbered(*n).1.version.is_none());
    here.retain(|n| CONDITIONS[n / 3 % CONDITIONS.len()].iter().all(met));
    here.retain(|n| matches!(numbered(*n).0, "ANY" | "GET"));
    here.into_iter()
        .min_by_key(|n| (numbered(*n).0 == "ANY", usize::MAX - CONDITIONS[n / 3 % CONDITIONS.len()].len(), *n))
}

proptest! {
    #[test]
    fn a_changed_router_equals_a_newly_built_one(steps in prop::collection::vec((any::<bool>(), 0..150_usize), 0..60)) {
        for matching in [NATIVE, LENIENT, REST, HTTP] {
            let mut changed = empty(matching);
            let mut there = std::collections::BTreeSet::new();
            let mut before = changed.clone();
            for (add, n) in &steps {
                before = changed.clone();
                let (method, place) = numbered(*n);
                if *add && there.insert(*n) {
                    changed.add(&place, only(method), *n);
                } else if there.remove(n) {
                    changed.remove(&place);
                }
            }
            drop(before);
            let mut rebuilt = empty(matching);
            for n in &there {
                let (method, place) = numbered(*n);
                rebuilt.add(&place, only(method), *n);
            }
            let paths = ["/", "/a", "/a/", "/b", "/b/", "/b/7", "/b/7/", "/b/8", "/b/7/c", "/b/8/c", "/x/8", "/x/y/z/", "/a/b"];
            for path in paths {
                for (query, headers) in [
                    ("", &[][..]), ("a=1", &[]), ("a=1&b", &[("x-a", "1")]), ("v=a", &[("x-a", "2")]),
                    ("", &[("x-v", "b")]), ("a=1", &[("accept", "a/b;version=a")]),
                ] {
                    let target = format!("{path}?{query}");
                    prop_assert_eq!(ask(&changed, &target, headers), ask(&rebuilt, &target, headers), "{} {:?}", target, headers);
                }
            }
            for path in ["/b/7", "/a", "/a/"] {
                let rules: Vec<usize> = there.iter().copied().collect();
                // A rule with a version in the path can have the same path, and comes first.
                if rules.iter().any(|n| matches!(&numbered(*n).1.version, Some(version) if version.scheme == VersionScheme::Path)) {
                    continue;
                }
                let expected = by_definition(&rules, path, &[("a", "1"), ("b", "")], &[("x-a", "1")]);
                if let Some(expected) = expected {
                    prop_assert_eq!(ask(&changed, &format!("{path}?a=1&b"), &[("x-a", "1")]), Ok(expected), "{}", path);
                }
            }
            for n in there {
                changed.remove(&numbered(n).1);
            }
            prop_assert!(changed.root.is_empty() && changed.versions.is_none() && changed.conditions.is_empty());
        }
    }
}
