//! Which Stage has which host: what a Stage claims, since when, and to whom it loses a claim. `conflicts` has the order of
//! claims; `report` writes the times to the statuses of Stages.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sluice_crds::Stage;
use sluice_crds::stage::{ClaimedBasePath, ClaimedHostname};
use sluice_wire::{FleetName, HostPattern, ParseFleetError};

use crate::objects::{Kind, ObjectKey, UnparsableStage};
use crate::translate::conflicts::{Claim, Claimant, HostName, Since};
use crate::translate::desired::{ClaimTime, StageClaims};
use crate::translate::references::{Referrer, is_permitted};
use crate::translate::view::View;

/// The longest base path.
const MAX_BASE_PATH: usize = 256;
/// The name in statuses of the hosts that no Stage lists.
const OTHER_HOSTS: &str = "*";

/// A base path below a host, in one fleet.
fn claim(fleet: &FleetName, host: &HostName, base_path: &str) -> Claim {
    Claim::Host { fleet: fleet.clone(), host: host.clone(), base_path: base_path.to_owned() }
}

/// The fleet that serves the Stage. With an invalid name no fleet does.
pub(crate) fn fleet(stage: &Stage) -> Result<FleetName, ParseFleetError> {
    stage.spec.fleet.as_ref().map_or_else(|| Ok(FleetName::default()), |fleet| fleet.name.parse())
}

/// The host names of a Stage; the hosts that no Stage names, when it has none.
pub(crate) fn names(hostnames: &[String]) -> Vec<HostName> {
    if hostnames.is_empty() {
        return vec![HostName::any()];
    }
    let hosts = hostnames.iter().filter_map(|host| host.parse::<HostPattern>().ok());
    hosts.map(|host| HostName::from(&host)).collect()
}

/// The host names that the Stage claims, and its base path below each of them. A wrong base path or fleet gives up no name, so that
/// no other namespace takes it over.
pub(crate) fn claims(stage: &Stage) -> BTreeSet<Claim> {
    let base_path = &stage.spec.base_path;
    let names = names(&stage.spec.hostnames);
    let mut claims: BTreeSet<Claim> = names.iter().cloned().map(Claim::Name).collect();
    if base_path_problem(base_path).is_none()
        && let Ok(fleet) = fleet(stage)
    {
        claims.extend(names.iter().map(|host| claim(&fleet, host, base_path)));
    }
    claims
}

/// The times that the status of a Stage records.
pub(crate) struct Recorded<'a> {
    hostnames: &'a [ClaimedHostname],
    base_path: Option<&'a ClaimedBasePath>,
}

impl<'a> Recorded<'a> {
    pub(crate) fn of(stage: &'a Stage) -> Self {
        let status = stage.status.as_ref();
        Self {
            hostnames: status.map(|status| status.hostnames.as_slice()).unwrap_or_default(),
            base_path: status.and_then(|status| status.base_path.as_ref()),
        }
    }

    pub(crate) fn of_unparsable(stage: Option<&'a UnparsableStage>) -> Self {
        Self {
            hostnames: stage.map(|stage| stage.claimed.as_slice()).unwrap_or_default(),
            base_path: stage.and_then(|stage| stage.claimed_base_path.as_ref()),
        }
    }

    /// Since when the Stage has a claim. It has a base path on a host only as long as it has both.
    pub(crate) fn since(&self, claim: &Claim) -> Since {
        match claim {
            Claim::Name(host) => self.since_of_name(host),
            Claim::Host { fleet, host, base_path } => {
                let same = |found: &&ClaimedBasePath| found.path == *base_path && found.fleet == fleet.as_str();
                let own = self.base_path.filter(same).map_or(Since::Unrecorded, |found| Since::At(found.since.0));
                own.max(self.since_of_name(host))
            }
            Claim::Operation(_) | Claim::Key(_) | Claim::AccessKey(_) => Since::Unrecorded,
        }
    }

    fn since_of_name(&self, host: &HostName) -> Since {
        let found = self.hostnames.iter().find(|found| host_name(&found.name).as_ref() == Some(host));
        found.map_or(Since::Unrecorded, |found| Since::At(found.since.0))
    }

