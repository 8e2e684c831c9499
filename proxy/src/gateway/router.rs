//! Matches a request to a rule: a tree over path segments, searched from the most specific pattern to the least specific. A
//! copy shares its branches with the original; only branches that change are copied. Hosts and base paths are in `hosts`.

mod children;

use std::sync::Arc;

use http::{HeaderMap, Method};
use sluice_wire::{FieldMatch, PartName, PathTemplate, Segment};
use smallvec::SmallVec;

use super::path;
use children::{Children, Stays};

/// The conditions of a rule in addition to its path.
#[derive(Clone, Debug, Default)]
pub(crate) struct Match {
    pub(crate) methods: Methods,
    pub(crate) headers: Vec<FieldMatch>,
    pub(crate) query: Vec<FieldMatch>,
    /// The parameter `version` of `Accept`.
    pub(crate) media_version: Option<String>,
}

/// The methods of a rule.
#[derive(Clone, Debug, Default)]
pub(crate) enum Methods {
    #[default]
    Any,
    One(Method),
    Some(Arc<[Method]>),
}

impl Methods {
    fn contains(&self, method: &Method) -> bool {
        match self {
            Self::Any => true,
            Self::One(one) => one == method,
            Self::Some(list) => list.contains(method),
        }
    }

    fn named(&self) -> &[Method] {
        match self {
            Self::Any => &[],
            Self::One(one) => std::slice::from_ref(one),
            Self::Some(list) => list,
        }
    }
}

impl From<Vec<Method>> for Methods {
    /// None: any.
    fn from(mut methods: Vec<Method>) -> Self {
        match (methods.len(), methods.pop()) {
            (1, Some(one)) => Self::One(one),
            (_, Some(last)) => Self::Some(methods.into_iter().chain([last]).collect()),
            (_, None) => Self::Any,
        }
    }
}

/// Order of rules with equal matches: the route's name, then the rule's number in it. It also identifies the rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tie {
    pub(crate) route: PartName,
    pub(crate) number: usize,
}

/// The position of a rule in the tree.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    /// A first segment with the version.
    pub(crate) prefix: Option<Box<str>>,
    pub(crate) template: PathTemplate,
    pub(crate) tie: Tie,
}

#[derive(Clone)]
struct Candidate<R> {
    methods: Methods,
    further: Option<Arc<Match>>,
    tie: Tie,
    /// The names of parameters belong to the rule, not to the tree, because templates can name them differently.
    rule: R,
}

#[derive(Clone)]
struct PathNode<R> {
    fixed: Children<Arc<PathNode<R>>>,
    param: Option<Arc<PathNode<R>>>,
    ends: Vec<Candidate<R>>,
    greedy: Vec<Candidate<R>>,
}

impl<R> Default for PathNode<R> {
    fn default() -> Self {
        Self { fixed: Children::default(), param: None, ends: Vec::new(), greedy: Vec::new() }
    }
}

/// Rules by path, method, headers and query.
#[derive(Clone)]
pub(crate) struct Router<R> {
    root: Arc<PathNode<R>>,
    /// Whether a slash at the end is ignored, as in AWS REST APIs.
    ignore_last_slash: bool,
}

/// The range of the canonical path that a parameter matched.
pub(crate) type Capture = (u32, u32);

/// The ranges of all parameters of a template, in order.
pub(crate) type Captures = SmallVec<[Capture; 4]>;

/// The rule that matches, and the captured parts of the path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RouteMatch<'a, R> {
    pub(crate) rule: &'a R,
    pub(crate) captures: Captures,
}

/// The fields of a request that the router uses.
pub(crate) struct RouteInput<'a> {
    pub(crate) method: &'a Method,
    /// Canonical.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

struct Search<'a> {
    input: &'a RouteInput<'a>,
    /// The path as it is matched.
    path: &'a str,
    taken: Captures,
}

/// A segment of the path: where it begins and ends.
fn segment(path: &str, start: usize) -> Option<(usize, usize)> {
    let rest = path.as_bytes().get(start..)?;
    Some((start, start + rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())))
}

fn capture((start, end): (usize, usize)) -> Capture {
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    (number(start), number(end))
}

impl<R: Clone> Router<R> {
    pub(crate) fn new(ignore_last_slash: bool) -> Self {
        Self { root: Arc::default(), ignore_last_slash }
    }

