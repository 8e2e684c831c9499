//! Warnings about one object: it is valid, but probably not what its author meant. `translate::warnings` finds them. Some hold
//! for a part of the time only, so the code that shows them passes the time.

use std::collections::BTreeSet;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use sluice_crds::condition::{DesiredCondition, Status, WARNINGS, reason};
use sluice_crds::schema::closest;
use sluice_crds::warning::{self, Code, SILENCE};

/// More warnings than this are counted, not listed.
const MAX_LISTED: usize = 32;

/// One warning.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Warning {
    /// The code.
    pub code: Code,
    /// The field, the cause and the remedy: whole sentences.
    pub message: String,
    /// The Unix time from which it holds; none: always.
    pub from: Option<i64>,
    /// The Unix time until which it holds; none: for ever.
    pub until: Option<i64>,
}

impl Warning {
    /// Whether it holds at a Unix time.
    #[must_use]
    pub fn holds(&self, now: i64) -> bool {
        self.from.is_none_or(|from| from <= now) && self.until.is_none_or(|until| now < until)
    }
}

/// The warnings of one object, without those that it silences.
#[derive(Debug, Default)]
pub(crate) struct Warnings {
    silenced: BTreeSet<String>,
    found: Vec<Warning>,
}

impl Warnings {
    /// No warnings yet, for an object with this metadata.
    pub(crate) fn of(metadata: &ObjectMeta) -> Self {
        let mut warnings = Self { silenced: silenced(metadata).map(str::to_owned).collect(), found: Vec::new() };
        for name in silenced(metadata).filter(|name| warning::named(name).is_none()) {
            let known = closest(name, warning::ALL.iter().map(|code| code.name));
            let meant = known.map_or_else(String::new, |known| format!(" Did you mean {known}?"));
            let why = format!("{name:?} is not a code of a warning, so it silences nothing.{meant}");
            warnings.add(warning::UNKNOWN_CODE, &format!("metadata.annotations[{SILENCE}]"), why);
        }
        warnings
    }

    /// Adds a warning that always holds; `why` names the cause and the remedy.
    pub(crate) fn add(&mut self, code: Code, field: &str, why: impl std::fmt::Display) {
        self.add_between(code, field, why, None, None);
    }

    /// Adds a warning that holds between two Unix times.
    pub(crate) fn add_between(
        &mut self,
        code: Code,
        field: &str,
        why: impl std::fmt::Display,
        from: Option<i64>,
        until: Option<i64>,
    ) {
        if !self.silenced.contains(code.name) {
            let mut message = format!("{field}: {why}");
            if !message.ends_with(['.', '?']) {
                message.push('.');
            }
            self.found.push(Warning { code, message, from, until });
        }
    }

    /// All of them, in the order in which they were found.
    pub(crate) fn into_vec(self) -> Vec<Warning> {
        self.found
    }
}

/// The codes that an object silences.
fn silenced(metadata: &ObjectMeta) -> impl Iterator<Item = &str> {
    let text = metadata.annotations.as_ref().and_then(|all| all.get(SILENCE)).map_or("", String::as_str);
    text.split(',').map(str::trim).filter(|name| !name.is_empty())
}

/// The condition `Warnings` at a Unix time; none without a warning. Its reason is the code, or `Several`.
pub(crate) fn condition(warnings: &[Warning], now: i64, generation: Option<i64>) -> Option<DesiredCondition> {
    let holding: Vec<&Warning> = warnings.iter().filter(|warning| warning.holds(now)).collect();
    let first = holding.first()?.code.name;
    let same = holding.iter().all(|warning| warning.code.name == first);
    let texts = holding.iter().take(MAX_LISTED).map(|one| format!("{} ({})", one.message, one.code.name));
    let mut message = texts.collect::<Vec<_>>().join(" ");
    if let Some(more) = holding.len().checked_sub(MAX_LISTED).filter(|more| *more > 0) {
        message.push_str(&format!(" And {more} more warnings."));
    }
    Some(DesiredCondition {
        type_: WARNINGS,
        status: Status::True,
        reason: if same { first } else { reason::SEVERAL_WARNINGS },
        message,
        observed_generation: generation,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn metadata(silence: &str) -> ObjectMeta {
        let annotations = [(SILENCE.to_owned(), silence.to_owned())].into();
        ObjectMeta { annotations: Some(annotations), ..ObjectMeta::default() }
    }

    #[test]
    fn an_annotation_silences_codes_and_an_unknown_code_is_reported() {
        for (silence, codes) in [
            ("", &["LiteralPattern", "KeyWithoutPlan"][..]),
            ("LiteralPattern", &["KeyWithoutPlan"]),
            (" KeyWithoutPlan , LiteralPattern,", &[]),
            ("literalPattern", &["UnknownCode", "LiteralPattern", "KeyWithoutPlan"]),
            ("*", &["UnknownCode", "LiteralPattern", "KeyWithoutPlan"]),
            ("UnknownCode,Other,LiteralPattern", &["KeyWithoutPlan"]),
        ] {
            let mut warnings = Warnings::of(&metadata(silence));
            warnings.add(warning::LITERAL_PATTERN, "spec.a", "why");
            warnings.add(warning::KEY_WITHOUT_PLAN, "spec.b", "why");
            let found: Vec<&str> = warnings.found.iter().map(|warning| warning.code.name).collect();
            assert_eq!(found, codes, "{silence:?}");
        }
        let message = Warnings::of(&metadata("literalPattern")).found[0].message.clone();
        assert!(message.ends_with("Did you mean LiteralPattern?"), "{message}");
    }

    #[test]
    fn the_condition_lists_the_warnings_that_hold_at_the_time() {
        let mut warnings = Warnings::default();
        warnings.add_between(warning::CERTIFICATE_EXPIRES_SOON, "spec.tls", "soon", Some(100), Some(200));
        warnings.add_between(warning::CERTIFICATE_EXPIRED, "spec.tls", "now", Some(200), None);
        let warnings = warnings.into_vec();
        let reason = |now| condition(&warnings, now, None).map(|condition| condition.reason);
        assert_eq!(
            [99, 100, 199, 200].map(reason),
            [None, Some("CertificateExpiresSoon"), Some("CertificateExpiresSoon"), Some("CertificateExpired"),]
        );
        let mut several = Warnings::default();
        several.add(warning::LITERAL_PATTERN, "spec.a", "why");
        several.add(warning::KEY_WITHOUT_PLAN, "spec.b", "why");
        let condition = condition(&several.into_vec(), 0, Some(3)).unwrap();
        assert_eq!((condition.reason, condition.observed_generation), ("SeveralWarnings", Some(3)));
        assert_eq!(condition.message, "spec.a: why. (LiteralPattern) spec.b: why. (KeyWithoutPlan)");
    }
}
