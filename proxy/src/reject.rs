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

    /// Status of a stage of its own behaviour.
    fn native(&self) -> StatusCode {
        match self {
            Self::Malformed(_) => StatusCode::BAD_REQUEST,
            Self::UriTooLong => StatusCode::URI_TOO_LONG,
            Self::HeadersTooLarge => StatusCode::REQUEST_HEADER_FIELDS_TOO_LARGE,
            Self::BodyTooLarge => StatusCode::PAYLOAD_TOO_LARGE,
            Self::BodyTimeout => StatusCode::REQUEST_TIMEOUT,
            Self::NotReady | Self::NoEndpoints | Self::AuthorizerUnavailable => StatusCode::SERVICE_UNAVAILABLE,
            Self::NotFound => StatusCode::NOT_FOUND,
            Self::MethodNotAllowed(_) => StatusCode::METHOD_NOT_ALLOWED,
            Self::Unauthorized(_) => StatusCode::UNAUTHORIZED,
            Self::ScopeMissing(_) | Self::InvalidKey | Self::CacheRefresh => StatusCode::FORBIDDEN,
            Self::Throttled { .. } => StatusCode::TOO_MANY_REQUESTS,
            Self::InvalidConfig => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ConnectFailed | Self::BadAnswer => StatusCode::BAD_GATEWAY,
            Self::Timeout => StatusCode::GATEWAY_TIMEOUT,
        }
    }

    /// How an AWS REST API says it: status, error type, body. What exists is hidden, a failed network is a 504.
    fn rest(&self) -> (StatusCode, &'static str, &'static str) {
        let internal = r#"{"message":"Internal server error"}"#;
        let (kind, body) = match self {
            Self::Malformed(_) => ("BadRequestException", r#"{"message":"Bad Request"}"#),
            Self::BodyTimeout => ("BadRequestException", r#"{"message":"Request Timeout"}"#),
            Self::UriTooLong => ("RequestTooLargeException", r#"{"message":"Request-URI Too Long"}"#),
            Self::HeadersTooLarge => ("RequestTooLargeException", r#"{"message":"Request Header Fields Too Large"}"#),
            Self::BodyTooLarge => ("RequestTooLargeException", r#"{"message":"Request Too Long"}"#),
            Self::NotFound | Self::MethodNotAllowed(_) => {
                ("MissingAuthenticationTokenException", r#"{"message":"Missing Authentication Token"}"#)
            }
            Self::Unauthorized(_) => ("UnauthorizedException", r#"{"message":"Unauthorized"}"#),
            Self::ScopeMissing(_) | Self::InvalidKey => ("ForbiddenException", r#"{"message":"Forbidden"}"#),
            Self::CacheRefresh => {
                ("AccessDeniedException", r#"{"Message":"User is not authorized to access this resource"}"#)
            }
            Self::Throttled { .. } => ("TooManyRequestsException", r#"{"message":"Too Many Requests"}"#),
            Self::AuthorizerUnavailable => ("AuthorizerFailureException", internal),
            Self::NotReady => ("ServiceUnavailableException", r#"{"message":"Service Unavailable"}"#),
            // AWS writes this one with a space, and clients compare.
            Self::Timeout => ("InternalServerErrorException", r#"{"message": "Endpoint request timed out"}"#),
            Self::InvalidConfig | Self::NoEndpoints | Self::ConnectFailed | Self::BadAnswer => {
                ("InternalServerErrorException", internal)
            }
        };
        let status = match self {
            Self::NotFound | Self::MethodNotAllowed(_) => StatusCode::FORBIDDEN,
            Self::AuthorizerUnavailable => StatusCode::INTERNAL_SERVER_ERROR,
            Self::NoEndpoints | Self::ConnectFailed => StatusCode::GATEWAY_TIMEOUT,
            other => other.native(),
        };
        (status, kind, body)
    }

    /// How an AWS HTTP API says it: status and body.
    fn http(&self) -> (StatusCode, &'static str) {
        let status = match self {
            Self::MethodNotAllowed(_) => StatusCode::NOT_FOUND,
            Self::AuthorizerUnavailable | Self::BadAnswer => StatusCode::INTERNAL_SERVER_ERROR,
            Self::ConnectFailed | Self::Timeout => StatusCode::SERVICE_UNAVAILABLE,
            other => other.native(),
        };
        let body = match self {
            Self::Malformed(_) => r#"{"message":"Bad Request"}"#,
            Self::BodyTimeout => r#"{"message":"Request Timeout"}"#,
            Self::UriTooLong => r#"{"message":"Request-URI Too Long"}"#,
            Self::HeadersTooLarge => r#"{"message":"Request Header Fields Too Large"}"#,
            Self::BodyTooLarge => r#"{"message":"Request Entity Too Large"}"#,
            Self::NotFound | Self::MethodNotAllowed(_) => r#"{"message":"Not Found"}"#,
            Self::Unauthorized(_) => r#"{"message":"Unauthorized"}"#,
            Self::ScopeMissing(_) | Self::InvalidKey | Self::CacheRefresh => r#"{"message":"Forbidden"}"#,
            Self::Throttled { .. } => r#"{"message":"Too Many Requests"}"#,
            Self::AuthorizerUnavailable | Self::InvalidConfig | Self::BadAnswer => {
                r#"{"message":"Internal Server Error"}"#
            }
            Self::NotReady | Self::NoEndpoints | Self::ConnectFailed | Self::Timeout => {
                r#"{"message":"Service Unavailable"}"#
            }
        };
        (status, body)
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

    /// Headers and body of the answer.
    pub(crate) fn render(&self, behavior: Behavior) -> (StatusCode, HeaderMap, Bytes) {
        // What a refusal has in most cases, and in one of the allocator's small pieces.
        let mut headers = HeaderMap::with_capacity(6);
        self.describe(behavior, &mut headers);
        let (kind, status, body) = match behavior {
            Behavior::Native => {
                let status = self.native();
                ("application/problem+json", status, Bytes::from(self.problem(status)))
            }
            Behavior::AwsRest => {
                let (status, error, body) = self.rest();
                headers.insert("x-amzn-errortype", HeaderValue::from_static(error));
                ("application/json", status, Bytes::from_static(body.as_bytes()))
            }
            Behavior::AwsHttp => {
                let (status, body) = self.http();
                ("application/json", status, Bytes::from_static(body.as_bytes()))
            }
        };
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
        headers.insert(header::CONTENT_LENGTH, HeaderValue::from(body.len()));
        (status, headers, body)
    }

    /// The headers that say more than the status.
    fn describe(&self, behavior: Behavior, headers: &mut HeaderMap) {
        match self {
            Self::MethodNotAllowed(allow) if behavior == Behavior::Native => {
                headers.insert(header::ALLOW, allow.clone());
            }
            // REST APIs send no challenge.
            Self::Unauthorized(challenge) | Self::ScopeMissing(challenge) if behavior != Behavior::AwsRest => {
                headers.insert(header::WWW_AUTHENTICATE, challenge.clone());
            }
            // AWS says nothing about when; clients that do not look for it lose nothing.
            Self::Throttled { retry_after } => {
                headers.insert(header::RETRY_AFTER, HeaderValue::from(*retry_after));
            }
            _ => {}
        }
    }

    /// Problem details (RFC 9457).
    fn problem(&self, status: StatusCode) -> String {
        let title = status.canonical_reason().unwrap_or("Error");
        let pieces = [
            r#"{"type":"about:blank","title":""#,
            title,
            r#"","status":"#,
            status.as_str(),
            r#","detail":""#,
            self.detail(),
            r#""}"#,
        ];
        pieces.concat()
    }
}

#[cfg(test)]
mod tests;
