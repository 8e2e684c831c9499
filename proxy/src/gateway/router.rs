//! Which rule answers a request: a tree over path segments, searched from the most specific pattern to the least.
//! Hosts and base paths are in the host table; what a rule does is not known here.

use std::collections::HashMap;

use http::{HeaderMap, Method};
use sluice_wire::{FieldMatch, PathTemplate, Segment};

use super::path;

/// What a rule matches, beside its path.
#[derive(Debug)]
pub(crate) struct Match {
    /// None: any.
    pub(crate) methods: Vec<Method>,
    pub(crate) headers: Vec<FieldMatch>,
    pub(crate) query: Vec<FieldMatch>,
    /// The parameter `version` of `Accept`.
    pub(crate) media_version: Option<String>,
}

#[derive(Debug)]
struct Candidate {
    test: Match,
    /// Templates may name their parameters differently: names belong to the rule, not to the tree.
    rule: usize,
}

#[derive(Debug, Default)]
struct Node {
    fixed: HashMap<Box<str>, usize>,
    param: Option<usize>,
    ends: Vec<Candidate>,
    greedy: Vec<Candidate>,
}

/// Rules by path, method and further fields. Rules are numbers: the caller keeps what they mean.
#[derive(Debug)]
pub(crate) struct Router {
    nodes: Vec<Node>,
    /// Whether a slash at the end counts (AWS REST APIs ignore it).
    ignore_last_slash: bool,
}

/// A range of the canonical path that a parameter took.
pub(crate) type Capture = (u32, u32);

/// What matched.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub(crate) rule: usize,
    /// In the order of the template's parameters.
    pub(crate) captures: Vec<Capture>,
}

/// The request as the router sees it.
pub(crate) struct View<'a> {
    pub(crate) method: &'a Method,
    /// Canonical.
    pub(crate) path: &'a str,
    pub(crate) query: Option<&'a str>,
    pub(crate) headers: &'a HeaderMap,
}

struct Search<'a> {
    view: &'a View<'a>,
    segments: Vec<Capture>,
    taken: Vec<Capture>,
}

impl Router {
    pub(crate) fn new(ignore_last_slash: bool) -> Self {
        Self { nodes: vec![Node::default()], ignore_last_slash }
    }

    /// Adds a rule. Among equals the one added first wins.
    pub(crate) fn add(&mut self, prefix: Option<&str>, template: &PathTemplate, test: Match, rule: usize) {
        let mut at = 0;
        if let Some(prefix) = prefix {
            at = self.fixed(at, prefix);
        }
        let candidate = Candidate { test, rule };
        for segment in template.segments() {
            match segment {
                Segment::Static(text) => at = self.fixed(at, text),
                Segment::Param(_) => {
                    at = match self.nodes[at].param {
                        Some(next) => next,
                        None => {
                            let next = self.push();
                            self.nodes[at].param = Some(next);
                            next
                        }
                    };
                }
                Segment::Greedy(_) => {
                    insert(&mut self.nodes[at].greedy, candidate);
                    return;
                }
            }
        }
        insert(&mut self.nodes[at].ends, candidate);
    }

    fn push(&mut self) -> usize {
        self.nodes.push(Node::default());
        self.nodes.len() - 1
    }

    fn fixed(&mut self, at: usize, text: &str) -> usize {
        if let Some(next) = self.nodes[at].fixed.get(text) {
            return *next;
        }
        let next = self.push();
        self.nodes[at].fixed.insert(text.into(), next);
        next
    }

    /// The best rule. Per segment a fixed text goes before a parameter, a parameter before the rest of the path; a
    /// pattern without a rule for the method gives way to the next one.
    pub(crate) fn find(&self, view: &View<'_>) -> Option<Found> {
        let mut search = Search { view, segments: self.segments(view.path), taken: Vec::new() };
        self.walk(0, 0, &mut search).map(|rule| Found { rule, captures: search.taken })
    }

