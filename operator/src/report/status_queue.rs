//! The objects whose status may have to be written, so that a change does not cause a comparison of every object. `status`
//! decides whether a status differs.

use std::collections::BTreeSet;
use std::sync::Arc;

use sluice_wire::ObjectRef;

use crate::publish::{Current, Rollout};

/// The last state that was compared, and the objects that are pending.
#[derive(Default)]
pub(crate) struct StatusQueue {
    last: Option<(Arc<Current>, Arc<Rollout>)>,
    pending: BTreeSet<ObjectRef>,
}

impl StatusQueue {
    /// Adds the objects that a change affects; `changed` are objects that changed in the cluster.
    pub(crate) fn update(&mut self, current: &Arc<Current>, rollout: &Arc<Rollout>, changed: BTreeSet<ObjectRef>) {
        self.pending.extend(changed);
        match self.last.replace((current.clone(), rollout.clone())) {
            Some((before, counted)) if Arc::ptr_eq(&before, current) && Arc::ptr_eq(&counted, rollout) => {}
            Some((before, counted)) if counted.equal_for_others(rollout) => {
                if !Arc::ptr_eq(&before, current) {
                    self.compare(&before, current);
                }
                if !(counted.is_plain() && rollout.is_plain()) {
                    let special = current.statuses.iter().filter(|(object, desired)| {
                        counted.is_special(object, desired) || rollout.is_special(object, desired)
                    });
                    self.pending.extend(special.map(|(object, _)| object.clone()));
                }
            }
            _ => self.push_all(),
        }
    }

    /// Adds every object.
    pub(crate) fn push_all(&mut self) {
        if let Some((current, _)) = &self.last {
            self.pending.extend(current.statuses.keys().cloned());
        }
    }

    /// Adds one object.
    pub(crate) fn push(&mut self, object: &ObjectRef) {
        self.pending.insert(object.clone());
    }

    fn compare(&mut self, before: &Current, now: &Current) {
        let mut old = before.statuses.iter().peekable();
        for (object, desired) in &now.statuses {
            // Both are sorted.
            while old.next_if(|(key, _)| *key < object).is_some() {}
            let same = old.next_if(|(key, _)| *key == object).is_some_and(|(_, before)| Arc::ptr_eq(before, desired));
            if !same {
                self.pending.insert(object.clone());
            }
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
