//! Cross-origin resource sharing, of a Stage or of a rule.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::field::{Duration, HEADER_NAME_OR_ANY, ORIGIN, methods};

/// Cross-origin resource sharing.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!self.allowCredentials || !self.allowOrigins.exists(o, o == '*' || o == 'http://*' || o == 'https://*')",
    "message": "allowCredentials cannot be combined with *, http://* or https://* in allowOrigins: list the origins or domains that may send credentials"
}]))]
pub struct Cors {
    /// The origins whose pages may read responses: `https://shop.example`, `https://*.shop.example` for each host below a domain,
    /// another scheme such as `capacitor://localhost`, or `*`, `https://*`, `http://*`. A port that is not the scheme's is
    /// part of the origin. From 1 to 32. Example: `["https://*.shop.example"]`.
    #[schemars(
        length(min = 1, max = 32),
        inner(length(min = 1, max = 253), regex(pattern = ORIGIN)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow_origins: Vec<String>,
    /// The methods that pages may use, or `*`. Empty: only those that need no preflight (GET, HEAD, POST). At most 16.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(length(max = 16), extend("x-kubernetes-list-type" = "set"))]
    pub allow_methods: Vec<CorsMethod>,
    /// The request headers that pages may set, or `*`. Empty: only CORS-safelisted headers. At most 64.
    /// Example: `[authorization]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 128), regex(pattern = HEADER_NAME_OR_ANY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub allow_headers: Vec<String>,
    /// The response headers that pages may read, or `*`. Empty: only CORS-safelisted headers. At most 64.
    /// Example: `[x-request-id]`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    #[schemars(
        length(max = 64),
        inner(length(min = 1, max = 128), regex(pattern = HEADER_NAME_OR_ANY)),
        extend("x-kubernetes-list-type" = "set")
    )]
    pub expose_headers: Vec<String>,
    /// Whether browsers send cookies and credentials. Not allowed with `*`, `https://*`
    /// and `http://*` in `allowOrigins`. Unset: `false`.
    #[serde(default)]
    pub allow_credentials: bool,
    /// How long a browser may cache a preflight response. `0s`: not at all. Unset: the browser decides (usually 5 seconds).
    /// Whole seconds, at most `24h`. Example: `1h`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) <= duration('24h')",
        "message": "maxAge must be at most 24h"
    }, {
        "rule": "!self.contains('ms')",
        "message": "maxAge must be in whole seconds: do not use the unit ms"
    }]))]
    pub max_age: Option<Duration>,
}

methods! {
    /// A method in `cors.allowMethods`.
    CorsMethod {
        /// Every method.
        Any = "*"
    }
    /// The value in the `Access-Control-Allow-Methods` header.
}
