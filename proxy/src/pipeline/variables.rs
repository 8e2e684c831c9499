//! Variables of a matched request: those of its exchange, path parameters, query parameters and headers.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use sluice_wire::Variable;

use super::exchange::Exchange;
use crate::auth::RequestFacts;
use crate::gateway::{Matched, path};
use crate::permission::method_arn;
use crate::template::{Value, Variables};

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

    /// What describes the request to a function.
    pub(crate) fn facts(&self) -> RequestFacts {
        let Matched { stage, rule, matched, .. } = self.matched;
        let raw_query = self.head.and_then(|(uri, _)| uri.query()).unwrap_or_default();
        let pairs = path::query_pairs(raw_query).map(|(name, value)| (name.into_owned(), value.into_owned()));
        let parameters = rule.parameters.iter().enumerate();
        let parameters =
            parameters.filter_map(|(at, name)| Some((name.to_string(), self.matched.captured(at)?.to_owned())));
        let operation = rule.operation.as_deref();
        RequestFacts {
            arn: method_arn(&stage.arn, self.exchange.method.as_str(), matched),
            method: self.exchange.method.to_string(),
            resource: operation.map_or_else(String::new, |operation| operation.path.to_string()),
            any_method: operation.is_some_and(|operation| operation.any_method),
            path: (*matched).to_owned(),
            raw_query: raw_query.to_owned(),
            query: pairs.collect(),
            parameters: parameters.collect(),
        }
    }

    fn query(&self, name: &str) -> impl Iterator<Item = Cow<'a, str>> {
        let query = self.head.and_then(|(uri, _)| uri.query()).unwrap_or_default();
        path::query_pairs(query).filter(move |(known, _)| known == name).map(|(_, value)| value)
    }

    fn header(&self, name: &str) -> impl Iterator<Item = &'a [u8]> {
        let values = self.head.map(|(_, headers)| headers.get_all(name).into_iter());
        values.into_iter().flatten().map(HeaderValue::as_bytes)
    }
}

impl Variables for RequestContext<'_> {
    fn get(&self, variable: &Variable) -> Option<Value<'_>> {
        match variable {
            Variable::PathParameter(name) => self.matched.parameter(name).map(|text| Value::Text(Cow::Borrowed(text))),
            Variable::QueryParameter(name) => joined(self.query(name)),
            Variable::RequestHeader(name) => {
                // A value that is not text has none: a replacement would be another value.
                joined(self.header(name).filter_map(|value| std::str::from_utf8(value).ok()).map(Cow::Borrowed))
            }
            other => self.exchange.get(other),
        }
    }

    fn each(&self, variable: &Variable, take: &mut dyn FnMut(&[u8])) {
        match variable {
            Variable::QueryParameter(name) => self.query(name).for_each(|value| take(value.as_bytes())),
            Variable::RequestHeader(name) => self.header(name).for_each(take),
            other => {
                if let Some(value) = self.get(other) {
                    take(value.text().as_bytes());
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
