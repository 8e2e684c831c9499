//! Translates Principals to the keys that verify their signatures, and to their policies. Secret access keys stay here: a part has
//! keys that are derived from them for single days, regions and services.

mod access_keys;
mod policies;
mod role;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sluice_crds::Principal;
use sluice_crds::principal::{AccessKeyStatus, DEFAULT_ACCOUNT, MAX_STATUS_KEYS};
use sluice_wire::{PartBody, PartKind, PartName, PrincipalPart};

use crate::objects::{Kind, ObjectKey, Unparsable, recorded_ids};
use crate::problem::Problems;
use crate::translate::caller::Caller;
use crate::translate::conflicts::{Claim, Since};
use crate::translate::desired::Detail;
use crate::translate::iam_authorizers::iam_authorizers;
use crate::translate::kind::{Translate, Translated};
use crate::translate::view::View;
use crate::translate::warnings::{policies as of_policies, principals};
use crate::warning::Warnings;

/// More credential scopes of one namespace would make long parts.
const MAX_SCOPES: usize = 32;

impl Translate for Principal {
    /// The ids of the access keys: no two Principals may have the same id. While a Secret cannot be read, the recorded ids are
    /// claimed as well: one of them can be that of the Secret.
    fn claims(&self, view: &View<'_>, key: &ObjectKey) -> BTreeSet<Claim> {
        let ids = access_keys::ids(view, key, self);
        let kept = recorded_ids(self).filter(|id| ids.keeps(id));
        ids.found.iter().copied().chain(kept).map(|id| Claim::AccessKey(id.to_owned())).collect()
    }

    fn claims_of_unparsable(object: &Unparsable) -> BTreeSet<Claim> {
        object.access_keys.iter().map(|recorded| Claim::AccessKey(recorded.id.clone())).collect()
    }

    /// An id that the status lists was accepted before: another Principal does not take it, even if it is older.
    fn since(&self, claim: &Claim) -> Since {
        match claim {
            Claim::AccessKey(id) if recorded_ids(self).any(|recorded| recorded == id) => {
                since(self.metadata.creation_timestamp.as_ref())
            }
            _ => Since::Unrecorded,
        }
    }

    fn since_of_unparsable(object: &Unparsable, _claim: &Claim) -> Since {
        since(object.created.as_ref())
    }

    fn translate_unparsable(view: &View<'_>, key: &ObjectKey, object: &Unparsable) -> Option<Translated> {
        let recorded = object.access_keys.iter().map(|recorded| recorded.id.as_str());
        let kept_ids = kept(view, key, recorded);
        let (access_key_ids, arn) = (Vec::new(), String::new());
        let detail = Detail::Principal { access_key_ids, kept_ids, arn, must_generate: false, caller: None };
        (!object.access_keys.is_empty()).then(|| Translated { closed: true, ..Translated::of([], detail) })
    }

    fn part_name(key: &ObjectKey) -> PartName {
        PartName::of_object(PartKind::Principal, &key.namespace, &key.name)
    }

    fn translate(&self, view: &View<'_>, key: &ObjectKey, problems: &mut Problems) -> Translated {
        // With a problem of these, all requests of the Principal are rejected.
        let mut fatal = Problems::default();
        let (account, arn) = names(self, key, &mut fatal);
        check_tags(&self.spec.tags, &mut fatal);
        let policies = policies::documents(view, key, self, &mut fatal);
        let authorizers = iam_authorizers(view, &key.namespace);
        if authorizers.scopes.len() > MAX_SCOPES {
            let why = format!(
                "the Authorizers of type Iam in the namespace accept {} regions and services; at most {MAX_SCOPES} are supported",
                authorizers.scopes.len()
            );
            fatal.invalid("metadata.namespace", why);
        }
        // A key with a problem is left out: the other one still works.
        let mut of_keys = Problems::default();
        let (keys, must_make_key) = access_keys::usable(view, key, self, &authorizers.scopes, &mut of_keys);
        let (mut keys, secrets): (Vec<_>, Vec<_>) = keys.into_iter().unzip();
        let (role, must_make_session_key) = role::role(view, key, self, &mut fatal);
        let mut invalid = (fatal.count() > 0).then(|| fatal.sentences());
        if keys.is_empty() && role.is_none() {
            invalid.get_or_insert_with(|| of_keys.sentences());
        }
        problems.extend(fatal);
        problems.extend(of_keys);
        if invalid.is_some() {
            keys.clear();
        }
        let access_key_ids: Vec<String> = keys.iter().map(|key| key.id.clone()).collect();
        let closed = invalid.is_some();
        let session_keys = role.as_ref().filter(|_| !closed).map(|role| role::session_keys(view, role));
        let caller = (!closed).then(|| {
            let access_keys = access_key_ids.iter().cloned().zip(secrets).collect();
            Arc::new(Caller { account: account.clone(), arn: arn.clone(), access_keys, role })
        });
        let part = PrincipalPart {
            object: Kind::Principal.object(key),
            account,
            arn: arn.clone(),
            tags: self.spec.tags.clone(),
            authorizers: authorizers.parts,
            keys,
            session_keys: session_keys.unwrap_or_default(),
            policies: if closed { Vec::new() } else { policies },
            invalid,
        };
        let ids = access_keys::ids(view, key, self);
        let kept_ids = kept(view, key, recorded_ids(self).filter(|id| ids.keeps(id)));
        let must_generate = must_make_key || must_make_session_key;
        let detail = Detail::Principal { access_key_ids, kept_ids, arn, must_generate, caller };
        let parts = [(Self::part_name(key), PartBody::Principal(part))];
        Translated { closed, ..Translated::of(parts, detail) }
    }