    /// The values as a status has them, sorted by name.
    pub(crate) fn as_status(&self) -> Value {
        let mut hostnames: Vec<&ClaimedHostname> = self.hostnames.iter().collect();
        hostnames.sort_by(|a, b| a.name.cmp(&b.name));
        let hostnames = (!hostnames.is_empty()).then_some(hostnames);
        json!({"hostnames": hostnames, "basePath": self.base_path})
    }
}

fn host_name(text: &str) -> Option<HostName> {
    if text == OTHER_HOSTS {
        return Some(HostName::any());
    }
    text.parse::<HostPattern>().ok().map(|host| HostName::from(&host))
}

/// The times of a Stage's claims, as its status should record them.
pub(crate) fn times(view: &View<'_>, key: &ObjectKey, hostnames: &[String], recorded: &Recorded<'_>) -> StageClaims {
    let time = |claim: &Claim| match recorded.since(claim) {
        Since::At(since) => ClaimTime::Since(since),
        Since::Unrecorded if view.claims.may_record(claim, Kind::Stage, key) => ClaimTime::Now,
        Since::Unrecorded => ClaimTime::Later,
    };
    let listed = hostnames.iter().filter_map(|host| host.parse::<HostPattern>().ok());
    let mut names: BTreeSet<String> = listed.map(|host| host.to_string()).collect();
    if hostnames.is_empty() {
        names.insert(OTHER_HOSTS.to_owned());
    }
    let hostnames = names.into_iter().filter_map(|name| {
        let time = time(&Claim::Name(host_name(&name)?));
        Some((name, time))
    });
    StageClaims { hostnames: hostnames.collect(), base_path: None }
}

/// The same with the base path, which a Stage claims as long as it and the fleet are valid.
pub(crate) fn times_of(view: &View<'_>, key: &ObjectKey, stage: &Stage) -> StageClaims {
    let recorded = Recorded::of(stage);
    let mut claims = times(view, key, &stage.spec.hostnames, &recorded);
    let path = &stage.spec.base_path;
    let Some(fleet) = fleet(stage).ok().filter(|_| base_path_problem(path).is_none()) else { return claims };
    let same = |found: &&ClaimedBasePath| found.path == *path && found.fleet == fleet.as_str();
    let time = match recorded.base_path.filter(same) {
        Some(found) => ClaimTime::Since(found.since.0),
        None => {
            let names = names(&stage.spec.hostnames);
            let may = |host: &HostName| view.claims.may_record(&claim(&fleet, host, path), Kind::Stage, key);
            if names.iter().all(may) { ClaimTime::Now } else { ClaimTime::Later }
        }
    };
    claims.base_path = Some((path.clone(), fleet, time));
    claims
}

/// The same of a Stage that cannot be parsed: the recorded base path is kept.
pub(crate) fn times_of_unparsable(view: &View<'_>, key: &ObjectKey, stage: &UnparsableStage) -> StageClaims {
    let recorded = Recorded::of_unparsable(Some(stage));
    let mut claims = times(view, key, &stage.hostnames, &recorded);
    let base_path = recorded.base_path.and_then(|found| {
        Some((found.path.clone(), found.fleet.parse::<FleetName>().ok()?, ClaimTime::Since(found.since.0)))
    });
    claims.base_path = base_path;
    claims
}

/// The claims as a status has them; `now` is the time of those that are recorded now.
pub(crate) fn as_status(claims: &StageClaims, now: Timestamp) -> Value {
    let at = |time: ClaimTime| match time {
        ClaimTime::Since(since) => Some(MicroTime(since)),
        ClaimTime::Now => Some(MicroTime(now)),
        ClaimTime::Later => None,
    };
    let hostnames = claims
        .hostnames
        .iter()
        .filter_map(|(name, time)| Some(ClaimedHostname { name: name.clone(), since: at(*time)? }));
    let hostnames: Vec<ClaimedHostname> = hostnames.collect();
    let base_path = claims.base_path.as_ref().and_then(|(path, fleet, time)| {
        Some(ClaimedBasePath { path: path.clone(), fleet: fleet.to_string(), since: at(*time)? })
    });
    Recorded { hostnames: &hostnames, base_path: base_path.as_ref() }.as_status()
}