    /// Methods that some rule has for the path; empty: no rule has the path. For the `Allow` of a 405.
    pub(crate) fn methods(&self, view: &View<'_>) -> Vec<Method> {
        let segments = self.segments(view.path);
        let mut out: Vec<Method> = Vec::new();
        self.collect(0, 0, &segments, view, &mut out);
        out.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        out.dedup();
        out
    }

    fn segments(&self, path: &str) -> Vec<Capture> {
        let path = if self.ignore_last_slash { path.strip_suffix('/').unwrap_or(path) } else { path };
        let mut out = Vec::with_capacity(8);
        if path.len() <= 1 {
            return out;
        }
        let mut start = 1_u32;
        for (at, byte) in (0_u32..).zip(path.bytes()).skip(1) {
            if byte == b'/' {
                out.push((start, at));
                start = at + 1;
            }
        }
        out.push((start, u32::try_from(path.len()).unwrap_or(u32::MAX)));
        out
    }

    fn walk(&self, node: usize, depth: usize, search: &mut Search<'_>) -> Option<usize> {
        let node = &self.nodes[node];
        let Some(&range) = search.segments.get(depth) else {
            return best(&node.ends, search.view);
        };
        let text = slice(search.view.path, range);
        if !node.fixed.is_empty()
            && let Some(&next) = node.fixed.get(path::comparable(text).as_ref())
            && let Some(rule) = self.walk(next, depth + 1, search)
        {
            return Some(rule);
        }
        if let Some(next) = node.param
            && !text.is_empty()
        {
            search.taken.push(range);
            if let Some(rule) = self.walk(next, depth + 1, search) {
                return Some(rule);
            }
            search.taken.pop();
        }
        // The rest must not be empty: `/a/{proxy+}` has neither `/a` nor `/a/`.
        let end = u32::try_from(search.view.path.len()).unwrap_or(u32::MAX);
        if !node.greedy.is_empty() && range.0 < end {
            let rule = best(&node.greedy, search.view)?;
            search.taken.push((range.0, end));
            return Some(rule);
        }
        None
    }

    fn collect(&self, node: usize, depth: usize, segments: &[Capture], view: &View<'_>, out: &mut Vec<Method>) {
        let node = &self.nodes[node];
        let mut add = |list: &[Candidate]| {
            out.extend(list.iter().filter(|c| fields_hold(&c.test, view)).flat_map(|c| c.test.methods.iter().cloned()));
        };
        let Some(&range) = segments.get(depth) else {
            add(&node.ends);
            return;
        };
        let text = slice(view.path, range);
        if !text.is_empty() {
            add(&node.greedy);
        }
        if let Some(&next) = node.fixed.get(path::comparable(text).as_ref()) {
            self.collect(next, depth + 1, segments, view, out);
        }
        if let Some(next) = node.param
            && !text.is_empty()
        {
            self.collect(next, depth + 1, segments, view, out);
        }
    }
}

/// The part of `path` that a capture names.
pub(crate) fn slice(path: &str, (start, end): Capture) -> &str {
    path.get(start as usize..end as usize).unwrap_or_default()
}

/// Keeps candidates in the order in which they are tried: named methods before any, more further matches first.
fn insert(list: &mut Vec<Candidate>, candidate: Candidate) {
    let rank = |c: &Candidate| {
        (
            c.test.methods.is_empty(),
            usize::MAX - c.test.headers.len() - c.test.query.len() - usize::from(c.test.media_version.is_some()),
        )
    };
    let at = list.partition_point(|other| rank(other) <= rank(&candidate));
    list.insert(at, candidate);
}

fn best(list: &[Candidate], view: &View<'_>) -> Option<usize> {
    let method = |test: &Match| test.methods.is_empty() || test.methods.contains(view.method);
    list.iter().find(|c| method(&c.test) && fields_hold(&c.test, view)).map(|c| c.rule)
}

