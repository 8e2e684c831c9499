//! Header values with variables, `Bearer ${context.authorizer.claims.sub}`: parsed here once, rendered by the proxy per
//! request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::{ParseVariableError, Variable, VariableUse};

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    parts: Vec<TemplatePart>,
}

/// A part of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// Text, with `$` where the template has `$$`.
    Text(String),
    /// Replaced by its value for each request; without a value by nothing.
    Variable(Variable),
}

/// Why a text is not a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTemplateError {
    /// `${` without `}`.
    #[error("a variable must start with ${{ and end with }}")]
    Open,
    /// The text between `${` and `}`.
    #[error(transparent)]
    Variable(#[from] ParseVariableError),
    /// A line end or another control character.
    #[error("a header value must not have control characters")]
    Control,
}

impl Template {
    /// Its parts in order.
    #[must_use]
    pub fn parts(&self) -> &[TemplatePart] {
        &self.parts
    }

    /// The variables that it names, in order.
    pub fn variables(&self) -> impl Iterator<Item = &Variable> {
        self.parts.iter().filter_map(|part| match part {
            TemplatePart::Text(_) => None,
            TemplatePart::Variable(variable) => Some(variable),
        })
    }

    /// Its text when it names no variable.
    #[must_use]
    pub fn fixed(&self) -> Option<&str> {
        match self.parts.as_slice() {
            [TemplatePart::Text(text)] => Some(text),
            _ => None,
        }
    }
}

impl FromStr for Template {
    type Err = ParseTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(ParseTemplateError::Control);
        }
        let (mut parts, mut plain) = (Vec::new(), String::new());
        let mut rest = text;
        while let Some((before, after)) = rest.split_once('$') {
            plain.push_str(before);
            rest = after;
            if let Some(after) = rest.strip_prefix('{') {
                let (name, after) = after.split_once('}').ok_or(ParseTemplateError::Open)?;
                if !plain.is_empty() {
                    parts.push(TemplatePart::Text(std::mem::take(&mut plain)));
                }
                parts.push(TemplatePart::Variable(Variable::parse_for(name, VariableUse::HeaderValue)?));
                rest = after;
            } else {
                // `$$` is one dollar sign; a single one that begins no variable is literal.
                plain.push('$');
                rest = rest.strip_prefix('$').unwrap_or(rest);
            }
        }
        plain.push_str(rest);
        if !plain.is_empty() || parts.is_empty() {
            parts.push(TemplatePart::Text(plain));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => f.write_str(&text.replace('$', "$$")),
            TemplatePart::Variable(variable) => write!(f, "${{{variable}}}"),
        })
    }
}

impl TryFrom<String> for Template {
    type Error = ParseTemplateError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Template> for String {
    fn from(template: Template) -> Self {
        template.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates_survive_their_text_and_unknown_variables_are_errors() {
        for good in
            ["", "plain", "${context.requestId}", "a${context.authorizer.claims.sub}b${request.path.id}", "$$5 {x}"]
        {
            assert_eq!(good.parse::<Template>().unwrap().to_string(), good);
        }
        let unknown = |name: &str| ParseTemplateError::Variable(ParseVariableError::Unknown(name.to_owned()));
        assert_eq!("${x".parse::<Template>(), Err(ParseTemplateError::Open));
        assert_eq!("${x}".parse::<Template>(), Err(unknown("x")));
        assert_eq!("a\r\nb".parse::<Template>(), Err(ParseTemplateError::Control));
        assert!("${context.status}".parse::<Template>().is_err());
    }

    #[test]
    fn two_dollar_signs_are_one_and_a_single_one_stands_for_itself() {
        for (text, fixed) in
            [("$5", "$5"), ("$$5", "$5"), ("$$$", "$$"), ("$${context.stage}", "${context.stage}"), ("", "")]
        {
            let template: Template = text.parse().unwrap();
            assert_eq!(template.fixed(), Some(fixed), "{text}");
            assert_eq!(template.to_string().parse::<Template>().unwrap(), template);
        }
        let template: Template = "$$${context.stage}".parse().unwrap();
        assert_eq!(template.parts(), [TemplatePart::Text("$".into()), TemplatePart::Variable(Variable::Stage)]);
    }
}
