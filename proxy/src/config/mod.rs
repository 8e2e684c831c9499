//! Where configuration comes from: the operator's stream, the last known good on disk, or a file. It checks names, sizes
//! and hashes and hands whole versions on; what a part means is the compiler's.

pub mod file;
pub mod store;
pub mod subscribe;

use std::collections::BTreeMap;

use sluice_wire::{Ack, Delta, Diagnostic, Hash, MAX_PART_BYTES, Outcome, Part, PartName, version_of};

/// Who puts a version into force.
pub trait Apply: Send + 'static {
    /// Puts `parts` into force, of which `changed` are new or different and `removed` are gone, and tells which objects
    /// cannot be served as written. It cannot refuse: what cannot be compiled fails closed alone.
    fn apply(&mut self, parts: &BTreeMap<PartName, Part>, changed: &[PartName], removed: &[PartName]) -> Vec<Diagnostic>;

    /// Tells how many proxies share each limit.
    fn set_fleet(&mut self, proxies: u32);
}

/// The version in force and its parts.
#[derive(Debug)]
pub struct Holder<A> {
    parts: BTreeMap<PartName, Part>,
    hashes: BTreeMap<PartName, Hash>,
    version: Hash,
    apply: A,
}

impl<A: Apply> Holder<A> {
    /// Nothing is in force yet.
    pub fn new(apply: A) -> Self {
        Self { parts: BTreeMap::new(), hashes: BTreeMap::new(), version: Hash::NONE, apply }
    }

    /// The version in force; [`Hash::NONE`] before the first.
    pub fn version(&self) -> Hash {
        self.version
    }

    /// Names and hashes of what is in force.
    pub fn hashes(&self) -> &BTreeMap<PartName, Hash> {
        &self.hashes
    }

    /// The parts in force.
    pub fn parts(&self) -> &BTreeMap<PartName, Part> {
        &self.parts
    }

    /// Who puts versions into force.
    pub fn applier(&mut self) -> &mut A {
        &mut self.apply
    }

    /// Checks a delta and puts the version it leads to into force, or refuses it and leaves everything as it was.
    pub fn take(&mut self, delta: &Delta) -> Ack {
        match self.check(delta) {
            Err(why) => {
                tracing::warn!(config.version = %delta.version.short(), error = %why, "refused a configuration");
                Ack { version: delta.version, outcome: Outcome::Refused { why }, diagnostics: Vec::new() }
            }
            Ok((hashes, removed)) => {
                let changed: Vec<PartName> = delta
                    .upsert
                    .iter()
                    .filter(|part| self.hashes.get(&part.name) != Some(&part.hash))
                    .map(|part| part.name.clone())
                    .collect();
                for name in &removed {
                    self.parts.remove(name);
                }
                for part in &delta.upsert {
                    self.parts.insert(part.name.clone(), part.clone());
                }
                (self.hashes, self.version) = (hashes, delta.version);
                let diagnostics = self.apply.apply(&self.parts, &changed, &removed);
                Ack { version: delta.version, outcome: Outcome::Applied, diagnostics }
            }
        }
    }

    fn check(&self, delta: &Delta) -> Result<(BTreeMap<PartName, Hash>, Vec<PartName>), String> {
        let replaces = delta.base == Hash::NONE;
        if !replaces && delta.base != self.version {
            return Err(format!("it applies to version {}, not to {}", delta.base.short(), self.version.short()));
        }
        let mut hashes = if replaces { BTreeMap::new() } else { self.hashes.clone() };
        for name in &delta.remove {
            hashes.remove(name);
        }
        for part in &delta.upsert {
            if part.json.len() > MAX_PART_BYTES {
                return Err(format!("part {} is longer than {MAX_PART_BYTES} bytes", part.name));
            }
            if Hash::of(part.json.as_bytes()) != part.hash {
                return Err(format!("the content of part {} does not match its hash", part.name));
            }
            hashes.insert(part.name.clone(), part.hash);
        }
        if version_of(&hashes) != delta.version {
            return Err("the parts do not add up to the version it names".to_owned());
        }
        let removed = self.hashes.keys().filter(|name| !hashes.contains_key(*name)).cloned().collect();
        Ok((hashes, removed))
    }
}

/// A delta that replaces everything by `parts`.
#[must_use]
pub fn whole(parts: Vec<Part>) -> Delta {
    let hashes = parts.iter().map(|part| (part.name.clone(), part.hash)).collect();
    Delta { base: Hash::NONE, version: version_of(&hashes), upsert: parts, remove: Vec::new() }
}

#[cfg(test)]
pub(crate) mod tests {
    use sluice_wire::{PartBody, PartKind, PlanPart};

    use super::*;

    /// Remembers what it was told.
    #[derive(Debug, Default)]
    pub(crate) struct Recorder(pub(crate) Vec<(usize, Vec<PartName>, Vec<PartName>)>);

    impl Apply for Recorder {
        fn apply(&mut self, parts: &BTreeMap<PartName, Part>, changed: &[PartName], removed: &[PartName]) -> Vec<Diagnostic> {
            self.0.push((parts.len(), changed.to_vec(), removed.to_vec()));
            Vec::new()
        }
        fn set_fleet(&mut self, _: u32) {}
    }

    pub(crate) fn part(name: &str) -> Part {
        let object = sluice_wire::ObjectRef::new("UsagePlan", "shop", name);
        let body = PartBody::Plan(PlanPart { object, stages: Vec::new(), throttle: None });
        Part::new(PartName::new(PartKind::Plan, format!("shop/{name}")), &body)
    }

    #[test]
    fn a_delta_that_adds_up_is_applied_and_names_what_changed() {
        let mut holder = Holder::new(Recorder::default());
        let first = whole(vec![part("a"), part("b")]);
        assert_eq!(holder.take(&first).outcome, Outcome::Applied);
        let hashes = [part("b"), part("c")].iter().map(|part| (part.name.clone(), part.hash)).collect();
        let (upsert, remove) = (vec![part("b"), part("c")], vec![part("a").name]);
        let next = Delta { base: first.version, version: version_of(&hashes), upsert, remove };
        assert_eq!(holder.take(&next).outcome, Outcome::Applied);
        assert_eq!(holder.version(), next.version);
        assert_eq!(holder.applier().0[1], (2, vec![part("c").name], vec![part("a").name]));
    }

    #[test]
    fn a_delta_that_does_not_add_up_changes_nothing() {
        let mut holder = Holder::new(Recorder::default());
        let good = whole(vec![part("a")]);
        holder.take(&good);
        let mut wrong_version = whole(vec![part("b")]);
        wrong_version.version = good.version;
        let mut wrong_hash = whole(vec![part("b")]);
        wrong_hash.upsert[0].json.push(' ');
        let mut wrong_base = whole(vec![part("b")]);
        wrong_base.base = Hash::of(b"another");
        for bad in [wrong_version, wrong_hash, wrong_base] {
            assert!(matches!(holder.take(&bad).outcome, Outcome::Refused { .. }));
            assert_eq!(holder.version(), good.version);
        }
        assert_eq!(holder.applier().0.len(), 1);
    }
}
