//! The objects whose status may have to be written, so that a change does not cause a comparison of every object. `status`
//! decides whether a status differs.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use sluice_wire::{ObjectRef, PartName};

use crate::publish::{Current, Rollout};
use crate::translate::{DesiredStatus, Statuses};

/// The last state that was compared, and the objects that are pending.
#[derive(Default)]
pub(crate) struct StatusQueue {
    last: Option<(Arc<Current>, Arc<Rollout>)>,
    pending: BTreeSet<ObjectRef>,
    /// The objects of the last state by the parts that decide whether they are programmed.
    by_part: HashMap<PartName, BTreeSet<ObjectRef>>,
}

impl StatusQueue {
    /// Adds the objects that a change affects; `changed` are objects that changed in the cluster.
    pub(crate) fn update(&mut self, current: &Arc<Current>, rollout: &Arc<Rollout>, changed: BTreeSet<ObjectRef>) {
        self.pending.extend(changed);
        let (before, counted) = self.last.replace((current.clone(), rollout.clone())).unzip();
        if let (Some(before), Some(counted)) = (&before, &counted)
            && Arc::ptr_eq(before, current)
            && Arc::ptr_eq(counted, rollout)
        {
            return;
        }
        let none = Statuses::default();
        self.compare(before.as_ref().map_or(&none, |before| &before.statuses), &current.statuses);
        match counted.filter(|counted| counted.equal_for_others(rollout)) {
            Some(counted) => {
                self.push_special(&counted);
                self.push_special(rollout);
            }
            None => self.push_all(),
        }
    }

    /// Adds every object.
    pub(crate) fn push_all(&mut self) {
        if let Some((current, _)) = &self.last {
            self.pending.extend(current.statuses.iter().map(|(object, _)| object.clone()));
        }
    }

    /// Adds one object.
    pub(crate) fn push(&mut self, object: &ObjectRef) {
        self.pending.insert(object.clone());
    }

    /// Adds the objects whose status differs.
    fn compare(&mut self, before: &Statuses, now: &Statuses) {
        for change in now.since(before) {
            let (old, new) = (all_parts(change.before), all_parts(change.now));
            for part in old.difference(&new) {
                if let Some(objects) = self.by_part.get_mut(*part) {
                    objects.remove(change.object);
                    if objects.is_empty() {
                        self.by_part.remove(*part);
                    }
                }
            }
            for part in new.difference(&old) {
                self.by_part.entry(PartName::clone(part)).or_default().insert(change.object.clone());
            }
            if change.now.is_some() {
                self.pending.insert(change.object.clone());
            }
        }
    }

    /// Adds the objects that proxies differ about.
    fn push_special(&mut self, rollout: &Rollout) {
        let of_parts = rollout.special_parts().filter_map(|part| self.by_part.get(part)).flatten();
        self.pending.extend(of_parts.chain(rollout.special_objects()).cloned());
        let kinds = rollout.unsupported_kinds();
        if !kinds.is_empty() {
            let unsupported = self.by_part.iter().filter(|(part, _)| kinds.contains(&part.kind));
            self.pending.extend(unsupported.flat_map(|(_, objects)| objects).cloned());
        }
    }

    /// The pending objects.
    pub(crate) fn pending(&self) -> impl Iterator<Item = &ObjectRef> {
        self.pending.iter()
    }

    /// The status of the object is up to date.
    pub(crate) fn remove(&mut self, object: &ObjectRef) {
        self.pending.remove(object);
    }
}

/// The parts that decide about an object, at any Stage.
fn all_parts(status: Option<&Arc<DesiredStatus>>) -> BTreeSet<&PartName> {
    let at_stages = status.iter().flat_map(|status| &status.stages).flat_map(|(_, at_stage)| &at_stage.parts);
    status.iter().flat_map(|status| &status.parts).chain(at_stages).collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;
    use sluice_wire::{FleetName, Hello, Parts};

    use super::*;
    use crate::cluster_state::ClusterState;
    use crate::metrics::Metrics;
    use crate::objects::Object;
    use crate::publish::Proxies;
    use crate::translate::{Translation, Translator};

    fn stage(name: usize, rate: u32) -> Object {
        let value = json!({
            "metadata": {"name": format!("s{name}"), "namespace": "shop"},
            "spec": {"hostnames": [format!("s{name}.example")], "throttle": {"rate": rate, "burst": 1}},
        });
        serde_json::from_value::<sluice_crds::Stage>(value).unwrap().into()
    }

    struct Rig {
        queue: StatusQueue,
        proxies: Proxies,
        state: ClusterState,
        translator: Translator,
        current: Arc<Current>,
    }

    impl Rig {
        fn new(objects: usize) -> Self {
            let mut rig = Self {
                queue: StatusQueue::default(),
                proxies: Proxies::new(Metrics::new(&prometheus::Registry::new()).unwrap()),
                state: ClusterState::from_objects((0..objects).map(|n| stage(n, 1))),
                translator: Translator::new(),
                current: Arc::new(Translation::default().into()),
            };
            rig.publish();
            rig
        }

        fn publish(&mut self) {
            self.current = Arc::new(self.translator.translate(&self.state).into());
        }

        /// How many objects are to be looked at; then none is.
        fn open(&mut self) -> usize {
            let rollout = Arc::new(Rollout::of(&self.proxies, &self.current));
            self.queue.update(&self.current, &rollout, BTreeSet::new());
            let open: Vec<ObjectRef> = self.queue.pending().cloned().collect();
            open.iter().for_each(|object| self.queue.remove(object));
            open.len()
        }
    }

    #[test]
    fn a_change_of_one_object_has_one_looked_at_and_a_change_of_the_fleet_all() {
        let mut rig = Rig::new(50);
        let one = rig.proxies.join(&Hello::new("one", "test"), Parts::new());
        assert_eq!((rig.open(), rig.open()), (50, 50), "the proxy serves none of them yet");
        one.applied(rig.current.of(&FleetName::default()), Vec::new());
        assert_eq!((rig.open(), rig.open()), (50, 0));
        rig.state.apply(stage(7, 2));
        rig.publish();
        assert_eq!((rig.open(), rig.open()), (1, 1), "the proxy does not serve it yet");
        one.applied(rig.current.of(&FleetName::default()), Vec::new());
        assert_eq!((rig.open(), rig.open()), (1, 0));
    }
}
