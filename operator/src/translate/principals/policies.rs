//! The identity policies of a Principal: IAM documents in the object or in ConfigMaps. A document is used as a whole or not at all.

use k8s_openapi::api::core::v1::ConfigMap;
use serde_json::Value;
use sluice_crds::Principal;
use sluice_crds::condition::reason;
use sluice_crds::policy_document::PolicyDocument;
use sluice_crds::reference::PolicyReference;
use sluice_iam::{Options, Policy, PolicyError};

use crate::objects::{Kind, ObjectKey};
use crate::problem::Problems;
use crate::translate::references::{Referrer, Unresolved, resolve};
use crate::translate::resource_policy::unmatchable_resource;
use crate::translate::view::View;

/// The documents, as far as they are valid.
pub(super) fn documents(
    view: &View<'_>,
    key: &ObjectKey,
    principal: &Principal,
    problems: &mut Problems,
) -> Vec<String> {
    let mut documents = Vec::new();
    for (at, policy) in principal.spec.policies.iter().enumerate() {
        let field = format!("spec.policies[{at}]");
        let named = policy.name.as_ref().map_or_else(String::new, |name| format!("policy {name}: "));
        match (&policy.document, &policy.config_map) {
            (Some(document), None) => {
                let text = Value::Object(document.0.clone()).to_string();
                match check(&text) {
                    Ok(()) => documents.push(text),
                    Err(PolicyError { path, reason }) => {
                        // `$.Statement[0]` of the document.
                        let field = format!("{field}.document{}", path.trim_start_matches('$'));
                        problems.invalid(&field, format_args!("{named}{reason}"));
                    }
                }
            }
            (None, Some(source)) => {
                let field = format!("{field}.configMap");
                match text(view, key, source) {
                    Ok(text) => match check(text) {
                        Ok(()) => documents.push(text.to_owned()),
                        Err(error) => {
                            let holder = key.target(&source.object);
                            let place = format!("the document in key {:?} of ConfigMap {holder}", source.key);
                            problems.invalid(&field, format_args!("{named}{place} is invalid at {error}"));
                        }
                    },
                    Err(unresolved) => unresolved.report(&field, problems),
                }
            }
            _ => problems.invalid(&field, "either document or configMap is required"),
        }
    }
    documents
}

/// Checks that the whole document can be evaluated.
fn check(text: &str) -> Result<(), PolicyError> {
    Policy::parse(text, sluice_iam::Kind::Identity, Options::default())?;
    let document = serde_json::from_str(text).map(PolicyDocument);
    match document.map(|document| unmatchable_resource(&document)) {
        Ok(None) => Ok(()),
        Ok(Some(reason)) => Err(PolicyError { path: "$.Statement".to_owned(), reason }),
        Err(error) => Err(PolicyError { path: "$".to_owned(), reason: error.to_string() }),
    }
}

fn text<'a>(view: &View<'a>, key: &ObjectKey, named: &PolicyReference) -> Result<&'a str, Unresolved> {
    let holder = key.target(&named.object);
    let map = resolve::<ConfigMap>(view, Referrer::new(Kind::Principal, key), &holder)?;
    let text = map.data.as_ref().and_then(|data| data.get(&named.key)).map(String::as_str);
    text.ok_or_else(|| Unresolved {
        reason: reason::CONFIG_MAP_INVALID,
        why: format!("ConfigMap {holder} has no data key {:?}; add it or correct the name", named.key),
    })
}
