//! Principals: whose access keys verify signatures, and whose session tokens are opened. One lookup finds an access key or a role,
//! however many there are.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::atomic::AtomicUsize;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use foldhash::fast::FixedState;
use sluice_iam::{Kind, Options, Policy};
use sluice_sigv4::SigningKey;
use sluice_wire::{PartName, PrincipalPart};

use super::identity::Identity;
use super::role::Role;
use crate::key_use::{KeyUses, LastUse};
use crate::permission::{AwsName, CallerPolicies};

/// Number of shards of the table of access keys: a change copies the shards that it touches.
const SHARDS: usize = 64;
/// Longer than any operator keeps signing keys: what a request is decided by is not remembered.
const LIFETIME: Duration = Duration::from_secs(100 * 365 * 86_400);

/// An access key of a Principal.
pub(crate) struct AccessKey {
    /// The caller whose key it is.
    pub(super) identity: Arc<Identity>,
    /// The Authorizers that accept it.
    authorizers: Arc<[PartName]>,
    /// By `DATE/REGION/SERVICE`, sorted.
    signing_keys: Vec<(Box<str>, SigningKey)>,
    /// When a request was last signed with it.
    pub(super) last_use: Arc<LastUse>,
}

impl AccessKey {
    /// Whether an Authorizer accepts it.
    pub(super) fn is_of(&self, authorizer: &PartName) -> bool {
        self.authorizers.contains(authorizer)
    }

    /// The key that verifies the signatures of a scope; none: the operator has not sent it.
    pub(super) fn signing_key(&self, date: &str, region: &str, service: &str) -> Option<&SigningKey> {
        let scope = scope(date, region, service);
        let at = self.signing_keys.binary_search_by(|(known, _)| (**known).cmp(&scope)).ok()?;
        self.signing_keys.get(at).map(|(_, key)| key)
    }
}

fn scope(date: &str, region: &str, service: &str) -> String {
    [date, region, service].join("/")
}

/// Access keys by id, with the Principals that have them: two are an error. Clients do not choose the ids in the table, so they
/// cannot cause collisions.
type Shard = HashMap<Box<str>, Vec<(PartName, Arc<AccessKey>)>, FixedState>;

/// Every access key, and every role. Clones of the table share their shards.
#[derive(Clone)]
struct Table {
    keys: Vec<Arc<Shard>>,
    /// By the text with which session tokens name them.
    roles: Arc<HashMap<Box<str>, Arc<Role>>>,
}

impl Default for Table {
    fn default() -> Self {
        Self { keys: std::iter::repeat_n(Arc::default(), SHARDS).collect(), roles: Arc::default() }
    }
}

fn shard_of(id: &str) -> usize {
    let sum = id.bytes().fold(0_usize, |sum, byte| sum.wrapping_mul(31).wrapping_add(byte.into()));
    sum % SHARDS
}

/// The access keys of all Principals, which authorizers share. Clones are the same.
#[derive(Clone, Default)]
pub(crate) struct Principals {
    table: Arc<ArcSwap<Table>>,
    key_uses: KeyUses,
    /// The number of sessions of all roles that are remembered.
    sessions: Arc<AtomicUsize>,
}

impl Principals {
    /// When the access keys were last used.
    pub(crate) fn key_uses(&self) -> &KeyUses {
        &self.key_uses
    }

    /// The access key with this id; none: there is none, or several Principals have it.
    pub(super) fn find(&self, id: &str) -> Option<Arc<AccessKey>> {
        let table = self.table.load();
        match table.keys.get(shard_of(id))?.get(id)?.as_slice() {
            [(_, key)] => Some(key.clone()),
            _ => None,
        }
    }

    /// The role with this name, `namespace/name`.
    pub(super) fn role(&self, name: &str) -> Option<Arc<Role>> {
        self.table.load().roles.get(name).cloned()
    }
}

/// Builds the table of access keys from the parts of Principals.
#[derive(Default)]
pub(crate) struct PrincipalRing {
    principals: Principals,
    table: Table,
    /// The ids of each Principal.
    ids: BTreeMap<PartName, Vec<Box<str>>>,
    /// What session tokens call each role.
    roles: BTreeMap<PartName, Box<str>>,
    changed: bool,
}

