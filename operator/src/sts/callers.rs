//! Finds Principals by name, by ARN and by access key id, however many there are. It follows what is published.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, PoisonError, RwLock};

use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::objects::{Kind, ObjectKey};
use crate::publish::Current;
use crate::translate::{Caller, Detail, Statuses};

/// The valid Principals. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Callers(Arc<RwLock<Index>>);

#[derive(Default)]
struct Index {
    /// Whether there was a configuration.
    is_known: bool,
    /// The statuses of that configuration.
    seen: Statuses,
    by_key: HashMap<ObjectKey, Arc<Caller>>,
    /// Principals by their ARN, also those that are not valid: several namespaces may have the same one.
    by_arn: BTreeMap<String, BTreeSet<ObjectKey>>,
    /// The ARN of each Principal.
    arns: HashMap<ObjectKey, String>,
    /// By access key id, which no two Principals have.
    access_keys: HashMap<String, ObjectKey>,
}

/// There was no configuration yet.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct NotReady;

impl Callers {
    fn read<T>(&self, read: impl FnOnce(&Index) -> T) -> Result<T, NotReady> {
        let index = self.0.read().unwrap_or_else(PoisonError::into_inner);
        if index.is_known { Ok(read(&index)) } else { Err(NotReady) }
    }

    /// A Principal.
    pub(super) fn named(&self, key: &ObjectKey) -> Result<Option<Arc<Caller>>, NotReady> {
        self.read(|index| index.by_key.get(key).cloned())
    }

    /// The Principal with an access key.
    pub(super) fn with_access_key(&self, id: &str) -> Result<Option<(ObjectKey, Arc<Caller>)>, NotReady> {
        self.read(|index| {
            let key = index.access_keys.get(id)?;
            Some((key.clone(), index.by_key.get(key)?.clone()))
        })
    }

    /// The roles with an ARN that trust a ServiceAccount. No other namespace can attract its calls: if the ServiceAccount's own
    /// namespace has a Principal with the ARN, also one that is not valid, only that counts; and a role with an ARN that begins with
    /// its namespace (`role/NAMESPACE/...`) comes before others.
    pub(super) fn assumable(&self, arn: &str, account: &ObjectKey) -> Result<Vec<(ObjectKey, Arc<Caller>)>, NotReady> {
        self.read(|index| {
            let Some(named) = index.by_arn.get(arn) else { return Vec::new() };
            let trusts = |caller: &Caller| caller.role.as_ref().is_some_and(|role| role.trusted.contains(account));
            let roles = |of: &dyn Fn(&ObjectKey) -> bool| -> Vec<_> {
                let valid = named.iter().filter(|key| of(key));
                let valid = valid.filter_map(|key| Some((key.clone(), index.by_key.get(key)?.clone())));
                valid.filter(|(_, caller)| trusts(caller)).collect()
            };
            let is_own = |key: &ObjectKey| key.namespace == account.namespace;
            if named.iter().any(is_own) {
                return roles(&is_own);
            }
            let names_itself = |key: &ObjectKey| {
                let path = arn.split_once(":role/").and_then(|(_, path)| path.split_once('/'));
                path.is_some_and(|(first, _)| first == key.namespace)
            };
            let of_its_namespace = roles(&names_itself);
            if of_its_namespace.is_empty() { roles(&|_| true) } else { of_its_namespace }
        })
    }

    /// Follows the published configurations until `stop`.
    pub(super) async fn follow(self, mut current: watch::Receiver<Option<Arc<Current>>>, stop: CancellationToken) {
        loop {
            let published = current.borrow_and_update().clone();
            if let Some(published) = published {
                self.update(&published.statuses);
            }
            tokio::select! {
                changed = current.changed() => if changed.is_err() { return },
                () = stop.cancelled() => return,
            }
        }
    }

    /// Takes over another configuration.
    pub(super) fn update(&self, now: &Statuses) {
        let mut index = self.0.write().unwrap_or_else(PoisonError::into_inner);
        index.is_known = true;
        let before = std::mem::replace(&mut index.seen, now.clone());
        for change in now.since(&before).filter(|change| *change.object.kind == *Kind::Principal.to_string()) {
            let object = change.object;
            let (arn, caller) = match change.now.map(|desired| &desired.detail) {
                Some(Detail::Principal { caller, arn, .. }) => (Some(arn.clone()), caller.clone()),
                _ => (None, None),
            };
            index.set(ObjectKey::new(&*object.namespace, &*object.name), arn, caller);
        }
    }
}

