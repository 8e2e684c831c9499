//! Problems of one object, and the conditions that report them. What is a problem is decided by `fields` and by the
//! translation of each kind.

use sluice_crds::condition::{self, ACCEPTED, RESOLVED_REFS, Status, reason};

/// More problems than this are counted, not listed.
const MAX_LISTED: usize = 32;
/// A longer reason is cut: each of many rules may have one.
const MAX_WHY_BYTES: usize = 1000;

/// The problems of one object, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Problems {
    accepted: Vec<(&'static str, String)>,
    resolved: Vec<(&'static str, String)>,
    pending: Option<&'static str>,
}

impl Problems {
    /// A field holds a value that cannot work; `why` is a sentence.
    pub(crate) fn invalid(&mut self, field: &str, why: impl std::fmt::Display) {
        self.accept(reason::INVALID, field, why);
    }

    /// The object, or a part of it, cannot be accepted for `reason`.
    pub(crate) fn accept(&mut self, reason: &'static str, field: &str, why: impl std::fmt::Display) {
        self.accepted.push((reason, sentence(field, why)));
    }

    /// A reference leads nowhere, or nowhere useful.
    pub(crate) fn unresolved(&mut self, reason: &'static str, field: &str, why: impl std::fmt::Display) {
        self.resolved.push((reason, sentence(field, why)));
    }

    /// It is not decided yet whether the object is accepted; `why` is a sentence. Any problem of the object goes before.
    pub(crate) fn pending(&mut self, why: &'static str) {
        self.pending = Some(why);
    }

    /// How many there are.
    pub(crate) fn count(&self) -> usize {
        self.accepted.len() + self.resolved.len()
    }

    /// The sentences of the first problems, for the reason why something fails closed. Proxies log it: it is short.
    pub(crate) fn sentences(&self) -> String {
        let all = self.accepted.iter().chain(&self.resolved).map(|(_, text)| text.as_str());
        let mut text = all.take(MAX_LISTED).collect::<Vec<_>>().join(" ");
        if text.len() > MAX_WHY_BYTES {
            let cut = (0..=MAX_WHY_BYTES).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
            text.truncate(cut);
            text.push('…');
        }
        text
    }

    /// Takes over the problems of a part of the object.
    pub(crate) fn extend(&mut self, other: Self) {
        self.accepted.extend(other.accepted);
        self.resolved.extend(other.resolved);
        self.pending = self.pending.or(other.pending);
    }

    /// The reasons with how often each occurs, for metrics.
    pub(crate) fn reasons(&self) -> impl Iterator<Item = &'static str> + '_ {
        self.accepted.iter().chain(&self.resolved).map(|(reason, _)| *reason)
    }

    /// `Accepted` and `ResolvedRefs`.
    pub(crate) fn conditions(&self, generation: Option<i64>) -> Vec<condition::DesiredCondition> {
        let one = |type_, good, well: &str, problems: &[(&'static str, String)]| {
            let reason = problems.first().map_or(good, |(reason, _)| *reason);
            let status = if problems.is_empty() { Status::True } else { Status::False };
            let message = if problems.is_empty() { well.to_owned() } else { listed(problems) };
            condition::DesiredCondition { type_, status, reason, message, observed_generation: generation }
        };
        let mut accepted = one(ACCEPTED, reason::ACCEPTED, "The object is valid.", &self.accepted);
        if let (true, Some(why)) = (self.accepted.is_empty(), self.pending) {
            (accepted.status, accepted.reason, accepted.message) = (Status::Unknown, reason::PENDING, why.to_owned());
        }
        vec![accepted, one(RESOLVED_REFS, reason::RESOLVED_REFS, "Every reference is resolved.", &self.resolved)]
    }
}

fn listed(problems: &[(&'static str, String)]) -> String {
    let mut message = problems.iter().take(MAX_LISTED).map(|(_, text)| text.as_str()).collect::<Vec<_>>().join(" ");
    if let Some(more) = problems.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        message.push_str(&format!(" And {more} more problems."));
    }
    message
}

fn sentence(field: &str, why: impl std::fmt::Display) -> String {
    let mut text = if field.is_empty() { why.to_string() } else { format!("{field}: {why}") };
    if !text.ends_with(['.', '!', '?']) {
        text.push('.');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_problem_gives_the_reason_and_all_are_listed() {
        let mut problems = Problems::default();
        problems.invalid("spec.rules[0].path", "a path must start with /");
        problems.accept(reason::CONFLICTED, "", "Taken.");
        let conditions = problems.conditions(Some(3));
        assert_eq!(conditions[0].reason, "Invalid");
        assert_eq!(conditions[0].message, "spec.rules[0].path: a path must start with /. Taken.");
        assert_eq!(conditions[1].status, Status::True);
    }

    #[test]
    fn a_flood_of_problems_is_counted() {
        let mut problems = Problems::default();
        (0..100).for_each(|at| problems.invalid(&format!("f{at}"), "no"));
        assert!(problems.conditions(None)[0].message.ends_with("And 68 more problems."));
    }
}
