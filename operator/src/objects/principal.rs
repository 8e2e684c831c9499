//! Principal as a watched kind. `translate` has its translation.

use serde_json::Value;
use sluice_crds::Principal;
use sluice_crds::principal::{SECRET_NAME_SUFFIX, SESSION_SECRET_NAME_SUFFIX};

use crate::objects::key::ObjectKey;
use crate::objects::table::Kind;
use crate::objects::watched::{Watched, same_own};

impl Watched for Principal {
    fn same(&self, other: &Self) -> bool {
        // The ids in the status decide which Principal has an id that several list.
        self.spec == other.spec
            && same_own(&self.metadata, &other.metadata)
            && recorded_ids(self).eq(recorded_ids(other))
    }

    /// Principals are looked up by namespace, for the Authorizers that accept them.
    fn group(&self) -> Option<ObjectKey> {
        Some(principals_of(&ObjectKey::of(self).namespace))
    }

    fn names(&self) -> Vec<(Kind, ObjectKey)> {
        let key = ObjectKey::of(self);
        let secrets = access_key_secrets(self).into_iter().map(|(_, secret)| (Kind::Secret, secret));
        let secrets = secrets.chain(session_secret(self).map(|secret| (Kind::Secret, secret)));
        let documents = self.spec.policies.iter().filter_map(|policy| policy.config_map.as_ref());
        secrets.chain(documents.map(|named| (Kind::ConfigMap, key.target(&named.object)))).collect()
    }

    fn manifest_schema() -> Option<Value> {
        None
    }
}

/// The ids of the access keys that its status lists.
pub(crate) fn recorded_ids(principal: &Principal) -> impl Iterator<Item = &str> {
    principal.status.iter().flat_map(|status| &status.access_keys).map(|key| key.id.as_str())
}

/// The Secrets that hold a Principal's access keys, each with the field that names it: those it refers to, or the one that the
/// operator creates. A role has none.
#[must_use]
pub fn access_key_secrets(principal: &Principal) -> Vec<(String, ObjectKey)> {
    let key = ObjectKey::of(principal);
    if !principal.spec.trust.is_empty() {
        return Vec::new();
    }
    if principal.spec.access_keys.is_empty() {
        return vec![("spec.accessKeys".to_owned(), generated_access_key(&key))];
    }
    let named = principal.spec.access_keys.iter().enumerate();
    named.map(|(at, named)| (format!("spec.accessKeys[{at}].secret"), key.target(&named.secret))).collect()
}

/// The group of the Principals of a namespace. No object has this key.
#[must_use]
pub fn principals_of(namespace: &str) -> ObjectKey {
    ObjectKey::new(namespace, "")
}

/// The Secret that the operator creates for a Principal that refers to none.
#[must_use]
pub fn generated_access_key(principal: &ObjectKey) -> ObjectKey {
    ObjectKey::new(principal.namespace.clone(), format!("{}{SECRET_NAME_SUFFIX}", principal.name))
}

/// The Secret that the operator creates for a role, with what its session tokens depend on; none: the Principal is no role.
#[must_use]
pub fn session_secret(principal: &Principal) -> Option<ObjectKey> {
    let key = ObjectKey::of(principal);
    let name = format!("{}{SESSION_SECRET_NAME_SUFFIX}", key.name);
    (!principal.spec.trust.is_empty()).then(|| ObjectKey::new(key.namespace, name))
}
