//! Matches a request to a rule. The version selects a tree over path segments; in it, the most specific pattern decides, then the
//! method, then conditions for headers and query parameters. A copy shares its branches with the original; only branches that
//! change are copied. Hosts and base paths are in `hosts`.

mod candidates;
mod children;
mod conditions;
mod versions;

use std::cell::OnceCell;
use std::sync::Arc;

use http::{HeaderMap, Method};
use sluice_wire::{ApiVersion, Behavior, PathTemplate, Segment, TrailingSlash, VersionScheme};
use smallvec::SmallVec;

use super::path;
use candidates::{Candidate, Candidates};
pub(crate) use candidates::{Methods, Tie};
use children::{Children, Stays};
pub(crate) use conditions::Conditions;
use conditions::{ConditionId, ConditionIds, ConditionTable};
use versions::Versions;

/// The position of a rule in the router.
#[derive(Clone, Debug)]
pub(crate) struct Position {
    pub(crate) version: Option<Arc<ApiVersion>>,
    pub(crate) template: PathTemplate,
    /// None: no conditions.
    pub(crate) conditions: Option<Arc<Conditions>>,
    pub(crate) tie: Tie,
}

impl Position {
    /// The first segment of the path, if it is the version.
    fn prefix(&self) -> Option<&str> {
        let version = self.version.as_ref()?;
        (version.scheme == VersionScheme::Path).then_some(version.name.as_str())
    }
}

/// How patterns that differ from the path by a slash at the end are treated, and what decides about the method.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Matching {
    /// A pattern also matches the path with or without a slash at its end, if no pattern has exactly this end.
    ignore_slash: bool,
    /// Paths that differ from a pattern by a slash or by an empty last segment do not match broader patterns.
    close: bool,
    /// A pattern without a rule for the method does not decide: the next one does, as in AWS.
    skip_methods: bool,
    /// The value of `{name+}` has no slash at its end, as in AWS REST APIs.
    trim_rest: bool,
}

impl Matching {
    pub(crate) fn new(behavior: Behavior, slash: Option<TrailingSlash>) -> Self {
        let ignore_slash = match slash {
            Some(slash) => slash == TrailingSlash::Ignore,
            None => behavior == Behavior::AwsRest,
        };
        Self {
            ignore_slash,
            // To an AWS REST API `/a/` is `/a`: `/a/{proxy+}` matches neither.
            close: behavior != Behavior::AwsRest,
            skip_methods: behavior != Behavior::Native,
            trim_rest: behavior == Behavior::AwsRest,
        }
    }
}

#[derive(Clone)]
struct PathNode<R> {
    fixed: Children<Arc<PathNode<R>>>,
    param: Option<Arc<PathNode<R>>>,
    here: Ends<R>,
    /// Patterns with a slash at the end.
    slash: Option<Box<Ends<R>>>,
}

/// Patterns that end at a node.
#[derive(Clone)]
struct Ends<R> {
    whole: Candidates<R>,
    /// With `{name+}` after the node.
    greedy: Candidates<R>,
}

impl<R> Default for PathNode<R> {
    fn default() -> Self {
        Self { fixed: Children::default(), param: None, here: Ends::default(), slash: None }
    }
}

impl<R> Default for Ends<R> {
    fn default() -> Self {
        Self { whole: Candidates::default(), greedy: Candidates::default() }
    }
}

impl<R> Ends<R> {
    fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.greedy.is_empty()
    }
}

impl<R> PathNode<R> {
    fn is_empty(&self) -> bool {
        self.fixed.is_empty() && self.param.is_none() && self.here.is_empty() && self.slash.is_none()
    }

    fn ends(&self, slash: bool) -> Option<&Ends<R>> {
        if slash { self.slash.as_deref() } else { Some(&self.here) }
    }

    fn ends_mut(&mut self, slash: bool) -> &mut Ends<R> {
        if slash { self.slash.get_or_insert_default() } else { &mut self.here }
    }
}

/// Rules by version, path, method, headers and query.
#[derive(Clone)]
pub(crate) struct Router<R> {
    root: Arc<PathNode<R>>,
    versions: Option<Arc<Versions<Arc<PathNode<R>>>>>,
    conditions: Arc<ConditionTable>,
    matching: Matching,
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

/// Why no rule matches.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Miss {
    /// No rule has the path.
    Path,
    /// The path belongs to rules that do not serve the request: it differs from theirs by its end, or it does not meet their
    /// conditions.
    Closed,
    /// The rules of the path have these methods.
    Method(Vec<Method>),
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
    /// Without slashes at its end.
    path: &'a str,
    /// Whether the path has a slash at its end.
    slash: bool,
    matching: Matching,
    table: &'a ConditionTable,
    /// The conditions that the request meets: found out once, when a pattern has conditions.
    met: OnceCell<ConditionIds>,
    taken: Captures,
}