/// Why a Stage does not serve a host that it names.
pub(crate) enum Lost<'a> {
    /// The name belongs to the namespace of this Stage.
    Name(&'a Claimant),
    /// This Stage has the base path there, in the same fleet.
    BasePath(&'a Claimant),
}

/// Whether another Stage has the host. A ReferenceGrant in the owner's namespace, from Stages to Stages, shares the names
/// with another namespace. The conflict between namespaces comes first: a Stage that lost the name takes part
/// in no conflict about base paths.
pub(crate) fn lost<'a>(
    view: &View<'a>,
    key: &ObjectKey,
    fleet: &FleetName,
    host: &HostName,
    base_path: &str,
) -> Option<Lost<'a>> {
    let owner = view.claims.owner(host)?;
    let shares = |with: &ObjectKey| {
        with.namespace == owner.key.namespace
            || is_permitted(view, Referrer::new(Kind::Stage, with), (Kind::Stage, &owner.key))
    };
    if !shares(key) {
        return Some(Lost::Name(owner));
    }
    // The owner's Stages come first, then the first of those that it shares the name with.
    let claim = claim(fleet, host, base_path);
    let own = view.claims.winner_in(&claim, &owner.key.namespace);
    let winner = own.or_else(|| view.claims.claimants(&claim).find(|claimant| shares(&claimant.key)))?;
    (winner.key != *key).then_some(Lost::BasePath(winner))
}

/// Whether any host is left for the Stage, so that routes that attach to it are served at all.
pub(crate) fn is_served(view: &View<'_>, key: &ObjectKey, stage: &Stage) -> bool {
    let base_path = &stage.spec.base_path;
    let Ok(fleet) = fleet(stage) else { return false };
    base_path_problem(base_path).is_none()
        && names(&stage.spec.hostnames).iter().any(|host| lost(view, key, &fleet, host, base_path).is_none())
}

/// The message about a host that another Stage has. A Stage of another namespace is not named, only its namespace.
pub(crate) fn conflict(lost: &Lost<'_>, namespace: &str, host: &str, base_path: &str) -> String {
    match lost {
        Lost::Name(owner) => format!(
            "{host} belongs to namespace {}, where a Stage listed the name, or a wildcard above it, first; use another host name",
            owner.key.namespace
        ),
        Lost::BasePath(winner) => {
            format!("{host} with base path {base_path} belongs to {}", named(winner, namespace))
        }
    }
}

fn named(winner: &Claimant, namespace: &str) -> String {
    if winner.key.namespace == namespace {
        format!("Stage {}, which claimed it first", winner.key)
    } else {
        format!("a Stage of namespace {}", winner.key.namespace)
    }
}

/// The same for a Stage without hostnames, which serves the hosts that no Stage names.
pub(crate) fn conflict_of_other_hosts(lost: &Lost<'_>, namespace: &str, base_path: &str) -> String {
    match lost {
        Lost::Name(owner) => format!(
            "the hosts that no Stage names belong to namespace {}, where a Stage without hostnames was first; list hostnames",
            owner.key.namespace
        ),
        Lost::BasePath(winner) => format!(
            "base path {base_path} of the hosts that no Stage names belongs to {}; list hostnames or choose another base \
             path",
            named(winner, namespace)
        ),
    }
}

pub(crate) fn base_path_problem(path: &str) -> Option<String> {
    let good = |b: u8| b.is_ascii_alphanumeric() || b"-._~".contains(&b);
    let segment = |s: &str| !s.is_empty() && s != "." && s != ".." && s.bytes().all(good);
    let fine = path == "/" || path.strip_prefix('/').is_some_and(|rest| rest.split('/').all(segment));
    (!fine || path.len() > MAX_BASE_PATH).then(|| {
        format!(
            "{path:?} is not a base path: use / or /segment/segment with letters, digits and - . _ ~, without a slash at the end"
        )
    })
}
