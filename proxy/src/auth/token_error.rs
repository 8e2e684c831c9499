//! Why a token is not accepted. The texts name the check that failed and nothing about keys, claims or other callers.

use super::decision::Decision;
use crate::reject::{Challenge, Reject};

/// Writes [`TokenError`] and the texts of each error: its reason in the access log, and the description for the client.
macro_rules! errors {
    ($($(#[doc = $doc:literal])* $name:ident $reason:literal $text:expr;)*) => {
        /// Why a token is not accepted.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub(crate) enum TokenError {
            /// There is no token.
            Missing,
            /// The issuer's keys are not available: not the caller's fault.
            Unavailable,
            /// The introspection endpoint did not respond as RFC 7662 requires; what it did instead. Not the caller's fault.
            Introspection(IntrospectionFailure),
            /// A function did not decide; what it did instead. Not the caller's fault.
            Lambda(LambdaFailure),
            /// Too many requests wait for this authorizer.
            Busy,
            /// A call to another server ended without a result: a defect.
            CallFailed,
            $($(#[doc = $doc])* $name,)*
        }

        impl TokenError {
            /// The reason in the access log.
            pub(crate) fn reason(self) -> &'static str {
                match self {
                    Self::Missing => "token_missing",
                    Self::Unavailable => "issuer_unavailable",
                    Self::Introspection(failure) => failure.reason(),
                    Self::Lambda(failure) => failure.reason(),
                    Self::Busy => "authorizer_busy",
                    Self::CallFailed => "authorizer_call_failed",
                    $(Self::$name => $reason,)*
                }
            }

            fn reject(self) -> Reject {
                let description = match self {
                    Self::Missing => return Reject::Unauthorized(Challenge::Missing),
                    Self::Unavailable | Self::Introspection(_) | Self::Busy | Self::CallFailed => {
                        return Reject::AuthorizerUnavailable;
                    }
                    Self::Lambda(failure) => return failure.reject(),
                    $(Self::$name => $text,)*
                };
                Reject::Unauthorized(Challenge::InvalidToken(description))
            }

            #[cfg(test)]
            const REASONS: &'static [&'static str] = &[
                "token_missing", "issuer_unavailable", "introspection_unavailable", "introspection_client_rejected",
                "introspection_invalid_response", "lambda_unavailable", "lambda_function_error",
                "lambda_rejected", "lambda_invalid_response", "authorizer_busy", "authorizer_call_failed", $($reason),*
            ];
        }
    };
}

// The texts of issuer, audience and `exp` are those of an AWS JWT authorizer.
errors! {
    /// It is not a token: a JSON Web Token has three segments of base64url, of which two are JSON objects.
    Malformed "token_malformed" "the token is malformed";
    /// It is longer than 8 KiB.
    TooLong "token_too_long" "the token is longer than 8192 bytes";
    /// Its place is repeated.
    Repeated "token_repeated" "the request has more than one token in one place";
    /// A member of an object has two values, of which readers choose different ones (RFC 8725, 3.1; RFC 7515, 4).
    Duplicate "token_duplicate_member" "a member of the token is repeated";
    /// `typ` is that of another kind of token.
    WrongType "token_wrong_type" "the token is of a type that is not accepted";
    /// It has `cnf`.
    KeyBound "token_key_bound" "the token is bound to a key, the possession of which is not verified";
    /// `alg` is missing or not accepted.
    WrongAlgorithm "token_wrong_algorithm" "the token is signed with an algorithm that is not accepted";
    /// It has critical extensions.
    Critical "token_invalid_crit" "the token has critical extensions, which are not supported";
    /// `kid` is not a text of at most 256 bytes.
    InvalidKeyId "token_invalid_kid" "the kid of the token is not valid";
    /// It has no `kid`, and the stage has AWS's behavior for HTTP APIs.
    NoKeyId "token_no_kid" "the token has no kid";
    /// It has no `iss`.
    NoIssuer "token_no_iss" "the token has no iss claim";
    /// `iss` is not a text.
    InvalidIssuer "token_invalid_iss" "the iss claim of the token is not valid";
    /// The issuer is not configured.
    UnknownIssuer "token_unknown_issuer" "the token does not have a valid issuer";
    /// No permitted key verifies the signature.
    BadSignature "token_bad_signature" "the token is not signed by a key of its issuer";
    /// It has no `exp`.
    NoExpiry "token_no_exp" "the token has no exp claim";
    /// `exp` is not a time.
    InvalidExpiry "token_invalid_exp" "the exp claim of the token is not valid";
    /// It has expired.
    Expired "token_expired" "the token has expired";
    /// `nbf` is not a time.
    InvalidNotBefore "token_invalid_nbf" "the nbf claim of the token is not valid";
    /// `iat` is not a time.
    InvalidIssuedAt "token_invalid_iat" "the iat claim of the token is not valid";
    /// It is not valid yet.
    NotYetValid "token_not_yet_valid" "the token is not valid yet";
    /// `aud` is neither a text nor a list of texts.
    InvalidAudience "token_invalid_aud" "the aud claim of the token is not valid";
    /// A token of a user pool is an ID token where an access token is needed, or the reverse.
    WrongUse "token_wrong_use" "the token is not of the use that the operation requires: an access token with scopes, an ID token without";
    /// It is for another audience.
    WrongAudience "token_wrong_audience" "the token does not have a valid audience";
    /// `sub` is not a text.
    InvalidSubject "token_invalid_sub" "the sub claim of the token is not valid";
    /// `sub` is not the name of a ServiceAccount.
    NotServiceAccount "token_not_service_account" "the token is not that of a ServiceAccount";
    /// `jti` is not a text.
    InvalidId "token_invalid_jti" "the jti claim of the token is not valid";
    /// A required claim is missing or different.
    MissingClaim "token_missing_claim" "the token does not have a required claim";
    /// The introspection endpoint reports that it is not active.
    Inactive "token_inactive" "the token is not active";
    /// It does not match the expression of a Lambda authorizer.
    InvalidFormat "token_invalid_format" "the token does not have the required form";
    /// The function of a Lambda authorizer has failed with the message `Unauthorized`.
    FunctionUnauthorized "lambda_unauthorized" "the credentials are not accepted";
}

/// Why an introspection endpoint does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum IntrospectionFailure {
    /// There is no complete response in time, or one with a status of a server that cannot serve the request.
    Unavailable,
    /// It does not accept the credentials of the gateway.
    ClientRejected,
    /// The response is not what RFC 7662 defines.
    InvalidResponse,
}

