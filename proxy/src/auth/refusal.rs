//! Why a caller is not believed, in the words of RFC 6750.
//! A refusal says its kind and nothing about keys, claims or other callers.

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
}
