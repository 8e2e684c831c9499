//! The status that an object should have, as far as it depends on translation. `publish` adds what the connected
//! proxies serve; `report` writes it.

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use k8s_openapi::jiff::Timestamp;
use sluice_crds::condition;
use sluice_wire::{FleetName, PartName};

use crate::objects::ObjectKey;
use crate::translate::caller::Caller;
use crate::warning::Warning;

/// The status that an object should have, apart from what the connected proxies add.
#[derive(Clone, Debug, PartialEq)]
pub struct DesiredStatus {
    /// `Accepted` and `ResolvedRefs`.
    pub conditions: Vec<condition::DesiredCondition>,
    /// The generation that was translated.
    pub generation: Option<i64>,
    /// The parts that decide whether a proxy runs this generation: it must have those of them that the configuration of its
    /// fleet has, and none of the others.
    pub parts: BTreeSet<PartName>,
    /// The fleets whose proxies need the object; empty: no Stage uses it.
    pub fleets: BTreeSet<FleetName>,
    /// Whether the proxies were given anything for this object to run.
    pub served: Served,
    /// The fields of the status besides conditions.
    pub detail: Detail,
    /// What is valid, but probably not what was meant.
    pub warnings: Vec<Warning>,
    /// The reasons of its problems.
    pub problems: Vec<&'static str>,
    /// Of a route: the same for each Stage that it names.
    pub stages: Vec<(ObjectKey, DesiredStatus)>,
}

/// Whether any part of an object is served.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Served {
    /// It is served, or it has nothing to serve.
    Yes,
    /// Its problems leave nothing to serve.
    Nothing,
}

/// The fields that the statuses of some kinds have besides conditions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Detail {
    /// Nothing.
    None,
    /// Of a Stage.
    Stage {
        /// The number of rules of all ApiRoutes that it serves.
        rules: usize,
        /// What it claims.
        claims: StageClaims,
    },
    /// Of an ApiRoute.
    ApiRoute {
        /// The number of its rules that at least one Stage serves.
        rules: usize,
    },
    /// Of an ApiKey.
    ApiKey {
        /// The first characters of the key.
        prefix: Option<String>,
        /// The Secret that holds it.
        secret: String,
        /// Whether the operator must generate that Secret.
        must_generate: bool,
    },
    /// Of a Principal.
    Principal {
        /// The ids of the access keys that proxies accept.
        access_key_ids: Vec<String>,
        /// The ids that its status lists and that no other Principal can take.
        kept_ids: Vec<String>,
        /// Its ARN; empty if the object cannot be parsed.
        arn: String,
        /// Whether the operator must generate the Secret with its access key, or with its session key.
        must_generate: bool,
        /// What the token service needs to know of it; none: it is not valid.
        caller: Option<Arc<Caller>>,
    },
}

impl Detail {
    /// Whether the operator must generate a Secret for the object.
    #[must_use]
    pub fn must_generate(&self) -> bool {
        matches!(self, Self::ApiKey { must_generate: true, .. } | Self::Principal { must_generate: true, .. })
    }
}

/// What a Stage claims, with the times that its status should record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct StageClaims {
    /// Its host names; `*` for the hosts that no Stage lists.
    pub hostnames: Vec<(String, ClaimTime)>,
    /// Its base path in its fleet, if both are valid.
    pub base_path: Option<(String, FleetName, ClaimTime)>,
}

/// Since when a claim counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimTime {
    /// As the status records it.
    Since(Timestamp),
    /// The time when the status is written.
    Now,
    /// It is recorded after a claim that comes before it.
    Later,
}

impl StageClaims {
    /// Whether a time is recorded with the next status.
    #[must_use]
    pub fn has_new(&self) -> bool {
        let path = self.base_path.iter().map(|(_, _, time)| time);
        self.hostnames.iter().map(|(_, time)| time).chain(path).any(|time| *time == ClaimTime::Now)
    }
}

/// As one line for people.
impl fmt::Display for Detail {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::None => Ok(()),
            Self::Stage { rules: 1, .. } | Self::ApiRoute { rules: 1 } => f.write_str("1 rule"),
            Self::Stage { rules, .. } | Self::ApiRoute { rules } => write!(f, "{rules} rules"),
            Self::ApiKey { prefix: Some(prefix), secret, .. } => write!(f, "{prefix} in Secret {secret}"),
            Self::ApiKey { prefix: None, secret, .. } => write!(f, "Secret {secret}"),
            Self::Principal { access_key_ids, arn, .. } if access_key_ids.is_empty() => f.write_str(arn),
            Self::Principal { access_key_ids, arn, .. } => write!(f, "{arn} with {}", access_key_ids.join(", ")),
        }
    }
}
