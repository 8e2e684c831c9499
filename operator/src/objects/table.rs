//! The table of kinds. A new kind is one row here, one file in this directory with its `Watched`, and, if users of Sluice
//! write it and it has a status, one file in `translate` with its `Translate`.
//!
//! The rows generate [`Kind`], `Object`, the stores of `cluster_state`, and the dispatch of watches, of the
//! manifest reader, of translation and of statuses.

use std::fmt;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::Resource;
use serde::de::DeserializeOwned;
use sluice_wire::ObjectRef;

use crate::objects::key::ObjectKey;
use crate::objects::scope::{KnownScope, Watch};

/// Hands the table to the macro `$then`. A row is: kind, type, name of its store, how it is watched.
macro_rules! kinds {
    ($then:ident $($arguments:tt)*) => {
        $then! {
            $($arguments)*
            // Kinds that users of Sluice write, with a status.
            own {
                Stage: sluice_crds::Stage, stages, Always;
                ApiRoute: sluice_crds::ApiRoute, api_routes, Always;
                Authorizer: sluice_crds::Authorizer, authorizers, Always;
                Principal: sluice_crds::Principal, principals, Always;
                ApiKey: sluice_crds::ApiKey, api_keys, Always;
                UsagePlan: sluice_crds::UsagePlan, usage_plans, Always;
            }
            // Kinds of others, which the operator only reads.
            others {
                Service: k8s_openapi::api::core::v1::Service, services, Always;
                EndpointSlice: k8s_openapi::api::discovery::v1::EndpointSlice, endpoint_slices, Always;
                Secret: k8s_openapi::api::core::v1::Secret, secrets, ByName;
                ConfigMap: k8s_openapi::api::core::v1::ConfigMap, config_maps, ByName;
                Namespace: k8s_openapi::api::core::v1::Namespace, namespaces, Always;
                ReferenceGrant: crate::gateway_api::ReferenceGrant, reference_grants, WhenServed;
            }
        }
    };
}
pub(crate) use kinds;

macro_rules! define_kind {
    (
        own { $($own:ident: $own_type:ty, $own_store:ident, $own_watch:ident;)* }
        others { $($other:ident: $other_type:ty, $other_store:ident, $other_watch:ident;)* }
    ) => {
        /// The kinds of objects that the operator watches.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        #[allow(missing_docs, reason = "the names are the kinds")]
        pub enum Kind { $($own,)* $($other,)* }

        impl Kind {
            /// Every kind.
            pub const ALL: &[Self] = &[$(Self::$own,)* $(Self::$other,)*];
            /// The kinds that users of Sluice write and whose status the operator reports.
            pub const OWN: &[Self] = &[$(Self::$own,)*];

            /// The name as manifests write it.
            #[must_use]
            pub const fn as_str(self) -> &'static str {
                match self {
                    $(Self::$own => stringify!($own),)*
                    $(Self::$other => stringify!($other),)*
                }
            }

            /// How objects of the kind are watched.
            #[must_use]
            pub const fn watch(self) -> Watch {
                match self {
                    $(Self::$own => Watch::$own_watch,)*
                    $(Self::$other => Watch::$other_watch,)*
                }
            }
        }

        $(impl Tabled for $own_type { const KIND: Kind = Kind::$own; })*
        $(impl Tabled for $other_type { const KIND: Kind = Kind::$other; })*

        $(impl Own for $own_type {
            fn conditions(&self) -> &[Condition] {
                self.status.as_ref().map_or(&[], |status| &status.conditions)
            }

            fn observed_generation(&self) -> Option<i64> {
                self.status.as_ref().and_then(|status| status.observed_generation)
            }
        })*
    };
}
kinds!(define_kind);

/// A kind that has a row in the table.
pub trait Tabled: Resource<DynamicType = (), Scope: KnownScope> + DeserializeOwned + Send + Sync + 'static {
    /// The kind.
    const KIND: Kind;
}

/// A kind that users of Sluice write and whose status the operator reports.
pub trait Own: Tabled {
    /// The conditions that the status has now.
    fn conditions(&self) -> &[Condition];
    /// The generation that the status is about.
    fn observed_generation(&self) -> Option<i64>;
}

