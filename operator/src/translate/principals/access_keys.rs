//! The access keys of a Principal: read from Secrets, and the signing keys of the coming days.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use sluice_crds::Principal;
use sluice_crds::condition::reason;
use sluice_crds::principal::{ID_DATA_KEY, SECRET_DATA_KEY};
use sluice_wire::{AccessKey, DayKey};

use crate::objects::{Kind, ObjectKey, access_key_secrets};
use crate::problem::Problems;
use crate::translate::caller::SecretText;
use crate::translate::conflicts::Claim;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;

const LENGTH: std::ops::RangeInclusive<usize> = 16..=128;

/// An access key. It does not print.
pub(super) struct Credentials<'a> {
    pub(super) id: &'a str,
    secret: &'a str,
}

/// The access key in a Secret. A line end after a value is not part of it.
pub(super) fn read<'a>(view: &View<'a>, key: &ObjectKey, holder: &ObjectKey) -> Result<Credentials<'a>, Unresolved> {
    let secret = resolve::<Secret>(view, Referrer::new(Kind::Principal, key), holder)?;
    let value = |name: &str, what: &str, is_valid: fn(u8) -> bool| {
        // Never "not found": a Secret that exists is not written to.
        let invalid = |why| Unresolved { reason: reason::SECRET_INVALID, why };
        let bytes = secret.data.as_ref().and_then(|data| data.get(name));
        let bytes = bytes.ok_or_else(|| invalid(format!("Secret {holder} has no key {name:?}")))?;
        let text = std::str::from_utf8(&bytes.0).ok().map(|text| text.trim_end_matches(['\r', '\n']));
        let good = |text: &&str| LENGTH.contains(&text.len()) && text.bytes().all(is_valid);
        text.filter(good).ok_or_else(|| {
            let (least, most) = (LENGTH.start(), LENGTH.end());
            invalid(format!("Secret {holder} has no valid {name}: it must have {least} to {most} {what}"))
        })
    };
    let id = value(ID_DATA_KEY, "capital letters and digits", |b| b.is_ascii_uppercase() || b.is_ascii_digit())?;
    let secret = value(SECRET_DATA_KEY, "printable characters without spaces", |b| b.is_ascii_graphic())?;
    Ok(Credentials { id, secret })
}

/// The ids in the Secrets of a Principal.
pub(super) struct Ids<'a> {
    /// Those that can be read.
    pub(super) found: BTreeSet<&'a str>,
    /// Whether each Secret can be read.
    complete: bool,
}

impl Ids<'_> {
    /// Whether a recorded id can be that of a Secret.
    pub(super) fn keeps(&self, recorded: &str) -> bool {
        !self.complete || self.found.contains(recorded)
    }
}

/// The ids in the Secrets of a Principal.
pub(super) fn ids<'a>(view: &View<'a>, key: &ObjectKey, principal: &Principal) -> Ids<'a> {
    let mut ids = Ids { found: BTreeSet::new(), complete: true };
    for (_, secret) in access_key_secrets(principal) {
        match read(view, key, &secret) {
            Ok(credentials) => drop(ids.found.insert(credentials.id)),
            Err(_) => ids.complete = false,
        }
    }
    ids
}

/// The keys that no other Principal has, with signing keys for these regions and services, and their secrets; and whether the operator must generate a
/// Secret. A key with a problem is left out.
pub(super) fn usable(
    view: &View<'_>,
    key: &ObjectKey,
    principal: &Principal,
    scopes: &BTreeSet<(String, String)>,
    problems: &mut Problems,
) -> (Vec<(AccessKey, SecretText)>, bool) {
    let mut keys: Vec<(AccessKey, SecretText)> = Vec::new();
    let mut must_generate = false;
    for (field, holder) in access_key_secrets(principal) {
        let credentials = match read(view, key, &holder) {
            Ok(credentials) => credentials,
            Err(unresolved) => {
                // A key that may exist already must not be generated a second time.
                must_generate = unresolved.reason == reason::SECRET_NOT_FOUND
                    && principal.spec.access_keys.is_empty()
                    && !view.is_unknown(Kind::Secret, &holder);
                if must_generate {
                    problems.pending("The operator is making the access key.");
                }
                unresolved.report(&field, problems);
                continue;
            }
        };
        let id = credentials.id;
        if keys.iter().any(|(earlier, _)| earlier.id == id) {
            problems.invalid(&field, format_args!("both access keys have the id {id}"));
        } else if let Some(winner) = view.claims.lost_to(&Claim::AccessKey(id.to_owned()), Kind::Principal, key) {
            // The owner of an id in another namespace is not disclosed.
            let whose = if winner.key.namespace == key.namespace { format!(" {}", winner.key) } else { String::new() };
            let why =
                format!("another Principal{whose} already has the access key id {id}; each Principal needs its own");
            problems.accept(reason::CONFLICTED, &field, why);
        } else {
            let access_key = AccessKey { id: id.to_owned(), signing_keys: signing_keys(view, &credentials, scopes) };
            keys.push((access_key, SecretText(credentials.secret.to_owned())));
        }
    }
    (keys, must_generate)
}

fn signing_keys(view: &View<'_>, of: &Credentials<'_>, scopes: &BTreeSet<(String, String)>) -> Vec<DayKey> {
    let mut keys = Vec::new();
    for date in view.days().dates() {
        for (region, service) in scopes {
            let key = sluice_sigv4::signing_key(of.secret, &date, region, service);
            keys.push(DayKey {
                date: date.clone(),
                region: region.clone(),
                service: service.clone(),
                key: STANDARD.encode(key.to_bytes()),
            });
        }
    }
    keys
}
