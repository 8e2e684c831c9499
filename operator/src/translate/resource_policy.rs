//! The resource policy of a Stage.

use serde_json::Value;
use sluice_crds::policy_document::PolicyDocument;
use sluice_crds::stage as api;
use sluice_wire::StagePolicy;

use crate::objects::ObjectKey;
use crate::problem::Problems;

/// How the ARNs of a Stage's methods begin, before its name.
pub(crate) fn stage_arn(key: &ObjectKey, aws: Option<&api::AwsNames>) -> String {
    let api::AwsNames { region, account_id, api_id } = aws.cloned().unwrap_or_default();
    let region = region.as_deref().unwrap_or("us-east-1");
    let account = account_id.as_deref().unwrap_or("000000000000");
    let api = api_id.as_deref().unwrap_or(&key.namespace);
    let partition = match region {
        _ if region.starts_with("cn-") => "aws-cn",
        _ if region.starts_with("us-gov-") => "aws-us-gov",
        _ => "aws",
    };
    format!("arn:{partition}:execute-api:{region}:{account}:{api}")
}

/// The resource policy, if the whole document can be evaluated.
pub(crate) fn resource_policy(policy: &PolicyDocument, arn: &str, problems: &mut Problems) -> Option<StagePolicy> {
    let document = Value::Object(policy.0.clone()).to_string();
    let options = sluice_iam::Options { resource_prefix: Some(arn) };
    if let Err(error) = sluice_iam::Policy::parse(&document, sluice_iam::Kind::Resource, options) {
        // `$.Statement[0]` of the document.
        let field = format!("spec.policy{}", error.path.trim_start_matches('$'));
        problems.invalid(&field, error.reason);
        return None;
    }
    if let Some(why) = unmatchable_resource(policy) {
        problems.invalid("spec.policy", why);
        return None;
    }
    Some(StagePolicy { document, arn: arn.to_owned() })
}

/// A sentence about the first resource that matches no path because of its encoding.
pub(crate) fn unmatchable_resource(policy: &PolicyDocument) -> Option<String> {
    let text = resources(policy).find(|text| !is_canonical(text))?;
    Some(format!(
        "the resource {text:?} matches no path: write it percent-encoded, with upper-case digits and without needless \
         encoding, as in caf%C3%A9"
    ))
}

/// The resources of all statements of a valid document.
fn resources(policy: &PolicyDocument) -> impl Iterator<Item = &str> {
    let statements = policy.0.get("Statement").into_iter().flat_map(one_or_many);
    let resources = statements.flat_map(|statement| [statement.get("Resource"), statement.get("NotResource")]);
    resources.flatten().flat_map(one_or_many).filter_map(Value::as_str)
}

fn one_or_many(value: &Value) -> &[Value] {
    value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice)
}

/// Whether a resource is written as paths are matched: percent-encoded, with upper-case digits, and without an encoded letter,
/// digit, `-`, `.`, `_` or `~`. Otherwise no path has this text, and a statement that denies it denies nothing.
fn is_canonical(text: &str) -> bool {
    let mut pieces = text.split('%');
    let is_plain = |piece: &str| piece.bytes().all(|byte| byte.is_ascii_graphic());
    let is_escape = |piece: &str| {
        let Some(digits) = piece.as_bytes().get(..2) else { return piece.starts_with(['*', '?']) };
        if digits.iter().any(|digit| matches!(digit, b'*' | b'?')) {
            return true;
        }
        let byte = std::str::from_utf8(digits).ok().and_then(|digits| u8::from_str_radix(digits, 16).ok());
        byte.is_some_and(|byte| !byte.is_ascii_alphanumeric() && !b"-._~".contains(&byte))
            && digits.iter().all(|digit| digit.is_ascii_digit() || digit.is_ascii_uppercase())
    };
    pieces.next().is_none_or(is_plain) && pieces.all(|piece| is_escape(piece) && is_plain(piece))
}

#[cfg(test)]
mod tests {
    use super::is_canonical;

    #[test]
    fn resources_are_written_as_paths_are() {
        for text in
            ["*", "execute-api:/prod/GET/a", "a%2Fb", "caf%C3%A9", "a%20b", "%*", "a%2?", "${aws:UserAgent}", "a?b*"]
        {
            assert!(is_canonical(text), "{text}");
        }
        for text in ["caf\u{e9}", "a b", "%c3%A9", "%41", "%7E", "%", "%2", "%zz", "a\tb", "%+1"] {
            assert!(!is_canonical(text), "{text}");
        }
    }
}
