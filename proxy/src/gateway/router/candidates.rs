//! The rules of one path pattern. Which of them matches is decided by method, then by conditions. Rules with conditions are
//! found by one of their conditions, so that a request looks at rules of which it meets a condition, and not at all rules.

use std::cmp::Reverse;
use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::FixedState;
use http::Method;
use sluice_wire::PartName;
use smallvec::SmallVec;

use super::conditions::{ConditionId, ConditionIds};

/// Order of rules with equal matches: the route's name, then the rule's number in it. It also identifies the rule.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Tie {
    pub(crate) route: PartName,
    pub(crate) number: usize,
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

/// One rule.
#[derive(Clone)]
pub(super) struct Candidate<R> {
    pub(super) methods: Methods,
    pub(super) tie: Tie,
    /// The names of parameters belong to the rule, not to the tree, because templates can name them differently.
    pub(super) rule: R,
}

/// A rule with conditions.
#[derive(Clone)]
struct Conditional<R> {
    conditions: ConditionIds,
    candidate: Candidate<R>,
}

/// The order of matching: named methods before any method, then more conditions first.
type Rank<'a> = (bool, Reverse<usize>, &'a Tie);

impl<R> Candidate<R> {
    fn rank(&self, conditions: usize) -> Rank<'_> {
        (matches!(self.methods, Methods::Any), Reverse(conditions), &self.tie)
    }
}

impl<R> Conditional<R> {
    fn rank(&self) -> Rank<'_> {
        self.candidate.rank(self.conditions.len())
    }

    fn met(&self, met: &[ConditionId]) -> bool {
        self.conditions.iter().all(|id| met.binary_search(id).is_ok())
    }
}

/// Rules with conditions.
#[derive(Clone)]
struct ByCondition<R> {
    /// Each rule is listed under one of its conditions; the lists are in matching order.
    lists: HashMap<ConditionId, Vec<Conditional<R>>, FixedState>,
    /// How many rules name each method; none: any method.
    methods: SmallVec<[(Option<Method>, usize); 4]>,
}

/// All rules of one pattern.
#[derive(Clone)]
pub(super) struct Candidates<R> {
    /// Rules without conditions, in matching order.
    plain: Vec<Candidate<R>>,
    conditional: Option<Box<ByCondition<R>>>,
}

impl<R> Default for Candidates<R> {
    fn default() -> Self {
        Self { plain: Vec::new(), conditional: None }
    }
}

impl<R> Candidates<R> {
    pub(super) fn is_empty(&self) -> bool {
        self.plain.is_empty() && self.conditional.is_none()
    }

    /// Whether a rule has this method, whatever its conditions.
    pub(super) fn has_method(&self, method: &Method) -> bool {
        self.plain.iter().any(|candidate| candidate.methods.contains(method))
            || self.conditional.as_ref().is_some_and(|conditional| conditional.has_method(method))
    }

