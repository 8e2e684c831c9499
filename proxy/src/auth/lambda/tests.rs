//! Events to the last key, and what outputs are accepted.

use std::collections::BTreeMap;

use serde_json::{Value, json};
use sluice_wire::{Behavior, CertificateField};

use super::*;
use crate::template;
use crate::template::Variables;

const ARN: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop/prod/GET/orders/7%20a";

struct Context(BTreeMap<&'static str, &'static str>);

impl Variables for Context {
    fn get(&self, variable: &Variable) -> Option<template::Value<'_>> {
        let name = variable.to_string();
        self.0.get(name.as_str()).map(|text| template::Value::Text((*text).into()))
    }
}

fn context() -> Context {
    Context(BTreeMap::from([
        ("context.domainName", "shop.example"),
        ("context.requestId", "req-1"),
        ("context.identity.sourceIp", "192.0.2.7"),
        ("context.path", "/base/orders/7%20a"),
        ("context.protocol", "HTTP/1.1"),
    ]))
}

fn facts() -> RequestFacts {
    let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
    RequestFacts {
        arn: Some(ARN.to_owned()),
        method: "GET".into(),
        resource: "/orders/{id}".into(),
        any_method: false,
        path: "/orders/7%20a".into(),
        raw_query: "q=a%2Cb&q=c&x".into(),
        query: vec![pair("q", "a,b"), pair("q", "c"), pair("x", "")],
        parameters: vec![pair("id", "7%20a")],
    }
}

fn made(
    kind: LambdaEvent,
    behavior: Behavior,
    facts: &RequestFacts,
    context: &Context,
    fields: &[(&str, &str)],
) -> Value {
    let mut headers = HeaderMap::new();
    for (name, value) in fields {
        headers.append(name.parse::<HeaderName>().unwrap(), HeaderValue::from_str(value).unwrap());
    }
    let identity = ["token".into(), "c".into()];
    let request = event::Request {
        behavior,
        headers: &headers,
        variables: context,
        facts,
        arn: ARN,
        identity: if fields.is_empty() { &[] } else { &identity },
        time: SystemTime::UNIX_EPOCH + Duration::from_millis(1_428_582_896_123),
    };
    serde_json::from_slice(&event::event(kind, &request)).unwrap()
}

const FIELDS: [(&str, &str); 5] =
    [("host", "shop.example"), ("x-a", "1"), ("x-a", "2"), ("cookie", "a=b; c=d"), ("user-agent", "curl")];

#[test]
fn a_token_event_has_three_keys() {
    let event = made(LambdaEvent::Token, Behavior::AwsRest, &facts(), &context(), &FIELDS);
    assert_eq!(event, json!({"type": "TOKEN", "authorizationToken": "token", "methodArn": ARN}));
}

#[test]
fn an_event_of_format_1_has_the_keys_of_a_rest_api() {
    let expected = json!({
        "type": "REQUEST",
        "methodArn": ARN,
        "resource": "/orders/{id}",
        "path": "/orders/7%20a",
        "httpMethod": "GET",
        "headers": {"host": "shop.example", "x-a": "2", "cookie": "a=b; c=d", "user-agent": "curl"},
        "multiValueHeaders": {"host": ["shop.example"], "x-a": ["1", "2"], "cookie": ["a=b; c=d"], "user-agent": ["curl"]},
        "queryStringParameters": {"q": "c", "x": ""},
        "multiValueQueryStringParameters": {"q": ["a,b", "c"], "x": [""]},
        "pathParameters": {"id": "7%20a"},
        "stageVariables": null,
        "requestContext": {
            "accountId": "111122223333",
            "apiId": "shop",
            "domainName": "shop.example",
            "domainPrefix": "shop",
            "extendedRequestId": "req-1",
            "httpMethod": "GET",
            "identity": {
                "accessKey": null, "accountId": null, "caller": null, "cognitoAuthenticationProvider": null,
                "cognitoAuthenticationType": null, "cognitoIdentityId": null, "cognitoIdentityPoolId": null,
                "principalOrgId": null, "sourceIp": "192.0.2.7", "user": null, "userAgent": "curl", "userArn": null,
            },
            "path": "/base/orders/7%20a",
            "protocol": "HTTP/1.1",
            "requestId": "req-1",
            "requestTime": "09/Apr/2015:12:34:56 +0000",
            "requestTimeEpoch": 1_428_582_896_123_u64,
            "resourceId": null,
            "resourcePath": "/orders/{id}",
            "stage": "prod",
        },
    });
    assert_eq!(made(LambdaEvent::RequestV1, Behavior::AwsRest, &facts(), &context(), &FIELDS), expected);
    // HTTP APIs add three keys.
    let mut of_http = expected;
    of_http["version"] = json!("1.0");
    of_http["identitySource"] = json!("token,c");
    of_http["authorizationToken"] = json!("token,c");
    assert_eq!(made(LambdaEvent::RequestV1, Behavior::AwsHttp, &facts(), &context(), &FIELDS), of_http);
    // Maps without members are null.
    let empty = RequestFacts { query: vec![], parameters: vec![], ..facts() };
    let event = made(LambdaEvent::RequestV1, Behavior::Native, &empty, &context(), &[]);
    for name in ["queryStringParameters", "multiValueQueryStringParameters", "pathParameters"] {
        assert_eq!(event.get(name), Some(&Value::Null), "{name}");
    }
}