impl PrincipalRing {
    pub(crate) fn new(principals: Principals) -> Self {
        Self { principals, ..Self::default() }
    }

    /// Replaces a Principal; none: it was removed. The result is why it cannot be used, in a sentence: then none of its access keys
    /// is accepted.
    pub(crate) fn set(&mut self, name: &PartName, part: Option<&PrincipalPart>) -> Result<(), String> {
        self.changed = true;
        for id in self.ids.remove(name).unwrap_or_default() {
            let shard = self.shard(&id);
            if let Some(owners) = shard.get_mut(&id) {
                owners.retain(|(owner, _)| owner != name);
                if owners.is_empty() {
                    shard.remove(&id);
                }
            }
        }
        if let Some(role) = self.roles.remove(name) {
            Arc::make_mut(&mut self.table.roles).remove(&role);
        }
        let uses = &self.principals.key_uses;
        let compiled = match part.filter(|part| part.invalid.is_none()) {
            Some(part) => {
                compile(part, |id| uses.of(name, id), &self.principals.sessions).map(|compiled| Some((part, compiled)))
            }
            None => Ok(None),
        };
        let ids: Vec<Box<str>> =
            compiled.iter().flatten().flat_map(|(_, (keys, _))| keys).map(|(id, _)| id.clone()).collect();
        uses.retain(name, |id| ids.iter().any(|known| **known == *id));
        let Some((part, (keys, role))) = compiled? else { return Ok(()) };
        if let Some(role) = role {
            let id: Box<str> = part.object.id().into();
            Arc::make_mut(&mut self.table.roles).insert(id.clone(), Arc::new(role));
            self.roles.insert(name.clone(), id);
        }
        let mut shared = false;
        for (id, key) in keys {
            let owners = self.shard(&id).entry(id).or_default();
            owners.push((name.clone(), key));
            shared |= owners.len() > 1;
        }
        self.ids.insert(name.clone(), ids);
        // The operator does not send this.
        if shared { Err("Another Principal has the same access key: neither is accepted.".to_owned()) } else { Ok(()) }
    }

    fn shard(&mut self, id: &str) -> &mut Shard {
        // Each id is in one of the shards.
        Arc::make_mut(&mut self.table.keys[shard_of(id)])
    }

    /// Puts the changes in force.
    pub(crate) fn publish(&mut self) {
        if std::mem::take(&mut self.changed) {
            self.principals.table.store(Arc::new(self.table.clone()));
        }
    }
}

/// An access key with its id.
type NamedKey = (Box<str>, Arc<AccessKey>);

