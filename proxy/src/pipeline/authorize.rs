//! The expressions of a rule: the values that they read, and their rejections.

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
    fn field(&self, field: Field) -> Option<Result<Value, EvaluationError>> {
        let Self { exchange, matched, parts } = self;
        let identity = exchange.identity.as_deref();
        let certificate = |field| exchange.certificate()?.details().field(field).map(text);
        let stage = &matched.stage.object;
        match field {
            Field::Method => Some(text(exchange.method.as_str())),
            Field::Path => Some(text(matched.matched)),
            Field::Host => Some(text(&exchange.host)),
            Field::Scheme => Some(text(if exchange.secure { "https" } else { "http" })),
            Field::Time => Some(time(SystemTime::now())),
            Field::Headers => Some(headers(&parts.headers)),
            Field::Query => Some(query(parts.uri.query().unwrap_or_default())),
            Field::Address => Some(text(&exchange.address().to_string())),
            Field::IdentityKind => Some(text(identity?.kind)),
            Field::IdentityId => identity?.id.as_deref().map(text),
            Field::IdentityScopes => Some(list(identity?.scopes.iter().map(|scope| text(scope)))),
            Field::IdentityClaims => Some(from_json(&identity?.attributes)),
            Field::CertificateSubject => certificate(CertificateField::Subject),
            Field::CertificateIssuer => certificate(CertificateField::Issuer),
            Field::CertificateSerial => certificate(CertificateField::Serial),
            Field::CertificateFingerprint => certificate(CertificateField::Fingerprint),
            Field::CertificateDns => certificate(CertificateField::Dns),
            Field::CertificateUri => certificate(CertificateField::Uri),
            Field::KeyId => Some(text(&exchange.key.as_ref()?.id)),
            Field::KeyCustomer => exchange.key.as_ref()?.customer.as_deref().map(text),
            Field::KeyPlan => Some(text(exchange.key.as_ref()?.admits(&matched.stage.part)?.id())),
            Field::StageName => Some(text(&stage.name)),
            Field::StageNamespace => Some(text(&stage.namespace)),
            Field::Params => {
                let names = matched.rule.parameters.iter();
                Some(map(names.filter_map(|name| Some((&**name, text(matched.parameter(name)?))))))
            }
        }
    }

    fn entry(&self, field: Field, name: &str) -> Option<Result<Value, EvaluationError>> {
        match field {
            Field::Headers => header(&self.parts.headers, name),
            Field::Query => {
                let pairs = path::query_pairs(self.parts.uri.query().unwrap_or_default());
                let values: Vec<_> = pairs.filter(|(known, _)| known == name).map(|(_, value)| value).collect();
                (!values.is_empty()).then(|| list(values.iter().map(|value| text(value))))
            }
            Field::IdentityClaims => self.exchange.identity.as_ref()?.attributes.get(name).map(from_json_value),
            Field::Params => self.matched.parameter(name).map(text),
            _ => None,
        }
    }
}

fn headers(headers: &HeaderMap) -> Result<Value, EvaluationError> {
    map(headers.keys().filter_map(|name| Some((name.as_str(), header(headers, name.as_str())?))))
}

/// Several values of a header are joined, as recipients may do (RFC 9110, 5.3). A value that is not text cannot be compared.
fn header(headers: &HeaderMap, name: &str) -> Option<Result<Value, EvaluationError>> {
    // Names in expressions are in lower case, and a look-up is not case-sensitive.
    if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
        return None;
    }
    let mut values = headers.get_all(name).iter();
    let (first, second) = (values.next()?, values.next());
    let Some(second) = second else { return Some(utf8(first).and_then(text)) };
    let all: Result<Vec<_>, _> = [first, second].into_iter().chain(values).map(utf8).collect();
    Some(all.and_then(|all| text(&all.join(", "))))
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
