//! Challenges: what `www-authenticate` says about tokens (RFC 6750, section 3).

use http::HeaderValue;
use sluice_wire::Behavior;

/// The error in `www-authenticate` about a credential (RFC 6750, 3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Challenge {
    /// There is none.
    Missing,
    /// It is not valid; why.
    InvalidToken(&'static str),
    /// It is a token of a Cognito user pool and has expired, which AWS says.
    IncomingTokenExpired,
}

impl Challenge {
    pub(super) fn value(self, behavior: Behavior) -> HeaderValue {
        if self == Self::IncomingTokenExpired {
            return Self::InvalidToken("the token has expired").value(behavior);
        }
        let text = match (self, behavior) {
            (Self::Missing | Self::IncomingTokenExpired, _) => return HeaderValue::from_static("Bearer"),
            // AWS writes no commas, and an empty scope.
            (Self::InvalidToken(why), Behavior::AwsHttp) => {
                format!(r#"Bearer scope="" error="invalid_token" error_description="{why}""#)
            }
            (Self::InvalidToken(why), Behavior::Native | Behavior::AwsRest) => {
                format!(r#"Bearer error="invalid_token", error_description="{why}""#)
            }
        };
        HeaderValue::try_from(text).unwrap_or_else(|_| HeaderValue::from_static("Bearer"))
    }
}

/// The same about a caller that has none of the scopes of a rule.
pub(super) fn insufficient_scope(behavior: Behavior) -> HeaderValue {
    HeaderValue::from_static(match behavior {
        Behavior::AwsHttp => {
            r#"Bearer error="insufficient_scope" error_description="the token has none of the required scopes""#
        }
        Behavior::Native | Behavior::AwsRest => {
            r#"Bearer error="insufficient_scope", error_description="the token has none of the required scopes""#
        }
    })
}
