//! What a Stage configures: where it answers and the defaults of its routes.

use serde::{Deserialize, Serialize};

use crate::{HostPattern, ObjectRef, PartName};

/// One Stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StagePart {
    /// The Stage.
    pub object: ObjectRef,
    /// The hosts it answers; none: every host no other Stage claims.
    pub hostnames: Vec<HostPattern>,
    /// `/`, or a prefix without a slash at its end that is stripped before matching.
    pub base_path: String,
    /// Whose refusals and headers it imitates.
    pub behavior: Behavior,
    /// Certificate parts in order of preference; with any, the Stage is served over TLS as well.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub certificates: Vec<PartName>,
    /// The bucket of each route that has none of its own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub throttle: Option<Throttle>,
    /// Caching; none: nothing is cached.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache: Option<StageCache>,
    /// Cross-origin rules.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cors: Option<Cors>,
    /// Whether a JSON line is written for each request.
    pub access_log: bool,
    /// A sentence when the Stage cannot be served as written: all its requests are refused with it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invalid: Option<String>,
}

/// Whose refusals, statuses and header names a Stage imitates.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum Behavior {
    /// Sluice's own: 404 and 405 where they belong, problem details.
    #[default]
    Native,
    /// AWS REST APIs (v1).
    AwsRest,
    /// AWS HTTP APIs (v2).
    AwsHttp,
}

/// A token bucket for the whole fleet: it holds `burst` tokens and gains `rate` of them in each period.
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

const fn one_second() -> u32 {
    1000
}

/// Caching of a Stage.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageCache {
    /// How long an answer is kept where the rule says nothing, in milliseconds.
    pub ttl_ms: u64,
    /// Bytes of answers this proxy keeps for the Stage.
    pub max_bytes: u64,
    /// Who may refresh an entry with `Cache-Control: max-age=0`.
    pub invalidation: Invalidation,
    /// What everybody else gets for trying.
    pub unauthorized: Unauthorized,
}

/// Who may refresh a cached answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Invalidation {
    /// Callers whose token carries the scope `sluice:invalidate-cache`.
    Required,
    /// Everybody.
    None,
}

/// What an unauthorized refresh gets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Unauthorized {
    /// 403.
    FailWith403,
    /// The cached answer and a `Warning`.
    SucceedWithWarning,
    /// The cached answer.
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
