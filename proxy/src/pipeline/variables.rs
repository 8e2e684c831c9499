//! Variables of a request: the facts of its exchange, and of one that has found its rule the path's parameters, the query
//! and the headers. Which variables there are is defined in `sluice_wire`; who asks for them is not known here.

use std::borrow::Cow;
use std::time::Duration;

use http::request::Parts;
use http::{HeaderMap, Uri, Version};
use sluice_wire::Variable;

use super::exchange::Exchange;
use crate::gateway::{Matched, path};
use crate::template::{Value, Variables};

impl Variables for Exchange {
    #[inline(always)] // The access log names its variables: each call becomes what that variable needs.
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        let text = |text| Some(Value::Text(Cow::Borrowed(text)));
        match variable {
            Variable::RequestId => Some(Value::Word(self.id.as_str())),
            Variable::SourceIp => Some(Value::Word(self.peer.origin.source.to_str().unwrap_or_default())),
            Variable::HttpMethod => text(self.method.as_str()),
            Variable::Scheme => Some(Value::Word(if self.peer.origin.tls { "https" } else { "http" })),
            Variable::DomainName => text(&self.host),
            Variable::Path => text(&self.path),
            Variable::Protocol => Some(Value::Word(match self.version {
                Version::HTTP_10 => "HTTP/1.0",
                Version::HTTP_2 => "HTTP/2",
                _ => "HTTP/1.1",
            })),
            Variable::Stage => text(&self.stage.as_ref()?.object.name),
            Variable::StageId => text(self.stage.as_ref()?.part.id()),
            Variable::Route => text(self.rule.as_ref()?.route()),
            Variable::Rule => text(&self.rule.as_ref()?.name),
            Variable::Claim(name) => self.caller.as_ref()?.claim(name).map(Value::Text),
            Variable::PrincipalId => text(self.caller.as_ref()?.subject.as_deref().unwrap_or_default()),
            Variable::ApiKeyId => text(&self.key.as_ref()?.id),
            Variable::CustomerId => text(self.key.as_ref()?.customer.as_deref()?),
            Variable::IntegrationLatency => self.upstream.map(Value::Time),
            Variable::Status => Some(Value::Number(self.status.into())),
            Variable::ResponseLength => Some(Value::Number(self.sent)),
            Variable::ErrorReason => Some(self.reason).filter(|word| !word.is_empty()).map(Value::Word),
            Variable::ErrorResponseType => Some(self.response_type).filter(|word| !word.is_empty()).map(Value::Word),
            Variable::CacheStatus => Some(self.cache).filter(|word| !word.is_empty()).map(Value::Word),
            Variable::PathParameter(_)
            | Variable::QueryParameter(_)
            | Variable::RequestHeader(_)
            | Variable::ResponseLatency => None,
        }
    }
}

/// An exchange whose response has ended.
pub(crate) struct Ended<'a> {
    pub(crate) exchange: &'a Exchange,
    /// From the request's head to the end of the response.
    pub(crate) took: Duration,
}

impl Variables for Ended<'_> {
    #[inline(always)]
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        match variable {
            Variable::ResponseLatency => Some(Value::Time(self.took)),
            other => self.exchange.get(other),
        }
    }
}

/// A request that has found its rule.
pub(crate) struct RequestContext<'a> {
    exchange: &'a Exchange,
    matched: &'a Matched<'a>,
    /// None: no template of the rule reads them.
    head: Option<(&'a Uri, &'a HeaderMap)>,
}

impl<'a> RequestContext<'a> {
    /// For templates, which may read the head of the request when it has been changed already.
    pub(crate) fn new(exchange: &'a Exchange, matched: &'a Matched<'a>) -> Self {
        Self { exchange, matched, head: matched.head.as_deref().map(|head| (&head.uri, &head.headers)) }
    }

    /// For a request that has not been changed yet.
    pub(crate) fn unchanged(exchange: &'a Exchange, matched: &'a Matched<'a>, parts: &'a Parts) -> Self {
        Self { exchange, matched, head: Some((&parts.uri, &parts.headers)) }
    }

    fn query(&self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        let query = self.head.and_then(|(uri, _)| uri.query()).unwrap_or_default();
        path::query_pairs(query).filter(move |(known, _)| known == name).map(|(_, value)| value)
    }

    fn header(&self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        let values = self.head.map(|(_, headers)| headers.get_all(name).into_iter());
        values.into_iter().flatten().map(|value| String::from_utf8_lossy(value.as_bytes()))
    }
}

impl Variables for RequestContext<'_> {
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        match variable {
            Variable::PathParameter(name) => self.matched.parameter(name).map(|text| Value::Text(Cow::Borrowed(text))),
            Variable::QueryParameter(name) => joined(self.query(name)),
            Variable::RequestHeader(name) => joined(self.header(name)),
            other => self.exchange.get(other),
        }
    }

    fn each(&self, variable: &Variable, take: &mut dyn FnMut(&str)) {
        match variable {
            Variable::QueryParameter(name) => self.query(name).for_each(|value| take(&value)),
            Variable::RequestHeader(name) => self.header(name).for_each(|value| take(&value)),
            other => {
                if let Some(value) = self.get(other) {
                    take(&value.text());
                }
            }
        }
    }
}

/// Several values as one, as AWS HTTP APIs write them.
fn joined<'a>(mut values: impl Iterator<Item = Cow<'a, str>>) -> Option<Value<'a>> {
    let first = values.next()?;
    Some(Value::Text(values.fold(first, |all, value| Cow::Owned(format!("{all},{value}")))))
}