/// The segment of the path after `start`: where it begins and ends. Repeated slashes count as one.
fn segment(path: &str, start: usize) -> Option<(usize, usize)> {
    let mut rest = path.as_bytes().get(start..)?;
    let mut start = start;
    while let [b'/', after @ ..] = rest {
        rest = after;
        start += 1;
    }
    Some((start, start + rest.iter().position(|byte| *byte == b'/').unwrap_or(rest.len())))
}

fn capture((start, end): (usize, usize)) -> Capture {
    let number = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
    (number(start), number(end))
}

impl<R: Clone> Router<R> {
    pub(crate) fn new(matching: Matching) -> Self {
        Self { root: Arc::default(), versions: None, conditions: Arc::default(), matching }
    }

    /// Adds a rule. Of rules with equal matches, the smaller tie wins.
    pub(crate) fn add(&mut self, place: &Position, methods: Methods, rule: R) {
        let ids = place.conditions.as_ref().map(|found| Arc::make_mut(&mut self.conditions).add(found));
        let ids = ids.unwrap_or_default();
        let candidate = Candidate { methods, tie: place.tie.clone(), rule };
        let tree = place.version.as_ref().and_then(|version| {
            if version.scheme == VersionScheme::Path {
                return None;
            }
            let versions = Arc::make_mut(self.versions.get_or_insert_default());
            versions.entry(&version.scheme, &version.name, Arc::default)
        });
        let mut node = Arc::make_mut(tree.unwrap_or(&mut self.root));
        if let Some(prefix) = place.prefix() {
            node = Arc::make_mut(node.fixed.entry(prefix, Arc::default));
        }
        let slash = place.template.ends_with_slash();
        for segment in place.template.segments() {
            match segment {
                Segment::Static(text) => node = Arc::make_mut(node.fixed.entry(text, Arc::default)),
                Segment::Param(_) => node = Arc::make_mut(node.param.get_or_insert_default()),
                Segment::Greedy(_) => return node.ends_mut(slash).greedy.insert(candidate, ids),
            }
        }
        if place.is_root_of_version() {
            node.ends_mut(true).whole.insert(candidate.clone(), ids.clone());
        }
        node.ends_mut(slash).whole.insert(candidate, ids);
    }

    /// Removes a rule and the nodes that become empty.
    pub(crate) fn remove(&mut self, place: &Position) {
        let ids = place.conditions.as_ref().map(|found| Arc::make_mut(&mut self.conditions).remove(found));
        let leaf = Leaf { place, ids: ids.unwrap_or_default() };
        let segments: Vec<&Segment> = place.template.segments().iter().collect();
        let cut = |node: &mut Arc<PathNode<R>>| prune(Arc::make_mut(node), &segments, &leaf);
        match (&place.version, place.prefix()) {
            (None, _) => drop(cut(&mut self.root)),
            (Some(_), Some(prefix)) => Arc::make_mut(&mut self.root).fixed.change(prefix, cut),
            (Some(version), None) => {
                let Some(versions) = &mut self.versions else { return };
                let trees = Arc::make_mut(versions);
                trees.change(&version.scheme, &version.name, cut);
                if trees.is_empty() {
                    self.versions = None;
                }
            }
        }
    }

    /// The rule for a request. Per segment, fixed text is more specific than a parameter, and a parameter more specific than
    /// the rest of the path. The most specific pattern of the path decides: no broader pattern takes requests that it
    /// rejects.
    pub(crate) fn find(&self, input: &RouteInput<'_>) -> Result<RouteMatch<'_, R>, Miss> {
        let path = input.path.trim_end_matches('/');
        let mut search = Search {
            input,
            path,
            slash: !path.is_empty() && path.len() < input.path.len(),
            matching: self.matching,
            table: &self.conditions,
            met: OnceCell::new(),
            taken: Captures::new(),
        };
        let version = self.versions.as_ref().and_then(|versions| versions.find(input.headers, input.query));
        let rule = walk(version.unwrap_or(&self.root), 1, &mut search).unwrap_or(Err(Miss::Path))?;
        Ok(RouteMatch { rule, captures: search.taken })
    }
}

impl Position {
    /// The rule is for the version's own path, as `/v1`, which is the root of its paths with and without a slash.
    fn is_root_of_version(&self) -> bool {
        self.prefix().is_some() && self.template.segments().is_empty()
    }
}

/// A rule to remove.
struct Leaf<'a> {
    place: &'a Position,
    ids: ConditionIds,
}

fn prune<R: Clone>(node: &mut PathNode<R>, segments: &[&Segment], leaf: &Leaf<'_>) -> Stays {
    match segments {
        [] | [Segment::Greedy(_), ..] => {
            let slash = leaf.place.template.ends_with_slash();
            let also = leaf.place.is_root_of_version();
            for slash in [slash].into_iter().chain(also.then_some(true)) {
                let ends = node.ends_mut(slash);
                let list = if segments.is_empty() { &mut ends.whole } else { &mut ends.greedy };
                list.remove(&leaf.place.tie, &leaf.ids);
            }
            node.slash.take_if(|ends| ends.is_empty());
        }
        [Segment::Static(text), rest @ ..] => {
            node.fixed.change(text, |child| prune(Arc::make_mut(child), rest, leaf));
        }
        [Segment::Param(_), rest @ ..] => {
            if node.param.as_mut().is_some_and(|child| prune(Arc::make_mut(child), rest, leaf) == Stays::No) {
                node.param = None;
            }
        }
    }
    if node.is_empty() { Stays::No } else { Stays::Yes }
}

