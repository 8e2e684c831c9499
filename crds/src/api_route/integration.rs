//! Integrations: where the requests of a rule go.
//! How an endpoint is chosen and spoken to is the proxy's.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::{
    field::{HTTP_URL, Header},
    reference::ServiceReference,
};

/// Where the requests of a rule go: exactly the member that `type` names.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "has(self.service) == (self.type == 'Service')",
    "message": "type Service needs the member service, and no other type may have it"
}, {
    "rule": "has(self.http) == (self.type == 'Http')",
    "message": "type Http needs the member http, and no other type may have it"
}, {
    "rule": "has(self.mock) == (self.type == 'Mock')",
    "message": "type Mock needs the member mock, and no other type may have it"
}]))]
pub struct Integration {
    /// What answers: a Service of the cluster, a URL outside of it, or the proxy itself. Example: `Service`.
    #[serde(rename = "type")]
    pub type_: IntegrationType,
    /// The Service and its port. Required with type `Service`. Example: `{name: orders, port: 80}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceReference>,
    /// A URL outside the cluster. Needed with type `Http`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub http: Option<HttpIntegration>,
    /// A fixed response. Needed with type `Mock`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mock: Option<MockIntegration>,
}

/// The kinds of integrations.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize, JsonSchema)]
pub enum IntegrationType {
    /// A Service of the cluster, by its ready endpoints.
    Service,
    /// A URL outside the cluster.
    Http,
    /// A fixed response of the proxy itself.
    Mock,
}

/// A URL outside the cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct HttpIntegration {
    /// Where requests go; `{name}` stands for what the rule's path captured. A URL without a path keeps the request's own.
    /// With `https` the server's certificate is verified. The request's query is passed on. At most 2048 characters.
    /// Example: `https://api.example.com/v2/{proxy}`.
    #[schemars(length(min = 1, max = 2048), regex(pattern = HTTP_URL))]
    pub url: String,
}

/// A fixed response.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct MockIntegration {
    /// The status. Unset: `200`. From 200 to 599.
    #[serde(default = "default_status")]
    #[schemars(range(min = 200, max = 599))]
    pub status: u16,
    /// The headers. Values may contain variables. Empty: only `content-length`. At most 16, each name once.
    /// Example: `[{name: content-type, value: application/json}]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(transform = crate::field::unique_headers)]
    pub headers: Vec<Header>,
    /// The body, as it is. Unset: empty. At most 65536 characters. Example: `{"status":"ok"}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(length(max = 65536))]
    pub body: Option<String>,
}

const fn default_status() -> u16 {
    200
}
