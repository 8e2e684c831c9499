//! Integrations: the upstream of a rule, or a fixed response.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    field::{HTTP_URL, Header},
    reference::ServiceReference,
};

/// The upstream of a rule: exactly the field that `type` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.service) == (self.type == 'Service')",
    "message": "type Service requires the field service, which is not allowed with other types"
}, {
    "rule": "has(self.http) == (self.type == 'Http')",
    "message": "type Http requires the field http, which is not allowed with other types"
}, {
    "rule": "has(self.mock) == (self.type == 'Mock')",
    "message": "type Mock requires the field mock, which is not allowed with other types"
}]))]
pub struct Integration {
    /// `Service`: a Service of the cluster. `Http`: a URL. `Mock`: a fixed response of the proxy. Example: `Service`.
    #[serde(rename = "type")]
    pub type_: IntegrationType,
    /// The Service and its port. Required with type `Service`. Example: `{name: orders, port: 80}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceReference>,
    /// A URL. Required with type `Http`. Example: `{url: "https://api.example.com/v2/{proxy}"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpIntegration>,
    /// A fixed response. Required with type `Mock`. Example: `{status: 204}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mock: Option<MockIntegration>,
}

/// The types of integrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IntegrationType {
    /// The ready endpoints of a Service.
    Service,
    /// A URL.
    Http,
    /// A fixed response of the proxy itself.
    Mock,
}

/// A URL.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpIntegration {
    /// The URL. `{name}` is replaced by the path parameter. A URL without a path keeps the path of the request. The query of
    /// the request is forwarded. With `https`, the server's certificate is verified. At most 2048 characters.
    /// Example: `https://api.example.com/v2/{proxy}`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = HTTP_URL))]
    pub url: String,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MockIntegration {
    /// The status code. Unset: `200`. From 200 to 599.
    #[serde(default = "default_status")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// The headers. Values may contain variables. Empty: only `content-length`. At most 16, each name once.
    /// Example: `[{name: content-type, value: application/json}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crate::field::unique_headers)]
    pub headers: Vec<Header>,
    /// The body. Unset: empty. At most 65536 characters. Example: `{"status":"ok"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub body: Option<String>,
}

const fn default_status() -> u16 {
    200
}