    /// Adds a rule. Of rules with equal matches, the smaller tie wins.
    pub(crate) fn add(&mut self, place: &Position, test: Match, rule: R) {
        let Match { methods, headers, query, media_version } = test;
        let further = !headers.is_empty() || !query.is_empty() || media_version.is_some();
        let further = further.then(|| Arc::new(Match { methods: Methods::Any, headers, query, media_version }));
        let candidate = Candidate { methods, further, tie: place.tie.clone(), rule };
        let mut node = Arc::make_mut(&mut self.root);
        if let Some(prefix) = &place.prefix {
            node = Arc::make_mut(node.fixed.entry(prefix, Arc::default));
        }
        for segment in place.template.segments() {
            match segment {
                Segment::Static(text) => node = Arc::make_mut(node.fixed.entry(text, Arc::default)),
                Segment::Param(_) => node = Arc::make_mut(node.param.get_or_insert_default()),
                Segment::Greedy(_) => {
                    insert(&mut node.greedy, candidate);
                    return;
                }
            }
        }
        insert(&mut node.ends, candidate);
    }

    /// Removes a rule and the nodes that become empty.
    pub(crate) fn remove(&mut self, place: &Position) {
        let segments: Vec<&Segment> = place.template.segments().iter().collect();
        let root = Arc::make_mut(&mut self.root);
        match &place.prefix {
            Some(prefix) => root.fixed.change(prefix, |node| prune(Arc::make_mut(node), &segments, &place.tie)),
            None => drop(prune(root, &segments, &place.tie)),
        }
    }

    /// The best rule. Per segment, fixed text has priority over a parameter, and a parameter over the rest of the path. If
    /// the best pattern has no rule for the method, the next one is tried.
    pub(crate) fn find(&self, input: &RouteInput<'_>) -> Option<RouteMatch<'_, R>> {
        let mut search = Search { input, path: self.matched(input.path), taken: Captures::new() };
        let rule = walk(&self.root, 1, &mut search)?;
        Some(RouteMatch { rule, captures: search.taken })
    }

    /// The methods of all rules for the path, for the `Allow` header of a 405. Empty: no rule matches the path.
    pub(crate) fn methods(&self, input: &RouteInput<'_>) -> Vec<Method> {
        let mut out: Vec<Method> = Vec::new();
        collect(&self.root, 1, self.matched(input.path), input, &mut out);
        out.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        out.dedup();
        out
    }

    /// The path in the form that is matched. It is empty if there are no segments.
    fn matched<'a>(&self, path: &'a str) -> &'a str {
        let path = if self.ignore_last_slash { path.strip_suffix('/').unwrap_or(path) } else { path };
        if path == "/" { "" } else { path }
    }
}

fn prune<R: Clone>(node: &mut PathNode<R>, segments: &[&Segment], tie: &Tie) -> Stays {
    match segments {
        [] => node.ends.retain(|candidate| candidate.tie != *tie),
        [Segment::Greedy(_), ..] => node.greedy.retain(|candidate| candidate.tie != *tie),
        [Segment::Static(text), rest @ ..] => {
            node.fixed.change(text, |child| prune(Arc::make_mut(child), rest, tie));
        }
        [Segment::Param(_), rest @ ..] => {
            if node.param.as_mut().is_some_and(|child| prune(Arc::make_mut(child), rest, tie) == Stays::No) {
                node.param = None;
            }
        }
    }
    let empty = node.fixed.is_empty() && node.param.is_none() && node.ends.is_empty() && node.greedy.is_empty();
    if empty { Stays::No } else { Stays::Yes }
}

fn walk<'r, R>(node: &'r PathNode<R>, start: usize, search: &mut Search<'_>) -> Option<&'r R> {
    let path = search.path;
    let Some((start, end)) = segment(path, start) else { return best(&node.ends, search.input) };
    let text = path.get(start..end).unwrap_or_default();
    if !node.fixed.is_empty()
        && let Some(next) = node.fixed.get(path::comparable(text).as_ref())
        && let Some(rule) = walk(next, end + 1, search)
    {
        return Some(rule);
    }
    if let Some(next) = &node.param
        && !text.is_empty()
    {
        search.taken.push(capture((start, end)));
        if let Some(rule) = walk(next, end + 1, search) {
            return Some(rule);
        }
        search.taken.pop();
    }
    // The rest must not be empty: `/a/{proxy+}` matches neither `/a` nor `/a/`.
    if !node.greedy.is_empty() && start < path.len() {
        let rule = best(&node.greedy, search.input)?;
        search.taken.push(capture((start, path.len())));
        return Some(rule);
    }
    None
}

fn collect<R>(node: &PathNode<R>, start: usize, path: &str, input: &RouteInput<'_>, out: &mut Vec<Method>) {
    let mut add = |list: &[Candidate<R>]| {
        out.extend(list.iter().filter(|c| conditions_match(c, input)).flat_map(|c| c.methods.named().iter().cloned()));
    };
    let Some((start, end)) = segment(path, start) else {
        add(&node.ends);
        return;
    };
    let text = path.get(start..end).unwrap_or_default();
    if start < path.len() {
        add(&node.greedy);
    }
    if let Some(next) = node.fixed.get(path::comparable(text).as_ref()) {
        collect(next, end + 1, path, input, out);
    }
    if let Some(next) = &node.param
        && !text.is_empty()
    {
        collect(next, end + 1, path, input, out);
    }
}