impl Index {
    fn set(&mut self, key: ObjectKey, arn: Option<String>, caller: Option<Arc<Caller>>) {
        if let Some(before) = self.arns.remove(&key)
            && let Some(keys) = self.by_arn.get_mut(&before)
        {
            keys.remove(&key);
            if keys.is_empty() {
                self.by_arn.remove(&before);
            }
        }
        if let Some(arn) = arn {
            self.by_arn.entry(arn.clone()).or_default().insert(key.clone());
            self.arns.insert(key.clone(), arn);
        }
        if let Some(before) = self.by_key.remove(&key) {
            for (id, _) in &before.access_keys {
                // Another Principal may have it already: changes come in no particular order.
                if self.access_keys.get(id) == Some(&key) {
                    self.access_keys.remove(id);
                }
            }
        }
        let Some(caller) = caller else { return };
        for (id, _) in &caller.access_keys {
            self.access_keys.insert(id.clone(), key.clone());
        }
        self.by_key.insert(key, caller);
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;
    use crate::translate::{Role, SecretText};

    pub(crate) const ARN: &str = "arn:aws:iam::000000000000:role/reporting";

    /// A role that trusts ServiceAccounts.
    pub(crate) fn role(arn: &str, trusted: &[(&str, &str)]) -> Arc<Caller> {
        let trusted = trusted.iter().map(|(namespace, name)| ObjectKey::new(*namespace, *name)).collect();
        let seed = SecretText("s".repeat(64));
        let role = Some(Role { trusted, max_duration_s: 7_200, seed });
        Arc::new(Caller { account: "000000000000".into(), arn: arn.into(), access_keys: Vec::new(), role })
    }

    pub(crate) fn user(id: &str, secret: &str) -> Arc<Caller> {
        let access_keys = vec![(id.to_owned(), SecretText(secret.to_owned()))];
        let arn = "arn:aws:iam::000000000000:user/ann".to_owned();
        Arc::new(Caller { account: "000000000000".into(), arn, access_keys, role: None })
    }

    pub(crate) fn callers(all: &[(&str, &str, Arc<Caller>)]) -> Callers {
        let callers = Callers::default();
        let mut index = callers.0.write().unwrap();
        index.is_known = true;
        for (namespace, name, caller) in all {
            index.set(ObjectKey::new(*namespace, *name), Some(caller.arn.clone()), Some(caller.clone()));
        }
        drop(index);
        callers
    }

    fn names(callers: &Callers, arn: &str, account: (&str, &str)) -> Vec<String> {
        let found = callers.assumable(arn, &ObjectKey::new(account.0, account.1)).unwrap();
        found.into_iter().map(|(key, _)| key.to_string()).collect()
    }

    #[test]
    fn a_role_is_found_by_its_arn_for_those_that_it_trusts() {
        let callers = callers(&[
            ("shop", "reporting", role(ARN, &[("shop", "jobs"), ("other", "jobs")])),
            ("evil", "reporting", role(ARN, &[("shop", "jobs"), ("third", "jobs")])),
            ("more", "reporting", role(ARN, &[("third", "jobs")])),
        ]);
        for (account, expected) in [
            (("shop", "jobs"), &["shop/reporting"][..]),
            (("other", "jobs"), &["shop/reporting"]),
            (("third", "jobs"), &["evil/reporting", "more/reporting"]),
            (("shop", "others"), &[]),
            (("reporting", "shop"), &[]),
        ] {
            assert_eq!(names(&callers, ARN, account), expected, "{account:?}");
        }
        assert!(names(&callers, "arn:aws:iam::000000000000:role/other", ("shop", "jobs")).is_empty());
    }

    #[test]
    fn no_other_namespace_attracts_the_calls_of_a_service_account() {
        // The own role trusts it no more, or is not valid.
        let callers = callers(&[("shop", "a", role(ARN, &[])), ("evil", "a", role(ARN, &[("shop", "jobs")]))]);
        assert!(names(&callers, ARN, ("shop", "jobs")).is_empty());
        callers.0.write().unwrap().set(ObjectKey::new("shop", "a"), Some(ARN.to_owned()), None);
        assert!(names(&callers, ARN, ("shop", "jobs")).is_empty());
        // An ARN that begins with the namespace of its role.
        let arn = "arn:aws:iam::000000000000:role/shop/reporting";
        let trusted = &[("jobs", "nightly")][..];
        let callers = self::callers(&[("shop", "a", role(arn, trusted)), ("evil", "a", role(arn, trusted))]);
        assert_eq!(names(&callers, arn, ("jobs", "nightly")), ["shop/a"]);
    }

    #[test]
    fn what_a_principal_had_before_is_gone() {
        let callers = callers(&[("shop", "ann", user("SLCEONE", "x")), ("shop", "role", role(ARN, &[("shop", "a")]))]);
        let set = |name: &str, caller: Option<Arc<Caller>>| {
            let arn = caller.as_ref().map(|caller| caller.arn.clone());
            callers.0.write().unwrap().set(ObjectKey::new("shop", name), arn, caller);
        };
        let id = |id: &str| callers.with_access_key(id).unwrap().map(|(key, _)| key.name.clone());
        assert_eq!(id("SLCEONE").as_deref(), Some("ann"));
        // In another order than it happened.
        set("bob", Some(user("SLCEONE", "y")));
        set("ann", Some(user("SLCETWO", "x")));
        assert_eq!((id("SLCEONE").as_deref(), id("SLCETWO").as_deref()), (Some("bob"), Some("ann")));
        set("role", Some(role("arn:aws:iam::000000000000:role/b", &[("shop", "a")])));
        assert!(names(&callers, ARN, ("shop", "a")).is_empty());
        set("role", None);
        set("bob", None);
        assert_eq!(
            (id("SLCEONE"), names(&callers, "arn:aws:iam::000000000000:role/b", ("shop", "a")).len()),
            (None, 0)
        );
        assert!(callers.named(&ObjectKey::new("shop", "ann")).unwrap().is_some());
    }

    #[test]
    fn nothing_is_known_before_the_first_configuration() {
        let callers = Callers::default();
        assert_eq!(callers.named(&ObjectKey::new("a", "b")).unwrap_err(), NotReady);
        callers.update(&Statuses::default());
        assert!(callers.named(&ObjectKey::new("a", "b")).unwrap().is_none());
    }
}
