//! Configuration quotas: proxies reject a configuration that is too long as a whole, and one namespace must not be able to
//! cause that for all. `output` defines what remains of an object that exceeds the quota.

use std::collections::BTreeMap;

use sluice_wire::{MAX_FRAME_BYTES, MAX_PART_BYTES, Part};

use crate::translate::node::Node;

/// Maximum weight of all parts: the frame that adds them, and a later one that removes them, fit into the frame limit.
pub(crate) const MAX_TOTAL: usize = MAX_FRAME_BYTES / 16 * 11;
/// Maximum weight of the entries of one shard of keys.
pub(crate) const MAX_SHARD: usize = MAX_PART_BYTES / 4 * 3;

/// Weight of a name in addition to its characters: quotes, a hash and commas.
const NAME_OVERHEAD: usize = 80;

/// The weight of a part: its size in a frame, where its text is a string, and three times its name and hash, because a
/// proxy's hello lists them in a frame of a third of the length.
pub(crate) fn weight(part: &Part) -> usize {
    text_weight(&part.json) + 3 * (part.name.id().len() + NAME_OVERHEAD)
}

/// The size of JSON text as a string in other JSON text.
pub(crate) fn text_weight(json: &str) -> usize {
    json.len() + json.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// A node with its weight.
pub(crate) struct Load<'a> {
    pub(crate) node: &'a Node,
    /// Seconds and nanoseconds of its creation; objects of files have none and are equally old.
    pub(crate) created: Option<(i64, i32)>,
    /// Its weight.
    pub(crate) full: usize,
    /// Its weight when it only keeps its place and rejects requests. Equal to `full`: it cannot be reduced.
    pub(crate) closed: usize,
}

/// What remains of a node that exceeds the quota.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It keeps its place and rejects requests.
    Closed,
    /// Nothing of it is published.
    Gone,
}

/// The share of each namespace: a namespace that needs less gets all of its weight, the others get equal shares.
fn share(budget: usize, mut sums: Vec<usize>) -> usize {
    sums.sort_unstable();
    let mut left = budget;
    let count = sums.len();
    for (at, sum) in sums.into_iter().enumerate() {
        let share = left / (count - at);
        if sum > share {
            return share;
        }
        left -= sum;
    }
    usize::MAX
}

/// Reduces namespaces to their shares of the budget. In each namespace the oldest objects stay. If not even the places of
/// the others fit, only the namespace's Stages remain, which reject all requests.
pub(crate) fn cut(budget: usize, mut namespaces: BTreeMap<&str, Vec<Load<'_>>>) -> BTreeMap<Node, Cut> {
    let mut cuts = BTreeMap::new();
    let sums = namespaces.values().map(|loads| loads.iter().map(|load| load.full).sum()).collect();
    let share = share(budget, sums);
    for loads in namespaces.values_mut() {
        if loads.iter().map(|load| load.full).sum::<usize>() <= share {
            continue;
        }
        loads.sort_by(|a, b| (a.created, a.node).cmp(&(b.created, b.node)));
        let mut taken: usize = loads.iter().map(|load| load.closed).sum();
        if taken > share {
            shut(share, loads, &mut cuts);
            continue;
        }
        for load in loads.iter().filter(|load| load.full > load.closed) {
            if taken - load.closed + load.full <= share {
                taken = taken - load.closed + load.full;
            } else {
                cuts.insert(load.node.clone(), Cut::Closed);
            }
        }
    }
    cuts
}

fn shut(share: usize, loads: &[Load<'_>], cuts: &mut BTreeMap<Node, Cut>) {
    let mut taken = 0;
    for load in loads {
        let fits = load.node.is_stage() && taken + load.closed <= share;
        if fits {
            taken += load.closed;
        }
        cuts.insert(load.node.clone(), if fits { Cut::Closed } else { Cut::Gone });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::objects::{Kind, ObjectKey};

    fn node(kind: Kind, namespace: &str, name: &str) -> Node {
        Node::Object(kind, ObjectKey::new(namespace, name))
    }

    fn cuts(budget: usize, loads: &[(&Node, i64, usize, usize)]) -> Vec<(String, Cut)> {
        let mut namespaces: BTreeMap<&str, Vec<Load<'_>>> = BTreeMap::new();
        for (node, second, full, closed) in loads {
            let load = Load { node, created: Some((*second, 0)), full: *full, closed: *closed };
            namespaces.entry(node.namespace()).or_default().push(load);
        }
        let name = |node: Node| match node {
            Node::Object(_, key) => key.name,
            _ => String::new(),
        };
        cut(budget, namespaces).into_iter().map(|(node, cut)| (name(node), cut)).collect()
    }

    #[test]
    fn only_the_newest_objects_of_the_largest_namespace_are_cut() {
        let [a, b, c] = ["a", "b", "c"].map(|name| node(Kind::ApiRoute, "large", name));
        let small = node(Kind::ApiRoute, "small", "d");
        let loads = [(&a, 3, 40, 10), (&b, 2, 40, 10), (&c, 1, 40, 10), (&small, 9, 30, 10)];
        assert_eq!(cuts(150, &loads), []);
        assert_eq!(cuts(130, &loads), [("a".to_owned(), Cut::Closed)]);
        assert_eq!(cuts(90, &loads), [("a".to_owned(), Cut::Closed), ("b".to_owned(), Cut::Closed)]);
    }

    #[test]
    fn a_namespace_whose_places_do_not_fit_keeps_only_closed_stages() {
        let (stage, route) = (node(Kind::Stage, "large", "s"), node(Kind::ApiRoute, "large", "r"));
        let loads = [(&stage, 2, 20, 10), (&route, 1, 40, 30)];
        assert_eq!(cuts(30, &loads), [("s".to_owned(), Cut::Closed), ("r".to_owned(), Cut::Gone)]);
        assert_eq!(cuts(5, &loads), [("s".to_owned(), Cut::Gone), ("r".to_owned(), Cut::Gone)]);
    }

    #[test]
    fn text_that_is_escaped_in_a_frame_weighs_more() {
        let text = r#"{"a":"\"\\"}"#;
        assert_eq!(serde_json::to_string(text).unwrap().len() - 2, text_weight(text));
    }
}
