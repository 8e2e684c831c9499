//! The elements `Principal` and `NotPrincipal`.

use crate::arn::PARTS;
use crate::error::{Path, PolicyError};
use crate::json::Node;
use crate::request::Principal;

/// Callers that a statement names.
#[derive(Debug)]
pub(crate) struct Principals {
    entries: Vec<Entry>,
    negated: bool,
}

#[derive(Debug)]
enum Entry {
    Any,
    /// A whole account.
    Account(String),
    /// Exactly this user, role or session.
    Arn(String),
    /// A service, a federated identity or a canonical user: not a caller that a [`Principal`] can be.
    Other,
}

impl Principals {
    /// Parses `"*"` or an object of types of principals. `negated`: the element is `NotPrincipal`.
    pub(crate) fn parse(node: &Node, path: &Path<'_>, negated: bool, max: usize) -> Result<Self, PolicyError> {
        if let Node::String(text) = node {
            if text != "*" {
                return Err(path.error(r#"must be "*" or an object such as {"AWS": "123456789012"}"#));
            }
            return Ok(Self { entries: vec![Entry::Any], negated });
        }
        let mut entries = Vec::new();
        for (kind, values) in node.members(path)? {
            let path = path.key(kind);
            let parse: fn(&str) -> Result<Entry, String> = match kind.as_str() {
                "AWS" => parse_aws,
                "Service" => parse_service,
                "Federated" | "CanonicalUser" => parse_other,
                _ => return Err(path.error("unknown type of principal: use AWS, Service, Federated or CanonicalUser")),
            };
            entries.extend(
                values.one_or_many(&path, max, |node, path| {
                    parse(node.text(path)?).map_err(|reason| path.error(reason))
                })?,
            );
        }
        Ok(Self { entries, negated })
    }

    /// Whether the element is `NotPrincipal`.
    pub(crate) fn is_negated(&self) -> bool {
        self.negated
    }

    pub(crate) fn matches(&self, principal: Principal<'_>) -> bool {
        if self.negated { !self.excepts(principal) } else { self.names(principal) }
    }

    fn names(&self, principal: Principal<'_>) -> bool {
        self.entries.iter().any(|entry| match (entry, principal) {
            (Entry::Any, _) => true,
            (Entry::Account(named), Principal::Aws { account, .. }) => named == account,
            (Entry::Arn(named), Principal::Aws { arn, role_arn, .. }) => {
                named == arn || Some(named.as_str()) == role_arn
            }
            _ => false,
        })
    }

    /// Whether `NotPrincipal` leaves a caller out. IAM checks the account and then the caller, so that both must be
    /// named: an account alone leaves out its root user only.
    fn excepts(&self, principal: Principal<'_>) -> bool {
        let any = |test: &dyn Fn(&Entry) -> bool| self.entries.iter().any(test);
        if any(&|entry| matches!(entry, Entry::Any)) {
            return true;
        }
        let Principal::Aws { account, arn, role_arn } = principal else { return false };
        any(&|entry| matches!(entry, Entry::Account(named) if named == account))
            && (arn.splitn(PARTS, ':').nth(PARTS - 1) == Some("root")
                || any(&|entry| matches!(entry, Entry::Arn(named) if named == arn || Some(named.as_str()) == role_arn)))
    }
}

/// `*`, an account, or an ARN.
fn parse_aws(text: &str) -> Result<Entry, String> {
    if text == "*" {
        return Ok(Entry::Any);
    }
    if text.contains(['*', '?']) {
        return Err("a principal must not contain wildcards; use the condition key aws:PrincipalArn".to_owned());
    }
    if is_account(text) {
        return Ok(Entry::Account(text.to_owned()));
    }
    let invalid = || {
        format!(
            "{text:?} is not a principal: use an account of 12 digits, or the ARN of an account, a user, a role \
             or a session"
        )
    };
    let parts: Vec<&str> = text.splitn(PARTS, ':').collect();
    let [prefix, partition, service, region, account, resource] = parts.as_slice() else { return Err(invalid()) };
    if *prefix != "arn" || partition.is_empty() || !region.is_empty() || !is_account(account) {
        return Err(invalid());
    }
    let (kind, name) = resource.split_once('/').unwrap_or((resource, ""));
    match (*service, kind) {
        ("iam", "root") if *resource == "root" => Ok(Entry::Account((*account).to_owned())),
        ("iam", "user" | "role") | ("sts", "assumed-role" | "federated-user") if !name.is_empty() => {
            Ok(Entry::Arn(text.to_owned()))
        }
        _ => Err(invalid()),
    }
}

/// A name such as `apigateway.amazonaws.com`.
fn parse_service(text: &str) -> Result<Entry, String> {
    let is_label =
        |label: &str| !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    if text.contains('.') && text.split('.').all(is_label) {
        Ok(Entry::Other)
    } else {
        Err(format!("{text:?} is not the name of a service, such as apigateway.amazonaws.com"))
    }
}

fn parse_other(text: &str) -> Result<Entry, String> {
    if text.is_empty() {
        Err("must not be empty".to_owned())
    } else if text.contains(['*', '?']) {
        Err("a principal must not contain wildcards".to_owned())
    } else {
        Ok(Entry::Other)
    }
}

fn is_account(text: &str) -> bool {
    text.len() == 12 && text.bytes().all(|byte| byte.is_ascii_digit())
}
