//! The events that functions are called with, as AWS API Gateway documents them. A body is never part of one. Names of headers are
//! in lower case, as HTTP/2 sends them.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use http::HeaderMap;
use http::header::{COOKIE, HOST, USER_AGENT};
use serde_json::{Map, Value, json};
use sluice_wire::{Behavior, CertificateField, LambdaEvent, Variable};

use super::super::facts::RequestFacts;
use crate::template::Variables;

/// What an event is made from.
pub(super) struct Request<'a> {
    pub(super) behavior: Behavior,
    pub(super) headers: &'a HeaderMap,
    pub(super) variables: &'a dyn Variables,
    pub(super) facts: &'a RequestFacts,
    pub(super) arn: &'a str,
    /// The values of the identity sources, in their order.
    pub(super) identity: &'a [Cow<'a, str>],
    pub(super) time: SystemTime,
}

/// The event, as JSON.
pub(super) fn event(kind: LambdaEvent, request: &Request<'_>) -> Vec<u8> {
    let event = match kind {
        LambdaEvent::Token => json!({
            "type": "TOKEN",
            "authorizationToken": request.identity.first(),
            "methodArn": request.arn,
        }),
        LambdaEvent::RequestV1 => request.v1(),
        LambdaEvent::RequestV2 => request.v2(),
    };
    event.to_string().into_bytes()
}

/// The fields of `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH`: account, API, stage.
fn of_arn(arn: &str) -> (&str, &str, &str) {
    let mut fields = arn.splitn(6, ':').skip(4);
    let (account, rest) = (fields.next().unwrap_or_default(), fields.next().unwrap_or_default());
    let mut steps = rest.split('/');
    (account, steps.next().unwrap_or_default(), steps.next().unwrap_or_default())
}

impl Request<'_> {
    fn text(&self, variable: &Variable) -> Option<String> {
        self.variables.get(variable).map(|value| value.text().into_owned()).filter(|text| !text.is_empty())
    }

    /// The headers; `host` also of HTTP/2, where it is no header. Bytes that are not UTF-8 are replaced.
    fn fields(&self) -> impl Iterator<Item = (&str, Cow<'_, str>)> {
        let fields = self.headers.iter();
        let fields = fields.map(|(name, value)| (name.as_str(), String::from_utf8_lossy(value.as_bytes())));
        let host = || Some(("host", Cow::Owned(self.text(&Variable::DomainName)?)));
        let host = if self.headers.contains_key(HOST) { None } else { host() };
        host.into_iter().chain(fields)
    }

    /// The last value of a header that is repeated; bytes that are not UTF-8 are replaced.
    fn last(&self, name: &http::HeaderName) -> Option<String> {
        let value = self.headers.get_all(name).iter().next_back()?;
        Some(String::from_utf8_lossy(value.as_bytes()).into_owned())
    }

    fn v1(&self) -> Value {
        let facts = self.facts;
        let headers = self.fields().map(|(name, value)| (name.to_owned(), value.into_owned()));
        let headers = Pairs::of(headers);
        let query = Pairs::of(facts.query.iter().cloned());
        let mut event = json!({
            "type": "REQUEST",
            "methodArn": self.arn,
            "resource": facts.resource,
            "path": facts.path,
            "httpMethod": facts.method,
            "headers": headers.last,
            "multiValueHeaders": headers.all,
            "queryStringParameters": query.last,
            "multiValueQueryStringParameters": query.all,
            "pathParameters": object(&facts.parameters),
            "stageVariables": null,
            "requestContext": self.v1_context(),
        });
        if self.behavior == Behavior::AwsHttp {
            // HTTP APIs add what their format 2.0 has.
            let identity = self.identity.join(",");
            event["version"] = json!("1.0");
            event["identitySource"] = json!(identity);
            event["authorizationToken"] = json!(identity);
        }
        event
    }

    fn v1_context(&self) -> Value {
        let (account, api, stage) = of_arn(self.arn);
        let domain = self.text(&Variable::DomainName).unwrap_or_default();
        let id = self.text(&Variable::RequestId);
        let mut identity = json!({
            "accessKey": null,
            "accountId": null,
            "caller": null,
            "cognitoAuthenticationProvider": null,
            "cognitoAuthenticationType": null,
            "cognitoIdentityId": null,
            "cognitoIdentityPoolId": null,
            "principalOrgId": null,
            "sourceIp": self.text(&Variable::SourceIp),
            "user": null,
            "userAgent": self.last(&USER_AGENT),
            "userArn": null,
        });
        if let Some(certificate) = self.certificate() {
            identity["clientCert"] = certificate;
        }
        json!({
            "accountId": account,
            "apiId": api,
            "domainName": domain,
            "domainPrefix": prefix(&domain),
            "extendedRequestId": id,
            "httpMethod": self.facts.method,
            "identity": identity,
            "path": self.text(&Variable::Path),
            "protocol": self.text(&Variable::Protocol),
            "requestId": id,
            "requestTime": common_log_time(self.time),
            "requestTimeEpoch": epoch_ms(self.time),
            "resourceId": null,
            "resourcePath": self.facts.resource,
            "stage": stage,
        })
    }

    fn v2(&self) -> Value {
        let facts = self.facts;
        let (account, api, stage) = of_arn(self.arn);
        let domain = self.text(&Variable::DomainName).unwrap_or_default();
        let method = if facts.any_method { "ANY" } else { &facts.method };
        let route_key = format!("{method} {}", facts.resource);
        let fields = self.fields().filter(|(name, _)| *name != COOKIE);
        let mut context = json!({
            "accountId": account,
            "apiId": api,
            "domainName": domain,
            "domainPrefix": prefix(&domain),
            "http": {
                "method": facts.method,
                "path": self.text(&Variable::Path),
                "protocol": self.text(&Variable::Protocol),
                "sourceIp": self.text(&Variable::SourceIp),
                "userAgent": self.last(&USER_AGENT),
            },
            "requestId": self.text(&Variable::RequestId),
            "routeKey": route_key,
            "stage": stage,
            "time": common_log_time(self.time),
            "timeEpoch": epoch_ms(self.time),
        });
        if let Some(certificate) = self.certificate() {
            context["authentication"] = json!({"clientCert": certificate});
        }
        let mut event = json!({
            "version": "2.0",
            "type": "REQUEST",
            "routeArn": self.arn,
            "identitySource": if self.identity.is_empty() { Value::Null } else { json!(self.identity) },
            "routeKey": route_key,
            "rawPath": self.text(&Variable::Path),
            "rawQueryString": facts.raw_query,
            "headers": joined(fields),
            "requestContext": context,
        });
        let cookies: Vec<String> = self.cookies().collect();
        if !cookies.is_empty() {
            event["cookies"] = json!(cookies);
        }
        if !facts.query.is_empty() {
            let pairs = facts.query.iter().map(|(name, value)| (name.as_str(), value.into()));
            event["queryStringParameters"] = joined(pairs);
        }
        if !facts.parameters.is_empty() {
            event["pathParameters"] = object(&facts.parameters);
        }
        event
    }

    fn cookies(&self) -> impl Iterator<Item = String> {
        let lines = self.headers.get_all(COOKIE).iter().flat_map(|line| line.as_bytes().split(|byte| *byte == b';'));
        let trimmed = lines.map(<[u8]>::trim_ascii).filter(|pair| !pair.is_empty());
        trimmed.map(|pair| String::from_utf8_lossy(pair).into_owned())
    }

    /// The verified certificate of the client.
    fn certificate(&self) -> Option<Value> {
        use CertificateField::{Issuer, NotAfter, NotBefore, Serial, Subject};
        let field = |field| self.text(&Variable::ClientCertificate(field));
        let subject = field(Subject)?;
        Some(json!({
            "subjectDN": subject,
            "issuerDN": field(Issuer),
            "serialNumber": field(Serial),
            "validity": {"notBefore": field(NotBefore), "notAfter": field(NotAfter)},
        }))
    }
}