#[test]
fn an_event_of_format_2_has_the_keys_of_an_http_api() {
    let mut expected = json!({
        "version": "2.0",
        "type": "REQUEST",
        "routeArn": ARN,
        "identitySource": ["token", "c"],
        "routeKey": "GET /orders/{id}",
        "rawPath": "/base/orders/7%20a",
        "rawQueryString": "q=a%2Cb&q=c&x",
        "cookies": ["a=b", "c=d"],
        "headers": {"host": "shop.example", "x-a": "1,2", "user-agent": "curl"},
        "queryStringParameters": {"q": "a,b,c", "x": ""},
        "pathParameters": {"id": "7%20a"},
        "requestContext": {
            "accountId": "111122223333",
            "apiId": "shop",
            "domainName": "shop.example",
            "domainPrefix": "shop",
            "http": {
                "method": "GET", "path": "/base/orders/7%20a", "protocol": "HTTP/1.1", "sourceIp": "192.0.2.7",
                "userAgent": "curl",
            },
            "requestId": "req-1",
            "routeKey": "GET /orders/{id}",
            "stage": "prod",
            "time": "09/Apr/2015:12:34:56 +0000",
            "timeEpoch": 1_428_582_896_123_u64,
        },
    });
    assert_eq!(made(LambdaEvent::RequestV2, Behavior::Native, &facts(), &context(), &FIELDS), expected);
    // Maps without members are absent, and a certificate is in the context.
    let mut context = context();
    for (field, value) in [
        (CertificateField::Subject, "CN=ann"),
        (CertificateField::Issuer, "CN=ca"),
        (CertificateField::Serial, "0a:0b"),
        (CertificateField::NotBefore, "May 28 12:30:02 2019 GMT"),
        (CertificateField::NotAfter, "Aug  5 09:36:04 2021 GMT"),
    ] {
        context.0.insert(Variable::ClientCertificate(field).to_string().leak(), value);
    }
    let empty =
        RequestFacts { query: vec![], raw_query: String::new(), parameters: vec![], any_method: true, ..facts() };
    for name in ["cookies", "queryStringParameters", "pathParameters"] {
        expected.as_object_mut().unwrap().remove(name);
    }
    // The host of HTTP/2 is no header.
    expected["headers"] = json!({"host": "shop.example"});
    expected["identitySource"] = Value::Null;
    expected["rawQueryString"] = json!("");
    expected["routeKey"] = json!("ANY /orders/{id}");
    expected["requestContext"]["routeKey"] = json!("ANY /orders/{id}");
    expected["requestContext"]["http"]["userAgent"] = Value::Null;
    expected["requestContext"]["authentication"] = json!({"clientCert": {
        "subjectDN": "CN=ann", "issuerDN": "CN=ca", "serialNumber": "0a:0b",
        "validity": {"notBefore": "May 28 12:30:02 2019 GMT", "notAfter": "Aug  5 09:36:04 2021 GMT"},
    }});
    assert_eq!(made(LambdaEvent::RequestV2, Behavior::Native, &empty, &context, &[]), expected);
}

#[test]
fn outputs_are_complete_or_no_decision() {
    const PREFIX: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop";
    let invalid = Some(Failed::Failure(LambdaFailure::InvalidResponse));
    let failed = Some(Failed::Failure(LambdaFailure::FunctionError));
    let policy = json!({"Version": "2012-10-17", "Statement": [
        {"Effect": "Allow", "Action": "execute-api:Invoke", "Resource": "*"},
    ]});
    let with = |context: Value| json!({"principalId": "ann", "policyDocument": policy, "context": context}).to_string();
    let (plain, simple) = (LambdaResponses::Policy, LambdaResponses::Simple);
    for (body, is_error, responses, flat, expected) in [
        (with(json!({"a": "b", "c": 1, "d": true, "e": null})), false, plain, true, None),
        (with(json!(null)), false, plain, true, None),
        (with(json!({"a": [1]})), false, plain, true, invalid),
        (with(json!({"a": {}})), false, plain, true, invalid),
        (with(json!({"a": [1], "b": {}})), false, plain, false, None),
        (with(json!([])), false, plain, false, invalid),
        (with(json!({})), true, plain, true, failed),
        (with(json!({})), false, simple, false, invalid),
        (json!({"isAuthorized": true}).to_string(), false, simple, false, None),
        (json!({"isAuthorized": false, "context": {"a": {}}}).to_string(), false, simple, false, None),
        (json!({"isAuthorized": "true"}).to_string(), false, simple, false, invalid),
        (json!({"isAuthorized": 1}).to_string(), false, simple, false, invalid),
        (json!({}).to_string(), false, simple, false, invalid),
        (json!({"errorMessage": "Unauthorized"}).to_string(), true, plain, true, Some(Failed::Unauthorized)),
        (json!({"errorMessage": "Unauthorized"}).to_string(), false, plain, true, Some(Failed::Unauthorized)),
        (json!({"errorMessage": "unauthorized"}).to_string(), true, plain, true, failed),
        (json!({"errorMessage": "x", "isAuthorized": true}).to_string(), false, simple, false, None),
        ("Unauthorized".to_owned(), true, plain, true, failed),
    ] {
        let parsed = Output::parse(body.as_bytes(), is_error, responses, flat, PREFIX);
        assert_eq!(parsed.as_ref().err(), expected.as_ref(), "{body}");
        if let Ok(output) = parsed {
            assert!(output.context.values().all(|value| !value.is_null()), "{body}");
        }
    }
}
