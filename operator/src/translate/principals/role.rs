//! Roles: Principals whose credentials are temporary. Their session tokens depend on a secret that the operator generates; proxies get
//! keys of single days that are derived from it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use k8s_openapi::api::core::v1::Secret;
use sluice_crds::Principal;
use sluice_crds::condition::reason;
use sluice_crds::principal::{DEFAULT_SESSION_DURATION, SESSION_DATA_KEY};
use sluice_session::{SessionKey, assumed_role};
use sluice_wire::SessionDayKey;

use crate::fields;
use crate::objects::{Kind, ObjectKey, session_secret};
use crate::problem::Problems;
use crate::translate::caller::{Role, SecretText};
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::view::View;

/// Shorter texts can be guessed.
const LENGTH: std::ops::RangeInclusive<usize> = 32..=128;
/// Of a session, in seconds.
const DURATION_S: std::ops::RangeInclusive<u64> = 900..=43_200;

/// The role, unless it has a problem, and whether the operator must generate its Secret.
pub(super) fn role(
    view: &View<'_>,
    key: &ObjectKey,
    principal: &Principal,
    problems: &mut Problems,
) -> (Option<Role>, bool) {
    let Some(holder) = session_secret(principal) else {
        if principal.spec.max_session_duration.is_some() {
            problems.invalid("spec.maxSessionDuration", "it requires trust");
        }
        return (None, false);
    };
    let spec = &principal.spec;
    if !spec.access_keys.is_empty() {
        problems.invalid("spec.accessKeys", "a Principal with trust is a role and has none; remove one of the fields");
    }
    if spec.arn.as_ref().is_some_and(|arn| assumed_role(arn, "").is_none()) {
        problems.invalid("spec.arn", "a Principal with trust is a role: arn:aws:iam::ACCOUNT:role/NAME");
    }
    let duration = spec.max_session_duration.unwrap_or(DEFAULT_SESSION_DURATION);
    let max_duration_s = fields::whole_seconds("spec.maxSessionDuration", duration, problems);
    if !DURATION_S.contains(&max_duration_s) {
        problems.invalid("spec.maxSessionDuration", "must be from 15m to 12h");
    }
    let trusted = spec.trust.iter().map(|trusted| {
        let account = &trusted.service_account;
        let namespace = account.namespace.as_ref().unwrap_or(&key.namespace);
        ObjectKey::new(namespace.clone(), account.name.clone())
    });
    match seed(view, key, &holder) {
        Ok(seed) => {
            (Some(Role { trusted: trusted.collect(), max_duration_s, seed: SecretText(seed.to_owned()) }), false)
        }
        Err(unresolved) => {
            // A secret that may exist already must not be generated a second time.
            let must_generate =
                unresolved.reason == reason::SECRET_NOT_FOUND && !view.is_unknown(Kind::Secret, &holder);
            if must_generate {
                problems.pending("The operator is making the session key.");
            }
            unresolved.report("spec.trust", problems);
            (None, must_generate)
        }
    }
}

fn seed<'a>(view: &View<'a>, key: &ObjectKey, holder: &ObjectKey) -> Result<&'a str, Unresolved> {
    let secret = resolve::<Secret>(view, Referrer::new(Kind::Principal, key), holder)?;
    let invalid = |why| Unresolved { reason: reason::SECRET_INVALID, why };
    let bytes = secret.data.as_ref().and_then(|data| data.get(SESSION_DATA_KEY));
    let bytes = bytes.ok_or_else(|| invalid(format!("Secret {holder} has no key {SESSION_DATA_KEY:?}")))?;
    let text = std::str::from_utf8(&bytes.0).ok().map(|text| text.trim_end_matches(['\r', '\n']));
    text.filter(|text| LENGTH.contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic())).ok_or_else(|| {
        let (least, most) = (LENGTH.start(), LENGTH.end());
        invalid(format!(
            "Secret {holder} has no valid {SESSION_DATA_KEY}: it must have {least} to {most} printable characters; delete the \
             Secret, and the operator generates another one"
        ))
    })
}

/// The keys that open the role's session tokens.
pub(super) fn session_keys(view: &View<'_>, role: &Role) -> Vec<SessionDayKey> {
    let dates = view.days().session_dates();
    let keys = dates.map(|date| {
        let key = STANDARD.encode(SessionKey::derive(role.seed.0.as_bytes(), &date).to_bytes());
        SessionDayKey { date, key }
    });
    keys.collect()
}