fn compile(
    part: &PrincipalPart,
    last_use: impl Fn(&str) -> Arc<LastUse>,
    sessions: &Arc<AtomicUsize>,
) -> Result<(Vec<NamedKey>, Option<Role>), String> {
    let mut policies = Vec::with_capacity(part.policies.len());
    for document in &part.policies {
        let policy = Policy::parse(document, Kind::Identity, Options::default());
        policies.push(policy.map_err(|error| format!("A policy of the Principal cannot be evaluated: {error}."))?);
    }
    let id = part.object.id();
    // `arn:aws:iam::ACCOUNT:role/NAME`
    let is_role = part.arn.split(':').nth(5).is_some_and(|name| name.starts_with("role/"));
    let mut keys: BTreeMap<Box<str>, Box<str>> = BTreeMap::new();
    for (key, value) in [
        ("aws:principalarn", &*part.arn),
        ("aws:principalaccount", &*part.account),
        ("aws:principaltype", if is_role { "AssumedRole" } else { "User" }),
        ("aws:userid", &*id),
    ] {
        keys.insert(key.into(), value.into());
    }
    if !is_role {
        keys.insert("aws:username".into(), part.object.name.as_ref().into());
    }
    for (tag, value) in &part.tags {
        keys.insert(format!("aws:principaltag/{}", tag.to_ascii_lowercase()).into(), value.as_str().into());
    }
    let name = AwsName {
        account: part.account.as_str().into(),
        arn: part.arn.as_str().into(),
        role_arn: is_role.then(|| part.arn.as_str().into()),
    };
    let policies = Arc::new(CallerPolicies {
        name: Some(name),
        policies: policies.into(),
        keys: Arc::new(keys),
        of_session: Vec::new(),
    });
    let authorizers: Arc<[PartName]> = part.authorizers.as_slice().into();
    let expires = SystemTime::now().checked_add(LIFETIME).unwrap_or_else(SystemTime::now);
    let mut access_keys = Vec::with_capacity(part.keys.len());
    for key in &part.keys {
        let mut signing_keys: Vec<(Box<str>, SigningKey)> = Vec::with_capacity(key.signing_keys.len());
        for day in &key.signing_keys {
            let bytes = STANDARD.decode(&day.key).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            let bytes = bytes.ok_or("A signing key of the Principal is not valid.")?;
            signing_keys.push((scope(&day.date, &day.region, &day.service).into(), SigningKey::from_bytes(bytes)));
        }
        signing_keys.sort_by(|(a, _), (b, _)| a.cmp(b));
        let identity = Identity::signed_by(&key.id, &part.account, &part.arn, &id, policies.clone(), expires);
        let identity = Arc::new(identity);
        let last_use = last_use(&key.id);
        let access_key = AccessKey { identity, authorizers: authorizers.clone(), signing_keys, last_use };
        access_keys.push((key.id.as_str().into(), Arc::new(access_key)));
    }
    let role = (!part.session_keys.is_empty())
        .then(|| Role::compile(part, policies, authorizers, sessions.clone()))
        .transpose()?;
    Ok((access_keys, role))
}

#[cfg(test)]
mod tests {
    use sluice_wire::{DayKey, ObjectRef, PartKind};

    use super::*;

    fn name(name: &str) -> PartName {
        PartName::of_object(PartKind::Principal, "shop", name)
    }

    fn part(principal: &str, ids: &[&str]) -> PrincipalPart {
        let day = |date: &str, region: &str| DayKey {
            date: date.into(),
            region: region.into(),
            service: "execute-api".into(),
            key: STANDARD.encode([date.len() as u8; 32]),
        };
        let signing_keys =
            vec![day("20261128", "eu-west-1"), day("20261127", "us-east-1"), day("20261127", "eu-west-1")];
        PrincipalPart {
            object: ObjectRef::new("Principal", "shop", principal),
            account: "000000000000".into(),
            arn: format!("arn:aws:iam::000000000000:user/{principal}"),
            tags: [("Team".to_owned(), "checkout".to_owned())].into(),
            authorizers: vec![PartName::of_object(PartKind::Authorizer, "shop", "iam")],
            keys: ids
                .iter()
                .map(|id| sluice_wire::AccessKey { id: (*id).into(), signing_keys: signing_keys.clone() })
                .collect(),
            session_keys: Vec::new(),
            policies: Vec::new(),
            invalid: None,
        }
    }

    #[test]
    fn an_access_key_is_found_until_its_principal_is_gone() {
        let principals = Principals::default();
        let mut ring = PrincipalRing::new(principals.clone());
        ring.set(&name("ann"), Some(&part("ann", &["AKIDONE", "AKIDTWO"]))).unwrap();
        assert!(principals.find("AKIDONE").is_none(), "it is not published yet");
        ring.publish();
        let found = principals.find("AKIDTWO").unwrap();
        assert_eq!(found.identity.id.as_deref(), Some("arn:aws:iam::000000000000:user/ann"));
        assert_eq!(found.identity.attribute("accessKey").as_deref(), Some("AKIDTWO"));
        let caller = found.identity.policies.as_deref().unwrap();
        assert_eq!(caller.keys.get("aws:principaltag/team").map(|value| &**value), Some("checkout"));
        assert!(found.is_of(&PartName::of_object(PartKind::Authorizer, "shop", "iam")));
        assert!(!found.is_of(&PartName::of_object(PartKind::Authorizer, "other", "iam")));
        for (date, region, service, there) in [
            ("20261127", "eu-west-1", "execute-api", true),
            ("20261127", "us-east-1", "execute-api", true),
            ("20261128", "eu-west-1", "execute-api", true),
            ("20261128", "us-east-1", "execute-api", false),
            ("20261129", "eu-west-1", "execute-api", false),
            ("20261127", "eu-west-1", "lambda", false),
            ("20261127/eu-west-1", "execute-api", "", false),
        ] {
            assert_eq!(found.signing_key(date, region, service).is_some(), there, "{date} {region} {service}");
        }
        ring.set(&name("ann"), Some(&part("ann", &["AKIDTWO"]))).unwrap();
        ring.publish();
        assert!(principals.find("AKIDONE").is_none() && principals.find("AKIDTWO").is_some());
        ring.set(&name("ann"), None).unwrap();
        ring.publish();
        assert!(principals.find("AKIDTWO").is_none());
    }