/// Names with their last value, and with all values; null where there is none.
struct Pairs {
    last: Value,
    all: Value,
}

impl Pairs {
    fn of(pairs: impl Iterator<Item = (String, String)>) -> Self {
        let (mut last, mut all) = (Map::new(), Map::new());
        for (name, value) in pairs {
            let values = all.entry(name.clone()).or_insert_with(|| json!([]));
            if let Value::Array(values) = values {
                values.push(json!(value));
            }
            last.insert(name, json!(value));
        }
        if last.is_empty() {
            return Self { last: Value::Null, all: Value::Null };
        }
        Self { last: Value::Object(last), all: Value::Object(all) }
    }
}

/// Names with their values, which commas join.
fn joined<'a>(pairs: impl Iterator<Item = (&'a str, Cow<'a, str>)>) -> Value {
    let mut all: Map<String, Value> = Map::new();
    for (name, value) in pairs {
        match all.get_mut(name) {
            Some(Value::String(text)) => {
                text.push(',');
                text.push_str(&value);
            }
            _ => drop(all.insert(name.to_owned(), json!(value))),
        }
    }
    Value::Object(all)
}

fn object(pairs: &[(String, String)]) -> Value {
    if pairs.is_empty() {
        return Value::Null;
    }
    Value::Object(pairs.iter().map(|(name, value)| (name.clone(), json!(value))).collect())
}

/// The first label of a host.
fn prefix(domain: &str) -> &str {
    domain.split('.').next().unwrap_or_default()
}

/// `09/Apr/2015:12:34:56 +0000`
fn common_log_time(time: SystemTime) -> String {
    // Sun, 06 Nov 1994 08:49:37 GMT
    let text = httpdate::fmt_http_date(time);
    let mut fields = text.split(' ').skip(1);
    let mut next = || fields.next().unwrap_or_default();
    let (day, month, year, clock) = (next(), next(), next(), next());
    format!("{day}/{month}/{year}:{clock} +0000")
}

fn epoch_ms(time: SystemTime) -> u64 {
    time.duration_since(UNIX_EPOCH).map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}