/// The text of a capture.
pub(crate) fn slice(path: &str, (start, end): Capture) -> &str {
    path.get(start as usize..end as usize).unwrap_or_default()
}

/// Inserts a candidate in matching order: named methods before any method, then more conditions first.
fn insert<R>(list: &mut Vec<Candidate<R>>, candidate: Candidate<R>) {
    fn rank<R>(candidate: &Candidate<R>) -> (bool, usize, &Tie) {
        let further = candidate.further.as_ref();
        let further = further.map_or(0, |f| f.headers.len() + f.query.len() + usize::from(f.media_version.is_some()));
        (matches!(candidate.methods, Methods::Any), usize::MAX - further, &candidate.tie)
    }
    let at = list.partition_point(|other| rank(other) <= rank(&candidate));
    list.insert(at, candidate);
}

fn best<'r, R>(list: &'r [Candidate<R>], input: &RouteInput<'_>) -> Option<&'r R> {
    list.iter().find(|c| c.methods.contains(input.method) && conditions_match(c, input)).map(|c| &c.rule)
}

fn conditions_match<R>(candidate: &Candidate<R>, input: &RouteInput<'_>) -> bool {
    let Some(test) = &candidate.further else { return true };
    let header = |expected: &FieldMatch| {
        let mut values = input.headers.get_all(expected.name.as_str()).iter();
        match &expected.value {
            None => values.next().is_some(),
            Some(text) => values.any(|value| value.as_bytes() == text.as_bytes()),
        }
    };
    let query = |expected: &FieldMatch| {
        path::query_pairs(input.query.unwrap_or_default()).any(|(name, value)| {
            name == expected.name && expected.value.as_ref().is_none_or(|text| value == text.as_str())
        })
    };
    let media = |expected: &String| media_versions(input.headers).any(|version| version == expected);
    test.headers.iter().all(header) && test.query.iter().all(query) && test.media_version.iter().all(media)
}

