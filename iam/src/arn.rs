//! Patterns of ARNs. The six parts, separated by colons, are compared one by one: a wildcard does not span a colon,
//! except in the last part.

use crate::request::Context;
use crate::template::{self, Element, Pattern, Syntax, Variable};

/// Parts of an ARN: `arn:partition:service:region:account:resource`. The last one may contain colons.
pub(crate) const PARTS: usize = 6;

/// A value of an operator `Arn…`.
#[derive(Debug)]
pub(crate) enum ArnPattern {
    /// A pattern for each part.
    Parts(Vec<Pattern>),
    /// A variable whose value is a whole ARN: `${aws:PrincipalArn}`.
    Whole(Variable),
}

impl ArnPattern {
    pub(crate) fn parse(text: &str, variables: bool) -> Result<Self, String> {
        if text == "*" {
            return Self::parse("*:*:*:*:*:*", variables);
        }
        let elements = template::parse(text, Syntax { variables, wildcards: true, fold: false })?;
        if let [Element::Variable(variable)] = elements.as_slice() {
            return Ok(Self::Whole(variable.clone()));
        }
        let parts = split(elements);
        if parts.len() != PARTS {
            return Err(format!("{text:?} is not an ARN: an ARN has six parts, separated by colons"));
        }
        Ok(Self::Parts(parts.into_iter().map(|elements| Pattern::new(elements, false)).collect()))
    }

    /// Whether the pattern matches an ARN. None: a variable of it has no value.
    pub(crate) fn matches(&self, text: &str, context: &dyn Context) -> Option<bool> {
        let is_arn = text.splitn(PARTS, ':').count() == PARTS;
        match self {
            Self::Whole(variable) => Some(variable.resolve(context)? == text && is_arn),
            Self::Parts(patterns) => {
                let mut all = is_arn;
                // Every part, so that a variable without a value has the same result in each.
                for (pattern, part) in patterns.iter().zip(text.splitn(PARTS, ':').chain(std::iter::repeat(""))) {
                    all &= pattern.matches(part, context)?;
                }
                Some(all)
            }
        }
    }
}

/// Splits at the colons of the text, not at those in values of variables.
fn split(elements: Vec<Element>) -> Vec<Vec<Element>> {
    let mut parts = vec![];
    let mut part = vec![];
    for element in elements {
        let Element::Text(mut text) = element else {
            part.push(element);
            continue;
        };
        while parts.len() < PARTS - 1
            && let Some((before, after)) = text.split_once(':')
        {
            part.push(Element::Text(before.to_owned()));
            parts.push(std::mem::take(&mut part));
            text = after.to_owned();
        }
        part.push(Element::Text(text));
    }
    parts.push(part);
    parts
}
