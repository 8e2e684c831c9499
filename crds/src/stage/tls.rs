//! TLS of a Stage: its certificates, plain HTTP and HSTS.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::client_auth::ClientAuth;
use crate::{field::Duration, reference::Reference};

/// TLS for the hosts of a stage.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
#[schemars(extend("x-kubernetes-validations" = [{
    "rule": "!has(self.clientAuth) || self.clientAuth.mode != 'Require' || self.http != 'Serve'",
    "message": "clientAuth.mode Require cannot be combined with http Serve: requests over plain HTTP have no certificate"
}]))]
pub struct StageTls {
    /// Secrets of type `kubernetes.io/tls` with a certificate chain in `tls.crt` and its private key in `tls.key`. With
    /// several, a client gets the first one that is valid for the requested host and whose key type it supports. A change
    /// of a Secret takes effect without closing connections. From 1 to 8. Example: `[{name: api-shop-tls}]`.
    #[schemars(
        length(min = 1, max = 8),
        extend("x-kubernetes-list-type" = "atomic", "x-kubernetes-validations" = [{
            "rule": "self.all(x, self.exists_one(y, x == y))",
            "message": "each Secret may be listed once"
        }])
    )]
    pub certificates: Vec<Reference>,
    /// What happens to requests over plain HTTP. `Redirect`: the client is redirected to HTTPS with 308. `Serve`: they are
    /// served like requests over TLS. `Off`: they are rejected with 403. Unset: `Redirect`. Example: `Off`.
    #[serde(default)]
    pub http: PlainHttp,
    /// Tells browsers to use HTTPS only, with the header `Strict-Transport-Security` (HSTS) on each response over TLS. Unset:
    /// no header is added. Example: `{maxAge: 8760h}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hsts: Option<Hsts>,
    /// Certificates of clients (mutual TLS). Clients are asked for a certificate in the handshake for a
    /// host of the stage. Unset: they are not. Example: `{ca: [{type: ConfigMap, configMap: {name: partners-ca}}]}`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub client_auth: Option<ClientAuth>,
}

/// What happens to requests over plain HTTP for a stage with TLS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum PlainHttp {
    /// The client is redirected to HTTPS (308).
    #[default]
    Redirect,
    /// They are served.
    Serve,
    /// They are rejected (403).
    Off,
}

/// HTTP Strict Transport Security (RFC 6797).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "camelCase")]
pub struct Hsts {
    /// How long a browser uses HTTPS only, from its last response. `0s`: browsers forget earlier responses. Whole seconds, at
    /// most `17520h` (two years). Example: `8760h`.
    #[schemars(extend("x-kubernetes-validations" = [{
        "rule": "duration(self) <= duration('17520h')",
        "message": "maxAge must be at most 17520h"
    }, {
        "rule": "!self.contains('ms')",
        "message": "maxAge must be in whole seconds: do not use the unit ms"
    }]))]
    pub max_age: Duration,
    /// The hosts to which it applies. `Host`: the host of the request. `HostAndSubdomains`: also every host below it, whether
    /// or not it is served over TLS. Unset: `Host`.
    #[serde(default)]
    pub scope: HstsScope,
}

/// The hosts to which HSTS applies.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
pub enum HstsScope {
    /// The host of the request.
    #[default]
    Host,
    /// The host and every host below it.
    HostAndSubdomains,
}
