//! Header values with variables, filled in per request. What can be named was decided when they were parsed.

use http::HeaderValue;
use sluice_wire::{Template, TemplatePart, Variable};

use crate::gateway::Matched;
use crate::pipeline::Exchange;

/// A value: fixed ones are made once.
pub(crate) enum Value {
    Fixed(HeaderValue),
    Variable(Template),
}

impl Value {
    /// None: the text cannot be a header's value.
    pub(crate) fn compile(template: &Template) -> Option<Self> {
        let fixed: Option<String> = template
            .parts()
            .iter()
            .map(|part| match part {
                TemplatePart::Text(text) => Some(text.as_str()),
                TemplatePart::Variable(_) => None,
            })
            .collect();
        match fixed {
            Some(text) => HeaderValue::from_str(&text).ok().map(Self::Fixed),
            None => Some(Self::Variable(template.clone())),
        }
    }

    /// What cannot be a header's value (a claim with a line end) renders as nothing.
    pub(crate) fn render(&self, exchange: &Exchange, matched: &Matched<'_>) -> HeaderValue {
        match self {
            Self::Fixed(value) => value.clone(),
            Self::Variable(template) => {
                let text = render(template, exchange, matched);
                HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
            }
        }
    }
}

fn render(template: &Template, exchange: &Exchange, matched: &Matched<'_>) -> String {
    let mut out = String::new();
    for part in template.parts() {
        match part {
            TemplatePart::Text(text) => out.push_str(text),
            TemplatePart::Variable(variable) => push(&mut out, variable, exchange, matched),
        }
    }
    out
}

fn push(out: &mut String, variable: &Variable, exchange: &Exchange, matched: &Matched<'_>) {
    match variable {
        Variable::Claim(name) => {
            if let Some(claim) = exchange.caller.as_ref().and_then(|caller| caller.claim(name)) {
                out.push_str(&claim);
            }
        }
        Variable::RequestId => out.push_str(exchange.id.as_str()),
        Variable::SourceIp => {
            out.push_str(exchange.peer.origin.source.to_str().unwrap_or_default());
        }
        Variable::ApiKeyId => {
            if let Some(key) = &exchange.key {
                out.push_str(&key.id);
            }
        }
        Variable::Stage => out.push_str(&matched.stage.object.name),
        Variable::HttpMethod => out.push_str(exchange.method.as_str()),
        Variable::Path => out.push_str(&exchange.path),
        Variable::PathParameter(name) => {
            if let Some(value) = matched.parameter(name) {
                out.push_str(value);
            }
        }
    }
}
