//! Why a token is rejected, in the terms of RFC 6750. The reason contains nothing about keys, claims or other callers.

/// Why a token is rejected.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum Refusal {
    /// No token.
    Missing,
    /// Not a token, or the format is invalid.
    Malformed,
    /// An issuer that is not configured.
    UnknownIssuer,
    /// No key and algorithm of the issuer verifies the signature.
    BadSignature,
    /// Expired.
    Expired,
    /// Not valid yet.
    NotYetValid,
    /// Another audience.
    WrongAudience,
    /// A required claim is missing or different.
    MissingClaim,
    /// The issuer's key set is unavailable: 503.
    Unavailable,
    /// The Authorizer is invalid: 500.
    InvalidConfig,
}

impl Refusal {
    /// The reason in logs and labels: a closed set.
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

    /// `error_description`, as an AWS JWT authorizer writes it.
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
}
