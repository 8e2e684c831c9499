//! The configuration of a Stage: its hosts and the defaults of its routes.

use serde::{Deserialize, Serialize};

use crate::{HostPattern, ObjectRef, PartName, RequestPolicy, Sources};

/// One Stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagePart {
    /// The Stage.
    pub object: ObjectRef,
    /// The hosts of the Stage. Empty: all hosts that no other Stage lists.
    pub hostnames: Vec<HostPattern>,
    /// `/`, or a prefix without a slash at its end that is stripped before matching.
    pub base_path: String,
    /// Whose rejections and headers it imitates.
    pub behavior: Behavior,
    /// Whether a slash at the end of a path is significant; none: as the behavior has it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trailing_slash: Option<TrailingSlash>,
    /// Certificate parts in order of preference; with any, the Stage is served over TLS as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<PartName>,
    /// TLS; none: the Stage is served over plain HTTP only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tls: Option<StageTls>,
    /// Certificates of clients; none: clients are not asked for one. `invalid` is [`CLIENT_AUTH_REQUIRED`] then, if nothing else is
    /// wrong.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<Box<ClientAuth>>,
    /// Whose requests are accepted; none: those of every network.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<Box<Sources>>,
    /// What the Stage's resource policy is; none: it has none. `invalid` is [`POLICY_REQUIRED`] then, if nothing else is wrong
    /// and no other mark is needed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub policy: Option<Box<StagePolicy>>,
    /// Where the API key of a request is; none: in the header `x-api-key`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub api_key_source: Option<Box<ApiKeySource>>,
    /// How the ARNs of the Stage's methods begin, `arn:aws:execute-api:REGION:ACCOUNT:API`; the name of the Stage follows. None: an
    /// older operator, and no caller has a policy.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub arn: Option<String>,
    /// The bucket of each route that has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// The buckets that each client has at each route that has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_throttle: Option<ClientThrottle>,
    /// Whether responses have the headers `RateLimit-Policy` and `RateLimit`.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub rate_limit_headers: bool,
    /// Caching; none: nothing is cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<StageCache>,
    /// Cross-origin rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Box<Cors>>,
    /// What happens to requests that two programs could interpret differently.
    #[serde(default, skip_serializing_if = "RequestPolicy::is_unset")]
    pub request_policy: RequestPolicy,
    /// Headers of requests that the Stage forwards although clients can spoof them, in lower case.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub forward_client_headers: Vec<String>,
    /// Whether a JSON line is written for each request.
    pub access_log: bool,
    /// Set if the Stage cannot be served as written: the reason. All its requests are rejected.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

impl StagePart {
    /// Whether all requests are rejected, as far as the part shows: see [`POLICY_REQUIRED`] and [`CLIENT_AUTH_REQUIRED`].
    #[must_use]
    pub fn is_invalid(&self) -> bool {
        match self.invalid.as_deref() {
            Some(POLICY_REQUIRED) => self.policy.is_none(),
            Some(CLIENT_AUTH_REQUIRED) => self.client_auth.is_none(),
            other => other.is_some(),
        }
    }
}

/// Why a Stage with a policy is invalid for proxies that do not know policies: they reject its requests.
pub const POLICY_REQUIRED: &str = "it has a policy, which this proxy cannot evaluate";

/// Why a Stage with client certificates is invalid for proxies that do not know them: they reject its requests. Proxies that know
/// them know policies too.
pub const CLIENT_AUTH_REQUIRED: &str = "it has client certificates, which this proxy cannot verify";

/// Certificates of clients (mutual TLS). A request whose connection has no certificate that these authorities have issued has none.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientAuth {
    /// Whether a request without a certificate is rejected.
    pub required: bool,
    /// The only certificate authorities that are trusted, as base64 of their DER. Never empty.
    pub roots: Vec<String>,
    /// Lists of revoked certificates, as base64 of their DER. With any, each certificate of a chain below the authority needs a
    /// list that is current. Empty: revocation is not checked.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub revocation: Vec<String>,
    /// Whether integrations get the certificate in the header `Client-Cert` (RFC 9440).
    pub forward: bool,
}

/// A resource policy in the language of IAM.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StagePolicy {
    /// The document.
    pub document: String,
    /// How the ARNs of the Stage's methods begin, `arn:aws:execute-api:REGION:ACCOUNT:API`; the name of the Stage follows.
    pub arn: String,
}

/// Where the API key of a request is. Proxies that do not know a place cannot read the Stage, and reject its requests.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum ApiKeySource {
    /// In a header.
    Header {
        /// In lower case.
        name: String,
        /// The word before the key; none: the whole value is the key.
        #[serde(default, skip_serializing_if = "Option::is_none")]
        scheme: Option<String>,
    },
    /// In a query parameter of this name.
    Query(String),
    /// In a cookie of this name.
    Cookie(String),
    /// It is the `usageIdentifierKey` that a Lambda authorizer returns.
    Authorizer,
}

