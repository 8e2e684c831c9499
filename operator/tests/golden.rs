//! Each folder in `golden` is a case and a test, `golden::case::NAME`: in.yaml is translated, and the result must be parts.yaml
//! and status.yaml. A new case is a folder with in.yaml; `UPDATE_GOLDEN=1 cargo test --workspace --test main golden::` writes the
//! rest, and adds the case to golden/cases.rs.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde_json::{Value, json};
use sluice_crds::condition::reason;
use sluice_kit::golden::compare;
use sluice_operator::translate::{ClaimTime, Detail, Served, SigningDays, Translation, Translator};
use sluice_operator::warning::Warning;

/// The time of the translation; signing keys are derived for the day before, this one and the next one.
const TODAY: &str = "2026-11-27T12:00:00Z";

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/golden")
}

fn cases() -> Vec<PathBuf> {
    let mut cases: Vec<PathBuf> = std::fs::read_dir(folder()).unwrap().map(|entry| entry.unwrap().path()).collect();
    cases.retain(|path| path.is_dir());
    cases.sort();
    cases
}

fn redact(value: &mut Value) {
    if let Some(key) = value.get_mut("key_pem") {
        *key = json!("(private)");
    }
    if let Some(chain) = value.get_mut("chain_pem") {
        *chain = json!("(chain)");
    }
    let keys = value.get_mut("keys").and_then(Value::as_array_mut).into_iter().flatten();
    for key in keys.filter_map(|key| key.get_mut("signing_keys")?.as_array_mut()).flatten() {
        key["key"] = json!("(signing key)");
    }
}

fn parts(translation: &Translation) -> Value {
    let part = |(name, part): (&sluice_wire::PartName, &std::sync::Arc<sluice_wire::Part>)| {
        part.decode().unwrap_or_else(|error| panic!("{name} does not decode: {error}"));
        let mut value: Value = serde_json::from_str(&part.json).unwrap();
        redact(&mut value);
        (name.to_string(), value)
    };
    Value::Object(
        translation.parts.iter().collect::<std::collections::BTreeMap<_, _>>().into_iter().map(part).collect(),
    )
}

fn claim_time(time: ClaimTime) -> Value {
    match time {
        ClaimTime::Since(since) => json!(format!("since {since}")),
        ClaimTime::Now => json!("now"),
        ClaimTime::Later => json!("after another"),
    }
}

fn warning(warning: &Warning) -> Value {
    let time = |name: &str, time: Option<i64>| time.map(|time| format!(" {name} {time}")).unwrap_or_default();
    let (from, until) = (time("from", warning.from), time("until", warning.until));
    json!(format!("{}{from}{until}: {}", warning.code.name, warning.message))
}

