//! The resource policy of a Stage.

use sluice_crds::stage as api;
use sluice_wire::StagePolicy;

use crate::objects::ObjectKey;
use crate::problem::Problems;

/// The resource policy, if the whole document can be evaluated.
pub(crate) fn resource_policy(
    key: &ObjectKey,
    policy: &api::PolicyDocument,
    aws: Option<&api::AwsNames>,
    problems: &mut Problems,
) -> Option<StagePolicy> {
    let api::AwsNames { region, account_id, api_id } = aws.cloned().unwrap_or_default();
    let region = region.as_deref().unwrap_or("us-east-1");
    let account = account_id.as_deref().unwrap_or("000000000000");
    let api = api_id.as_deref().unwrap_or(&key.namespace);
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    let arn = format!("arn:{partition}:execute-api:{region}:{account}:{api}");
    let document = serde_json::Value::Object(policy.0.clone()).to_string();
    let options = sluice_iam::Options { resource_prefix: Some(&arn) };
    match sluice_iam::Policy::parse(&document, sluice_iam::Kind::Resource, options) {
        Ok(_) => Some(StagePolicy { document, arn }),
        Err(error) => {
            // `$.Statement[0]` of the document.
            let field = format!("spec.policy{}", error.path.trim_start_matches('$'));
            problems.invalid(&field, error.reason);
            None
        }
    }
}
