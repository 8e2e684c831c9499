//! A configuration as a whole: parts by name, and its version. The cost of a change follows the change: copies share all
//! buckets, and only the buckets that differ are copied, hashed and compared.

use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use aws_lc_rs::digest;

use crate::{Hash, Part, PartName};

/// One bucket for each value of a byte. The number is part of the definition of the version.
const BUCKETS: usize = 256;

/// Something with a content hash: a part, or only its hash.
pub trait Content: Clone {
    /// The hash.
    fn hash(&self) -> Hash;
}

impl Content for Hash {
    fn hash(&self) -> Hash {
        *self
    }
}

impl Content for Part {
    fn hash(&self) -> Hash {
        self.hash
    }
}

impl<C: Content> Content for Arc<C> {
    fn hash(&self) -> Hash {
        C::hash(self)
    }
}

/// Parts by name. Cheap to clone: clones share their buckets.
#[derive(Clone)]
pub struct Parts<C> {
    buckets: Arc<[Arc<Bucket<C>>]>,
    /// Over the hashes of the buckets; unset after a change.
    version: OnceLock<Hash>,
}

#[derive(Clone)]
struct Bucket<C> {
    parts: BTreeMap<PartName, C>,
    /// Over names and hashes of `parts`; unset after a change.
    hash: OnceLock<Hash>,
}

impl<C> Default for Bucket<C> {
    fn default() -> Self {
        Self { parts: BTreeMap::new(), hash: OnceLock::new() }
    }
}

impl<C: Content> Bucket<C> {
    fn hash(&self) -> Hash {
        *self.hash.get_or_init(|| {
            if self.parts.is_empty() {
                return Hash::NONE;
            }
            let mut context = digest::Context::new(&digest::SHA256);
            for (name, content) in &self.parts {
                name.pieces().into_iter().for_each(|piece| context.update(piece.as_bytes()));
                context.update(b"\n");
                context.update(content.hash().bytes());
            }
            Hash::finished(context)
        })
    }
}

impl<C> Default for Parts<C> {
    fn default() -> Self {
        let empty = Arc::new(Bucket::default());
        Self { buckets: std::iter::repeat_n(empty, BUCKETS).collect(), version: OnceLock::new() }
    }
}

/// How one configuration differs from another.
#[derive(Debug, PartialEq, Eq)]
pub struct Difference<'a, C> {
    /// New or with another hash, by name.
    pub changed: BTreeMap<&'a PartName, &'a C>,
    /// No longer there, by name.
    pub removed: Vec<&'a PartName>,
}

impl<C: Content> Parts<C> {
    /// No parts.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// The number of parts.
    #[must_use]
    pub fn len(&self) -> usize {
        self.buckets.iter().map(|bucket| bucket.parts.len()).sum()
    }

    /// Whether there are no parts.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.buckets.iter().all(|bucket| bucket.parts.is_empty())
    }

    /// The part of this name.
    #[must_use]
    pub fn get(&self, name: &PartName) -> Option<&C> {
        self.buckets.get(bucket_of(name))?.parts.get(name)
    }

    /// Whether there is a part of this name.
    #[must_use]
    pub fn contains(&self, name: &PartName) -> bool {
        self.get(name).is_some()
    }

    /// Adds a part, or replaces the one of this name and returns that.
    pub fn insert(&mut self, name: PartName, content: C) -> Option<C> {
        let bucket = self.bucket(&name);
        bucket.hash.take();
        bucket.parts.insert(name, content)
    }

    /// Removes a part.
    pub fn remove(&mut self, name: &PartName) -> Option<C> {
        if !self.contains(name) {
            return None;
        }
        let bucket = self.bucket(name);
        bucket.hash.take();
        bucket.parts.remove(name)
    }

    /// All parts, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = (&PartName, &C)> {
        self.buckets.iter().flat_map(|bucket| &bucket.parts)
    }

    /// The version of the configuration: SHA-256 over the hashes of its 256 buckets, each SHA-256 over the sorted names
    /// and hashes of its parts (`kind/id`, a line end, 32 bytes), or zeros when it has none. A part is in the bucket that
    /// the lowest byte of the FNV-1a hash (64 bits) of its `kind/id` names. Equal configurations have equal versions.
    #[must_use]
    pub fn version(&self) -> Hash {
        *self.version.get_or_init(|| {
            let mut context = digest::Context::new(&digest::SHA256);
            for bucket in self.buckets.iter() {
                context.update(bucket.hash().bytes());
            }
            Hash::finished(context)
        })
    }

    /// How this configuration differs from an older one.
    #[must_use]
    pub fn since<'a, O: Content>(&'a self, old: &'a Parts<O>) -> Difference<'a, C> {
        let mut difference = Difference { changed: BTreeMap::new(), removed: Vec::new() };
        for (new, old) in self.buckets.iter().zip(old.buckets.iter()) {
            if new.hash() == old.hash() {
                continue;
            }
            // Both are sorted by name.
            let mut old = old.parts.iter().peekable();
            for (name, content) in &new.parts {
                while let Some((gone, _)) = old.next_if(|(before, _)| *before < name) {
                    difference.removed.push(gone);
                }
                let before = old.next_if(|(before, _)| *before == name);
                if before.is_none_or(|(_, before)| before.hash() != content.hash()) {
                    difference.changed.insert(name, content);
                }
            }
            difference.removed.extend(old.map(|(gone, _)| gone));
        }
        difference.removed.sort();
        difference
    }

    fn bucket(&mut self, name: &PartName) -> &mut Bucket<C> {
        self.version.take();
        let buckets = Arc::make_mut(&mut self.buckets);
        Arc::make_mut(&mut buckets[bucket_of(name)])
    }
}

