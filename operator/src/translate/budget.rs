//! How much configuration fits: proxies refuse a configuration as a whole when it is too long, and one tenant must not be
//! able to bring that about for all. What is left of an object that does not fit is `node`'s to say.

use std::collections::BTreeMap;

use sluice_wire::{MAX_FRAME_BYTES, MAX_PART_BYTES, Part};

use crate::translate::node::Node;

/// What all parts may weigh together: the frame that carries them, and later the one that takes them away again, fit
/// into a frame with room to spare.
pub(crate) const MAX_TOTAL: usize = MAX_FRAME_BYTES / 16 * 11;
/// What the entries of one shard of keys may weigh together.
pub(crate) const MAX_SHARD: usize = MAX_PART_BYTES / 4 * 3;

/// What a name costs beside its letters: quotes, a hash and commas.
const NAME_OVERHEAD: usize = 80;

/// What a part weighs: what it takes in a frame, where its text is a string again, and its name and hash threefold, because
/// the hello of a proxy lists these in a frame of a third of the length.
pub(crate) fn weight(part: &Part) -> usize {
    text_weight(&part.json) + 3 * (part.name.id().len() + NAME_OVERHEAD)
}

/// What JSON text weighs as a string of other JSON text.
pub(crate) fn text_weight(json: &str) -> usize {
    json.len() + json.bytes().filter(|byte| matches!(byte, b'"' | b'\\')).count()
}

/// Something that takes room.
pub(crate) struct Load<'a> {
    pub(crate) node: &'a Node,
    /// Seconds and nanoseconds of its creation; objects of files have none and are equally old.
    pub(crate) created: Option<(i64, i32)>,
    /// Its weight as it is.
    pub(crate) full: usize,
    /// Its weight when it only keeps its place and refuses; as `full`: it cannot be made smaller.
    pub(crate) closed: usize,
}

/// What becomes of something that does not fit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Cut {
    /// It keeps its place and refuses.
    Closed,
    /// Nothing of it is published.
    Gone,
}

/// The share of each namespace: whoever takes less has all it takes, and the others have equally much.
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

/// Cuts namespaces down to their shares of the budget. In each the oldest objects stay; when not even the places of the
/// others fit, the namespace is shut: its Stages refuse every request, and there is nothing else of it.
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
    fn the_newest_objects_of_the_largest_namespace_give_way_and_nobody_else() {
        let [a, b, c] = ["a", "b", "c"].map(|name| node(Kind::ApiRoute, "large", name));
        let small = node(Kind::ApiRoute, "small", "d");
        let loads = [(&a, 3, 40, 10), (&b, 2, 40, 10), (&c, 1, 40, 10), (&small, 9, 30, 10)];
        assert_eq!(cuts(150, &loads), []);
        assert_eq!(cuts(130, &loads), [("a".to_owned(), Cut::Closed)]);
        assert_eq!(cuts(90, &loads), [("a".to_owned(), Cut::Closed), ("b".to_owned(), Cut::Closed)]);
    }

    #[test]
    fn a_namespace_whose_very_places_do_not_fit_is_shut() {
        let (stage, route) = (node(Kind::Stage, "large", "s"), node(Kind::ApiRoute, "large", "r"));
        let loads = [(&stage, 2, 20, 10), (&route, 1, 40, 30)];
        assert_eq!(cuts(30, &loads), [("s".to_owned(), Cut::Closed), ("r".to_owned(), Cut::Gone)]);
        assert_eq!(cuts(5, &loads), [("s".to_owned(), Cut::Gone), ("r".to_owned(), Cut::Gone)]);
    }

    #[test]
    fn what_is_escaped_in_a_frame_weighs_more() {
        let text = r#"{"a":"\"\\"}"#;
        assert_eq!(serde_json::to_string(text).unwrap().len() - 2, text_weight(text));
    }
}