    /// The first rule with the method whose conditions are met.
    pub(super) fn best<'m>(&self, method: &Method, met: impl FnOnce() -> &'m [ConditionId]) -> Option<&R> {
        let plain = self.plain.iter().find(|candidate| candidate.methods.contains(method));
        match &self.conditional {
            None => plain.map(|candidate| &candidate.rule),
            Some(conditional) => conditional.best(plain, method, met()),
        }
    }

    /// The named methods of all rules whose conditions are met.
    pub(super) fn methods<'m>(&self, met: impl FnOnce() -> &'m [ConditionId]) -> Vec<Method> {
        let mut out: Vec<Method> = Vec::new();
        let mut add = |candidate: &Candidate<R>| {
            for method in candidate.methods.named() {
                if !out.contains(method) {
                    out.push(method.clone());
                }
            }
        };
        self.plain.iter().for_each(&mut add);
        if let Some(conditional) = &self.conditional {
            let met = met();
            let lists = met.iter().filter_map(|id| conditional.lists.get(id)).flatten();
            lists.filter(|rule| rule.met(met)).for_each(|rule| add(&rule.candidate));
        }
        out.sort_by(|a, b| a.as_str().cmp(b.as_str()));
        out
    }

    /// Adds a rule with the numbers of its conditions. Of rules with equal matches, the smaller tie wins.
    pub(super) fn insert(&mut self, candidate: Candidate<R>, conditions: ConditionIds) {
        if conditions.is_empty() {
            if self.plain.is_empty() {
                // Most patterns have one rule: without capacity for more.
                self.plain.reserve_exact(1);
            }
            let at = self.plain.partition_point(|other| other.rank(0) <= candidate.rank(0));
            self.plain.insert(at, candidate);
        } else {
            self.conditional.get_or_insert_default().insert(Conditional { conditions, candidate });
        }
    }

    pub(super) fn remove(&mut self, tie: &Tie, conditions: &[ConditionId]) {
        if conditions.is_empty() {
            self.plain.retain(|candidate| candidate.tie != *tie);
        } else if let Some(conditional) = &mut self.conditional {
            conditional.remove(tie, conditions);
            if conditional.lists.is_empty() {
                self.conditional = None;
            }
        }
    }
}

impl<R> Default for ByCondition<R> {
    fn default() -> Self {
        // The keys are numbers of this program: no client can cause hash collisions.
        Self { lists: HashMap::with_hasher(FixedState::with_seed(0)), methods: SmallVec::new() }
    }
}

impl<R> ByCondition<R> {
    fn has_method(&self, method: &Method) -> bool {
        self.methods.iter().any(|(named, _)| named.as_ref().is_none_or(|named| named == method))
    }

    fn best<'r>(&'r self, plain: Option<&'r Candidate<R>>, method: &Method, met: &[ConditionId]) -> Option<&'r R> {
        let mut best = plain.map(|candidate| (candidate.rank(0), &candidate.rule));
        if !self.has_method(method) {
            return best.map(|(_, rule)| rule);
        }
        for list in met.iter().filter_map(|id| self.lists.get(id)) {
            for rule in list {
                let rank = rule.rank();
                if best.as_ref().is_some_and(|(best, _)| *best <= rank) {
                    break;
                }
                if rule.candidate.methods.contains(method) && rule.met(met) {
                    best = Some((rank, &rule.candidate.rule));
                    break;
                }
            }
        }
        best.map(|(_, rule)| rule)
    }

    /// Lists the rule under the condition that the fewest rules are listed under.
    fn insert(&mut self, rule: Conditional<R>) {
        self.count(&rule.candidate.methods, |count| *count += 1);
        let listed = |id: &&ConditionId| self.lists.get(*id).map_or(0, Vec::len);
        let Some(id) = rule.conditions.iter().min_by_key(listed).copied() else { return };
        let list = self.lists.entry(id).or_default();
        let at = list.partition_point(|other| other.rank() <= rule.rank());
        list.insert(at, rule);
    }

    fn remove(&mut self, tie: &Tie, conditions: &[ConditionId]) {
        for id in conditions {
            let Some(list) = self.lists.get_mut(id) else { continue };
            let Some(at) = list.iter().position(|rule| rule.candidate.tie == *tie) else { continue };
            let gone = list.remove(at);
            if list.is_empty() {
                self.lists.remove(id);
            }
            self.count(&gone.candidate.methods, |count| *count -= 1);
            return;
        }
    }

    fn count(&mut self, methods: &Methods, change: impl Fn(&mut usize)) {
        let named = methods.named().iter().cloned().map(Some);
        let any = matches!(methods, Methods::Any).then_some(None);
        for method in named.chain(any) {
            match self.methods.iter_mut().find(|(known, _)| *known == method) {
                Some((_, count)) => change(count),
                None => {
                    let mut count = 0;
                    change(&mut count);
                    self.methods.push((method, count));
                }
            }
        }
        self.methods.retain(|(_, count)| *count > 0);
    }
}
