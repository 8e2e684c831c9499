//! Every refusal: its status, reason, headers and body, in the words of the stage's behavior.
//! When a request is refused is decided by the steps.

use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use sluice_wire::Behavior;

/// Why a request was not answered by its integration. One variant per kind of answer.
#[derive(Clone, Debug)]
pub(crate) enum Reject {
    /// The request could be read in two ways, or not at all.
    Malformed(&'static str),
    /// The target is longer than allowed.
    UriTooLong,
    /// More or longer headers than allowed.
    HeadersTooLarge,
    /// The body is longer than allowed.
    BodyTooLarge,
    /// The body stopped arriving.
    BodyTimeout,
    /// No configuration yet.
    NotReady,
    /// No stage or rule.
    NotFound,
    /// A rule, but not for this method.
    MethodNotAllowed(HeaderValue),
    /// No token, or one that is not believed.
    Unauthorized(HeaderValue),
    /// A token without a needed scope.
    ScopeMissing(HeaderValue),
    /// The keys that would prove the token cannot be had.
    AuthorizerUnavailable,
    /// No API key, or none of a plan of this stage.
    InvalidKey,
    /// A bucket is empty.
    Throttled {
        /// Seconds.
        retry_after: u64,
    },
    /// A refresh of the cache by somebody who may not.
    CacheRefresh,
    /// The rule, or something it needs, cannot be served as written.
    InvalidConfig,
    /// The Service has no ready endpoint.
    NoEndpoints,
    /// No endpoint could be reached, or an address is not allowed.
    ConnectFailed,
    /// The upstream answered with something that is not an answer.
    BadAnswer,
    /// No answer in time.
    Timeout,
}

/// Label values of `sluice_rejects_total` and of the access log.
pub(crate) const REASONS: [&str; 19] = [
    "Malformed",
    "UriTooLong",
    "HeadersTooLarge",
    "BodyTooLarge",
    "BodyTimeout",
    "NotReady",
    "NotFound",
    "MethodNotAllowed",
    "Unauthorized",
    "ScopeMissing",
    "AuthorizerUnavailable",
    "InvalidKey",
    "Throttled",
    "CacheRefresh",
    "InvalidConfig",
    "NoEndpoints",
    "ConnectFailed",
    "BadAnswer",
    "Timeout",
];

impl Reject {
    /// Its place in [`REASONS`].
    pub(crate) fn index(&self) -> usize {
        match self {
            Self::Malformed(_) => 0,
            Self::UriTooLong => 1,
            Self::HeadersTooLarge => 2,
            Self::BodyTooLarge => 3,
            Self::BodyTimeout => 4,
            Self::NotReady => 5,
            Self::NotFound => 6,
            Self::MethodNotAllowed(_) => 7,
            Self::Unauthorized(_) => 8,
            Self::ScopeMissing(_) => 9,
            Self::AuthorizerUnavailable => 10,
            Self::InvalidKey => 11,
            Self::Throttled { .. } => 12,
            Self::CacheRefresh => 13,
            Self::InvalidConfig => 14,
            Self::NoEndpoints => 15,
            Self::ConnectFailed => 16,
            Self::BadAnswer => 17,
            Self::Timeout => 18,
        }
    }

    /// Its name in metrics and logs.
    pub(crate) fn reason(&self) -> &'static str {
        REASONS.get(self.index()).copied().unwrap_or_default()
    }