impl IntrospectionFailure {
    fn reason(self) -> &'static str {
        match self {
            Self::Unavailable => "introspection_unavailable",
            Self::ClientRejected => "introspection_client_rejected",
            Self::InvalidResponse => "introspection_invalid_response",
        }
    }
}

/// Why a function does not decide.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum LambdaFailure {
    /// There is no complete response in time, or one with a status of a server that cannot serve the request.
    Unavailable,
    /// It has failed.
    FunctionError,
    /// The call is not permitted, or there is no such function.
    Rejected,
    /// The response is not what functions return.
    InvalidResponse,
}

impl LambdaFailure {
    fn reason(self) -> &'static str {
        match self {
            Self::Unavailable => "lambda_unavailable",
            Self::FunctionError => "lambda_function_error",
            Self::Rejected => "lambda_rejected",
            Self::InvalidResponse => "lambda_invalid_response",
        }
    }

    /// For logs.
    pub(super) fn text(self) -> &'static str {
        match self {
            Self::Unavailable => "it is not available",
            Self::FunctionError => "it has failed",
            Self::Rejected => "the call is not permitted",
            Self::InvalidResponse => {
                "the response is not one of a Lambda authorizer: a policy with principalId, or isAuthorized, and a valid context"
            }
        }
    }

    /// AWS has two responses.
    fn reject(self) -> Reject {
        match self {
            Self::Unavailable | Self::FunctionError => Reject::AuthorizerUnavailable,
            Self::Rejected | Self::InvalidResponse => Reject::AuthorizerMisconfigured,
        }
    }
}

impl TokenError {
    /// The decision about a token of a user pool: REST APIs have a response of its own for an expired one.
    pub(super) fn as_of_user_pool(self) -> Decision {
        match self {
            Self::Expired => {
                let reject = Reject::Unauthorized(Challenge::IncomingTokenExpired);
                Decision::Reject { reject, reason: self.reason() }
            }
            other => other.into(),
        }
    }
}

impl From<TokenError> for Decision {
    fn from(error: TokenError) -> Self {
        Self::Reject { reject: error.reject(), reason: error.reason() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_is_in_the_docs() {
        let docs = include_str!("../../../docs/authorization.md");
        for reason in TokenError::REASONS {
            assert!(docs.contains(&format!("`{reason}`")), "{reason}");
        }
    }
}