    #[tokio::test(start_paused = true)]
    async fn the_last_use_of_a_key_survives_another_version_of_its_principal() {
        let principals = Principals::default();
        let mut ring = PrincipalRing::new(principals.clone());
        ring.set(&name("ann"), Some(&part("ann", &["AKIDONE", "AKIDTWO"]))).unwrap();
        ring.publish();
        let at = |minute: u64| SystemTime::UNIX_EPOCH + Duration::from_secs(minute * 60);
        principals.find("AKIDONE").unwrap().last_use.note(at(5));
        ring.set(&name("ann"), Some(&part("ann", &["AKIDONE", "AKIDNEW"]))).unwrap();
        // Between two versions it has a mistake.
        let mut mistaken = part("ann", &["AKIDONE", "AKIDNEW"]);
        mistaken.policies = vec!["{}".into()];
        ring.set(&name("bob"), Some(&mistaken)).unwrap_err();
        ring.publish();
        principals.find("AKIDNEW").unwrap().last_use.note(at(6));
        let used = principals.key_uses().next().await;
        let used: Vec<(&str, u64)> = used.keys.iter().map(|one| (one.id.as_str(), one.at / 60)).collect();
        assert_eq!(used, [("AKIDNEW", 6), ("AKIDONE", 5)]);
        ring.set(&name("ann"), None).unwrap();
        principals.key_uses().connect();
        let none = tokio::time::timeout(Duration::from_secs(600), principals.key_uses().next()).await;
        assert!(none.is_err(), "{none:?}");
    }

    #[test]
    fn an_id_of_two_principals_is_accepted_for_neither() {
        let principals = Principals::default();
        let mut ring = PrincipalRing::new(principals.clone());
        ring.set(&name("ann"), Some(&part("ann", &["AKIDONE"]))).unwrap();
        assert!(ring.set(&name("bob"), Some(&part("bob", &["AKIDONE"]))).is_err());
        ring.publish();
        assert!(principals.find("AKIDONE").is_none());
        ring.set(&name("ann"), None).unwrap();
        ring.publish();
        let left = principals.find("AKIDONE").unwrap();
        assert_eq!(left.identity.id.as_deref(), Some("arn:aws:iam::000000000000:user/bob"));
    }

    #[test]
    fn a_principal_that_cannot_be_used_has_no_access_keys() {
        let principals = Principals::default();
        let mut ring = PrincipalRing::new(principals.clone());
        let valid = part("ann", &["AKIDONE"]);
        let bad_policy = PrincipalPart { policies: vec![r#"{"Version":"2012-10-17"}"#.into()], ..valid.clone() };
        let mut bad_key = valid.clone();
        bad_key.keys[0].signing_keys[1].key = "c2hvcnQ=".into();
        let rejected = PrincipalPart { invalid: Some("No.".into()), ..valid.clone() };
        for (bad, is_reported) in [(bad_policy, true), (bad_key, true), (rejected, false)] {
            ring.set(&name("ann"), Some(&valid)).unwrap();
            assert_eq!(ring.set(&name("ann"), Some(&bad)).is_err(), is_reported);
            ring.publish();
            assert!(principals.find("AKIDONE").is_none());
        }
    }
}
