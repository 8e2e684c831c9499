//! What a request is rejected with, in the words of AWS.

use http::StatusCode;

/// A rejection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fault {
    pub(super) code: &'static str,
    pub(super) status: StatusCode,
    pub(super) message: String,
}

impl Fault {
    fn new(status: StatusCode, code: &'static str, message: impl Into<String>) -> Self {
        Self { code, status, message: message.into() }
    }

    pub(super) fn bad_request(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::BAD_REQUEST, code, message)
    }

    pub(super) fn forbidden(code: &'static str, message: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, code, message)
    }

    /// A parameter has a value that is not permitted.
    pub(super) fn invalid(message: impl Into<String>) -> Self {
        Self::bad_request("ValidationError", message)
    }

    /// A parameter is missing.
    pub(super) fn missing(parameter: &str) -> Self {
        Self::bad_request("MissingParameter", format!("The request must contain the parameter {parameter}"))
    }

    /// Clients try these again.
    pub(super) fn unavailable(message: impl Into<String>) -> Self {
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable", message)
    }

    /// The operator is at fault.
    pub(super) fn internal(message: impl Into<String>) -> Self {
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "InternalFailure", message)
    }

    /// Whether the request is at fault.
    pub(super) fn is_of_sender(&self) -> bool {
        self.status.is_client_error()
    }
}
