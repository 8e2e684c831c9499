//! The checks of a request, by name.

use serde::Serialize;

/// A check that a request passes, or that rejects it. A check that its Stage and rule do not have is not made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum Check {
    /// The connection, with its TLS handshake.
    Connection,
    /// Whether the request has one reading, and is within the limits of every Stage.
    Request,
    /// The Stage of host and path; it must be served.
    Stage,
    /// The address of the client, which a trusted proxy may state, and the networks that the Stage accepts.
    StageSource,
    /// Whether the certificate of the connection is valid for the host, before the Stage is checked; then whether the Stage is served
    /// over plain HTTP.
    Tls,
    /// The client certificate.
    ClientCertificate,
    /// The limits and the request policy of the Stage.
    RequestPolicy,
    /// The response to a preflight request, by the settings for pages of other origins.
    Preflight,
    /// The rule; it must be valid.
    Rule,
    /// The networks that the rule accepts.
    RuleSource,
    /// The throttle of each client.
    ClientThrottle,
    /// Whether the policy of the Stage denies the request before a function is called.
    StagePolicy,
    /// The authorizer, or the signature.
    Authorizer,
    /// The scopes of the caller.
    Scopes,
    /// The policies of Stage and caller.
    Policy,
    /// The API key, and its usage plan. A key that replaces the credential for the authorizer is checked instead of it, before the
    /// policies.
    ApiKey,
    /// The expressions.
    Authorize,
    /// The throttles of rule and key.
    Throttle,
    /// The hash of the body that was signed.
    BodyHash,
    /// The length of the body.
    BodySize,
    /// The cache: whether the client may refresh it.
    Cache,
    /// The request to the integration.
    Integration,
}

/// The result of a check.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum CheckOutcome {
    /// The request passes it.
    Passed,
    /// It rejects the request, or responds instead of the integration.
    Rejected,
    /// It had not ended when the time for the explanation ended.
    Unfinished,
}

/// A check that was made.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct CheckResult {
    /// Which.
    pub check: Check,
    /// Its result.
    pub result: CheckOutcome,
}