/// Values of the parameter `version` of `Accept`, as in `application/json;version=v1`.
fn media_versions(headers: &HeaderMap) -> impl Iterator<Item = &str> {
    let values = headers.get_all(http::header::ACCEPT).iter().filter_map(|value| value.to_str().ok());
    values.flat_map(|value| value.split([',', ';'])).filter_map(|parameter| {
        let (name, value) = parameter.trim().split_once('=')?;
        name.trim().eq_ignore_ascii_case("version").then(|| value.trim().trim_matches('"'))
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sluice_wire::PartKind;

    use super::*;

    fn place(prefix: Option<&str>, path: &str, number: usize) -> Position {
        let tie = Tie { route: PartName::new(PartKind::Route, "shop/r"), number };
        Position { prefix: prefix.map(Into::into), template: path.parse().unwrap(), tie }
    }

    fn only(method: &str) -> Match {
        let methods = if method == "ANY" { vec![] } else { vec![method.parse().unwrap()] };
        Match { methods: methods.into(), ..Match::default() }
    }

    fn router(rules: &[(&str, &str)], ignore_last_slash: bool) -> Router<usize> {
        let mut router = Router::new(ignore_last_slash);
        for (at, (method, path)) in rules.iter().enumerate() {
            router.add(&place(None, path, at), only(method), at);
        }
        router
    }

    fn find(router: &Router<usize>, method: &str, path: &str) -> Option<usize> {
        let headers = HeaderMap::new();
        let method = method.parse().unwrap();
        router.find(&RouteInput { method: &method, path, query: None, headers: &headers }).map(|found| *found.rule)
    }

    // The examples of AWS's documentation and of its recorded behavior (REST matching algorithm, HTTP API routes).
    #[test]
    fn specific_patterns_have_priority_and_methods_backtrack() {
        let pets = router(
            &[("GET", "/pets/dog/1"), ("GET", "/pets/dog/{id}"), ("GET", "/pets/{proxy+}"), ("ANY", "/{proxy+}")],
            false,
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
        let test = router(&[("POST", "/test"), ("ANY", "/test/any"), ("OPTIONS", "/{proxy+}")], true);
        assert_eq!(find(&test, "OPTIONS", "/test"), Some(2));
        assert_eq!(find(&test, "POST", "/test"), Some(0));
        assert_eq!(find(&test, "POST", "/test/"), Some(0));
        assert_eq!(find(&test, "OPTIONS", "/test/any"), Some(1));
        let parts = router(&[("GET", "/part1"), ("GET", "/part1/hardcoded"), ("GET", "/{param+}")], true);
        assert_eq!(find(&parts, "GET", "/part1/random"), Some(2));
        assert_eq!(find(&parts, "GET", "/part1"), Some(0));
        let deep = router(&[("GET", "/a/{x}/c"), ("GET", "/{y}/b/d")], false);
        assert_eq!(find(&deep, "GET", "/a/b/d"), Some(1));
        let greedy = router(&[("GET", "/a/{proxy+}")], true);
        assert_eq!(find(&greedy, "GET", "/a"), None);
        assert_eq!(find(&greedy, "GET", "/a/"), None);
    }

    #[test]
    fn a_slash_at_the_end_is_significant_unless_it_is_ignored() {
        assert_eq!(find(&router(&[("GET", "/a")], false), "GET", "/a/"), None);
        assert_eq!(find(&router(&[("GET", "/a")], true), "GET", "/a/"), Some(0));
        // `requestContext.path` keeps it, `pathParameters.proxy` does not (recorded behavior of AWS REST APIs).
        let router = router(&[("GET", "/{proxy+}")], true);
        let input = RouteInput { method: &Method::GET, path: "/proxy-value/", query: None, headers: &HeaderMap::new() };
        assert_eq!(slice(input.path, router.find(&input).unwrap().captures[0]), "proxy-value");
    }

    #[test]
    fn rules_with_more_conditions_have_priority_and_captures_are_ranges() {
        let mut router = Router::new(false);
        router.add(&place(None, "/o/{id}", 0), Match::default(), 0);
        let beta = FieldMatch { name: "x-beta".into(), value: Some("1".into()) };
        router.add(&place(None, "/o/{key}", 1), Match { headers: vec![beta], ..Match::default() }, 1);
        let page = FieldMatch { name: "page".into(), value: None };
        router.add(&place(Some("v1"), "/o", 2), Match { query: vec![page], ..Match::default() }, 2);
        let mut headers = HeaderMap::new();
        let method = Method::GET;
        let input = RouteInput { method: &method, path: "/o/77", query: None, headers: &headers };
        assert_eq!(router.find(&input), Some(RouteMatch { rule: &0, captures: Captures::from_slice(&[(3, 5)]) }));
        headers.insert("x-beta", "1".parse().unwrap());
        let input = RouteInput { method: &method, path: "/o/77", query: None, headers: &headers };
        assert_eq!(router.find(&input).unwrap().rule, &1);
        let input = RouteInput { method: &method, path: "/v1/o", query: Some("page=2"), headers: &headers };
        assert_eq!(router.find(&input).unwrap().rule, &2);
        assert_eq!(router.find(&RouteInput { query: None, ..input }), None);
    }

    #[test]
    fn the_methods_of_a_path_are_known() {
        let router = router(&[("GET", "/a"), ("PUT", "/{x}"), ("POST", "/b")], false);
        let headers = HeaderMap::new();
        let input = RouteInput { method: &Method::DELETE, path: "/a", query: None, headers: &headers };
        assert_eq!(router.methods(&input), vec![Method::GET, Method::PUT]);
    }

    const PATHS: [&str; 9] = ["/", "/a", "/b/7", "/b/{x}", "/b/{x}/c", "/b/7/c", "/{y}/8", "/{proxy+}", "/b/{proxy+}"];

    proptest! {
        #[test]
        fn a_changed_router_equals_a_newly_built_one(steps in prop::collection::vec((any::<bool>(), 0..40_usize), 0..80)) {
            let rule = |n: usize| (["ANY", "GET", "PUT", "GET"][n % 4], place(None, PATHS[n % PATHS.len()], n));
            let mut changed: Router<usize> = Router::new(false);
            let mut there = std::collections::BTreeSet::new();
            let mut before = changed.clone();
            for (add, n) in steps {
                before = changed.clone();
                let (method, place) = rule(n);
                if add && there.insert(n) {
                    changed.add(&place, only(method), n);
                } else if there.remove(&n) {
                    changed.remove(&place);
                }
            }
            drop(before);
            let mut rebuilt: Router<usize> = Router::new(false);
            for n in &there {
                let (method, place) = rule(*n);
                rebuilt.add(&place, only(method), *n);
            }
            for path in ["/", "/a", "/a/", "/b", "/b/7", "/b/8", "/b/7/c", "/b/8/c", "/x/8", "/x/y/z", "/b/1/2"] {
                for method in ["GET", "PUT", "DELETE"] {
                    prop_assert_eq!(find(&changed, method, path), find(&rebuilt, method, path), "{} {}", method, path);
                }
            }
            for n in there {
                changed.remove(&rule(n).1);
            }
            let root = &changed.root;
            prop_assert!(root.fixed.is_empty() && root.param.is_none() && root.ends.is_empty() && root.greedy.is_empty());
        }
    }
}
