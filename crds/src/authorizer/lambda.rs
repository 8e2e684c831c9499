//! Lambda authorizers: a function decides about requests.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{Duration, FUNCTION_NAME, HEADER_NAME, HTTP_URL, REGION, URL_PATH};
use crate::reference::{Reference, ServiceReference};

/// A function that decides about requests, and what it is called with.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "self.event != 'Token' || !has(self.payload) || self.payload == '1.0'",
    "message": "event Token has payload 1.0"
}, {
    "rule": "self.responses != 'Simple' || (self.event == 'Request' && (!has(self.payload) || self.payload == '2.0'))",
    "message": "responses Simple requires event Request with payload 2.0"
}, {
    "rule": "self.event != 'Token' || !has(self.identitySources) || size(self.identitySources) == 0 || (size(self.identitySources) == 1 && has(self.identitySources[0].header))",
    "message": "event Token has one identity source, which is a header"
}, {
    "rule": "!has(self.validation) || self.event == 'Token'",
    "message": "validation requires event Token"
}, {
    "rule": "self.event == 'Token' || (has(self.identitySources) && size(self.identitySources) > 0) || duration(self.resultTtl) == duration('0s')",
    "message": "without identitySources, results cannot be remembered: add an identity source, or resultTtl: 0s"
}]))]
pub struct LambdaAuthorizer {
    /// How the function is called.
    pub function: LambdaFunction,
    /// What the function is called with. `Token`: the value of one header, and the ARN of the method. `Request`: everything
    /// but the body. Unset: `Request`.
    #[serde(default)]
    pub event: LambdaEvent,
    /// The version of AWS's format of events. Unset: `2.0` with event `Request`, `1.0` with `Token`. Example: `"1.0"`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The schema of an optional enum has the description of the enum.
    #[schemars(with = "LambdaPayload")]
    pub payload: Option<LambdaPayload>,
    /// What the function returns. `Policy`: `principalId`, `policyDocument` and `context`. `Simple`: `isAuthorized` and
    /// `context`, only with payload `2.0` (AWS: `enableSimpleResponses`). Unset: `Policy`.
    #[serde(default)]
    pub responses: LambdaResponses,
    /// What distinguishes callers: a result is remembered for the values of these together. A request without one of them is
    /// rejected with 401, and the function is not called. Empty: with event `Token` the header `authorization`; with `Request`
    /// allowed with `resultTtl: 0s` only. At most 8. Example: `[{header: authorization}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 8), extend("x-kubernetes-list-type" = "atomic"))]
    pub identity_sources: Vec<IdentitySource>,
    /// A regular expression that the whole token must match, with `event: Token`. A request with another token is rejected with
    /// 401, and the function is not called. Unset: every token is sent to the function. At most 512 characters.
    /// Example: `Bearer [-0-9a-zA-Z._]+`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512))]
    pub validation: Option<String>,
    /// For how long a result is used for all requests to the Stage with the same identity sources. A policy is evaluated again
    /// for each of them. `0s`: each request causes a call. Unset: `5m`. At most `1h`.
    #[serde(default = "default_result_ttl")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) <= duration('1h')",
        "message": "resultTtl must be at most 1h"
    }]))]
    pub result_ttl: Duration,
    /// The time for a call, including the connection. Requests are rejected when it has passed. Unset: `10s`. From `100ms` to
    /// `29s`.
    #[serde(default = "default_timeout")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) >= duration('100ms') && duration(self) <= duration('29s')",
        "message": "timeout must be from 100ms to 29s"
    }]))]
    pub timeout: Duration,
}

/// How a function is called.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.url) == (self.type == 'Url')",
    "message": "type Url requires the field url, which is not allowed with other types"
}, {
    "rule": "has(self.service) == (self.type == 'Service')",
    "message": "type Service requires the field service, which is not allowed with other types"
}, {
    "rule": "has(self.invoke) == (self.type == 'Invoke')",
    "message": "type Invoke requires the field invoke, which is not allowed with other types"
}]))]
pub struct LambdaFunction {
    /// The type. `Service`: the event is the body of a POST to a Service of the cluster, and the result is the body of the
    /// response. `Url`: the same, to a URL. `Invoke`: by the API of AWS Lambda, or of a compatible server. Example: `Service`.
    #[serde(rename = "type")]
    pub type_: LambdaFunctionType,
    /// The URL for events. Required with type `Url`. Example: `https://functions.example.com/authorize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 1024), regex(pattern = HTTP_URL))]
    pub url: Option<String>,
    /// The Service for events, with its port and the path of the POST. Required with type `Service`.
    /// Example: `{name: authorizer, port: 80, path: /authorize}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<FunctionService>,
    /// The function at AWS Lambda. Required with type `Invoke`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoke: Option<LambdaInvoke>,
}

