//! What an explanation states about a request: names of objects and fields, never the value of a key.

use std::collections::BTreeMap;
use std::net::IpAddr;

use serde::Serialize;
use sluice_wire::{Behavior, Throttle};

/// The request, as the gateway reads it.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRequest {
    /// The method that is matched.
    pub method: String,
    /// `http` or `https`.
    pub scheme: &'static str,
    /// In lower case, without port.
    pub host: String,
    /// Canonical, with the base path.
    pub path: String,
    /// The address of the client.
    pub source: IpAddr,
}

/// A Stage.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedStage {
    /// `namespace/name`.
    pub name: String,
    /// Its base path.
    pub base_path: String,
    /// Its behavior.
    pub behavior: Behavior,
    /// Why it rejects all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

/// A Stage that could have matched another host or path.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct StageOfHosts {
    /// `namespace/name`.
    pub name: String,
    /// Empty: every host that no other Stage lists.
    pub hosts: Vec<String>,
    /// Its base path.
    pub base_path: String,
}

/// The rule that matched.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedRule {
    /// `namespace/name` of the ApiRoute.
    pub route: String,
    /// The name of the rule.
    pub name: String,
    /// What it matches.
    #[serde(flatten)]
    pub matches: Matches,
    /// The path parameters, as the client wrote them.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub parameters: BTreeMap<String, String>,
    /// `namespace/name` of the Authorizer; none: every client may call.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<String>,
    /// What it calls.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub integration: Option<ExplainedIntegration>,
    /// The longest request body in bytes; none: every length.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body_limit: Option<u64>,
    /// Why it rejects all requests.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

/// What a rule matches.
#[derive(Clone, Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Matches {
    /// Empty: every method.
    pub methods: Vec<String>,
    /// The template below the base path, with the version where it is in the path.
    pub path: String,
    /// `NAME` or `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub headers: Vec<String>,
    /// `NAME` or `NAME=VALUE`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub query: Vec<String>,
}

/// A rule of a Stage that has not matched.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct RuleOfStage {
    /// `namespace/name` of the ApiRoute.
    pub route: String,
    /// The name of the rule.
    pub name: String,
    /// What it matches.
    #[serde(flatten)]
    pub matches: Matches,
}

/// What a rule calls.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(tag = "type")]
pub enum ExplainedIntegration {
    /// A Service.
    Service {
        /// `namespace/name:port`.
        service: String,
        /// The addresses of its endpoints, or its external name.
        endpoints: Vec<String>,
    },
    /// An external URL.
    Http {
        /// With the parameters of its path.
        url: String,
    },
    /// A fixed response.
    Mock,
}

/// An authorizer, and what it decided.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedAuthorizer {
    /// `namespace/name`.
    pub name: String,
    /// `Jwt`, ….
    pub kind: &'static str,
    /// `allowed`, `rejected` or `failed`; none: it has not decided yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decision: Option<&'static str>,
    /// The reason in the access log, if it does not allow the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<&'static str>,
    /// The caller needs one of them. Empty: none.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// The caller that an authorizer identified.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedCaller {
    /// Its name, such as `sub` of a token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub id: Option<String>,
    /// `namespace/name` of the Principal that has signed the request.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub principal: Option<String>,
    /// The issuer of its token.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// Its scopes.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub scopes: Vec<String>,
}

/// What policies decided.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedPolicy {
    /// `allow`, `deny`, or `none` if no statement allows the request.
    pub effect: &'static str,
    /// The statement that decided; none: there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub statement: Option<ExplainedStatement>,
    /// The ARN of the method.
    pub resource: String,
    /// The ARN that the statement denies, if it is that of another form of the path.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub form: Option<String>,
}

/// A statement.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedStatement {
    /// `stage.policy.Statement[0]`, `principal.policies[0].Statement[0]` or `authorizer.policy.Statement[0]`.
    pub place: String,
    /// Its `Sid`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub sid: Option<String>,
    /// The index of the policy of a Principal.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<usize>,
    /// The name of that policy, if it has one. Proxies do not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy_name: Option<String>,
}

/// The API key of a request, without its value.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedKey {
    /// Where the Stage reads it: `header x-api-key`.
    pub place: String,
    /// `namespace/name` of the ApiKey; none: the request has no valid key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// The customer that the ApiKey names.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer: Option<String>,
    /// `namespace/name` of the UsagePlan that admits it to the Stage.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub plan: Option<String>,
}

/// An expression that was evaluated.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedExpression {
    /// Its index: the expressions of the ApiRoute come first, then those of the rule.
    pub index: usize,
    /// Its text.
    pub expression: String,
    /// None: it has no result.
    pub result: Option<bool>,
    /// Why it has no result.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
}

/// A limit that takes a token of the request.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedLimit {
    /// `client`, `key-rule`, `key` or `rule`.
    pub scope: &'static str,
    /// Requests in each period.
    pub rate: u32,
    /// The period in milliseconds.
    pub period_ms: u32,
    /// Requests that may come at once.
    pub burst: u32,
}

impl ExplainedLimit {
    pub(crate) fn new(scope: &'static str, throttle: Throttle) -> Self {
        let Throttle { rate, per_ms, burst } = throttle;
        Self { scope, rate, period_ms: per_ms, burst }
    }
}

/// What the cache would do. It is neither read nor filled.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedCache {
    /// `lookup`, `refresh`, `bypass` or `not_stored`.
    pub action: &'static str,
    /// For how long responses are stored that do not say it; zero: none is.
    pub ttl_ms: u64,
}

/// The request that the integration would get.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedUpstream {
    /// Its method.
    pub method: String,
    /// Path and query.
    pub target: String,
    /// The headers that the gateway sets or changes, with their values.
    pub set_headers: Vec<(String, String)>,
    /// The headers of the client that it does not forward.
    pub removed_headers: Vec<String>,
    /// How long it waits for the head of the response.
    pub timeout_ms: u64,
}

/// The response to the client.
#[derive(Clone, Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct ExplainedResponse {
    /// None: that of the integration, or the connection is closed without a response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub status: Option<u16>,
    /// The reason in the access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// The expression or the statement that denies the request, as in the access log.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_by: Option<String>,
    /// All headers, or those that the gateway adds to the response of the integration.
    pub headers: Vec<(String, String)>,
    /// None: that of the integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub body: Option<String>,
}
