//! Which fleets get which parts: a Stage belongs to one fleet, and every other part follows the Stages that use it. The cost of
//! an update depends on the change: only the parts below a changed one are visited.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use sluice_wire::{FleetName, Part, PartBody, PartName, Parts};

/// How a part is connected to others.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Links {
    /// Of a Stage: the fleet that serves it.
    fleet: Option<FleetName>,
    /// The Stages that this part names, and of a Principal the Authorizers: it is sent to their fleets.
    follows: Vec<PartName>,
    /// The parts that this part uses: they go where it goes.
    uses: Vec<PartName>,
}

impl Links {
    /// The links of a part. `fleet` is that of the Stage, if the part is one.
    pub(crate) fn of(body: &PartBody, fleet: Option<&FleetName>) -> Self {
        match body {
            PartBody::Stage(stage) => Self {
                fleet: Some(fleet.cloned().unwrap_or_default()),
                follows: Vec::new(),
                uses: stage.certificates.clone(),
            },
            PartBody::Route(route) => {
                let uses: BTreeSet<&PartName> = route.uses().collect();
                Self { fleet: None, follows: route.stages.clone(), uses: uses.into_iter().cloned().collect() }
            }
            PartBody::Plan(plan) => {
                let follows = plan.stages.iter().map(|stage| stage.stage.clone()).collect();
                Self { fleet: None, follows, uses: Vec::new() }
            }
            PartBody::Principal(principal) => {
                Self { fleet: None, follows: principal.authorizers.clone(), uses: Vec::new() }
            }
            PartBody::Authorizer(authorizer) => {
                Self { uses: authorizer.upstream().into_iter().cloned().collect(), ..Self::default() }
            }
            // A shard has no links: each of its keys follows its plans.
            PartBody::Keys(_) | PartBody::Upstream(_) | PartBody::Certificate(_) => Self::default(),
        }
    }
}

/// The fleets of all parts, and the configuration of each fleet.
#[derive(Default)]
pub(crate) struct Fleets {
    links: HashMap<PartName, Links>,
    /// Parts by what they follow.
    attached: HashMap<PartName, BTreeSet<PartName>>,
    /// For each part its fleets, and for how many reasons it belongs to each.
    members: HashMap<PartName, Vec<(FleetName, usize)>>,
    /// Parts whose fleets changed.
    moved: BTreeSet<PartName>,
    configurations: BTreeMap<FleetName, Parts<Arc<Part>>>,
}

impl Fleets {
    /// Replaces the links of a part; none: the part is gone.
    pub(crate) fn link(&mut self, name: &PartName, links: Option<Links>) {
        let now = links.unwrap_or_default();
        let before = self.links.get(name).cloned().unwrap_or_default();
        if now == before {
            return;
        }
        // Additions first, so that a part that remains in a fleet is not removed in between.
        for followed in &now.follows {
            self.attached.entry(followed.clone()).or_default().insert(name.clone());
        }
        self.join_all(name, &self.reasons(&now));
        let fleets = self.of(name).cloned().collect::<Vec<_>>();
        now.uses.iter().for_each(|used| self.join_all(used, &fleets));
        let gone = before.follows.iter().filter(|followed| !now.follows.contains(followed));
        for stage in gone {
            if let Some(parts) = self.attached.get_mut(stage) {
                parts.remove(name);
                if parts.is_empty() {
                    self.attached.remove(stage);
                }
            }
        }
        if now == Links::default() {
            self.links.remove(name);
        } else {
            self.links.insert(name.clone(), now);
        }
        before.uses.iter().for_each(|used| self.leave_all(used, &fleets));
        self.leave_all(name, &self.reasons(&before));
    }

    /// One fleet for each reason by which a part with these links belongs to it.
    fn reasons(&self, links: &Links) -> Vec<FleetName> {
        links.fleet.iter().chain(links.follows.iter().flat_map(|followed| self.of(followed))).cloned().collect()
    }