fn statuses(translation: &Translation) -> Value {
    let mut all = BTreeMap::new();
    for (object, desired) in translation.statuses.sorted() {
        let conditions = desired.conditions.iter().map(|condition| {
            let text = format!("{} {}: {}", condition.status.as_str(), condition.reason, condition.message);
            (condition.type_.to_owned(), Value::String(text))
        });
        let mut status: serde_json::Map<String, Value> = conditions.collect();
        if let Some(generation) = desired.generation {
            status.insert("observedGeneration".into(), json!(generation));
        }
        match &desired.detail {
            Detail::None => {}
            Detail::ApiRoute { rules } => drop(status.insert("rules".into(), json!(rules))),
            Detail::Stage { rules, claims } => {
                status.insert("rules".into(), json!(rules));
                let times = claims.hostnames.iter().map(|(name, time)| (name.clone(), time));
                let path = claims.base_path.iter().map(|(path, fleet, time)| (format!("{path} in {fleet}"), time));
                // Most are recorded when the status is written.
                let times = times.chain(path).filter(|(_, time)| **time != ClaimTime::Now);
                let times: serde_json::Map<String, Value> =
                    times.map(|(name, time)| (name, claim_time(*time))).collect();
                if !times.is_empty() {
                    status.insert("claims".into(), Value::Object(times));
                }
            }
            Detail::ApiKey { prefix, secret, must_generate } => {
                status.insert("prefix".into(), json!(prefix));
                status.insert("secretName".into(), json!(secret));
                status.insert("mustGenerate".into(), json!(must_generate));
            }
            Detail::Principal { access_key_ids, kept_ids, arn, must_generate, caller } => {
                status.insert("accessKeyIds".into(), json!(access_key_ids));
                if !kept_ids.is_empty() {
                    status.insert("keptIds".into(), json!(kept_ids));
                }
                status.insert("arn".into(), json!(arn));
                status.insert("mustGenerate".into(), json!(must_generate));
                if let Some(role) = caller.as_ref().and_then(|caller| caller.role.as_ref()) {
                    let trusted: Vec<String> = role.trusted.iter().map(ToString::to_string).collect();
                    status.insert("trusted".into(), json!(trusted));
                    status.insert("maxSessionSeconds".into(), json!(role.max_duration_s));
                }
            }
        }
        if !desired.warnings.is_empty() {
            status.insert("warnings".into(), desired.warnings.iter().map(warning).collect());
        }
        // At most Stages all is as for the whole object.
        let at_stages = desired
            .stages
            .iter()
            .filter(|(_, at)| (&at.conditions, at.served) != (&desired.conditions, desired.served));
        for (stage, at) in at_stages {
            let accepted = &at.conditions[0];
            let served = if at.served == Served::Nothing { "; served: nothing" } else { "" };
            let text = format!("{} {}: {}{served}", accepted.status.as_str(), accepted.reason, accepted.message);
            status.insert(format!("at Stage {stage}"), json!(text));
        }
        if desired.served == Served::Nothing {
            status.insert("served".into(), json!("nothing"));
        }
        status.insert("parts".into(), json!(desired.parts));
        if desired.fleets.iter().any(|fleet| fleet.as_str() != "default") {
            status.insert("fleets".into(), json!(desired.fleets));
        }
        all.insert(object.to_string(), Value::Object(status));
    }
    json!(all)
}

fn translated(input: &str) -> Translation {
    let days = SigningDays::around(TODAY.parse().unwrap(), 1);
    Translator::new().with_days(days).translate(&crate::objects::state(input))
}

fn translates_as_written_down(case: &str) {
    let case = folder().join(case);
    let input = std::fs::read_to_string(case.join("in.yaml")).unwrap();
    let translation = translated(&input);
    let files = [("parts.yaml", parts(&translation)), ("status.yaml", statuses(&translation))];
    let compared = files.map(|(file, value)| compare(&case.join(file), &serde_saphyr::to_string(&value).unwrap()));
    let wrong: Vec<String> = compared.into_iter().filter_map(Result::err).collect();
    assert!(wrong.is_empty(), "\n{}", wrong.join("\n"));
}

/// A test for each case; the list is written with `UPDATE_GOLDEN=1`, and the last test here compares it with the folders.
macro_rules! cases {
    ($($case:ident)*) => {
        mod case {
            $(
                #[test]
                fn $case() {
                    super::translates_as_written_down(stringify!($case));
                }
            )*
        }
    };
}
include!("golden/cases.rs");

#[test]
fn every_folder_is_a_test() {
    let names = cases().into_iter().map(|case| format!("    {}\n", case.file_name().unwrap().to_str().unwrap()));
    let list = format!("cases! {{\n{}}}\n", names.collect::<String>());
    let difference = compare(&folder().join("cases.rs"), &list).err();
    assert!(difference.is_none(), "\n{}", difference.unwrap_or_default());
}

#[test]
fn every_reason_of_a_translation_has_a_case() {
    let mut seen = BTreeSet::new();
    for case in cases() {
        let input = std::fs::read_to_string(case.join("in.yaml")).unwrap();
        let translation = translated(&input);
        let conditions = translation.statuses.iter().flat_map(|(_, desired)| &desired.conditions);
        seen.extend(conditions.map(|condition| condition.reason));
    }
    let all = reason::ALL_ACCEPTED.iter().chain(reason::ALL_RESOLVED_REFS);
    // A namespace that exceeds its quota is too long for a case: `incremental.rs` shows it.
    let all = all.filter(|reason| **reason != reason::QUOTA_EXCEEDED);
    let missing: Vec<_> = all.filter(|reason| !seen.contains(*reason)).collect();
    assert!(missing.is_empty(), "no case shows {missing:?}");
}
