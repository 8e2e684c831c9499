//! Why a credential is not valid, in the words of AWS.

use std::fmt;

use aws_lc_rs::digest;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;

use crate::limits::MAX_SIGNED_HEADERS;

/// `x-amzn-ErrorType` of a request with an incomplete credential.
const INCOMPLETE: &str = "IncompleteSignatureException";

/// `x-amzn-ErrorType` of a request whose signature is not valid.
const INVALID: &str = "InvalidSignatureException";

/// Parts of a credential that a request does not have.
#[derive(Clone, Copy, Default, PartialEq, Eq)]
pub struct Missing {
    /// The name of the algorithm; only in a query.
    pub algorithm: bool,
    /// Access key id and scope.
    pub credential: bool,
    /// The signature.
    pub signature: bool,
    /// The list of signed headers.
    pub signed_headers: bool,
    /// The time of the signature.
    pub date: bool,
}

/// A request presents a credential that cannot be verified.
///
/// `Display` is the text of AWS, which contains the header `authorization`, and with it tokens of other schemes:
/// [`redacted`](Self::redacted) does not. `Debug` prints the reason only.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Incomplete {
    /// A part of the header `authorization` has no `=`.
    #[error("'{part}' not a valid key=value pair (missing equal-sign) in Authorization header: '{header}'.")]
    NoEqualSign {
        /// The part.
        part: String,
        /// The header.
        header: String,
    },
    /// Parameters of the header `authorization` are missing, or the header with the date is.
    #[error("{}Authorization={header}", missing_in_header(.missing))]
    MissingInHeader {
        /// What is missing.
        missing: Missing,
        /// The header.
        header: String,
    },
    /// Parameters of a presigned query are missing.
    #[error("{}Re-examine the query-string parameters.", missing_in_query(.missing))]
    MissingInQuery {
        /// What is missing.
        missing: Missing,
    },
    /// Header and query have a credential.
    #[error("Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header.")]
    HeaderAndQuery,
    /// A header, or a parameter of the header or of the query, is there more than once.
    #[error("'{what}' must not be present more than once.")]
    Repeated {
        /// Its name.
        what: &'static str,
    },
    /// A header or parameter is longer than its cap.
    #[error("'{what}' must not be longer than {max} bytes.")]
    TooLong {
        /// Its name.
        what: &'static str,
        /// The cap.
        max: usize,
    },
    /// More headers are signed than the cap.
    #[error("'SignedHeaders' must not have more than {max} names.", max = MAX_SIGNED_HEADERS)]
    ManySignedHeaders,
    /// The time is no time.
    #[error("Date must be in ISO-8601 'basic format'. Got '{0}'. See http://en.wikipedia.org/wiki/ISO_8601")]
    Date(String),
    /// The algorithm is another one, for example that of SigV4a.
    #[error("Unsupported AWS 'algorithm': '{0}' (only AWS4-HMAC-SHA256 for now). ")]
    Algorithm(String),
    /// The credential is not `access key id/date/region/service/aws4_request`.
    #[error("Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, got '{0}'")]
    Credential(String),
    /// The scope does not end with `aws4_request`.
    #[error("Credential should be scoped with a valid terminator: 'aws4_request', not '{0}'. ")]
    Terminator(String),
    /// The list of signed headers contains something that is no name of a header, or a name twice.
    #[error("'SignedHeaders' must be a list of different header names, separated by semicolons.")]
    SignedHeaders,
    /// A header that has to be signed is not.
    #[error("{} must be a 'SignedHeader' in the AWS Authorization.", title(.0))]
    Unsigned(String),
    /// `X-Amz-Expires` is no number of seconds from 1 to 604800.
    #[error("X-Amz-Expires must be a number of seconds, at least 1 and at most 604800")]
    Expires,
    /// `x-amz-content-sha256` is no hash and no name of AWS.
    #[error("x-amz-content-sha256 must be UNSIGNED-PAYLOAD, STREAMING-..., or a valid sha256 value.")]
    ContentHash,
    /// The session token has characters that are not visible ASCII characters.
    #[error("The security token included in the request is invalid.")]
    SessionToken,
}

impl Incomplete {
    /// The type of the error, for `x-amzn-ErrorType`.
    pub const fn error_type(&self) -> &'static str {
        match self {
            Self::HeaderAndQuery | Self::Terminator(_) | Self::Unsigned(_) => INVALID,
            Self::SessionToken => "UnrecognizedClientException",
            _ => INCOMPLETE,
        }
    }

    /// The reason in one word, for logs and metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::NoEqualSign { .. } => "no_equal_sign",
            Self::MissingInHeader { .. } | Self::MissingInQuery { .. } => "missing_parameter",
            Self::HeaderAndQuery => "header_and_query",
            Self::Repeated { .. } => "repeated",
            Self::TooLong { .. } => "too_long",
            Self::Date(_) => "invalid_date",
            Self::Algorithm(_) => "unsupported_algorithm",
            Self::Credential(_) | Self::Terminator(_) => "invalid_credential",
            Self::SignedHeaders | Self::ManySignedHeaders => "invalid_signed_headers",
            Self::Unsigned(_) => "unsigned_header",
            Self::Expires => "invalid_expires",
            Self::ContentHash => "invalid_content_hash",
            Self::SessionToken => "invalid_session_token",
        }
    }

    /// The text with a hash instead of the header `authorization`, as AWS writes it since 2024.
    pub fn redacted(&self) -> String {
        let hash = |header: &String| STANDARD.encode(digest::digest(&digest::SHA256, header.as_bytes()));
        match self {
            Self::NoEqualSign { header, .. } => format!(
                "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with SHA-256 and encoded \
                 with Base64): '{}'.",
                hash(header)
            ),
            Self::MissingInHeader { missing, header } => format!(
                "{}(Hashed with SHA-256 and encoded with Base64) Authorization={}",
                missing_in_header(missing),
                hash(header)
            ),
            other => other.to_string(),
        }
    }
}

