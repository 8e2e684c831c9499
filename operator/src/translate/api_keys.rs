//! ApiKeys to digests of keys in shards. Making new keys is `report::keys`'; which stages a key opens is the plans' to say.

use std::collections::BTreeSet;

use sluice_crds::ApiKey;
use sluice_crds::api_key::SECRET_DATA_KEY;
use sluice_crds::condition::reason;
use sluice_wire::{Hash, KeyEntry, KeysPart, PartBody, PartKind, PartName};

use crate::objects::{Kind, ObjectKey, secret_of};
use crate::problem::Problems;
use crate::translate::budget;
use crate::translate::conflicts::Claim;
use crate::translate::usage_plans;
use crate::translate::view::View;

/// A changed key sends one of so many shards.
const SHARDS: u8 = 64;
const KEY_LENGTH: std::ops::RangeInclusive<usize> = 20..=128;
/// How much of a key its status shows.
const PREFIX_CHARS: usize = 7;

/// The shard of an ApiKey.
pub(crate) fn shard_of(key: &ObjectKey) -> u8 {
    Hash::of(key.to_string().as_bytes()).bytes()[0] % SHARDS
}

/// The name of a shard's part.
pub(crate) fn shard_name(shard: u8) -> PartName {
    PartName::new(PartKind::Keys, format!("{shard:02}"))
}

/// A shard's part; none when it is empty.
pub(crate) fn shard_part(keys: Vec<KeyEntry>) -> Option<PartBody> {
    (!keys.is_empty()).then_some(PartBody::Keys(KeysPart { keys }))
}

/// What an entry weighs.
pub(crate) fn weight(entry: &KeyEntry) -> usize {
    serde_json::to_string(entry).map_or(0, |json| budget::text_weight(&json)) + 1
}

/// What a translation of an ApiKey found out.
pub(crate) struct Translated {
    /// None: the key opens nothing.
    pub(crate) entry: Option<KeyEntry>,
    /// How the key begins.
    pub(crate) prefix: Option<String>,
    /// The Secret.
    pub(crate) secret: String,
    /// Whether the operator must make the Secret.
    pub(crate) must_generate: bool,
}

/// The key's digest: no two ApiKeys may have the same key.
pub(crate) fn claims(view: &View<'_>, key: &ObjectKey, api_key: &ApiKey) -> BTreeSet<Claim> {
    let text = value(view, key, api_key).ok();
    text.map(|text| Claim::Key(Hash::of(text.as_bytes()))).into_iter().collect()
}

pub(crate) fn translate(view: &View<'_>, key: &ObjectKey, api_key: &ApiKey, problems: &mut Problems) -> Translated {
    let secret = secret_of(api_key);
    let mut translated = Translated { entry: None, prefix: None, secret, must_generate: false };
    let text = match value(view, key, api_key) {
        Ok(text) => Some(text),
        Err((reason, why)) => {
            let holder = ObjectKey::new(key.namespace.clone(), translated.secret.clone());
            // A key that may be there already must not be made a second time.
            translated.must_generate = reason == reason::SECRET_NOT_FOUND
                && api_key.spec.secret.is_none()
                && !view.is_unknown(Kind::Secret, &holder);
            problems.unresolved(reason, "spec.secret", why);
            None
        }
    };
    let mut plans = Vec::new();
    for (at, plan) in api_key.spec.plans.iter().enumerate() {
        let plan = ObjectKey::new(key.namespace.clone(), plan.clone());
        if view.usage_plan(&plan).is_some() {
            plans.push(usage_plans::part_name(&plan));
        } else {
            problems.unresolved(
                reason::PLAN_NOT_FOUND,
                &format!("spec.plans[{at}]"),
                view.absence(Kind::UsagePlan, &plan),
            );
        }
    }
    let Some(text) = text else { return translated };
    let digest = Hash::of(text.as_bytes());
    translated.prefix = Some(format!("{}…", text.chars().take(PREFIX_CHARS).collect::<String>()));
    if let Some(winner) = view.claims.lost_to(&Claim::Key(digest), Kind::ApiKey, key) {
        // Across namespaces nobody learns whose key it is.
        let whose = if winner.key.namespace == key.namespace { format!(" {}", winner.key) } else { String::new() };
        let why = format!("the key is that of the older ApiKey{whose} already; every ApiKey needs a key of its own");
        problems.accept(reason::CONFLICTED, "spec.secret", why);
    } else if api_key.spec.enabled {
        let customer = api_key.spec.customer_id.clone();
        translated.entry = Some(KeyEntry { object: Kind::ApiKey.object(key), customer, digest, plans });
    }
    translated
}

fn value<'a>(view: &View<'a>, key: &ObjectKey, api_key: &ApiKey) -> Result<&'a str, (&'static str, String)> {
    let secret_key = ObjectKey::new(key.namespace.clone(), secret_of(api_key));
    let missing = |why| (reason::SECRET_NOT_FOUND, why);
    let invalid = |why| (reason::SECRET_INVALID, why);
    let secret = view.secret(&secret_key).ok_or_else(|| missing(view.absence(Kind::Secret, &secret_key)))?;
    let bytes = secret.data.as_ref().and_then(|data| data.get(SECRET_DATA_KEY));
    let bytes = bytes.ok_or_else(|| {
        // Not "missing": a Secret that exists is never written to.
        let why = format!("Secret {secret_key} has no key {SECRET_DATA_KEY:?}");
        if api_key.spec.secret.is_some() { missing(why) } else { invalid(why) }
    })?;
    let text = std::str::from_utf8(&bytes.0).ok().map(|text| text.trim_end_matches(['\r', '\n']));
    let good = |text: &&str| KEY_LENGTH.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic());
    text.filter(good).ok_or_else(|| {
        let why = format!(
            "Secret {secret_key} holds no usable key: {SECRET_DATA_KEY} must be {} to {} printable characters without spaces",
            KEY_LENGTH.start(),
            KEY_LENGTH.end()
        );
        invalid(why)
    })
}