    fn join_all(&mut self, name: &PartName, fleets: &[FleetName]) {
        for fleet in fleets {
            let members = self.members.entry(name.clone()).or_default();
            if let Some((_, reasons)) = members.iter_mut().find(|(known, _)| known == fleet) {
                *reasons += 1;
                continue;
            }
            members.push((fleet.clone(), 1));
            self.moved.insert(name.clone());
            for follower in self.followers(name) {
                self.join_all(&follower, std::slice::from_ref(fleet));
            }
        }
    }

    fn leave_all(&mut self, name: &PartName, fleets: &[FleetName]) {
        for fleet in fleets {
            let Some(members) = self.members.get_mut(name) else { return };
            let Some(at) = members.iter().position(|(known, _)| known == fleet) else { continue };
            if let Some((_, reasons)) = members.get_mut(at)
                && *reasons > 1
            {
                *reasons -= 1;
                continue;
            }
            members.remove(at);
            if members.is_empty() {
                self.members.remove(name);
            }
            self.moved.insert(name.clone());
            for follower in self.followers(name) {
                self.leave_all(&follower, std::slice::from_ref(fleet));
            }
        }
    }

    /// The parts that go where this one goes. Stages come before routes and plans, these before what they use, and
    /// Authorizers before Principals and the ports of Services that they call: there is no circle.
    fn followers(&self, name: &PartName) -> Vec<PartName> {
        let used = self.links.get(name).into_iter().flat_map(|links| &links.uses);
        used.chain(self.attached.get(name).into_iter().flatten()).cloned().collect()
    }

    /// The fleets of a part.
    pub(crate) fn of(&self, name: &PartName) -> impl Iterator<Item = &FleetName> {
        self.members.get(name).into_iter().flatten().map(|(fleet, _)| fleet)
    }

    /// The parts whose fleets changed since the last call.
    pub(crate) fn take_moved(&mut self) -> BTreeSet<PartName> {
        std::mem::take(&mut self.moved)
    }

    /// Puts a part into the configurations of its fleets, and takes it out of all others. None: the part is gone.
    pub(crate) fn publish(&mut self, name: &PartName, part: Option<&Arc<Part>>) {
        let of_each = part.map(|part| self.of(name).map(|fleet| (fleet.clone(), part.clone())).collect());
        self.publish_each(name, of_each.unwrap_or_default());
    }

    /// Puts a part that differs between fleets into their configurations, and takes it out of all others.
    pub(crate) fn publish_each(&mut self, name: &PartName, parts: BTreeMap<FleetName, Arc<Part>>) {
        self.configurations.retain(|fleet, configuration| {
            if !parts.contains_key(fleet) {
                configuration.remove(name);
            }
            parts.contains_key(fleet) || !configuration.is_empty()
        });
        for (fleet, part) in parts {
            let configuration = self.configurations.entry(fleet).or_default();
            if configuration.get(name).is_none_or(|old| old.hash != part.hash) {
                configuration.insert(name.clone(), part);
            }
        }
    }