    /// The status, which differs where AWS hides what exists.
    pub(crate) fn status(&self, behavior: Behavior) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NotReady | Self::NoEndpoints => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound | Self::MethodNotAllowed(_) if behavior == Behavior::AwsRest => StatusCode::FORBIDDEN,
            Self::MethodNotAllowed(_) if behavior == Behavior::Native => StatusCode::METHOD_NOT_ALLOWED,
            Self::NotFound | Self::MethodNotAllowed(_) => StatusCode::NOT_FOUND,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::ScopeMissing(_) | Self::InvalidKey | Self::CacheRefresh => StatusCode::FORBIDDEN,
            Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::AuthorizerUnavailable if behavior == Behavior::Native => StatusCode::SERVICE_UNAVAILABLE,
            Self::AuthorizerUnavailable | Self::InvalidConfig => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ConnectFailed | Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// A sentence for the caller. It says nothing about what is configured.
    fn detail(&self) -> &'static str {
        match self {
            Self::Malformed(why) => why,
            Self::UriTooLong => "The path and query are longer than 8192 bytes.",
            Self::HeadersTooLarge => "The request has more than 100 header fields, or more than 16 KiB of them.",
            Self::BodyTooLarge => "The body is longer than this API accepts.",
            Self::BodyTimeout => "The body did not arrive in time.",
            Self::NotReady => "The gateway has no configuration yet. Try again in a moment.",
            Self::NotFound => "There is no such resource.",
            Self::MethodNotAllowed(_) => "The resource does not have this method.",
            Self::Unauthorized(_) => "The request needs a valid token.",
            Self::ScopeMissing(_) => "The token does not have a scope that this operation needs.",
            Self::AuthorizerUnavailable => "The token cannot be checked at the moment. Try again.",
            Self::InvalidKey => "The request needs a valid API key in the header x-api-key.",
            Self::Throttled { .. } => "There have been too many requests. Try again later.",
            Self::CacheRefresh => "The caller must not refresh cached answers.",
            Self::InvalidConfig => "The operation is not configured correctly.",
            Self::NoEndpoints => "No instance of the service is ready.",
            Self::ConnectFailed => "The service could not be reached.",
            Self::BadAnswer => "The service did not give a valid answer.",
            Self::Timeout => "The service did not answer in time.",
        }
    }

    /// AWS's error type and message.
    fn aws(&self, behavior: Behavior) -> (&'static str, &'static str) {
        match self {
            Self::Malformed(_) | Self::BodyTimeout => ("BadRequestException", "Bad Request"),
            Self::UriTooLong => ("RequestTooLargeException", "Request-URI Too Long"),
            Self::HeadersTooLarge => ("RequestTooLargeException", "Request Header Fields Too Large"),
            Self::BodyTooLarge if behavior == Behavior::AwsRest => ("RequestTooLargeException", "Request Too Long"),
            Self::BodyTooLarge => ("RequestTooLargeException", "Request Entity Too Large"),
            Self::NotFound | Self::MethodNotAllowed(_) if behavior == Behavior::AwsRest => {
                ("MissingAuthenticationTokenException", "Missing Authentication Token")
            }
            Self::NotFound | Self::MethodNotAllowed(_) => ("NotFoundException", "Not Found"),
            Self::Unauthorized(_) => ("UnauthorizedException", "Unauthorized"),
            Self::ScopeMissing(_) => ("AccessDeniedException", "Forbidden"),
            Self::InvalidKey => ("ForbiddenException", "Forbidden"),
            Self::CacheRefresh => ("AccessDeniedException", "Forbidden"),
            Self::Throttled { .. } => ("TooManyRequestsException", "Too Many Requests"),
            Self::AuthorizerUnavailable => ("AuthorizerFailureException", "Internal server error"),
            Self::InvalidConfig => ("ApiConfigurationException", "Internal server error"),
            Self::NotReady | Self::NoEndpoints => ("ServiceUnavailableException", "Service Unavailable"),
            Self::ConnectFailed | Self::BadAnswer => ("InternalServerErrorException", "Internal server error"),
            Self::Timeout if behavior == Behavior::AwsRest => {
                ("InternalServerErrorException", "Endpoint request timed out")
            }
            Self::Timeout => ("ServiceUnavailableException", "Service Unavailable"),
        }
    }

    /// Headers and body of the answer.
    pub(crate) fn render(&self, behavior: Behavior) -> (StatusCode, HeaderMap, Bytes) {
        let status = self.status(behavior);
        let mut headers = HeaderMap::with_capacity(6);
        match self {
            Self::MethodNotAllowed(allow) if behavior == Behavior::Native => {
                headers.insert(header::ALLOW, allow.clone());
            }
            Self::Unauthorized(challenge) | Self::ScopeMissing(challenge) => {
                headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
            }
            Self::Throttled { retry_after } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
            }
            _ => {}
        }
        let body = if behavior == Behavior::Native {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
            let title = status.canonical_reason().unwrap_or("Error");
            let code = status.as_u16();
            format!(r#"{{"type":"about:blank","title":"{title}","status":{code},"detail":"{}"}}"#, self.detail())
        } else {
            headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
            let (kind, message) = self.aws(behavior);
            if behavior == Behavior::AwsRest {
                headers.insert("x-amzn-errortype", HeaderValue::from_static(kind));
            }
            // AWS writes this one with a space, and clients compare.
            let gap = if matches!(self, Self::Timeout) { " " } else { "" };
            format!(r#"{{"message":{gap}"{message}"}}"#)
        };
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        (status, headers, Bytes::from(body))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_aws_hides_stays_hidden_and_native_says_what_is_wrong() {
        let allow = || Reject::MethodNotAllowed(HeaderValue::from_static("GET"));
        let rows = [
            (Reject::NotFound, Behavior::Native, 404, "There is no such resource."),
            (Reject::NotFound, Behavior::AwsRest, 403, r#"{"message":"Missing Authentication Token"}"#),
            (Reject::NotFound, Behavior::AwsHttp, 404, r#"{"message":"Not Found"}"#),
            (allow(), Behavior::Native, 405, "does not have this method"),
            (allow(), Behavior::AwsRest, 403, r#"{"message":"Missing Authentication Token"}"#),
            (allow(), Behavior::AwsHttp, 404, r#"{"message":"Not Found"}"#),
            (Reject::Timeout, Behavior::AwsRest, 504, r#"{"message": "Endpoint request timed out"}"#),
            (Reject::InvalidKey, Behavior::AwsRest, 403, r#"{"message":"Forbidden"}"#),
            (Reject::Throttled { retry_after: 1 }, Behavior::AwsRest, 429, r#"{"message":"Too Many Requests"}"#),
        ];
        for (reject, behavior, status, text) in rows {
            let (got, headers, body) = reject.render(behavior);
            let body = String::from_utf8(body.to_vec()).unwrap();
            assert_eq!(got.as_u16(), status, "{reject:?} {behavior:?}");
            assert!(body.contains(text), "{body}");
            assert_eq!(headers.contains_key("allow"), status == 405);
            assert_eq!(headers.contains_key("x-amzn-errortype"), behavior == Behavior::AwsRest);
            serde_json::from_str::<serde_json::Value>(&body).unwrap();
        }
    }
}