    fn warnings(&self, view: &View<'_>, key: &ObjectKey, warnings: &mut Warnings) {
        principals::of_principal(view, key, warnings);
        // What is wrong with them was reported.
        let documents = policies::documents(view, key, self, &mut Problems::default());
        of_policies::of_principal(self, &documents, warnings);
    }

    fn desired_detail(detail: &Detail, _proxies: Value, _now: Timestamp) -> Value {
        let Detail::Principal { access_key_ids, kept_ids, arn, .. } = detail else { return Value::Null };
        let kept = kept_ids.iter().filter(|id| !access_key_ids.contains(id));
        let ids = access_key_ids.iter().chain(kept).take(MAX_STATUS_KEYS);
        json!({
            "accessKeys": ids.map(|id| AccessKeyStatus { id: id.clone(), last_used: None }).collect::<Vec<_>>(),
            "arn": (!arn.is_empty()).then_some(arn),
        })
    }

    fn present_detail(&self) -> Value {
        let status = self.status.as_ref();
        json!({
            "accessKeys": status.map(|status| status.access_keys.as_slice()).unwrap_or_default(),
            "arn": status.and_then(|status| status.arn.as_ref()),
        })
    }
}

/// A recorded claim is as old as the Principal.
fn since(created: Option<&Time>) -> Since {
    Since::At(created.map_or(Timestamp::UNIX_EPOCH, |time| time.0))
}

/// The recorded ids that are not another Principal's.
fn kept<'a>(view: &View<'_>, key: &ObjectKey, recorded: impl Iterator<Item = &'a str>) -> Vec<String> {
    let is_own = |id: &&str| view.claims.lost_to(&Claim::AccessKey((*id).to_owned()), Kind::Principal, key).is_none();
    recorded.filter(is_own).map(str::to_owned).collect()
}

/// Its account and ARN.
fn names(principal: &Principal, key: &ObjectKey, problems: &mut Problems) -> (String, String) {
    let spec = &principal.spec;
    let Some(arn) = &spec.arn else {
        let account = spec.account_id.as_deref().unwrap_or(DEFAULT_ACCOUNT);
        let kind = if spec.trust.is_empty() { "user" } else { "role" };
        return (account.to_owned(), format!("arn:aws:iam::{account}:{kind}/{}", key.name));
    };
    let account = arn.split(':').nth(4).unwrap_or_default();
    if account.len() != 12 || !account.bytes().all(|byte| byte.is_ascii_digit()) {
        problems.invalid("spec.arn", "it has no account of 12 digits");
    }
    if spec.account_id.as_ref().is_some_and(|named| named != account) {
        problems.invalid("spec.accountId", "it is not the account in arn; remove one of them");
    }
    (account.to_owned(), arn.clone())
}

/// Context keys are not case-sensitive: of two names that differ in case only, conditions would find either.
fn check_tags(tags: &BTreeMap<String, String>, problems: &mut Problems) {
    let mut seen = BTreeSet::new();
    for name in tags.keys() {
        if !seen.insert(name.to_ascii_lowercase()) {
            problems.invalid("spec.tags", format_args!("the name {name:?} differs from another one in case only"));
        }
    }
}
