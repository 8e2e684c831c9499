//! Variables of a matched request: those of its exchange, path parameters, query parameters and headers.

use std::borrow::Cow;

use http::request::Parts;
use http::{HeaderMap, HeaderValue, Uri};
use sluice_wire::Variable;

use super::exchange::Exchange;
use crate::gateway::{Matched, path};
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
