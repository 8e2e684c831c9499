//! Why a token is not accepted. The texts name the check that failed and nothing about keys, claims or other callers.

use crate::auth::decision::Decision;
use crate::reject::{Challenge, Reject};

/// Why a token is not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum TokenError {
    /// There is no token.
    Missing,
    /// It is not a token, or breaks a rule of its format.
    Malformed,
    /// The issuer is not configured.
    UnknownIssuer,
    /// No permitted key and algorithm verifies the signature.
    BadSignature,
    /// It has expired.
    Expired,
    /// It is not valid yet.
    NotYetValid,
    /// It is for another audience.
    WrongAudience,
    /// A required claim is missing or different.
    MissingClaim,
    /// The issuer's keys are not available: not the caller's fault.
    Unavailable,
}

impl TokenError {
    /// The reason in the access log.
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
        }
    }

    fn reject(self) -> Reject {
        // The text of an AWS JWT authorizer.
        let description = match self {
            Self::Missing => return Reject::Unauthorized(Challenge::Missing),
            Self::Unavailable => return Reject::AuthorizerUnavailable,
            Self::Malformed => "the token is malformed",
            Self::UnknownIssuer => "the token does not have a valid issuer",
            Self::BadSignature => "the token is not signed by a key of its issuer",
            Self::Expired => "the token has expired",
            Self::NotYetValid => "the token is not valid yet",
            Self::WrongAudience => "the token does not have a valid audience",
            Self::MissingClaim => "the token does not have a required claim",
        };
        Reject::Unauthorized(Challenge::InvalidToken(description))
    }
}

impl From<TokenError> for Decision {
    fn from(error: TokenError) -> Self {
        Self::Reject { reject: error.reject(), reason: error.reason() }
    }
}