impl fmt::Debug for Incomplete {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Incomplete({})", self.reason())
    }
}

/// The credential is not valid now.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TimeError {
    /// The signature is too old.
    #[error("Signature expired: {signed} is now earlier than {earliest} ({now} - {allowed})")]
    Expired {
        /// The time of the signature.
        signed: String,
        /// The earliest time that is valid.
        earliest: String,
        /// The time of the check.
        now: String,
        /// The difference: `5 min.`
        allowed: String,
    },
    /// The signature is of a later time.
    #[error("Signature not yet current: {signed} is still later than {latest} ({now} + {allowed})")]
    NotYetCurrent {
        /// The time of the signature.
        signed: String,
        /// The latest time that is valid.
        latest: String,
        /// The time of the check.
        now: String,
        /// The difference: `5 min.`
        allowed: String,
    },
    /// The scope is of another day than the signature.
    #[error(
        "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: '{scope}' != \
         '{day}', from '{signed}'."
    )]
    Scope {
        /// The date of the scope.
        scope: String,
        /// The day of the signature.
        day: String,
        /// The time of the signature.
        signed: String,
    },
}

impl TimeError {
    /// The type of the error, for `x-amzn-ErrorType`.
    pub const fn error_type(&self) -> &'static str {
        INVALID
    }
}

/// The credential is valid in other regions or for another service.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}{}", if *.region { WRONG_REGION } else { "" }, wrong_service(.service))]
pub struct ScopeError {
    /// The region is a wrong one.
    pub region: bool,
    /// The right service, if the credential has another one.
    pub service: Option<String>,
}

impl ScopeError {
    /// The type of the error, for `x-amzn-ErrorType`.
    pub const fn error_type(&self) -> &'static str {
        INVALID
    }
}

const WRONG_REGION: &str = "Credential should be scoped to a valid region. ";

fn wrong_service(service: &Option<String>) -> String {
    let text = |service| format!("Credential should be scoped to correct service: '{service}'. ");
    service.as_ref().map(text).unwrap_or_default()
}

/// The signature is not that of the request.
///
/// `Display` is the text of AWS. It contains the canonical request, so that clients can compare it with theirs, and
/// with it values of headers: it is for the client, not for logs. `Debug` prints none of it.
#[derive(Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "The request signature we calculated does not match the signature you provided. Check your AWS Secret Access Key \
     and signing method. Consult the service documentation for details.\n\nThe Canonical String for this request \
     should have been\n'{canonical_request}'\n\nThe String-to-Sign should have been\n'{string_to_sign}'\n"
)]
pub struct Mismatch {
    /// The canonical request.
    pub canonical_request: String,
    /// The text that should have been signed.
    pub string_to_sign: String,
}

impl Mismatch {
    /// The type of the error, for `x-amzn-ErrorType`.
    pub const fn error_type(&self) -> &'static str {
        INVALID
    }
}

impl fmt::Debug for Mismatch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Mismatch(..)")
    }
}

fn missing_in_header(missing: &Missing) -> String {
    let parameters = [
        (missing.credential, "Credential"),
        (missing.signature, "Signature"),
        (missing.signed_headers, "SignedHeaders"),
    ];
    let parameters = parameters.iter().filter(|(missing, _)| *missing);
    let mut text: String =
        parameters.map(|(_, name)| format!("Authorization header requires '{name}' parameter. ")).collect();
    if missing.date {
        text += "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header. ";
    }
    text
}

fn missing_in_query(missing: &Missing) -> String {
    let parameters = [
        (missing.algorithm, "X-Amz-Algorithm"),
        (missing.credential, "X-Amz-Credential"),
        (missing.signature, "X-Amz-Signature"),
        (missing.signed_headers, "X-Amz-SignedHeaders"),
        (missing.date, "X-Amz-Date"),
    ];
    let parameters = parameters.iter().filter(|(missing, _)| *missing);
    parameters.map(|(_, name)| format!("AWS query-string parameters must include '{name}'. ")).collect()
}

/// The name of a header with capitals, in quotes.
fn title(name: &str) -> String {
    if name == "host" {
        return "'Host' or ':authority'".to_owned();
    }
    let mut begins = true;
    let capitals = name.chars().map(|c| {
        let capital = if begins { c.to_ascii_uppercase() } else { c };
        begins = c == '-';
        capital
    });
    format!("'{}'", capitals.collect::<String>())
}
