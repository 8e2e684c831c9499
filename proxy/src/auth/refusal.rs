//! Why a caller is not believed, in the words of RFC 6750.
//! A refusal says its kind and nothing about keys, claims or other callers.

use http::HeaderValue;
use sluice_wire::Behavior;

/// The challenge for a valid token without any of the scopes a route asks for.
pub(crate) fn insufficient_scope(behavior: Behavior) -> HeaderValue {
    HeaderValue::from_static(match behavior {
        Behavior::AwsHttp => {
            "Bearer error=\"insufficient_scope\" error_description=\"the token has none of the scopes this route asks for\""
        }
        Behavior::Native | Behavior::AwsRest => {
            "Bearer error=\"insufficient_scope\", error_description=\"the token has none of the scopes this route asks for\""
        }
    })
}

/// Why a caller is not believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// No token.
    Missing,
    /// Not a token, or one that breaks a rule of its format.
    Malformed,
    /// An issuer that is not configured.
    UnknownIssuer,
    /// No configured key and algorithm confirms it.
    BadSignature,
    /// Its time is over.
    Expired,
    /// Its time has not come.
    NotYetValid,
    /// Made for somebody else.
    WrongAudience,
    /// A required claim is missing or different.
    MissingClaim,
    /// The issuer's keys cannot be had: 503, not the caller's fault.
    Unavailable,
    /// The Authorizer cannot be used as written: 500.
    InvalidConfig,
}

impl Refusal {
    /// A word for logs and labels: a closed set.
    pub(crate) fn reason(self) -> &'static str {
        match self {
            Self::Missing => "token_missing",
            Self::Malformed => "token_malformed",
            Self::UnknownIssuer => "token_unknown_issuer",
            Self::BadSignature => "token_bad_signature",
            Self::Expired => "token_expired",
            Self::NotYetValid => "token_not_yet_valid",
            Self::WrongAudience => "token_wrong_audience",
            Self::MissingClaim => "token_missing_claim",
            Self::Unavailable => "issuer_unavailable",
            Self::InvalidConfig => "invalid_config",
        }
    }

    /// Whether it is the caller's (401) and not ours.
    pub(crate) fn is_callers(self) -> bool {
        !matches!(self, Self::Unavailable | Self::InvalidConfig)
    }

    /// `error` of RFC 6750, 3.1; a request without a token gets none.
    pub(crate) fn error(self) -> Option<&'static str> {
        (self.is_callers() && self != Self::Missing).then_some("invalid_token")
    }

    /// `error_description`: what an AWS JWT authorizer says.
    pub(crate) fn description(self) -> &'static str {
        match self {
            Self::Missing => "the request has no token",
            Self::Malformed => "the token is malformed",
            Self::UnknownIssuer => "the token does not have a valid issuer",
            Self::BadSignature => "the token is not signed by a key of its issuer",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::WrongAudience => "the token does not have a valid audience",
            Self::MissingClaim => "the token does not have a required claim",
            Self::Unavailable => "the keys of the token's issuer are not available",
            Self::InvalidConfig => "the authorizer is not configured correctly",
        }
    }

    /// The value of `www-authenticate`; none: it is not the caller's fault. AWS writes no commas, and an empty scope.
    pub(crate) fn www_authenticate(self, behavior: Behavior) -> Option<HeaderValue> {
        let Some(error) = self.error() else {
            return self.is_callers().then(|| HeaderValue::from_static("Bearer"));
        };
        let description = self.description();
        let text = match behavior {
            Behavior::AwsHttp => format!(r#"Bearer scope="" error="{error}" error_description="{description}""#),
            Behavior::Native | Behavior::AwsRest => {
                format!(r#"Bearer error="{error}", error_description="{description}""#)
            }
        };
        HeaderValue::try_from(text).ok()
    }
}