/// The decision of the most specific pattern; none: no pattern matches the path.
type Decision<'r, R> = Option<Result<&'r R, Miss>>;

impl Search<'_> {
    fn met(&self) -> &[ConditionId] {
        self.met.get_or_init(|| self.table.met(self.input.headers, self.input.query))
    }

    /// Whether the rules of a pattern decide about the request.
    fn owns<R>(&self, list: &Candidates<R>) -> bool {
        if self.matching.skip_methods { list.has_method(self.input.method) } else { !list.is_empty() }
    }

    fn decide<'r, R>(&self, list: &'r Candidates<R>) -> Decision<'r, R> {
        if !self.owns(list) {
            return None;
        }
        if let Some(rule) = list.best(self.input.method, || self.met()) {
            return Some(Ok(rule));
        }
        let methods = list.methods(|| self.met());
        Some(Err(if methods.is_empty() { Miss::Closed } else { Miss::Method(methods) }))
    }

    /// Decides with the patterns that have exactly the path's end, or else, if slashes are ignored, with those that have the
    /// other end. `pick` selects the list.
    fn decide_at<'r, R>(
        &self,
        node: &'r PathNode<R>,
        pick: impl Fn(&'r Ends<R>) -> &'r Candidates<R>,
    ) -> Decision<'r, R> {
        if let Some(decision) = node.ends(self.slash).and_then(|ends| self.decide(pick(ends))) {
            return Some(decision);
        }
        let other = node.ends(!self.slash).map(pick)?;
        match self.matching {
            Matching { ignore_slash: true, .. } => self.decide(other),
            Matching { close: true, .. } if self.owns(other) => Some(Err(Miss::Closed)),
            _ => None,
        }
    }

    /// With the patterns that match the rest of the path: `{name+}/` matches the rest of a path with a slash at its end,
    /// `{name+}` any rest. Where the value of the parameter ends is returned as well.
    fn rest<'r, R>(&self, node: &'r PathNode<R>) -> Option<(Result<&'r R, Miss>, usize)> {
        let whole = if self.matching.trim_rest { self.path.len() } else { self.input.path.len() };
        let directory = node.slash.as_ref().filter(|_| self.slash);
        match directory.and_then(|ends| self.decide(&ends.greedy)) {
            Some(decision) => Some((decision, self.path.len())),
            None if self.slash => Some((self.decide(&node.here.greedy)?, whole)),
            None => Some((self.decide_at(node, |ends| &ends.greedy)?, whole)),
        }
    }

    /// At the end of the path.
    fn end<'r, R>(&self, node: &'r PathNode<R>) -> Decision<'r, R> {
        let decision = self.decide_at(node, |ends| &ends.whole);
        if decision.is_some() || !self.slash || !self.matching.close {
            return decision;
        }
        // The path is `/a/`: it belongs to `/a/{name+}` and `/a/{name}`, which do not match an empty segment.
        let owned = |node: &PathNode<R>, pick: fn(&Ends<R>) -> &Candidates<R>| {
            [false, true].into_iter().any(|slash| node.ends(slash).is_some_and(|ends| self.owns(pick(ends))))
        };
        let near = owned(node, |ends| &ends.greedy)
            || node.param.as_ref().is_some_and(|child| owned(child, |ends| &ends.whole));
        near.then_some(Err(Miss::Closed))
    }
}

fn walk<'r, R>(node: &'r PathNode<R>, start: usize, search: &mut Search<'_>) -> Decision<'r, R> {
    let path = search.path;
    let Some((start, end)) = segment(path, start) else { return search.end(node) };
    let text = path.get(start..end).unwrap_or_default();
    if !node.fixed.is_empty()
        && let Some(next) = node.fixed.get(path::comparable(text).as_ref())
        && let Some(decision) = walk(next, end + 1, search)
    {
        return Some(decision);
    }
    if let Some(next) = &node.param {
        search.taken.push(capture((start, end)));
        if let Some(decision) = walk(next, end + 1, search) {
            return Some(decision);
        }
        search.taken.pop();
    }
    if node.here.greedy.is_empty() && node.slash.is_none() {
        return None;
    }
    let (decision, end) = search.rest(node)?;
    search.taken.push(capture((start, end)));
    Some(decision)
}

/// The text of a capture.
pub(crate) fn slice(path: &str, (start, end): Capture) -> &str {
    path.get(start as usize..end as usize).unwrap_or_default()
}

#[cfg(test)]
mod tests;