    /// The configuration of each fleet that has one.
    pub(crate) fn configurations(&self) -> &BTreeMap<FleetName, Parts<Arc<Part>>> {
        &self.configurations
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn name(text: &str) -> PartName {
        text.parse().unwrap()
    }

    fn links(fleet: Option<&str>, stages: &[&str], uses: &[&str]) -> Links {
        Links {
            fleet: fleet.map(|fleet| fleet.parse().unwrap()),
            follows: stages.iter().map(|stage| name(stage)).collect(),
            uses: uses.iter().map(|used| name(used)).collect(),
        }
    }

    fn of(fleets: &Fleets, part: &str) -> Vec<String> {
        let mut found: Vec<String> = fleets.of(&name(part)).map(ToString::to_string).collect();
        found.sort();
        found
    }

    #[test]
    fn parts_follow_the_stages_that_use_them_and_leave_with_the_last() {
        let mut fleets = Fleets::default();
        fleets.link(&name("route/a/r"), Some(links(None, &["stage/a/one", "stage/a/two"], &["upstream/a/s:80"])));
        assert_eq!(of(&fleets, "route/a/r"), [""; 0]);
        fleets.link(&name("stage/a/one"), Some(links(Some("edge"), &[], &["certificate/a/tls"])));
        fleets.link(&name("stage/a/two"), Some(links(Some("inner"), &[], &[])));
        for part in ["route/a/r", "upstream/a/s:80"] {
            assert_eq!(of(&fleets, part), ["edge", "inner"]);
        }
        assert_eq!(of(&fleets, "certificate/a/tls"), ["edge"]);
        fleets.take_moved();
        fleets.link(&name("stage/a/one"), Some(links(Some("inner"), &[], &["certificate/a/tls"])));
        for part in ["route/a/r", "upstream/a/s:80", "certificate/a/tls"] {
            assert_eq!(of(&fleets, part), ["inner"]);
        }
        let moved: Vec<String> = fleets.take_moved().iter().map(ToString::to_string).collect();
        assert_eq!(moved, ["stage/a/one", "route/a/r", "upstream/a/s:80", "certificate/a/tls"]);
        fleets.link(&name("stage/a/one"), None);
        assert_eq!(of(&fleets, "certificate/a/tls"), [""; 0]);
        assert_eq!(of(&fleets, "route/a/r"), ["inner"]);
        fleets.link(&name("stage/a/two"), None);
        fleets.link(&name("route/a/r"), None);
        assert!(fleets.members.is_empty() && fleets.attached.is_empty() && fleets.links.is_empty());
    }

    fn change() -> impl Strategy<Value = (usize, u8, u8, u8)> {
        (0..12_usize, any::<u8>(), any::<u8>(), any::<u8>())
    }

    /// Three Stages, three routes, three upstreams and three Principals, linked as bits say.
    fn linked(part: usize, fleet: u8, stages: u8, uses: u8) -> (PartName, Option<Links>) {
        let chosen = |bits: u8, kind: &str| -> Vec<PartName> {
            (0..3).filter(|n| bits & (1 << n) != 0).map(|n| name(&format!("{kind}/a/x{n}"))).collect()
        };
        let fleet_name = (["one", "two", "three"][usize::from(fleet % 3)]).parse().unwrap();
        let (kind, links) = match part / 3 {
            0 => ("stage", Links { fleet: Some(fleet_name), follows: vec![], uses: chosen(uses >> 4, "certificate") }),
            1 => ("route", Links { fleet: None, follows: chosen(stages, "stage"), uses: chosen(uses, "upstream") }),
            2 => ("upstream", Links::default()),
            // As Principals, which follow what routes use.
            _ => ("principal", Links { fleet: None, follows: chosen(stages, "upstream"), uses: vec![] }),
        };
        (name(&format!("{kind}/a/x{}", part % 3)), (fleet % 4 != 3).then_some(links))
    }

    proptest! {
        #[test]
        fn any_order_of_changes_leads_to_the_fleets_of_the_last_links(changes in prop::collection::vec(change(), 1..40)) {
            let mut fleets = Fleets::default();
            let mut last: BTreeMap<PartName, Option<Links>> = BTreeMap::new();
            for (part, fleet, stages, uses) in changes {
                let (name, links) = linked(part, fleet, stages, uses);
                fleets.link(&name, links.clone());
                last.insert(name, links);
            }
            let mut fresh = Fleets::default();
            for (name, links) in last {
                fresh.link(&name, links);
            }
            let sorted = |fleets: &Fleets| -> BTreeMap<PartName, BTreeMap<FleetName, usize>> {
                fleets.members.iter().map(|(name, m)| (name.clone(), m.iter().cloned().collect())).collect()
            };
            prop_assert_eq!(sorted(&fleets), sorted(&fresh));
            prop_assert_eq!(&fleets.attached, &fresh.attached);
        }
    }
}
