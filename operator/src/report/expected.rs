//! How many proxies there were before the operator restarted. While proxies reconnect, an object is not programmed with fewer
//! of them: the others still serve, and nothing is known of what.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use sluice_crds::condition::{self, PROGRAMMED};
use sluice_wire::FleetName;

use crate::translate::DesiredStatus;

/// The numbers of proxies that statuses reported when the operator started.
#[derive(Clone, Debug, Default)]
pub(crate) struct ExpectedProxies(BTreeMap<FleetName, usize>);

impl ExpectedProxies {
    /// From the fleets of Stages, and the number of proxies in the status of each.
    pub(crate) fn of(stages: impl IntoIterator<Item = (FleetName, usize)>) -> Self {
        let mut fleets = BTreeMap::new();
        for (fleet, proxies) in stages {
            let most: &mut usize = fleets.entry(fleet).or_default();
            *most = proxies.max(*most);
        }
        Self(fleets)
    }

    /// The number of proxies that have to serve an object, as far as it was reported: by Stages of its fleets, or by its own
    /// conditions.
    pub(crate) fn for_object(&self, desired: &DesiredStatus, present: &[Condition]) -> usize {
        let counts = |fleet: &FleetName| desired.fleets.is_empty() || desired.fleets.contains(fleet);
        let of_fleets = self.0.iter().filter(|(fleet, _)| counts(fleet)).map(|(_, proxies)| proxies).sum();
        reported(present).unwrap_or_default().max(of_fleets)
    }
}

/// The second number of `1 of 2 proxies`.
fn reported(present: &[Condition]) -> Option<usize> {
    let (_, rest) = condition::find(present, PROGRAMMED)?.message.split_once(" of ")?;
    rest.split(' ').next()?.parse().ok()
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::json;

    use super::*;
    use crate::translate::{Detail, Served};

    #[test]
    fn an_object_expects_the_proxies_of_its_fleets_or_those_that_it_reported() {
        let name = |text: &str| text.parse::<FleetName>().unwrap();
        let expected = ExpectedProxies::of([(name("default"), 2), (name("edge"), 3), (name("default"), 1)]);
        for (fleets, message, count) in [
            (&["default"][..], None, 2),
            (&["edge"], None, 3),
            (&["default", "edge"], None, 5),
            (&[], None, 5),
            (&["new"], None, 0),
            (&["new"], Some("4 of 4 proxies"), 4),
            (&["default"], Some("1 of 1 proxies"), 2),
            (&["default"], Some("1 of 7 proxies. Proxy a rejected the whole configuration."), 7),
            (&["default"], Some("No proxy of the fleet edge is connected (1 of 9 proxies of other fleets)."), 2),
            (&["default"], Some("This object is not served: see Accepted and ResolvedRefs."), 2),
        ] {
            let desired = DesiredStatus {
                conditions: Vec::new(),
                generation: Some(1),
                parts: BTreeSet::new(),
                fleets: fleets.iter().map(|fleet| name(fleet)).collect(),
                served: Served::Yes,
                detail: Detail::None,
                warnings: Vec::new(),
                problems: Vec::new(),
                stages: Vec::new(),
            };
            let present = message.map(|message| {
                let condition = json!({"type": "Programmed", "status": "True", "reason": "Programmed",
                    "message": message, "lastTransitionTime": "2026-01-01T00:00:00Z"});
                serde_json::from_value::<Condition>(condition).unwrap()
            });
            let present: Vec<Condition> = present.into_iter().collect();
            assert_eq!(expected.for_object(&desired, &present), count, "{fleets:?} {message:?}");
        }
    }
}
