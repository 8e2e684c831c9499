//! Every rejection in every behavior, with the sections of the AWS reference that define the response.

use super::*;

/// A rejection; its native status; status, error type and body of a REST API; status and body of an HTTP API.
type Row = (Reject, u16, (u16, &'static str, &'static str), (u16, &'static str));

fn rows() -> Vec<Row> {
    let internal = r#"{"message":"Internal server error"}"#;
    let internal_http = r#"{"message":"Internal Server Error"}"#;
    let forbidden = r#"{"message":"Forbidden"}"#;
    let unavailable = r#"{"message":"Service Unavailable"}"#;
    let bad = r#"{"message":"Bad Request"}"#;
    let misdirected = r#"{"message":"Misdirected Request"}"#;
    let not_found = r#"{"message":"Not Found"}"#;
    let missing = ("MissingAuthenticationTokenException", r#"{"message":"Missing Authentication Token"}"#);
    vec![
        // Silent (12); the type is that of every 400 in 5.5.
        (
            Reject::Malformed("Bad."),
            400,
            (400, "BadRequestException", r#"{"message":"Bad Request"}"#),
            (400, r#"{"message":"Bad Request"}"#),
        ),
        // 8.5 has the limits and says about the responses: "431 or 400, undocumented".
        (
            Reject::UriTooLong,
            414,
            (414, "RequestTooLargeException", r#"{"message":"Request-URI Too Long"}"#),
            (414, r#"{"message":"Request-URI Too Long"}"#),
        ),
        (
            Reject::HeadersTooLarge,
            431,
            (431, "RequestTooLargeException", r#"{"message":"Request Header Fields Too Large"}"#),
            (431, r#"{"message":"Request Header Fields Too Large"}"#),
        ),
        // 8.5, 5.5 REQUEST_TOO_LARGE.
        (
            Reject::BodyTooLarge,
            413,
            (413, "RequestTooLargeException", r#"{"message":"Request Too Long"}"#),
            (413, r#"{"message":"Request Entity Too Large"}"#),
        ),
        // Silent.
        (
            Reject::BodyTimeout,
            408,
            (408, "BadRequestException", r#"{"message":"Request Timeout"}"#),
            (408, r#"{"message":"Request Timeout"}"#),
        ),
        // Silent: they are about connections, not requests.
        (
            Reject::HeadTimeout,
            408,
            (408, "BadRequestException", r#"{"message":"Request Timeout"}"#),
            (408, r#"{"message":"Request Timeout"}"#),
        ),
        (Reject::HttpOnTlsPort, 400, (400, "BadRequestException", bad), (400, bad)),
        (Reject::TlsOnHttpPort, 400, (400, "BadRequestException", bad), (400, bad)),
        (Reject::TlsHandshake, 400, (400, "BadRequestException", bad), (400, bad)),
        (Reject::ProxyProtocol, 400, (400, "BadRequestException", bad), (400, bad)),
        (Reject::StreamLimit, 503, (503, "ServiceUnavailableException", unavailable), (503, unavailable)),
        // AWS responds with 403; clients repeat the request on another connection only for 421.
        (Reject::MisdirectedRequest, 421, (421, "ForbiddenException", misdirected), (421, misdirected)),
        // 2.2.
        (Reject::ClientCertificateRequired, 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        (
            Reject::ClientCertificateInvalid("certificate_expired"),
            403,
            (403, "ForbiddenException", forbidden),
            (403, forbidden),
        ),
        // As a web ACL.
        // AWS has no expressions: as of other rejections after the authorizer.
        (Reject::ExpressionFalse(None), 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        (Reject::ExpressionFailed(None), 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        (Reject::SourceNotAllowed, 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        // 2.2.
        (
            Reject::PolicyDenied("User: anonymous".into()),
            403,
            (403, "AccessDeniedException", r#"{"Message":"User: anonymous"}"#),
            (403, forbidden),
        ),
        // 2.2.
        (
            Reject::SignatureMissing,
            401,
            (403, "MissingAuthenticationTokenException", r#"{"message":"Missing Authentication Token"}"#),
            (403, forbidden),
        ),
        (
            Reject::SignatureInvalid(Box::new(SignatureProblem {
                error_type: "IncompleteSignatureException",
                message: "It is \"bad\".".into(),
            })),
            401,
            (403, "IncompleteSignatureException", r#"{"message":"It is \"bad\"."}"#),
            (403, forbidden),
        ),
        (Reject::AccessReviewDenied, 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        (Reject::HttpsRequired, 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        // Silent.
        (Reject::BufferMemory, 503, (503, "ServiceUnavailableException", unavailable), (503, unavailable)),
        (Reject::RequestLimit, 503, (503, "ServiceUnavailableException", unavailable), (503, unavailable)),
        (Reject::MemoryLimit, 503, (503, "ServiceUnavailableException", unavailable), (503, unavailable)),
        (Reject::UpstreamLimit, 503, (503, "ServiceUnavailableException", unavailable), (503, unavailable)),
        // No stage, so no behavior either.
        (Reject::NotReady, 503, (503, "ServiceUnavailableException", unavailable), (503, unavailable)),
        // 1.1, 1.3, 1.4, 5.5 MISSING_AUTHENTICATION_TOKEN.
        (Reject::NotFound, 404, (403, missing.0, missing.1), (404, not_found)),
        (Reject::MethodNotAllowed(HeaderValue::from_static("GET")), 405, (403, missing.0, missing.1), (404, not_found)),
        // 2.8, 5.5 UNAUTHORIZED.
        (
            Reject::Unauthorized(Challenge::Missing),
            401,
            (401, "UnauthorizedException", r#"{"message":"Unauthorized"}"#),
            (401, r#"{"message":"Unauthorized"}"#),
        ),
        // 0.3 and 2.9: 403 Forbidden; the body is silent (12), so the pair that 5.5 has for this message.
        (Reject::ScopeMissing, 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        // 5.5 AUTHORIZER_FAILURE; 2.6 with its capitals.
        (Reject::AuthorizerUnavailable, 503, (500, "AuthorizerFailureException", internal), (500, internal_http)),
        // 2.5, 5.5 AUTHORIZER_CONFIGURATION_ERROR.
        (
            Reject::AuthorizerMisconfigured,
            500,
            (500, "AuthorizerConfigurationException", r#"{"message":null}"#),
            (500, internal_http),
        ),
        // 3.1, 5.5 INVALID_API_KEY.
        (Reject::InvalidKey, 403, (403, "ForbiddenException", forbidden), (403, forbidden)),
        // 3.3, 5.5 THROTTLED.
        (
            Reject::Throttled(7),
            429,
            (429, "TooManyRequestsException", r#"{"message":"Too Many Requests"}"#),
            (429, r#"{"message":"Too Many Requests"}"#),
        ),
        // 7: "AccessDenied style body", which 5.5 writes with a capital M; the text is from 2.5.
        (
            Reject::CacheRefresh,
            403,
            (403, "AccessDeniedException", r#"{"Message":"User is not authorized to access this resource"}"#),
            (403, forbidden),
        ),
        // 5.5 API_CONFIGURATION_ERROR, the recorded type; 6.6.
        (Reject::InvalidConfig, 500, (500, "InternalServerErrorException", internal), (500, internal_http)),
        // 12, INTEGRATION_FAILURE: "504 network, 500 configuration, 502 malformed proxy output"; HTTP APIs: 6.6.
        (Reject::NoEndpoints, 503, (504, "InternalServerErrorException", internal), (503, unavailable)),
        (Reject::ConnectFailed, 502, (504, "InternalServerErrorException", internal), (503, unavailable)),
        (Reject::UpstreamBusy, 503, (504, "InternalServerErrorException", internal), (503, unavailable)),
        (Reject::InvalidResponse, 502, (502, "InternalServerErrorException", internal), (500, internal_http)),
        // 5.5 INTEGRATION_TIMEOUT, with its space; 6.6.
        (
            Reject::Timeout,
            504,
            (504, "InternalServerErrorException", r#"{"message": "Endpoint request timed out"}"#),
            (503, unavailable),
        ),
    ]
}

fn text(headers: &HeaderMap, name: &str) -> Option<String> {
    headers.get(name).map(|value| value.to_str().unwrap().to_owned())
}

#[test]
fn every_rejection_has_its_response_in_every_behavior() {
    let rows = rows();
    let mut seen: Vec<usize> = rows.iter().map(|row| row.0.index()).collect();
    seen.sort_unstable();
    assert_eq!(seen, (0..REASONS.len()).collect::<Vec<_>>());
    for (reject, native, rest, http) in rows {
        let (status, headers, body) = reject.render(Behavior::Native);
        assert_eq!(status.as_u16(), native, "{reject:?}");
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((&problem["status"], &problem["detail"]), (&native.into(), &reject.detail().into()));
        assert_eq!(text(&headers, "content-type").as_deref(), Some("application/problem+json"));
        assert_eq!(text(&headers, "allow").is_some(), native == 405);

        let (status, headers, body) = reject.render(Behavior::AwsRest);
        assert_eq!((status.as_u16(), body.as_ref()), (rest.0, rest.2.as_bytes()), "{reject:?}");
        assert_eq!(text(&headers, "x-amzn-errortype").as_deref(), Some(rest.1), "{reject:?}");
        // 5.5 lists the headers of gateway responses: no challenge is among them.
        let mut names: Vec<&str> =
            headers.keys().map(http::HeaderName::as_str).filter(|n| *n != "retry-after").collect();
        names.sort_unstable();
        assert_eq!(names, ["content-length", "content-type", "x-amzn-errortype"], "{reject:?}");

        let (status, headers, body) = reject.render(Behavior::AwsHttp);
        assert_eq!((status.as_u16(), body.as_ref()), (http.0, http.1.as_bytes()), "{reject:?}");
        assert_eq!(text(&headers, "content-type").as_deref(), Some("application/json"));
        assert_eq!((text(&headers, "x-amzn-errortype"), text(&headers, "allow")), (None, None));
    }
}

#[test]
fn rejections_have_their_own_headers() {
    for behavior in [Behavior::Native, Behavior::AwsRest, Behavior::AwsHttp] {
        for reject in [Reject::Unauthorized(Challenge::Missing), Reject::ScopeMissing] {
            let challenged = reject.render(behavior).1.contains_key("www-authenticate");
            assert_eq!(challenged, behavior != Behavior::AwsRest, "{reject:?} {behavior:?}");
        }
        let throttled = Reject::Throttled(7).render(behavior).1;
        assert_eq!(text(&throttled, "retry-after").as_deref(), Some("7"));
        for (reject, ..) in rows() {
            let (_, headers, body) = reject.render(behavior);
            assert_eq!(text(&headers, "content-length"), Some(body.len().to_string()), "{reject:?}");
        }
    }
}

#[test]
fn challenges_are_those_of_rfc_6750_and_of_aws() {
    use Behavior::{AwsHttp, Native};
    let invalid = || Reject::Unauthorized(Challenge::InvalidToken("the token does not have a valid audience"));
    for (reject, behavior, expected) in [
        (Reject::Unauthorized(Challenge::Missing), Native, "Bearer"),
        (Reject::Unauthorized(Challenge::Missing), AwsHttp, "Bearer"),
        (
            invalid(),
            Native,
            r#"Bearer error="invalid_token", error_description="the token does not have a valid audience""#,
        ),
        (
            invalid(),
            AwsHttp,
            r#"Bearer scope="" error="invalid_token" error_description="the token does not have a valid audience""#,
        ),
        (
            Reject::ScopeMissing,
            Native,
            r#"Bearer error="insufficient_scope", error_description="the token has none of the required scopes""#,
        ),
        (
            Reject::ScopeMissing,
            AwsHttp,
            r#"Bearer error="insufficient_scope" error_description="the token has none of the required scopes""#,
        ),
    ] {
        assert_eq!(text(&reject.render(behavior).1, "www-authenticate").as_deref(), Some(expected));
    }
}

#[test]
fn every_rejection_has_a_type_of_aws_gateway_responses() {
    // "Gateway response types in API Gateway", without those for features that do not exist here.
    const TYPES: [&str; 21] = [
        "ACCESS_DENIED",
        "API_CONFIGURATION_ERROR",
        "AUTHORIZER_CONFIGURATION_ERROR",
        "AUTHORIZER_FAILURE",
        "BAD_REQUEST_BODY",
        "BAD_REQUEST_PARAMETERS",
        "DEFAULT_4XX",
        "DEFAULT_5XX",
        "EXPIRED_TOKEN",
        "INTEGRATION_FAILURE",
        "INTEGRATION_TIMEOUT",
        "INVALID_API_KEY",
        "INVALID_SIGNATURE",
        "MISSING_AUTHENTICATION_TOKEN",
        "QUOTA_EXCEEDED",
        "REQUEST_TOO_LARGE",
        "RESOURCE_NOT_FOUND",
        "THROTTLED",
        "UNAUTHORIZED",
        "UNSUPPORTED_MEDIA_TYPE",
        "WAF_FILTERED",
    ];
    for (reject, ..) in rows() {
        let known = reject.response_type();
        assert!(TYPES.contains(&known), "{reject:?}");
        let class = reject.render(Behavior::AwsRest).0.is_server_error();
        assert!(
            !known.starts_with("DEFAULT_") || known == if class { "DEFAULT_5XX" } else { "DEFAULT_4XX" },
            "{reject:?}"
        );
    }
}

#[test]
fn the_message_of_an_author_is_escaped() {
    let reject = Reject::ExpressionFalse(Some("Only \"owners\".".into()));
    for behavior in [Behavior::AwsRest, Behavior::AwsHttp] {
        assert_eq!(reject.render(behavior).2, r#"{"message":"Only \"owners\"."}"#);
    }
    let problem: serde_json::Value = serde_json::from_slice(&reject.render(Behavior::Native).2).unwrap();
    assert_eq!((&problem["status"], &problem["detail"]), (&403.into(), &"Only \"owners\".".into()));
}