impl<C: Content> PartialEq for Parts<C> {
    fn eq(&self, other: &Self) -> bool {
        self.buckets.iter().zip(other.buckets.iter()).all(|(a, b)| Arc::ptr_eq(a, b) || a.hash() == b.hash())
    }
}

impl<C: Content> std::fmt::Debug for Parts<C> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Parts({} of version {})", self.len(), self.version().short())
    }
}

impl<C: Content> FromIterator<(PartName, C)> for Parts<C> {
    fn from_iter<I: IntoIterator<Item = (PartName, C)>>(parts: I) -> Self {
        let mut all = Self::new();
        all.extend(parts);
        all
    }
}

impl<C: Content> Extend<(PartName, C)> for Parts<C> {
    fn extend<I: IntoIterator<Item = (PartName, C)>>(&mut self, parts: I) {
        for (name, content) in parts {
            self.insert(name, content);
        }
    }
}

fn bucket_of(name: &PartName) -> usize {
    let bytes = name.pieces().into_iter().flat_map(str::bytes);
    let hash =
        bytes.fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x100_0000_01b3));
    usize::from(hash.to_le_bytes()[0])
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::PartKind;

    fn name(n: usize) -> PartName {
        PartName::new(PartKind::Route, format!("shop/r{n}"))
    }

    fn some(count: usize) -> Parts<Hash> {
        (0..count).map(|n| (name(n), Hash::of(&n.to_be_bytes()))).collect()
    }

    #[test]
    fn the_version_depends_on_content_and_not_on_the_way_there() {
        let all = some(1000);
        let mut other: Parts<Hash> = (0..1001).rev().map(|n| (name(n), Hash::NONE)).collect();
        other.extend((0..1000).map(|n| (name(n), Hash::of(&n.to_be_bytes()))));
        assert_ne!(other.version(), all.version());
        assert_eq!(other.remove(&name(1000)), Some(Hash::NONE));
        assert_eq!((other.version(), other.len()), (all.version(), 1000));
        assert_eq!(other, all);
        assert_eq!(other.remove(&name(1000)), None);
        // As `tests/bench` computes it, so that no change of the definition goes unnoticed.
        assert_eq!(Parts::<Hash>::new().version().short(), "9f1dcbc35c35");
        assert_eq!(some(3).version().short(), "85fa3dcbdf02");
    }

    #[test]
    fn a_difference_names_what_is_new_changed_and_gone() {
        let old = some(500);
        let mut new = old.clone();
        assert_eq!(new.since(&old), Difference { changed: BTreeMap::new(), removed: Vec::new() });
        new.insert(name(7), Hash::NONE);
        new.insert(name(500), Hash::NONE);
        new.remove(&name(9));
        let difference = new.since(&old);
        assert_eq!(difference.changed.into_keys().collect::<Vec<_>>(), [&name(500), &name(7)]);
        assert_eq!(difference.removed, [&name(9)]);
        assert_eq!((old.len(), old.contains(&name(9))), (500, true));
    }
}