macro_rules! define_dispatch {
    (
        ($d:tt)
        own { $($own:ident: $own_type:ty, $own_store:ident, $own_watch:ident;)* }
        others { $($other:ident: $other_type:ty, $other_store:ident, $other_watch:ident;)* }
    ) => {
        /// `for_kind!(kind, K => expression)`: the expression with `K` as the type of the kind.
        macro_rules! for_kind {
            ($d kind:expr, $d K:ident => $d body:expr) => {
                match $d kind {
                    $($crate::objects::table::Kind::$own => { type $d K = $own_type; $d body })*
                    $($crate::objects::table::Kind::$other => { type $d K = $other_type; $d body })*
                }
            };
        }

        /// `for_own_kind!(kind, K => expression)`: the same as an option, which is none for kinds of others.
        macro_rules! for_own_kind {
            ($d kind:expr, $d K:ident => $d body:expr) => {
                match $d kind {
                    $($crate::objects::table::Kind::$own => { type $d K = $own_type; Some($d body) })*
                    _ => None,
                }
            };
        }
    };
}
kinds!(define_dispatch ($));
pub(crate) use {for_kind, for_own_kind};

impl Kind {
    /// The kind of that name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().copied().find(|kind| kind.as_str() == name)
    }

    /// Whether users of Sluice write it and the operator reports its status.
    #[must_use]
    pub fn is_own(self) -> bool {
        Self::OWN.contains(&self)
    }

    /// Group and version, as manifests write them.
    #[must_use]
    pub fn api_version(self) -> String {
        for_kind!(self, K => K::api_version(&()).into_owned())
    }

    /// The API group; empty for the core group.
    #[must_use]
    pub fn group(self) -> String {
        for_kind!(self, K => K::group(&()).into_owned())
    }

    /// The name of the resource in URLs and in RBAC rules.
    #[must_use]
    pub fn plural(self) -> String {
        for_kind!(self, K => K::plural(&()).into_owned())
    }

    /// Whether its objects are in namespaces.
    #[must_use]
    pub fn is_namespaced(self) -> bool {
        for_kind!(self, K => <K as Resource>::Scope::NAMESPACED)
    }

    /// The reference to an object of this kind.
    #[must_use]
    pub fn object(self, key: &ObjectKey) -> ObjectRef {
        ObjectRef::new(self.as_str(), key.namespace.clone(), key.name.clone())
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    #[test]
    fn every_kind_is_named_as_its_type_is_and_found_by_that_name() {
        for kind in Kind::ALL {
            assert_eq!(for_kind!(*kind, K => K::kind(&()).into_owned()), kind.as_str());
            assert_eq!(Kind::named(kind.as_str()), Some(*kind));
        }
    }

    #[test]
    fn the_charts_rules_let_the_operator_watch_every_kind_and_patch_the_status_of_its_own() {
        let file = concat!(env!("CARGO_MANIFEST_DIR"), "/../charts/sluice/files/operator-rules.yaml");
        let rules: Vec<Value> = serde_saphyr::from_str(&std::fs::read_to_string(file).unwrap()).unwrap();
        let strings = |rule: &Value, field: &str| -> Vec<String> {
            let texts = rule[field].as_array().into_iter().flatten();
            texts.map(|text| text.as_str().unwrap().to_owned()).collect()
        };
        let mut rights = BTreeSet::new();
        for rule in &rules {
            for group in strings(rule, "apiGroups") {
                for resource in strings(rule, "resources") {
                    rights
                        .extend(strings(rule, "verbs").into_iter().map(|verb| (verb, group.clone(), resource.clone())));
                }
            }
        }
        for kind in Kind::ALL {
            let mut needed = vec![("list", kind.plural()), ("watch", kind.plural())];
            if kind.is_own() {
                needed.push(("patch", format!("{}/status", kind.plural())));
            }
            for (verb, resource) in needed {
                let right = (verb.to_owned(), kind.group(), resource);
                assert!(rights.contains(&right), "{file} does not grant {right:?}");
            }
        }
    }
}
