//! The element `Condition`: one condition for each operator and key.

use std::collections::HashSet;

use ipnet::IpNet;

use crate::arn::ArnPattern;
use crate::error::{Path, PolicyError};
use crate::json::Node;
use crate::operator::{Comparison, Operator, Relation, Set};
use crate::request::Context;
use crate::scalar::{self, Decimal, Timestamp};
use crate::template::{self, Pattern, Syntax};

/// An operator, a key, and the values of the policy.
#[derive(Debug)]
pub(crate) struct Condition {
    operator: Operator,
    /// In lower case.
    key: String,
    values: Operand,
}

/// The values of the policy, parsed.
#[derive(Debug)]
enum Operand {
    Text(Vec<Pattern>),
    Arn(Vec<ArnPattern>),
    Numeric(Relation, Vec<Decimal>),
    Date(Relation, Vec<Timestamp>),
    Bool(Vec<bool>),
    Binary(Vec<Vec<u8>>),
    Networks(Vec<IpNet>),
    /// Whether the key must be absent.
    Null(Vec<bool>),
}

/// Parses the element. `variables`: whether the version of the policy has them.
pub(crate) fn parse(node: &Node, path: &Path<'_>, variables: bool, max: usize) -> Result<Vec<Condition>, PolicyError> {
    let mut conditions = Vec::new();
    for (name, keys) in node.members(path)? {
        let path = path.key(name);
        let operator = Operator::parse(name).map_err(|reason| path.error(reason))?;
        let mut seen = HashSet::new();
        for (key, values) in keys.members(&path)? {
            let path = path.key(key);
            template::check_key(key).map_err(|reason| path.error(reason))?;
            let key = key.to_ascii_lowercase();
            if !seen.insert(key.clone()) {
                return Err(path.error("duplicate key: the case of condition keys is ignored"));
            }
            let values = Operand::parse(operator.comparison, values, &path, variables, max)?;
            conditions.push(Condition { operator, key, values });
        }
    }
    if conditions.len() > max {
        return Err(path.error(format!("has {} conditions; at most {max} are allowed", conditions.len())));
    }
    Ok(conditions)
}

impl Condition {
    /// Whether the condition is true for a request.
    pub(crate) fn holds(&self, context: &dyn Context) -> bool {
        let found = context.values(&self.key);
        let found = found.as_slice();
        let Operator { negated, if_exists, set, .. } = self.operator;
        if let Operand::Null(expected) = &self.values {
            return expected.contains(&found.is_empty());
        }
        if found.is_empty() {
            return match set {
                Some(Set::ForAllValues) => true,
                Some(Set::ForAnyValue) => if_exists,
                None => if_exists || negated,
            };
        }
        // A variable without a value makes both forms false.
        let test = |value: &str| self.values.matches(value, context).is_some_and(|matches| matches != negated);
        let all = match set {
            Some(set) => set == Set::ForAllValues,
            None => negated,
        };
        if all { found.iter().all(|value| test(value)) } else { found.iter().any(|value| test(value)) }
    }
}

impl Operand {
    fn parse(
        comparison: Comparison,
        node: &Node,
        path: &Path<'_>,
        variables: bool,
        max: usize,
    ) -> Result<Self, PolicyError> {
        fn list<T>(
            (node, path, max): (&Node, &Path<'_>, usize),
            parse: impl Fn(&str) -> Result<T, String>,
        ) -> Result<Vec<T>, PolicyError> {
            node.one_or_many(path, max, |node, path| {
                text_of(node).and_then(|text| parse(&text)).map_err(|reason| path.error(reason))
            })
        }
        fn form<T>(text: &str, value: Option<T>, expected: &str) -> Result<T, String> {
            value.ok_or_else(|| format!("{text:?} is not {expected}"))
        }
        let boolean = |text: &str| form(text, scalar::boolean(text), "true or false");
        let at = (node, path, max);
        Ok(match comparison {
            Comparison::String { wildcards, fold } => {
                let syntax = Syntax { variables, wildcards, fold };
                Self::Text(list(at, |text| Pattern::parse(text, syntax))?)
            }
            Comparison::Arn => Self::Arn(list(at, |text| ArnPattern::parse(text, variables))?),
            Comparison::Numeric(relation) => {
                let expected = "a decimal number with at most 18 digits before and after its point";
                Self::Numeric(relation, list(at, |text| form(text, scalar::decimal(text), expected))?)
            }
            Comparison::Date(relation) => {
                let expected = "a date such as 2026-01-02 or 2026-01-02T03:04:05Z, or seconds since 1970";
                Self::Date(relation, list(at, |text| form(text, scalar::timestamp(text), expected))?)
            }
            Comparison::Bool => Self::Bool(list(at, boolean)?),
            Comparison::Null => Self::Null(list(at, boolean)?),
            Comparison::Binary => Self::Binary(list(at, |text| form(text, scalar::binary(text), "base64"))?),
            Comparison::IpAddress => {
                let expected = "an IP address or a CIDR";
                Self::Networks(list(at, |text| form(text, scalar::network(text), expected))?)
            }
        })
    }

    /// Whether one of the values matches the value of a request. A value of the request that does not have the form of
    /// the operator matches none. None: no value matches, and a variable of one has no value.
    fn matches(&self, value: &str, context: &dyn Context) -> Option<bool> {
        Some(match self {
            Self::Text(patterns) => {
                return template::any_matches(patterns.iter().map(|pattern| pattern.matches(value, context)));
            }
            Self::Arn(patterns) => {
                return template::any_matches(patterns.iter().map(|pattern| pattern.matches(value, context)));
            }
            Self::Numeric(relation, policy) => scalar::decimal(value)
                .is_some_and(|request| policy.iter().any(|policy| relation.holds(&request, policy))),
            Self::Date(relation, policy) => scalar::timestamp(value)
                .is_some_and(|request| policy.iter().any(|policy| relation.holds(&request, policy))),
            Self::Bool(policy) => scalar::boolean(value).is_some_and(|request| policy.contains(&request)),
            Self::Binary(policy) => scalar::binary(value).is_some_and(|request| policy.contains(&request)),
            Self::Networks(policy) => {
                scalar::address(value).is_some_and(|request| policy.iter().any(|network| network.contains(&request)))
            }
            Self::Null(_) => false,
        })
    }
}

/// The text of a value. The quotation marks of numbers and booleans are optional.
fn text_of(node: &Node) -> Result<String, String> {
    match node {
        Node::String(text) => Ok(text.clone()),
        Node::Bool(value) => Ok(value.to_string()),
        Node::Integer(text) => Ok(text.clone()),
        Node::Float(number) => scalar::float_text(*number)
            .ok_or_else(|| "the number has more than 15 digits; write it as a string".to_owned()),
        other => Err(format!("must be a string, a number or a boolean, not {}", other.kind())),
    }
}
