//! A node's children by the text of a segment, a copy-on-write map: a few children are in a list, many in shards, of which a
//! change copies one.

use std::hash::BuildHasher as _;
use std::sync::Arc;

use foldhash::fast::FixedState;
use hashbrown::HashTable;

/// More children than this are hashed.
const FEW: usize = 8;
/// Approximate number of children of one shard.
const SHARD: usize = 32;

/// The texts come from the configuration, and clients can only look them up: no client can cause hash collisions.
const HASHER: FixedState = FixedState::with_seed(0);

/// Children by text.
#[derive(Clone)]
pub(super) enum Children<T> {
    Few(Vec<(Arc<str>, T)>),
    Many { shards: Box<[Arc<Shard<T>>]>, count: usize },
}

type Shard<T> = HashTable<(Arc<str>, T)>;

impl<T> Default for Children<T> {
    fn default() -> Self {
        Self::Few(Vec::new())
    }
}

fn hash(text: &str) -> u64 {
    HASHER.hash_one(text)
}

/// Tables use the lowest and the highest bits.
#[allow(clippy::cast_possible_truncation, reason = "some bits are enough")]
fn shard_of(hash: u64, shards: usize) -> usize {
    (hash >> 24) as usize & (shards - 1)
}

impl<T> Children<T> {
    pub(super) fn is_empty(&self) -> bool {
        matches!(self, Self::Few(list) if list.is_empty())
    }

    pub(super) fn get(&self, text: &str) -> Option<&T> {
        match self {
            Self::Few(list) => list.iter().find(|(known, _)| **known == *text).map(|(_, child)| child),
            Self::Many { shards, .. } => {
                let hash = hash(text);
                shards[shard_of(hash, shards.len())].find(hash, |(known, _)| **known == *text).map(|(_, child)| child)
            }
        }
    }
}

impl<T: Clone> Children<T> {
    /// The child with this text, which is created if it does not exist.
    pub(super) fn entry(&mut self, text: &str, make: impl FnOnce() -> T) -> &mut T {
        self.grow();
        match self {
            Self::Few(list) => {
                let at = list.iter().position(|(known, _)| **known == *text).unwrap_or_else(|| {
                    if list.is_empty() {
                        // Many nodes have one child: without capacity for more.
                        list.reserve_exact(1);
                    }
                    list.push((text.into(), make()));
                    list.len() - 1
                });
                &mut list[at].1
            }
            Self::Many { shards, count } => {
                let hash = hash(text);
                let shard = Arc::make_mut(&mut shards[shard_of(hash, shards.len())]);
                let entry = shard.entry(hash, |(known, _)| **known == *text, |(known, _)| self::hash(known));
                let entry = entry.or_insert_with(|| {
                    *count += 1;
                    (text.into(), make())
                });
                &mut entry.into_mut().1
            }
        }
    }

    /// Changes a child. `change` decides whether it is removed.
    pub(super) fn change(&mut self, text: &str, change: impl FnOnce(&mut T) -> Stays) {
        match self {
            Self::Few(list) => {
                let Some(at) = list.iter().position(|(known, _)| **known == *text) else { return };
                if change(&mut list[at].1) == Stays::No {
                    list.remove(at);
                }
            }
            Self::Many { shards, count } => {
                let hash = hash(text);
                let shard = Arc::make_mut(&mut shards[shard_of(hash, shards.len())]);
                let Ok(mut entry) = shard.find_entry(hash, |(known, _)| **known == *text) else { return };
                if change(&mut entry.get_mut().1) == Stays::No {
                    entry.remove();
                    *count -= 1;
                }
                if *count == 0 {
                    *self = Self::default();
                }
            }
        }
    }

    /// Grows before an insertion: from a list to shards, or to twice as many shards.
    fn grow(&mut self) {
        let all: Vec<(Arc<str>, T)> = match self {
            Self::Few(list) if list.len() >= FEW => std::mem::take(list),
            Self::Many { shards, count } if *count >= shards.len() * SHARD * 2 => {
                shards.iter().flat_map(|shard| shard.iter()).cloned().collect()
            }
            _ => return,
        };
        let shards = (all.len() / SHARD).next_power_of_two();
        let mut tables: Vec<Shard<T>> = (0..shards).map(|_| HashTable::new()).collect();
        let count = all.len();
        for child in all {
            let hash = hash(&child.0);
            tables[shard_of(hash, shards)].insert_unique(hash, child, |(known, _)| self::hash(known));
        }
        *self = Self::Many { shards: tables.into_iter().map(Arc::new).collect(), count };
    }
}

/// Whether a child stays or is removed.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Stays {
    Yes,
    No,
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn children_equal_a_map_and_copies_are_independent(steps in prop::collection::vec((0..3_u8, 0..400_u32), 0..2000)) {
            let mut children: Children<u32> = Children::default();
            let mut model: BTreeMap<String, u32> = BTreeMap::new();
            let mut copies = Vec::new();
            for (at, (step, key)) in steps.into_iter().enumerate() {
                let text = format!("r{key}");
                if step < 2 {
                    *children.entry(&text, || 0) += 1;
                    *model.entry(text).or_default() += 1;
                } else {
                    children.change(&text, |_| Stays::No);
                    model.remove(&text);
                }
                prop_assert_eq!(children.is_empty(), model.is_empty());
                if at % 300 == 0 {
                    copies.push((children.clone(), model.clone()));
                }
            }
            copies.push((children, model));
            for (children, model) in copies {
                for key in 0..400 {
                    let text = format!("r{key}");
                    prop_assert_eq!(children.get(&text), model.get(&text));
                }
            }
        }
    }
}
