//! One object of any kind.

use std::sync::Arc;

use k8s_openapi::api::core::v1::ObjectReference;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::Resource as _;
use serde::Deserialize as _;
use serde_json::Value;
use sluice_crds::principal::{AccessKeyStatus, MAX_STATUS_KEYS};
use sluice_crds::stage::{ClaimedBasePath, ClaimedHostname};

use crate::objects::key::ObjectKey;
use crate::objects::table::{Kind, Tabled as _, for_kind, kinds};
use crate::objects::watched::Watched as _;

macro_rules! define_object {
    (
        own { $($own:ident: $own_type:ty, $own_store:ident, $own_watch:ident;)* }
        others { $($other:ident: $other_type:ty, $other_store:ident, $other_watch:ident;)* }
    ) => {
        /// One object of any kind.
        #[derive(Clone, Debug)]
        #[allow(missing_docs, reason = "the names are the kinds")]
        pub enum Object {
            $($own(Arc<$own_type>),)*
            $($other(Arc<$other_type>),)*
            /// An object that cannot be parsed as its kind.
            Unparsable(Kind, ObjectKey, Unparsable),
        }

        $(impl From<$own_type> for Object {
            fn from(object: $own_type) -> Self {
                Self::$own(Arc::new(object))
            }
        })*
        $(impl From<$other_type> for Object {
            fn from(object: $other_type) -> Self {
                Self::$other(Arc::new(object))
            }
        })*

        $(impl From<Arc<$own_type>> for Object {
            fn from(object: Arc<$own_type>) -> Self {
                Self::$own(object)
            }
        })*
        $(impl From<Arc<$other_type>> for Object {
            fn from(object: Arc<$other_type>) -> Self {
                Self::$other(object)
            }
        })*

        impl Object {
            /// Its kind and key.
            #[must_use]
            pub fn identity(&self) -> (Kind, ObjectKey) {
                match self {
                    $(Self::$own(object) => (<$own_type>::KIND, ObjectKey::of(&**object)),)*
                    $(Self::$other(object) => (<$other_type>::KIND, ObjectKey::of(&**object)),)*
                    Self::Unparsable(kind, key, _) => (*kind, key.clone()),
                }
            }
        }
    };
}
kinds!(define_object);

macro_rules! define_dispatch {
    (
        ($d:tt)
        own { $($own:ident: $own_type:ty, $own_store:ident, $own_watch:ident;)* }
        others { $($other:ident: $other_type:ty, $other_store:ident, $other_watch:ident;)* }
    ) => {
        /// `for_own_object!(object, typed => expression)`: an option, which is none for objects of other kinds as well.
        macro_rules! for_own_object {
            ($d object:expr, $d typed:ident => $d body:expr) => {
                match $d object {
                    $($crate::objects::object::Object::$own($d typed) => Some($d body),)*
                    _ => None,
                }
            };
        }

        /// `for_object!(object, typed => expression)`: an option, which is none for an object that cannot be parsed.
        macro_rules! for_object {
            ($d object:expr, $d typed:ident => $d body:expr) => {
                match $d object {
                    $($crate::objects::object::Object::$own($d typed) => Some($d body),)*
                    $($crate::objects::object::Object::$other($d typed) => Some($d body),)*
                    $crate::objects::object::Object::Unparsable(..) => None,
                }
            };
        }
    };
}
kinds!(define_dispatch ($));
pub(crate) use for_own_object;

/// What is known of an object that cannot be parsed as its kind.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unparsable {
    /// Its generation, for the status.
    pub generation: Option<i64>,
    /// Its UID, which distinguishes it from earlier objects of the same name.
    pub uid: Option<String>,
    /// When it was created.
    pub created: Option<Time>,
    /// If it is a Stage whose list of hosts can be read: the list and the fleet.
    pub stage: Option<Box<UnparsableStage>>,
    /// If it is a Principal: the access keys that its status lists.
    pub access_keys: Vec<AccessKeyStatus>,
    /// What is wrong, for the object's author.
    pub why: String,
}

