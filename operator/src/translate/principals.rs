//! Translates Principals to the keys that verify their signatures, and to their policies. Secret access keys stay here: a part has
//! keys that are derived from them for single days, regions and services.

mod access_keys;
mod policies;

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::jiff::Timestamp;
use serde_json::{Value, json};
use sluice_crds::Principal;
use sluice_crds::principal::DEFAULT_ACCOUNT;
use sluice_wire::{PartBody, PartKind, PartName, PrincipalPart};

use crate::objects::{Kind, ObjectKey, access_key_secrets};
use crate::problem::Problems;
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
    /// The ids of the access keys: no two Principals may have the same id.
    fn claims(&self, view: &View<'_>, key: &ObjectKey) -> BTreeSet<Claim> {
        let secrets = access_key_secrets(self).into_iter();
        let found = secrets.filter_map(|(_, secret)| access_keys::read(view, key, &secret).ok());
        found.map(|credentials| Claim::AccessKey(credentials.id.to_owned())).collect()
    }

    /// An id that the status lists was accepted before: another Principal does not take it, even if it is older.
    fn since(&self, claim: &Claim) -> Since {
        let recorded = self.status.as_ref().map(|status| status.access_key_ids.as_slice()).unwrap_or_default();
        match claim {
            Claim::AccessKey(id) if recorded.contains(id) => {
                let created = self.metadata.creation_timestamp.as_ref();
                Since::At(created.map_or(Timestamp::UNIX_EPOCH, |time| time.0))
            }
            _ => Since::Unrecorded,
        }
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
        let (mut keys, must_generate) = access_keys::usable(view, key, self, &authorizers.scopes, &mut of_keys);
        let mut invalid = (fatal.count() > 0).then(|| fatal.sentences());
        if keys.is_empty() {
            invalid.get_or_insert_with(|| of_keys.sentences());
        }
        problems.extend(fatal);
        problems.extend(of_keys);
        if invalid.is_some() {
            keys.clear();
        }
        let access_key_ids = keys.iter().map(|key| key.id.clone()).collect();
        let closed = invalid.is_some();
        let part = PrincipalPart {
            object: Kind::Principal.object(key),
            account,
            arn: arn.clone(),
            tags: self.spec.tags.clone(),
            authorizers: authorizers.parts,
            keys,
            policies: if closed { Vec::new() } else { policies },
            invalid,
        };
        let detail = Detail::Principal { access_key_ids, arn, must_generate };
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
        let Detail::Principal { access_key_ids, arn, .. } = detail else { return Value::Null };
        json!({"accessKeyIds": access_key_ids, "arn": arn})
    }

    fn present_detail(&self) -> Value {
        let status = self.status.as_ref();
        json!({
            "accessKeyIds": status.map(|status| status.access_key_ids.clone()).unwrap_or_default(),
            "arn": status.and_then(|status| status.arn.as_ref()),
        })
    }
}

/// Its account and ARN.
fn names(principal: &Principal, key: &ObjectKey, problems: &mut Problems) -> (String, String) {
    let spec = &principal.spec;
    let Some(arn) = &spec.arn else {
        let account = spec.account_id.as_deref().unwrap_or(DEFAULT_ACCOUNT);
        return (account.to_owned(), format!("arn:aws:iam::{account}:user/{}", key.name));
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