fn fields_hold(test: &Match, view: &View<'_>) -> bool {
    let header = |wanted: &FieldMatch| {
        let mut values = view.headers.get_all(wanted.name.as_str()).iter();
        match &wanted.value {
            None => values.next().is_some(),
            Some(text) => values.any(|value| value.as_bytes() == text.as_bytes()),
        }
    };
    let query = |wanted: &FieldMatch| {
        path::query_pairs(view.query.unwrap_or_default())
            .any(|(name, value)| name == wanted.name && wanted.value.as_ref().is_none_or(|text| value == text.as_str()))
    };
    let media = |wanted: &String| media_versions(view.headers).any(|version| version == wanted);
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
    use super::*;

    fn router(rules: &[(&str, &str)], ignore_last_slash: bool) -> Router {
        let mut router = Router::new(ignore_last_slash);
        for (at, (method, path)) in rules.iter().enumerate() {
            let methods = if *method == "ANY" { vec![] } else { vec![method.parse().unwrap()] };
            let test = Match { methods, headers: vec![], query: vec![], media_version: None };
            router.add(None, &path.parse().unwrap(), test, at);
        }
        router
    }

    fn find(router: &Router, method: &str, path: &str) -> Option<usize> {
        let headers = HeaderMap::new();
        let method = method.parse().unwrap();
        router.find(&View { method: &method, path, query: None, headers: &headers }).map(|found| found.rule)
    }

    // The worked examples of AWS's documents and of its recorded behaviour (REST matching algorithm, HTTP API routes).
    #[test]
    fn specific_patterns_go_first_and_methods_backtrack() {
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
        for (method, path, wanted) in rows {
            assert_eq!(find(&pets, method, path), wanted, "{method} {path}");
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
    fn a_slash_at_the_end_counts_unless_it_is_ignored() {
        assert_eq!(find(&router(&[("GET", "/a")], false), "GET", "/a/"), None);
        assert_eq!(find(&router(&[("GET", "/a")], true), "GET", "/a/"), Some(0));
    }

    #[test]
    fn further_matches_go_before_none_and_captures_are_ranges() {
        let mut router = Router::new(false);
        let plain = Match { methods: vec![], headers: vec![], query: vec![], media_version: None };
        router.add(None, &"/o/{id}".parse().unwrap(), plain, 0);
        let beta = FieldMatch { name: "x-beta".into(), value: Some("1".into()) };
        router.add(
            None,
            &"/o/{key}".parse().unwrap(),
            Match { methods: vec![], headers: vec![beta], query: vec![], media_version: None },
            1,
        );
        let page = FieldMatch { name: "page".into(), value: None };
        router.add(
            Some("v1"),
            &"/o".parse().unwrap(),
            Match { methods: vec![], headers: vec![], query: vec![page], media_version: None },
            2,
        );
        let mut headers = HeaderMap::new();
        let method = Method::GET;
        let view = View { method: &method, path: "/o/77", query: None, headers: &headers };
        assert_eq!(router.find(&view), Some(Found { rule: 0, captures: vec![(3, 5)] }));
        headers.insert("x-beta", "1".parse().unwrap());
        let view = View { method: &method, path: "/o/77", query: None, headers: &headers };
        assert_eq!(router.find(&view).unwrap().rule, 1);
        let view = View { method: &method, path: "/v1/o", query: Some("page=2"), headers: &headers };
        assert_eq!(router.find(&view).unwrap().rule, 2);
        assert_eq!(router.find(&View { query: None, ..view }), None);
    }

    #[test]
    fn the_methods_of_a_path_are_known() {
        let router = router(&[("GET", "/a"), ("PUT", "/{x}"), ("POST", "/b")], false);
        let headers = HeaderMap::new();
        let view = View { method: &Method::DELETE, path: "/a", query: None, headers: &headers };
        assert_eq!(router.methods(&view), vec![Method::GET, Method::PUT]);
    }
}