impl Unparsable {
    /// What can be read of an object in a JSON value that cannot be parsed as its kind.
    #[must_use]
    pub fn read(kind: Kind, object: &Value, why: String) -> Self {
        let meta = object.get("metadata").cloned().unwrap_or_default();
        let meta: ObjectMeta = serde_json::from_value(meta).unwrap_or_default();
        Self {
            generation: meta.generation,
            uid: meta.uid,
            created: meta.creation_timestamp,
            stage: UnparsableStage::read(kind, object).map(Box::new),
            access_keys: recorded_access_keys(kind, object),
            why,
        }
    }
}

/// What is known of a Stage that cannot be parsed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct UnparsableStage {
    /// The hosts that it lists.
    pub hostnames: Vec<String>,
    /// The name of the fleet that serves it.
    pub fleet: Option<String>,
    /// The claims that its status records.
    pub claimed: Vec<ClaimedHostname>,
    /// The claim of a base path that its status records.
    pub claimed_base_path: Option<ClaimedBasePath>,
}

impl UnparsableStage {
    /// None for objects of other kinds, and if the list of hosts cannot be read. An absent list is an empty one.
    pub(crate) fn read(kind: Kind, object: &Value) -> Option<Self> {
        if kind != Kind::Stage {
            return None;
        }
        let spec = object.get("spec")?.as_object()?;
        let list = spec.get("hostnames").map_or(Some(&[][..]), |list| list.as_array().map(Vec::as_slice))?;
        let hostnames: Vec<String> = list.iter().filter_map(Value::as_str).map(str::to_owned).collect();
        let fleet = spec.get("fleet").and_then(|fleet| fleet.get("name")).and_then(Value::as_str).map(str::to_owned);
        let status = object.get("status");
        let claimed = status.and_then(|status| status.get("hostnames")).and_then(Value::as_array);
        let claimed = claimed.into_iter().flatten().filter_map(|one| ClaimedHostname::deserialize(one).ok()).collect();
        let claimed_base_path = status.and_then(|status| ClaimedBasePath::deserialize(status.get("basePath")?).ok());
        (list.is_empty() || !hostnames.is_empty()).then_some(Self { hostnames, fleet, claimed, claimed_base_path })
    }
}

/// The access keys that the status of a Principal lists, in a JSON value that cannot be parsed.
pub(crate) fn recorded_access_keys(kind: Kind, object: &Value) -> Vec<AccessKeyStatus> {
    let status = object.get("status").filter(|_| kind == Kind::Principal);
    let listed = status.and_then(|status| status.get("accessKeys")).and_then(Value::as_array);
    let keys = listed.into_iter().flatten().filter_map(|one| AccessKeyStatus::deserialize(one).ok());
    keys.take(MAX_STATUS_KEYS).collect()
}

impl Object {
    /// The object of that kind in a JSON value.
    ///
    /// # Errors
    /// The value is no object of the kind.
    pub fn parse(kind: Kind, value: Value) -> serde_json::Result<Self> {
        for_kind!(kind, K => serde_json::from_value::<K>(value).map(Self::from))
    }

    /// The objects of kinds that are watched by name that it names.
    #[must_use]
    pub fn names(&self) -> Vec<(Kind, ObjectKey)> {
        for_object!(self, object => object.names()).unwrap_or_default()
    }

    /// Its metadata; none when it cannot be parsed.
    #[must_use]
    pub fn meta(&self) -> Option<&ObjectMeta> {
        for_object!(self, object => object.meta())
    }

    /// Its UID.
    #[must_use]
    pub fn uid(&self) -> Option<String> {
        match self {
            Self::Unparsable(_, _, unparsable) => unparsable.uid.clone(),
            object => object.meta().and_then(|meta| meta.uid.clone()),
        }
    }

    /// The access keys that its status lists; none of an object that is no Principal.
    #[must_use]
    pub fn recorded_access_keys(&self) -> &[AccessKeyStatus] {
        match self {
            Self::Principal(principal) => principal.status.as_ref().map_or(&[], |status| &status.access_keys),
            Self::Unparsable(_, _, unparsable) => &unparsable.access_keys,
            _ => &[],
        }
    }

    /// The reference that an Event carries; none when it cannot be parsed.
    #[must_use]
    pub fn reference(&self) -> Option<ObjectReference> {
        for_object!(self, object => object.object_ref(&()))
    }
}
