//! Rejections: the responses that the gateway gives instead of the integration. Each rejection is one row of the table below,
//! with its response in each behavior of a stage. When a request is rejected is decided by the steps of the pipeline.

mod challenge;

use bytes::Bytes;
use http::header::{ALLOW, CONTENT_LENGTH, CONTENT_TYPE, RETRY_AFTER, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode};
use sluice_wire::Behavior;

use challenge::insufficient_scope;

pub(crate) use challenge::Challenge;

/// The responses to one rejection.
struct Row {
    /// The type of AWS's gateway response.
    response_type: &'static str,
    /// Status, and a sentence for the caller that discloses nothing about the configuration.
    native: (StatusCode, &'static str),
    /// Of an AWS REST API: status, error type, body.
    rest: (StatusCode, &'static str, &'static str),
    /// Of an AWS HTTP API: status, body.
    http: (StatusCode, &'static str),
}

/// `{"message":"Forbidden"}`
macro_rules! message {
    ($text:literal) => {
        concat!(r#"{"message":""#, $text, r#""}"#)
    };
}

macro_rules! rejections {
    ($(
        $(#[$doc:meta])*
        $variant:ident $(($payload:ty))?: $response_type:literal,
            native $native:ident $detail:literal,
            rest $rest:ident $error_type:literal $rest_body:expr,
            http $http:ident $http_body:expr;
    )*) => {
        /// Why a request is rejected.
        #[derive(Clone, Debug)]
        pub(crate) enum Reject {
            $($(#[$doc])* $variant $(($payload))?,)*
        }

        enum Index {
            $($variant,)*
        }

        /// Reasons of rejections, label values of `sluice_rejects_total` and in the access log.
        pub(crate) const REASONS: &[&str] = &[$(stringify!($variant),)*];

        const ROWS: &[Row] = &[$(Row {
            response_type: $response_type,
            native: (StatusCode::$native, $detail),
            rest: (StatusCode::$rest, $error_type, $rest_body),
            http: (StatusCode::$http, $http_body),
        },)*];

        impl Reject {
            /// Its place in [`REASONS`].
            pub(crate) fn index(&self) -> usize {
                match self {
                    $(Self::$variant { .. } => Index::$variant as usize,)*
                }
            }
        }
    };
}

// AWS hides what exists in REST APIs: a missing route is 403. Where a body differs from the others of its kind (a space, a
// capital letter), AWS writes it so.
rejections! {
    /// The request is ambiguous or cannot be parsed; with the reason in a sentence.
    Malformed(&'static str): "DEFAULT_4XX",
        native BAD_REQUEST "The request is malformed.",
        rest BAD_REQUEST "BadRequestException" message!("Bad Request"),
        http BAD_REQUEST message!("Bad Request");

    /// The head of the request stopped arriving.
    HeadTimeout: "DEFAULT_4XX",
        native REQUEST_TIMEOUT "The request head was not received in time.",
        rest REQUEST_TIMEOUT "BadRequestException" message!("Request Timeout"),
        http REQUEST_TIMEOUT message!("Request Timeout");

    /// The client has opened more HTTP/2 streams than it may; there is no response.
    StreamLimit: "DEFAULT_5XX",
        native SERVICE_UNAVAILABLE "The connection has too many streams. Try again later.",
        rest SERVICE_UNAVAILABLE "ServiceUnavailableException" message!("Service Unavailable"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// HTTP on the port for HTTPS.
    HttpOnTlsPort: "DEFAULT_4XX",
        native BAD_REQUEST "This port serves HTTPS: the request must be sent over TLS.",
        rest BAD_REQUEST "BadRequestException" message!("Bad Request"),
        http BAD_REQUEST message!("Bad Request");

    /// A TLS handshake on the port for HTTP.
    TlsOnHttpPort: "DEFAULT_4XX",
        native BAD_REQUEST "This port serves HTTP: a TLS handshake is not possible.",
        rest BAD_REQUEST "BadRequestException" message!("Bad Request"),
        http BAD_REQUEST message!("Bad Request");

    /// A TLS handshake failed; there is no response.
    TlsHandshake: "DEFAULT_4XX",
        native BAD_REQUEST "The TLS handshake failed.",
        rest BAD_REQUEST "BadRequestException" message!("Bad Request"),
        http BAD_REQUEST message!("Bad Request");

    /// A connection from a load balancer does not begin with a header of the PROXY protocol, or it is not from a trusted
    /// proxy; there is no response.
    ProxyProtocol: "DEFAULT_4XX",
        native BAD_REQUEST "The connection has no valid PROXY protocol header.",
        rest BAD_REQUEST "BadRequestException" message!("Bad Request"),
        http BAD_REQUEST message!("Bad Request");

    /// The certificate of the connection is not valid for the host.
    MisdirectedRequest: "ACCESS_DENIED",
        native MISDIRECTED_REQUEST "This host is not served on this TLS connection: open another connection for it.",
        rest MISDIRECTED_REQUEST "ForbiddenException" message!("Misdirected Request"),
        http MISDIRECTED_REQUEST message!("Misdirected Request");

    /// The Stage requires a client certificate, and the connection has none.
    ClientCertificateRequired: "ACCESS_DENIED",
        native FORBIDDEN "This API requires a client certificate.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// The client's certificate is not valid, or not one that the Stage accepts; with the reason in the access log. In a handshake
    /// there is no response.
    ClientCertificateInvalid(&'static str): "ACCESS_DENIED",
        native FORBIDDEN "The client certificate is not accepted for this API.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// The client's address is in a network that the Stage or the rule does not accept. AWS has it in a web ACL.
    SourceNotAllowed: "WAF_FILTERED",
        native FORBIDDEN "Requests from this network are not accepted.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// The resource policy of the Stage does not allow the request; with AWS's sentence, which is the same in REST APIs only.
    PolicyDenied(Box<str>): "ACCESS_DENIED",
        native FORBIDDEN "The policy of this API does not allow this request.",
        rest FORBIDDEN "AccessDeniedException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// RBAC of the cluster does not allow a ServiceAccount the call.
    AccessReviewDenied: "ACCESS_DENIED",
        native FORBIDDEN "RBAC of the cluster does not allow this call: it requires the method's verb for apiroutes/invoke.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// The request is not signed.
    SignatureMissing: "MISSING_AUTHENTICATION_TOKEN",
        native UNAUTHORIZED "The request must be signed with AWS Signature Version 4.",
        rest FORBIDDEN "MissingAuthenticationTokenException" message!("Missing Authentication Token"),
        http FORBIDDEN message!("Forbidden");

    /// The signature, or another part of the credential, is not valid; with the words of AWS, which are the same in REST APIs only.
    SignatureInvalid(Box<SignatureProblem>): "INVALID_SIGNATURE",
        native UNAUTHORIZED "The signature of the request is not valid.",
        rest FORBIDDEN "InvalidSignatureException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// An expression of `authorize` is false; with the message of its author.
    ExpressionFalse(Option<Box<str>>): "ACCESS_DENIED",
        native FORBIDDEN "This request is not allowed.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// An expression of `authorize` has no result: it reads what the request does not have, for example; with the message of its
    /// author.
    ExpressionFailed(Option<Box<str>>): "ACCESS_DENIED",
        native FORBIDDEN "This request is not allowed.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// Plain HTTP for a stage that is served over TLS only.
    HttpsRequired: "ACCESS_DENIED",
        native FORBIDDEN "This API is served over HTTPS only.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// The target is longer than allowed.
    UriTooLong: "REQUEST_TOO_LARGE",
        native URI_TOO_LONG "The path and query are longer than 8192 bytes.",
        rest URI_TOO_LONG "RequestTooLargeException" message!("Request-URI Too Long"),
        http URI_TOO_LONG message!("Request-URI Too Long");

    /// More or longer headers than allowed.
    HeadersTooLarge: "REQUEST_TOO_LARGE",
        native REQUEST_HEADER_FIELDS_TOO_LARGE "The request has more than 100 headers, or more than 16 KiB of headers.",
        rest REQUEST_HEADER_FIELDS_TOO_LARGE "RequestTooLargeException" message!("Request Header Fields Too Large"),
        http REQUEST_HEADER_FIELDS_TOO_LARGE message!("Request Header Fields Too Large");

    /// The body is longer than allowed.
    BodyTooLarge: "REQUEST_TOO_LARGE",
        native PAYLOAD_TOO_LARGE "The request body exceeds the limit of this API.",
        rest PAYLOAD_TOO_LARGE "RequestTooLargeException" message!("Request Too Long"),
        http PAYLOAD_TOO_LARGE message!("Request Entity Too Large");

    /// The body stopped arriving.
    BodyTimeout: "DEFAULT_4XX",
        native REQUEST_TIMEOUT "The request body was not received in time.",
        rest REQUEST_TIMEOUT "BadRequestException" message!("Request Timeout"),
        http REQUEST_TIMEOUT message!("Request Timeout");

    /// The body must be buffered, and the memory for buffered bodies is in use.
    BufferMemory: "DEFAULT_5XX",
        native SERVICE_UNAVAILABLE "The gateway is busy with other request bodies. Try again later.",
        rest SERVICE_UNAVAILABLE "ServiceUnavailableException" message!("Service Unavailable"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// Too many requests are in flight in the whole proxy.
    RequestLimit: "DEFAULT_5XX",
        native SERVICE_UNAVAILABLE "The gateway has too many requests in progress. Try again later.",
        rest SERVICE_UNAVAILABLE "ServiceUnavailableException" message!("Service Unavailable"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// The memory of the proxy is almost exhausted.
    MemoryLimit: "DEFAULT_5XX",
        native SERVICE_UNAVAILABLE "The gateway is overloaded. Try again later.",
        rest SERVICE_UNAVAILABLE "ServiceUnavailableException" message!("Service Unavailable"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// Too many requests are in flight to one upstream.
    UpstreamLimit: "DEFAULT_5XX",
        native SERVICE_UNAVAILABLE "Too many requests to the service are in progress. Try again later.",
        rest SERVICE_UNAVAILABLE "ServiceUnavailableException" message!("Service Unavailable"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// The proxy has no configuration yet.
    NotReady: "DEFAULT_5XX",
        native SERVICE_UNAVAILABLE "The gateway has no configuration yet. Try again later.",
        rest SERVICE_UNAVAILABLE "ServiceUnavailableException" message!("Service Unavailable"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// No stage or no rule matches.
    NotFound: "MISSING_AUTHENTICATION_TOKEN",
        native NOT_FOUND "The resource does not exist.",
        rest FORBIDDEN "MissingAuthenticationTokenException" message!("Missing Authentication Token"),
        http NOT_FOUND message!("Not Found");

    /// A rule matches, but not with this method; the value of `allow`.
    MethodNotAllowed(HeaderValue): "MISSING_AUTHENTICATION_TOKEN",
        native METHOD_NOT_ALLOWED "The resource does not support this method.",
        rest FORBIDDEN "MissingAuthenticationTokenException" message!("Missing Authentication Token"),
        http NOT_FOUND message!("Not Found");

    /// The request has no valid credential.
    Unauthorized(Challenge): "UNAUTHORIZED",
        native UNAUTHORIZED "The request requires a valid token.",
        rest UNAUTHORIZED "UnauthorizedException" message!("Unauthorized"),
        http UNAUTHORIZED message!("Unauthorized");

    /// The credential is valid and has none of the scopes that the rule needs.
    ScopeMissing: "ACCESS_DENIED",
        native FORBIDDEN "The token has none of the scopes that this operation requires.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// The authorizer cannot decide: a service that it needs is not available.
    AuthorizerUnavailable: "AUTHORIZER_FAILURE",
        native SERVICE_UNAVAILABLE "The token cannot be verified at the moment. Try again later.",
        rest INTERNAL_SERVER_ERROR "AuthorizerFailureException" message!("Internal server error"),
        http INTERNAL_SERVER_ERROR message!("Internal Server Error");

    /// The authorizer cannot decide: the function that it calls may not be called, or does not return a decision.
    AuthorizerMisconfigured: "AUTHORIZER_CONFIGURATION_ERROR",
        native INTERNAL_SERVER_ERROR "The authorizer of this operation is not configured correctly.",
        rest INTERNAL_SERVER_ERROR "AuthorizerConfigurationException" r#"{"message":null}"#,
        http INTERNAL_SERVER_ERROR message!("Internal Server Error");

    /// No API key, or none of a plan of this stage.
    InvalidKey: "INVALID_API_KEY",
        native FORBIDDEN "The request requires a valid API key.",
        rest FORBIDDEN "ForbiddenException" message!("Forbidden"),
        http FORBIDDEN message!("Forbidden");

    /// A limit is reached; seconds until the next request may pass.
    Throttled(u64): "THROTTLED",
        native TOO_MANY_REQUESTS "Too many requests. Try again later.",
        rest TOO_MANY_REQUESTS "TooManyRequestsException" message!("Too Many Requests"),
        http TOO_MANY_REQUESTS message!("Too Many Requests");

    /// The caller may not refresh the cache.
    CacheRefresh: "ACCESS_DENIED",
        native FORBIDDEN "The caller is not allowed to refresh cached responses.",
        rest FORBIDDEN "AccessDeniedException" r#"{"Message":"User is not authorized to access this resource"}"#,
        http FORBIDDEN message!("Forbidden");

    /// The rule, or something that it needs, is not valid.
    InvalidConfig: "API_CONFIGURATION_ERROR",
        native INTERNAL_SERVER_ERROR "The operation is not configured correctly.",
        rest INTERNAL_SERVER_ERROR "InternalServerErrorException" message!("Internal server error"),
        http INTERNAL_SERVER_ERROR message!("Internal Server Error");

    /// The Service has no ready endpoint.
    NoEndpoints: "INTEGRATION_FAILURE",
        native SERVICE_UNAVAILABLE "The service has no ready instance.",
        rest GATEWAY_TIMEOUT "InternalServerErrorException" message!("Internal server error"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// No endpoint could be reached, or its address is not allowed.
    ConnectFailed: "INTEGRATION_FAILURE",
        native BAD_GATEWAY "The service could not be reached.",
        rest GATEWAY_TIMEOUT "InternalServerErrorException" message!("Internal server error"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// Every connection to the upstream has as many HTTP/2 streams as it allows, and none became free in time.
    UpstreamBusy: "INTEGRATION_FAILURE",
        native SERVICE_UNAVAILABLE "The service has no capacity for the request. Try again later.",
        rest GATEWAY_TIMEOUT "InternalServerErrorException" message!("Internal server error"),
        http SERVICE_UNAVAILABLE message!("Service Unavailable");

    /// The upstream's response is not valid.
    InvalidResponse: "INTEGRATION_FAILURE",
        native BAD_GATEWAY "The service returned an invalid response.",
        rest BAD_GATEWAY "InternalServerErrorException" message!("Internal server error"),
        http INTERNAL_SERVER_ERROR message!("Internal Server Error");

    /// No response in time.
    Timeout: "INTEGRATION_TIMEOUT",
        native GATEWAY_TIMEOUT "The service did not respond in time.",
        rest GATEWAY_TIMEOUT "InternalServerErrorException" r#"{"message": "Endpoint request timed out"}"#,
        http SERVICE_UNAVAILABLE message!("Service Unavailable");
}

/// Why a signature is not valid.
#[derive(Clone, Debug)]
pub(crate) struct SignatureProblem {
    /// `x-amzn-ErrorType`
    pub(crate) error_type: &'static str,
    pub(crate) message: String,
}

impl Reject {
    fn row(&self) -> &'static Row {
        &ROWS[self.index()]
    }

    /// Its name in metrics.
    pub(crate) fn reason(&self) -> &'static str {
        REASONS[self.index()]
    }

    /// Its reason in the access log, where that says more.
    pub(crate) fn log_reason(&self) -> &'static str {
        match self {
            Self::ClientCertificateInvalid(why) => why,
            other => other.reason(),
        }
    }

    /// The type of AWS's gateway response.
    pub(crate) fn response_type(&self) -> &'static str {
        self.row().response_type
    }

    /// The header of this response only.
    fn header(&self, behavior: Behavior) -> Option<(HeaderName, HeaderValue)> {
        match self {
            Self::MethodNotAllowed(allow) if behavior == Behavior::Native => Some((ALLOW, allow.clone())),
            // REST APIs send no challenge.
            Self::Unauthorized(challenge) if behavior != Behavior::AwsRest => {
                Some((WWW_AUTHENTICATE, challenge.value(behavior)))
            }
            // AWS sends no challenge.
            Self::SignatureMissing | Self::SignatureInvalid(_) if behavior == Behavior::Native => {
                Some((WWW_AUTHENTICATE, HeaderValue::from_static("AWS4-HMAC-SHA256")))
            }
            Self::ScopeMissing if behavior != Behavior::AwsRest => {
                Some((WWW_AUTHENTICATE, insufficient_scope(behavior)))
            }
            // AWS does not say when; clients that do not look for it lose nothing.
            Self::Throttled(seconds) => Some((RETRY_AFTER, HeaderValue::from(*seconds))),
            // The load may be less in a moment.
            Self::RequestLimit | Self::MemoryLimit | Self::UpstreamLimit | Self::BufferMemory => {
                Some((RETRY_AFTER, HeaderValue::from_static("1")))
            }
            _ => None,
        }
    }

    /// The message of the author of an expression.
    fn authored(&self) -> Option<&str> {
        match self {
            Self::ExpressionFalse(message) | Self::ExpressionFailed(message) => message.as_deref(),
            _ => None,
        }
    }

    /// A sentence for the caller.
    fn detail(&self) -> &str {
        match self {
            Self::ExpressionFalse(Some(message)) | Self::ExpressionFailed(Some(message)) => message,
            Self::Malformed(why) => why,
            Self::SignatureInvalid(problem) => &problem.message,
            other => other.row().native.1,
        }
    }

    /// The response.
    pub(crate) fn render(&self, behavior: Behavior) -> (StatusCode, HeaderMap, Bytes) {
        // As many as most rejections have: one of the allocator's small sizes.
        let mut headers = HeaderMap::with_capacity(6);
        if let Some((name, value)) = self.header(behavior) {
            headers.insert(name, value);
        }
        let row = self.row();
        let (media_type, status, body) = match behavior {
            Behavior::Native => ("application/problem+json", row.native.0, Bytes::from(self.problem(row.native.0))),
            Behavior::AwsRest => {
                let (status, error_type, body) = row.rest;
                let error_type = match self {
                    Self::SignatureInvalid(problem) => problem.error_type,
                    _ => error_type,
                };
                headers.insert("x-amzn-errortype", HeaderValue::from_static(error_type));
                let body = match self {
                    Self::Unauthorized(Challenge::IncomingTokenExpired) => {
                        Bytes::from_static(br#"{"message":"The incoming token has expired"}"#)
                    }
                    // AWS writes this one with a capital letter.
                    Self::PolicyDenied(why) => serde_json::json!({"Message": why}).to_string().into(),
                    Self::SignatureInvalid(problem) => {
                        serde_json::json!({"message": problem.message}).to_string().into()
                    }
                    _ => self.message().unwrap_or(Bytes::from_static(body.as_bytes())),
                };
                ("application/json", status, body)
            }
            Behavior::AwsHttp => {
                let body = self.message().unwrap_or(Bytes::from_static(row.http.1.as_bytes()));
                ("application/json", row.http.0, body)
            }
        };
        headers.insert(CONTENT_TYPE, HeaderValue::from_static(media_type));
        headers.insert(CONTENT_LENGTH, HeaderValue::from(body.len()));
        (status, headers, body)
    }

    /// The body of AWS's behaviors with the message of the author; none: there is no such message.
    fn message(&self) -> Option<Bytes> {
        self.authored().map(|message| serde_json::json!({"message": message}).to_string().into())
    }

    /// Problem details (RFC 9457).
    fn problem(&self, status: StatusCode) -> String {
        // What others have written can need escapes.
        if self.authored().is_some() || matches!(self, Self::SignatureInvalid(_)) {
            let (title, detail) = (status.canonical_reason().unwrap_or("Error"), self.detail());
            let problem = serde_json::json!({
                "type": "about:blank", "title": title, "status": status.as_u16(), "detail": detail,
            });
            return problem.to_string();
        }
        let title = status.canonical_reason().unwrap_or("Error");
        let texts = [
            r#"{"type":"about:blank","title":""#,
            title,
            r#"","status":"#,
            status.as_str(),
            r#","detail":""#,
            self.detail(),
            r#""}"#,
        ];
        texts.concat()
    }
}

#[cfg(test)]
mod tests;
