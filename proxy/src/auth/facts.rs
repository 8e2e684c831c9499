//! What only some kinds of authorizer need of a request, computed when they ask for it.

/// What describes a request to a server that decides about it.
#[derive(Default)]
pub(crate) struct RequestFacts {
    /// `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/METHOD/PATH`; none: it is longer than AWS allows.
    pub(crate) arn: Option<String>,
    pub(crate) method: String,
    /// The path of the rule, with its parameters in braces.
    pub(crate) resource: String,
    /// Whether the rule is for each method.
    pub(crate) any_method: bool,
    /// Below the base path.
    pub(crate) path: String,
    /// The query as the client wrote it.
    pub(crate) raw_query: String,
    /// Its parameters, decoded.
    pub(crate) query: Vec<(String, String)>,
    /// Path parameters, as the client wrote them.
    pub(crate) parameters: Vec<(String, String)>,
}
