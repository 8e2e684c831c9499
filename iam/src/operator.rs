//! Names of condition operators.

/// A condition operator, as `ForAllValues:StringNotLikeIfExists`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Operator {
    pub(crate) comparison: Comparison,
    /// `…Not…`: true when the key is absent.
    pub(crate) negated: bool,
    /// The suffix `IfExists`.
    pub(crate) if_exists: bool,
    pub(crate) set: Option<Set>,
}

/// The prefixes of operators on keys with several values.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Set {
    ForAllValues,
    ForAnyValue,
}

/// How a value of the request is compared with one of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    String { wildcards: bool, fold: bool },
    Numeric(Relation),
    Date(Relation),
    Bool,
    Binary,
    IpAddress,
    Arn,
    Null,
}

/// The order of a value of the request and one of the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Relation {
    Equal,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Relation {
    pub(crate) fn holds<T: Ord>(self, request: &T, policy: &T) -> bool {
        match self {
            Self::Equal => request == policy,
            Self::Less => request < policy,
            Self::LessOrEqual => request <= policy,
            Self::Greater => request > policy,
            Self::GreaterOrEqual => request >= policy,
        }
    }
}

impl Operator {
    pub(crate) fn parse(name: &str) -> Result<Self, String> {
        let (set, base) = if let Some(base) = name.strip_prefix("ForAllValues:") {
            (Some(Set::ForAllValues), base)
        } else if let Some(base) = name.strip_prefix("ForAnyValue:") {
            (Some(Set::ForAnyValue), base)
        } else {
            (None, name)
        };
        let (base, if_exists) = match base.strip_suffix("IfExists") {
            Some(base) => (base, true),
            None => (base, false),
        };
        let (comparison, negated) = comparison(base).ok_or("unknown condition operator")?;
        if comparison == Comparison::Null && (if_exists || set.is_some()) {
            return Err("the operator Null has neither the suffix IfExists nor a prefix".to_owned());
        }
        Ok(Self { comparison, negated, if_exists, set })
    }
}

/// The comparison of a name, and whether it is negated. `ArnEquals` and `ArnLike` are the same in IAM.
fn comparison(name: &str) -> Option<(Comparison, bool)> {
    use Comparison::{Arn, Binary, Bool, Date, IpAddress, Null, Numeric, String};
    use Relation::{Equal, Greater, GreaterOrEqual, Less, LessOrEqual};
    Some(match name {
        "StringEquals" => (String { wildcards: false, fold: false }, false),
        "StringNotEquals" => (String { wildcards: false, fold: false }, true),
        "StringEqualsIgnoreCase" => (String { wildcards: false, fold: true }, false),
        "StringNotEqualsIgnoreCase" => (String { wildcards: false, fold: true }, true),
        "StringLike" => (String { wildcards: true, fold: false }, false),
        "StringNotLike" => (String { wildcards: true, fold: false }, true),
        "NumericEquals" => (Numeric(Equal), false),
        "NumericNotEquals" => (Numeric(Equal), true),
        "NumericLessThan" => (Numeric(Less), false),
        "NumericLessThanEquals" => (Numeric(LessOrEqual), false),
        "NumericGreaterThan" => (Numeric(Greater), false),
        "NumericGreaterThanEquals" => (Numeric(GreaterOrEqual), false),
        "DateEquals" => (Date(Equal), false),
        "DateNotEquals" => (Date(Equal), true),
        "DateLessThan" => (Date(Less), false),
        "DateLessThanEquals" => (Date(LessOrEqual), false),
        "DateGreaterThan" => (Date(Greater), false),
        "DateGreaterThanEquals" => (Date(GreaterOrEqual), false),
        "Bool" => (Bool, false),
        "BinaryEquals" => (Binary, false),
        "IpAddress" => (IpAddress, false),
        "NotIpAddress" => (IpAddress, true),
        "ArnEquals" | "ArnLike" => (Arn, false),
        "ArnNotEquals" | "ArnNotLike" => (Arn, true),
        "Null" => (Null, false),
        _ => return None,
    })
}
