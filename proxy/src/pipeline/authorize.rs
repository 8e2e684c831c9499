//! The expressions of a rule: the values that they read, and their rejections.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::time::SystemTime;

use http::request::Parts;
use http::{HeaderMap, HeaderValue};
use sluice_authorize::{EvaluationError, Facts, Field, Value, from_json, from_json_value, list, map, text, time};
use sluice_wire::CertificateField;

use super::exchange::Exchange;
use super::explain;
use crate::explain::Check;
use crate::gateway::{Authorize, Matched, path};
use crate::reject::Reject;

/// Rejects a request for which an expression does not hold.
pub(crate) fn check(
    authorize: &Authorize,
    exchange: &mut Exchange,
    matched: &Matched<'_>,
    parts: &Parts,
) -> Result<(), Reject> {
    exchange.begin(Check::Authorize);
    for (at, (expression, message)) in authorize.terms.iter().enumerate() {
        let result = expression.evaluate(&RequestFacts { exchange, matched, parts });
        explain::expression(exchange, at, result.as_ref().copied().map_err(|error| error as _));
        let rejection = match result {
            Ok(true) => continue,
            Ok(false) => Reject::ExpressionFalse(message.clone()),
            Err(_) => Reject::ExpressionFailed(message.clone()),
        };
        exchange.denied_by = Some(format!("authorize[{at}]").into());
        return Err(rejection);
    }
    Ok(())
}

/// A request whose caller is known.
struct RequestFacts<'a> {
    exchange: &'a Exchange,
    matched: &'a Matched<'a>,
    parts: &'a Parts,
}

impl Facts for RequestFacts<'_> {
    fn text(&self, field: Field) -> Option<Result<Cow<'_, str>, EvaluationError>> {
        let Self { exchange, matched, .. } = self;
        let identity = exchange.identity.as_deref();
        let certificate = |field| exchange.certificate()?.details().field(field);
        let stage = &matched.stage.object;
        let text = match field {
            Field::Method => exchange.method.as_str(),
            Field::Path => matched.matched,
            Field::Host => &exchange.host,
            Field::Scheme => {
                if exchange.secure {
                    "https"
                } else {
                    "http"
                }
            }
            Field::Address => return Some(Ok(exchange.address().to_string().into())),
            Field::IdentityKind => identity?.kind,
            Field::IdentityId => identity?.id.as_deref()?,
            Field::CertificateSubject => certificate(CertificateField::Subject)?,
            Field::CertificateIssuer => certificate(CertificateField::Issuer)?,
            Field::CertificateSerial => certificate(CertificateField::Serial)?,
            Field::CertificateFingerprint => certificate(CertificateField::Fingerprint)?,
            Field::CertificateDns => certificate(CertificateField::Dns)?,
            Field::CertificateUri => certificate(CertificateField::Uri)?,
            Field::KeyId => &exchange.key.as_ref()?.id,
            Field::KeyCustomer => exchange.key.as_ref()?.customer.as_deref()?,
            Field::KeyPlan => exchange.key.as_ref()?.admits(&matched.stage.part)?.id(),
            Field::StageName => &stage.name,
            Field::StageNamespace => &stage.namespace,
            // No texts.
            Field::Time
            | Field::Headers
            | Field::Query
            | Field::IdentityScopes
            | Field::IdentityClaims
            | Field::Params => {
                return None;
            }
        };
        Some(Ok(Cow::Borrowed(text)))
    }

    fn text_entry(&self, field: Field, name: &str) -> Option<Result<Cow<'_, str>, EvaluationError>> {
        match field {
            Field::Headers => header(&self.parts.headers, name),
            Field::Params => self.matched.parameter(name).map(|value| Ok(Cow::Borrowed(value))),
            _ => None,
        }
    }

    fn field(&self, field: Field) -> Option<Result<Value, EvaluationError>> {
        let Self { exchange, matched, parts } = self;
        match field {
            Field::Time => Some(time(SystemTime::now())),
            Field::Headers => Some(headers(&parts.headers)),
            Field::Query => Some(query(parts.uri.query().unwrap_or_default())),
            Field::IdentityScopes => Some(list(exchange.identity.as_ref()?.scopes.iter().map(|scope| text(scope)))),
            Field::IdentityClaims => Some(from_json(&exchange.identity.as_ref()?.attributes)),
            Field::Params => {
                let names = matched.rule.parameters.iter();
                Some(map(names.filter_map(|name| Some((&**name, text(matched.parameter(name)?))))))
            }
            _ => None,
        }
    }

    fn entry(&self, field: Field, name: &str) -> Option<Result<Value, EvaluationError>> {
        match field {
            Field::Query => {
                let pairs = path::query_pairs(self.parts.uri.query().unwrap_or_default());
                let values: Vec<_> = pairs.filter(|(known, _)| known == name).map(|(_, value)| value).collect();
                (!values.is_empty()).then(|| list(values.iter().map(|value| text(value))))
            }
            Field::IdentityClaims => self.exchange.identity.as_ref()?.attributes.get(name).map(from_json_value),
            _ => None,
        }
    }
}

fn headers(headers: &HeaderMap) -> Result<Value, EvaluationError> {
    let values = headers.keys().filter_map(|name| Some((name.as_str(), header(headers, name.as_str())?)));
    map(values.map(|(name, value)| (name, value.and_then(|value| text(&value)))))
}

/// Several values of a header are joined, as recipients may do (RFC 9110, 5.3). A value that is not text cannot be compared.
fn header<'h>(headers: &'h HeaderMap, name: &str) -> Option<Result<Cow<'h, str>, EvaluationError>> {
    // Names in expressions are in lower case, and a look-up is not case-sensitive.
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    let Some(second) = second else { return Some(utf8(first).map(Cow::Borrowed)) };
    let all: Result<Vec<_>, _> = [first, second].into_iter().chain(values).map(utf8).collect();
    Some(all.map(|all| all.join(", ").into()))
}

fn utf8(value: &HeaderValue) -> Result<&str, EvaluationError> {
    std::str::from_utf8(value.as_bytes()).map_err(|_| EvaluationError::BadValue)
}

fn query(query: &str) -> Result<Value, EvaluationError> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, value) in path::query_pairs(query) {
        all.entry(name).or_default().push(value);
    }
    map(all.iter().map(|(name, values)| (&**name, list(values.iter().map(|value| text(value))))))
}
