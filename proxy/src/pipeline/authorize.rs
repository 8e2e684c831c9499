//! The expressions of a rule: the values that they read, and their rejections.

use std::collections::BTreeMap;
use std::time::SystemTime;

use http::HeaderMap;
use http::request::Parts;
use sluice_authorize::{EvaluationError, Field, Value, Values, from_json, list, map, text, time};
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
    let values = values(authorize, exchange, matched, parts).map_err(|_| Reject::ExpressionFailed(None))?.finish();
    for (at, (expression, message)) in authorize.terms.iter().enumerate() {
        let result = expression.evaluate(&values);
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

/// The values of the fields that are read.
fn values(
    authorize: &Authorize,
    exchange: &Exchange,
    matched: &Matched<'_>,
    parts: &Parts,
) -> Result<Values, EvaluationError> {
    let mut values = Values::default();
    for field in Field::ALL.iter().copied().filter(|field| authorize.reads.has(*field)) {
        if let Some(value) = value(field, exchange, matched, parts) {
            values.set(field, value?);
        }
    }
    Ok(values)
}

/// The value of a field; none: the request has none.
fn value(
    field: Field,
    exchange: &Exchange,
    matched: &Matched<'_>,
    parts: &Parts,
) -> Option<Result<Value, EvaluationError>> {
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

/// Several values of a header are joined, as recipients may do (RFC 9110, 5.3). A value that is not text cannot be compared.
fn headers(headers: &HeaderMap) -> Result<Value, EvaluationError> {
    map(headers.keys().map(|name| {
        let mut joined = String::new();
        for (at, value) in headers.get_all(name).iter().enumerate() {
            let Ok(value) = std::str::from_utf8(value.as_bytes()) else {
                return (name.as_str(), Err(EvaluationError::BadValue));
            };
            joined.push_str(if at == 0 { "" } else { ", " });
            joined.push_str(value);
        }
        (name.as_str(), text(&joined))
    }))
}

fn query(query: &str) -> Result<Value, EvaluationError> {
    let mut all: BTreeMap<_, Vec<_>> = BTreeMap::new();
    for (name, value) in path::query_pairs(query) {
        all.entry(name).or_default().push(value);
    }
    map(all.iter().map(|(name, values)| (&**name, list(values.iter().map(|value| text(value))))))
}