/// The ways to call a function.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LambdaFunctionType {
    /// A POST to the ready endpoints of a Service.
    Service,
    /// A POST to a URL.
    Url,
    /// The API `Invoke` of AWS Lambda.
    Invoke,
}

/// A function behind a Service.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct FunctionService {
    /// The Service and its port.
    #[serde(flatten)]
    pub service: ServiceReference,
    /// The path of the POST. Unset: `/`. At most 512 characters. Example: `/authorize`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = URL_PATH))]
    pub path: Option<String>,
}

/// A function at AWS Lambda or a compatible server.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.endpoint) || !has(self.service)",
    "message": "endpoint and service exclude each other"
}]))]
pub struct LambdaInvoke {
    /// The name of the function or its ARN, with an alias or version after a colon if one is meant. At most 256 characters.
    /// Example: `arn:aws:lambda:eu-west-1:111122223333:function:authorizer:live`.
    #[schemars(length(min = 1, max = 256), regex(pattern = FUNCTION_NAME))]
    pub function_name: String,
    /// The region of the function. Example: `eu-west-1`.
    #[schemars(length(min = 1, max = 32), regex(pattern = REGION))]
    pub region: String,
    /// The URL of the API. Unset: that of `service`, or else `https://lambda.REGION.amazonaws.com`.
    /// Example: `https://lambda.internal.example`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 512), regex(pattern = HTTP_URL))]
    pub endpoint: Option<String>,
    /// The Service of a compatible server in the cluster. Unset: the server is that of `endpoint`, or AWS.
    /// Example: `{name: localstack, port: 4566}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceReference>,
    /// The Secret with the access key that calls are signed with: the keys `AWS_ACCESS_KEY_ID` and `AWS_SECRET_ACCESS_KEY` in its
    /// `data`, and `AWS_SESSION_TOKEN` for temporary credentials. It needs the permission `lambda:InvokeFunction`. Unset: calls
    /// are not signed, which servers other than AWS may accept. Example: `{name: lambda-caller}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<Reference>,
}

/// What a function is called with.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LambdaEvent {
    /// A token.
    Token,
    /// The head of the request.
    #[default]
    Request,
}

/// The versions of AWS's format of events.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LambdaPayload {
    /// That of REST APIs.
    #[serde(rename = "1.0")]
    V1,
    /// That of HTTP APIs.
    #[serde(rename = "2.0")]
    V2,
}

/// What a function returns.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum LambdaResponses {
    /// A policy in the language of IAM.
    #[default]
    Policy,
    /// Whether the caller is authorized.
    Simple,
}

/// Something that distinguishes callers.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "[has(self.header), has(self.query), has(self.cookie), has(self.context)].exists_one(place, place)",
    "message": "an identity source requires exactly one of header, query, cookie and context"
}]))]
pub struct IdentitySource {
    /// The header. Unset: the value is in another place. Example: `authorization`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub header: Option<String>,
    /// The query parameter, case-sensitive. Unset: the value is in another place. Example: `tenant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub query: Option<String>,
    /// The cookie. Unset: the value is in another place. Example: `session`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(min = 1, max = 128), regex(pattern = HEADER_NAME))]
    pub cookie: Option<String>,
    /// A fact of the request, as the variable `context.NAME` has it. Unset: the value is in another place. Example: `route`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    // The schema of an optional enum has the description of the enum.
    #[schemars(with = "ContextSource")]
    pub context: Option<ContextSource>,
}

/// A fact of a request that can distinguish callers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum ContextSource {
    /// The host.
    #[serde(rename = "domainName")]
    DomainName,
    /// The method.
    #[serde(rename = "httpMethod")]
    HttpMethod,
    /// The fingerprint of the verified certificate of the client.
    #[serde(rename = "identity.clientCert.fingerprint")]
    Certificate,
    /// The address of the client.
    #[serde(rename = "identity.sourceIp")]
    SourceIp,
    /// The path, with the base path.
    #[serde(rename = "path")]
    Path,
    /// The name of the ApiRoute.
    #[serde(rename = "route")]
    Route,
    /// The name of the rule.
    #[serde(rename = "rule")]
    Rule,
}

const fn default_result_ttl() -> Duration {
    Duration::from_secs(300)
}

const fn default_timeout() -> Duration {
    Duration::from_secs(10)
}
