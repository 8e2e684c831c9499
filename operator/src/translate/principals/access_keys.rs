//! The access keys of a Principal: read from Secrets, and the signing keys of the coming days.

use std::collections::BTreeSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use sluice_crds::Principal;
use sluice_crds::condition::reason;
use sluice_wire::{AccessKey, DayKey};

use crate::objects::{Kind, ObjectKey, access_key_secrets};
use crate::problem::Problems;
use crate::translate::caller::SecretText;
use crate::translate::conflicts::Claim;
use crate::translate::references::{Referrer, Unresolved};
use crate::translate::secret_values::{Form, SecretValues};
use crate::translate::view::View;

const ID: Form = Form {
    length: 16..=128,
    characters: "capital letters and digits",
    is_valid: |byte| byte.is_ascii_uppercase() || byte.is_ascii_digit(),
};
const SECRET: Form = Form {
    length: 16..=128,
    characters: "printable ASCII characters without spaces",
    is_valid: |byte| byte.is_ascii_graphic(),
};

/// An access key. It does not print.
pub(super) struct Credentials<'a> {
    pub(super) id: &'a str,
    secret: &'a str,
}

/// The access key in a Secret.
pub(super) fn read<'a>(view: &View<'a>, key: &ObjectKey, holder: &ObjectKey) -> Result<Credentials<'a>, Unresolved> {
    let values = SecretValues::of(view, Referrer::new(Kind::Principal, key), holder.clone())?;
    let (id, secret) = values.access_key(&ID, &SECRET)?;
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
