//! Warnings about policies in the language of IAM.

use serde_json::Value;
use sluice_crds::warning::{PRINCIPAL_WITHOUT_POLICY, STATEMENT_WITHOUT_EFFECT};
use sluice_crds::{Principal, Stage};
use sluice_iam::{Decided, Kind, Options, Policy, WithoutEffect};

use crate::objects::ObjectKey;
use crate::translate::resource_policy::stage_arn;
use crate::warning::Warnings;

/// What the gateway asks policies about.
const ACTIONS: [&str; 2] = ["execute-api:Invoke", "execute-api:InvalidateCache"];

/// Warnings about the policy of a Stage.
pub(crate) fn of_stage(key: &ObjectKey, stage: &Stage, warnings: &mut Warnings) {
    let Some(document) = &stage.spec.policy else { return };
    let arn = stage_arn(key, stage.spec.aws.as_ref());
    let text = Value::Object(document.0.clone()).to_string();
    let Ok(policy) = Policy::parse(&text, Kind::Resource, Options { resource_prefix: Some(&arn) }) else { return };
    let prefix = format!("{arn}/{}/", key.name);
    for found in policy.without_effect(&ACTIONS, &prefix) {
        let (field, why) = without_effect(found, &prefix);
        warnings.add(STATEMENT_WITHOUT_EFFECT, &format!("spec.policy.{field}"), why);
    }
}

/// Warnings about the policies of a Principal; `documents` are those of `spec.policies`, in their order.
pub(crate) fn of_principal(principal: &Principal, documents: &[String], warnings: &mut Warnings) {
    let policies: Vec<Policy> =
        documents.iter().filter_map(|text| Policy::parse(text, Kind::Identity, Options::default()).ok()).collect();
    if policies.len() != principal.spec.policies.len() {
        return; // a problem of the object
    }
    for (at, (policy, named)) in policies.iter().zip(&principal.spec.policies).enumerate() {
        // Of whichever Stage.
        for found in policy.without_effect(&ACTIONS, "") {
            let (field, why) = without_effect(found, "");
            let place = match named.document {
                Some(_) => format!("spec.policies[{at}].document.{field}"),
                None => format!("spec.policies[{at}].configMap: {field}"),
            };
            warnings.add(STATEMENT_WITHOUT_EFFECT, &place, why);
        }
    }
    if !policies.iter().any(|policy| ACTIONS.iter().any(|action| policy.may_allow(action))) {
        let why = if policies.is_empty() {
            "the Principal has no policy, so its requests get 403 unless the policy of the Stage allows them. List a policy"
        } else {
            "no policy of the Principal allows execute-api:Invoke, so its requests get 403 unless the policy of the Stage allows \
             them. Add a statement that allows it"
        };
        warnings.add(PRINCIPAL_WITHOUT_POLICY, "spec.policies", why);
    }
}

/// The statement, and why it applies to no request.
fn without_effect(found: WithoutEffect<'_>, prefix: &str) -> (String, String) {
    let field = |Decided { statement, .. }: Decided<'_>| format!("Statement[{statement}]");
    match found {
        WithoutEffect::Action(decided) => (
            field(decided),
            format!(
                "the statement applies to no request: its actions contain neither {} nor {}",
                ACTIONS[0], ACTIONS[1]
            ),
        ),
        WithoutEffect::Resource(decided) => (
            field(decided),
            format!(
                "the statement applies to no request of the Stage: none of its resources begins with {prefix}. Correct the region, \
                 the account, the API or the name of the Stage"
            ),
        ),
    }
}
