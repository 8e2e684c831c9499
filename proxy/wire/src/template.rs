//! Values with variables, `Bearer ${context.authorizer.claims.sub}`: parsed here once, rendered by the proxy per request.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A text with variables.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Template {
    parts: Vec<TemplatePart>,
}

/// A piece of a template.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemplatePart {
    /// As written.
    Text(String),
    /// Filled in per request; what is not there renders as nothing.
    Variable(Variable),
}

/// What a template can name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Variable {
    /// `context.authorizer.claims.NAME`
    Claim(String),
    /// `context.requestId`
    RequestId,
    /// `context.identity.sourceIp`
    SourceIp,
    /// `context.identity.apiKeyId`: `namespace/name` of the ApiKey, never the key.
    ApiKeyId,
    /// `context.stage`
    Stage,
    /// `context.httpMethod`
    HttpMethod,
    /// `context.path`: as the client wrote it.
    Path,
    /// `request.path.NAME`
    PathParameter(String),
}

/// Why a text is not a template.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseTemplateError {
    /// `${` without `}`.
    #[error("a variable starts with ${{ and ends with }}")]
    Open,
    /// Not a known variable.
    #[error(
        "there is no variable {0:?}; there are context.authorizer.claims.NAME, context.requestId, \
         context.identity.sourceIp, context.identity.apiKeyId, context.stage, context.httpMethod, context.path and request.path.NAME"
    )]
    Unknown(String),
    /// A line end or another control character.
    #[error("a header value has no control characters")]
    Control,
}

impl Template {
    /// Its pieces in order.
    #[must_use]
    pub fn parts(&self) -> &[TemplatePart] {
        &self.parts
    }

    /// Whether it names a claim, and so needs an authorizer.
    #[must_use]
    pub fn names_claim(&self) -> bool {
        self.parts.iter().any(|part| matches!(part, TemplatePart::Variable(Variable::Claim(_))))
    }
}

fn variable(name: &str) -> Result<Variable, ParseTemplateError> {
    if let Some(claim) = name.strip_prefix("context.authorizer.claims.")
        && !claim.is_empty()
    {
        return Ok(Variable::Claim(claim.to_owned()));
    }
    if let Some(parameter) = name.strip_prefix("request.path.")
        && !parameter.is_empty()
    {
        return Ok(Variable::PathParameter(parameter.to_owned()));
    }
    match name {
        "context.requestId" => Ok(Variable::RequestId),
        "context.identity.sourceIp" => Ok(Variable::SourceIp),
        "context.identity.apiKeyId" => Ok(Variable::ApiKeyId),
        "context.stage" => Ok(Variable::Stage),
        "context.httpMethod" => Ok(Variable::HttpMethod),
        "context.path" => Ok(Variable::Path),
        other => Err(ParseTemplateError::Unknown(other.to_owned())),
    }
}

impl FromStr for Template {
    type Err = ParseTemplateError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if text.chars().any(|c| c.is_control() && c != '\t') {
            return Err(ParseTemplateError::Control);
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((before, after)) = rest.split_once("${") {
            if !before.is_empty() {
                parts.push(TemplatePart::Text(before.to_owned()));
            }
            let (name, after) = after.split_once('}').ok_or(ParseTemplateError::Open)?;
            parts.push(TemplatePart::Variable(variable(name)?));
            rest = after;
        }
        if !rest.is_empty() || parts.is_empty() {
            parts.push(TemplatePart::Text(rest.to_owned()));
        }
        Ok(Self { parts })
    }
}

impl fmt::Display for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.parts.iter().try_for_each(|part| match part {
            TemplatePart::Text(text) => f.write_str(text),
            TemplatePart::Variable(Variable::Claim(name)) => write!(f, "${{context.authorizer.claims.{name}}}"),
            TemplatePart::Variable(Variable::PathParameter(name)) => write!(f, "${{request.path.{name}}}"),
            TemplatePart::Variable(Variable::RequestId) => f.write_str("${context.requestId}"),
            TemplatePart::Variable(Variable::SourceIp) => f.write_str("${context.identity.sourceIp}"),
            TemplatePart::Variable(Variable::ApiKeyId) => f.write_str("${context.identity.apiKeyId}"),
            TemplatePart::Variable(Variable::Stage) => f.write_str("${context.stage}"),
            TemplatePart::Variable(Variable::HttpMethod) => f.write_str("${context.httpMethod}"),
            TemplatePart::Variable(Variable::Path) => f.write_str("${context.path}"),
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
    fn templates_survive_their_text_and_unknown_variables_are_refused() {
        for good in
            ["", "plain", "${context.requestId}", "a${context.authorizer.claims.sub}b${request.path.id}", "$5 {x}"]
        {
            assert_eq!(good.parse::<Template>().unwrap().to_string(), good);
        }
        assert_eq!("${x".parse::<Template>(), Err(ParseTemplateError::Open));
        assert_eq!("${x}".parse::<Template>(), Err(ParseTemplateError::Unknown("x".to_owned())));
        assert_eq!("a\r\nb".parse::<Template>(), Err(ParseTemplateError::Control));
    }
}