/// TLS of a Stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageTls {
    /// What happens to requests over plain HTTP.
    #[serde(default)]
    pub http: PlainHttp,
    /// `Strict-Transport-Security`; none: no header.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Whether some of the Stage's certificates cannot be used: hosts for which no other is valid get none.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub incomplete: bool,
}

/// What happens to requests over plain HTTP.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum PlainHttp {
    /// They are redirected to HTTPS.
    #[default]
    Redirect,
    /// They are served.
    Serve,
    /// They are rejected.
    Off,
}

/// HTTP Strict Transport Security.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hsts {
    /// In seconds.
    pub max_age_s: u64,
    /// Whether it applies to the hosts below the Stage's hosts too.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subdomains: bool,
}

/// Whose rejections, status codes and header names a Stage imitates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Behavior {
    /// Sluice's own: HTTP status codes and problem details.
    #[default]
    Native,
    /// AWS REST APIs (v1).
    AwsRest,
    /// AWS HTTP APIs (v2).
    AwsHttp,
}

/// How rules match paths that differ from them by a slash at the end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum TrailingSlash {
    /// `/orders/` is another path than `/orders`.
    Exact,
    /// A rule matches both, if no rule has exactly the path.
    Ignore,
}

/// A token bucket for the whole fleet, of `burst` tokens, which gains `rate` tokens in each period.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Throttle {
    /// Tokens in each period.
    pub rate: u32,
    /// The length of a period in milliseconds; proxies count no longer ones than a day.
    #[serde(default = "one_second")]
    pub per_ms: u32,
    /// The size of the bucket.
    pub burst: u32,
}

/// A throttle that each client has for itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ClientThrottle {
    /// Its bucket.
    pub throttle: Throttle,
    /// How many leading bits distinguish clients with IPv4 addresses.
    pub ipv4_prefix: u8,
    /// The same for IPv6 addresses.
    pub ipv6_prefix: u8,
}

const fn one_second() -> u32 {
    1000
}

/// Caching of a Stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCache {
    /// The default lifetime of a stored response, in milliseconds.
    pub ttl_ms: u64,
    /// Memory for stored responses of the Stage, in bytes.
    pub max_bytes: u64,
    /// Who may refresh an entry with `Cache-Control: max-age=0`.
    pub invalidation: Invalidation,
    /// The response to other callers.
    pub unauthorized: Unauthorized,
}

/// Who may refresh a stored response.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Invalidation {
    /// Callers whose token has the scope `sluice:invalidate-cache`.
    Required,
    /// Every caller.
    None,
}

/// The response to a refresh without permission.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unauthorized {
    /// 403.
    FailWith403,
    /// The stored response and a `Warning`.
    SucceedWithWarning,
    /// The stored response.
    SucceedSilently,
}

/// Cross-origin resource sharing (Fetch standard).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cors {
    /// `*`, `https://*`, `http://*`, or exact origins.
    pub allow_origins: Vec<String>,
    /// Methods a preflight allows.
    pub allow_methods: Vec<String>,
    /// Request headers a preflight allows.
    pub allow_headers: Vec<String>,
    /// Response headers a page may read.
    pub expose_headers: Vec<String>,
    /// Whether cookies and the like are allowed.
    pub allow_credentials: bool,
    /// How long a browser remembers a preflight, in seconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_age_s: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_closes_a_stage_whose_field_is_not_there() {
        let client_auth = ClientAuth { required: true, roots: vec!["AAAA".into()], revocation: vec![], forward: true };
        let policy = StagePolicy { document: "{}".into(), arn: "arn".into() };
        for (mark, with_client_auth, with_policy, invalid) in [
            (None, false, false, false),
            (Some(POLICY_REQUIRED), false, true, false),
            (Some(POLICY_REQUIRED), true, false, true),
            (Some(CLIENT_AUTH_REQUIRED), true, false, false),
            (Some(CLIENT_AUTH_REQUIRED), true, true, false),
            (Some(CLIENT_AUTH_REQUIRED), false, true, true),
            (Some("of a newer version"), true, true, true),
        ] {
            let json = serde_json::json!({
                "object": ObjectRef::new("Stage", "shop", "prod"), "hostnames": [], "base_path": "/", "behavior": "Native",
                "access_log": true, "invalid": mark,
                "client_auth": with_client_auth.then_some(&client_auth), "policy": with_policy.then_some(&policy),
            });
            let part: StagePart = serde_json::from_value(json).unwrap();
            assert_eq!(part.is_invalid(), invalid, "{mark:?} {with_client_auth} {with_policy}");
        }
    }
}
