//! Variables: the facts of a request and its response that configuration can name, `context.requestId` or
//! `request.header.accept`. Header values, cache keys and the access log share these names. How a variable gets its value
//! is decided by the proxy.

use std::borrow::Cow;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// The part of a variable's name that the user chooses.
pub type VariableName = Cow<'static, str>;

/// A fact of a request or its response.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub enum Variable {
    /// `request.path.NAME`: a path parameter, as the client wrote it.
    PathParameter(VariableName),
    /// `request.querystring.NAME`: a query parameter, decoded; several values are joined by commas.
    QueryParameter(VariableName),
    /// `request.header.NAME`, in lower case: a request header as the client sent it; several values are joined by commas.
    RequestHeader(VariableName),
    /// `context.authorizer.claims.NAME`: a claim of the verified token.
    Claim(VariableName),
    /// `context.authorizer.NAME`: a value of the `context` that a Lambda authorizer returned.
    AuthorizerContext(VariableName),
    /// `context.authorizer.principalId`: the caller that the authorizer identified; of a token its `sub`.
    PrincipalId,
    /// `context.requestId`
    RequestId,
    /// `context.identity.sourceIp`: the address of the other end of the connection.
    SourceIp,
    /// `context.identity.apiKeyId`: `namespace/name` of the ApiKey, never the key.
    ApiKeyId,
    /// `context.identity.customerId`: the customer that the ApiKey names.
    CustomerId,
    /// `context.identity.usagePlanId`: `namespace/name` of the UsagePlan that admits the key.
    UsagePlanId,
    /// `context.identity.NAME`: a field of the caller of a signed request.
    SignedBy(CallerField),
    /// `context.identity.clientCert.NAME`: a field of the client's verified certificate.
    ClientCertificate(CertificateField),
    /// `context.stage`: the Stage's name.
    Stage,
    /// `context.stageId`: the Stage's `namespace/name`.
    StageId,
    /// `context.route`: the ApiRoute's name.
    Route,
    /// `context.rule`: the rule's name.
    Rule,
    /// `context.httpMethod`
    HttpMethod,
    /// `context.scheme`: `http` or `https`.
    Scheme,
    /// `context.domainName`: the host, in lower case and without port.
    DomainName,
    /// `context.path`: with the base path, in canonical form.
    Path,
    /// `context.protocol`: `HTTP/1.0`, `HTTP/1.1` or `HTTP/2`.
    Protocol,
    /// `context.status`: of the response.
    Status,
    /// `context.responseLength`: bytes of the response's body that were sent.
    ResponseLength,
    /// `context.responseLatency`: milliseconds from the request's head to the end of the response.
    ResponseLatency,
    /// `context.integrationLatency`: milliseconds until the head of the integration's response.
    IntegrationLatency,
    /// `context.integration.error`: why the integration failed, before or in its response.
    IntegrationError,
    /// `context.error.reason`: why the gateway rejected the request.
    ErrorReason,
    /// `context.error.deniedBy`: the expression or the statement of a policy that denies the request.
    DeniedBy,
    /// `context.error.responseType`: the type of AWS's gateway response, on stages with AWS's behavior.
    ErrorResponseType,
    /// `context.cacheStatus`: what the cache did.
    CacheStatus,
}

/// A field of the caller of a signed request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CallerField {
    /// `accessKey`: the id of the access key.
    AccessKey,
    /// `accountId`: the account of the Principal.
    AccountId,
    /// `caller`: the Principal's `namespace/name`.
    Caller,
    /// `user`: the same.
    User,
    /// `userArn`: the ARN of the Principal.
    UserArn,
}

impl CallerField {
    /// Its name.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::AccessKey => "accessKey",
            Self::AccountId => "accountId",
            Self::Caller => "caller",
            Self::User => "user",
            Self::UserArn => "userArn",
        }
    }
}

/// A field of a client's certificate.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum CertificateField {
    /// `subjectDN`: the distinguished name of its subject (RFC 4514).
    Subject,
    /// `issuerDN`: that of its issuer.
    Issuer,
    /// `serialNumber`: in hexadecimal digits, with a colon after each byte.
    Serial,
    /// `fingerprint`: SHA-256 of the certificate, in hexadecimal digits.
    Fingerprint,
    /// `san.dns`: its first DNS name.
    Dns,
    /// `san.uri`: its first URI, such as a SPIFFE ID.
    Uri,
    /// `validity.notBefore`: `May 28 12:30:02 2019 GMT`.
    NotBefore,
    /// `validity.notAfter`
    NotAfter,
}

/// Where configuration names a variable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum VariableUse {
    /// In the value of a header of the request, of the response or of a mock response.
    HeaderValue,
    /// In a cache key.
    CacheKey,
    /// In a line of the access log.
    AccessLog,
}

/// How much of the request has happened when a variable has its value.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Known {
    /// Once a rule has matched.
    Request,
    /// The same, with a value that no other request has.
    Unique,
    /// When the response has ended.
    End,
}

type NamedVariable = fn(VariableName) -> Variable;

/// Variables whose name ends in a name that the user chooses.
const PREFIXES: [(&str, NamedVariable); 5] = [
    ("request.path.", Variable::PathParameter),
    ("request.querystring.", Variable::QueryParameter),
    ("request.header.", Variable::RequestHeader),
    ("context.authorizer.claims.", Variable::Claim),
    // After claims: no name of it begins so.
    ("context.authorizer.", Variable::AuthorizerContext),
];

/// All others.
static NAMES: [(&str, Variable, Known); 37] = [
    ("context.authorizer.principalId", Variable::PrincipalId, Known::Request),
    ("context.cacheStatus", Variable::CacheStatus, Known::End),
    ("context.domainName", Variable::DomainName, Known::Request),
    ("context.error.deniedBy", Variable::DeniedBy, Known::End),
    ("context.error.reason", Variable::ErrorReason, Known::End),
    ("context.error.responseType", Variable::ErrorResponseType, Known::End),
    ("context.httpMethod", Variable::HttpMethod, Known::Request),
    ("context.identity.accessKey", Variable::SignedBy(CallerField::AccessKey), Known::Request),
    ("context.identity.accountId", Variable::SignedBy(CallerField::AccountId), Known::Request),
    ("context.identity.apiKeyId", Variable::ApiKeyId, Known::Request),
    ("context.identity.caller", Variable::SignedBy(CallerField::Caller), Known::Request),
    ("context.identity.clientCert.fingerprint", certificate(CertificateField::Fingerprint), Known::Request),
    ("context.identity.clientCert.issuerDN", certificate(CertificateField::Issuer), Known::Request),
    ("context.identity.clientCert.san.dns", certificate(CertificateField::Dns), Known::Request),
    ("context.identity.clientCert.san.uri", certificate(CertificateField::Uri), Known::Request),
    ("context.identity.clientCert.serialNumber", certificate(CertificateField::Serial), Known::Request),
    ("context.identity.clientCert.subjectDN", certificate(CertificateField::Subject), Known::Request),
    ("context.identity.clientCert.validity.notAfter", certificate(CertificateField::NotAfter), Known::Request),
    ("context.identity.clientCert.validity.notBefore", certificate(CertificateField::NotBefore), Known::Request),
    ("context.identity.customerId", Variable::CustomerId, Known::Request),
    ("context.identity.sourceIp", Variable::SourceIp, Known::Request),
    ("context.identity.usagePlanId", Variable::UsagePlanId, Known::Request),
    ("context.identity.user", Variable::SignedBy(CallerField::User), Known::Request),
    ("context.identity.userArn", Variable::SignedBy(CallerField::UserArn), Known::Request),
    ("context.integration.error", Variable::IntegrationError, Known::End),
    ("context.integrationLatency", Variable::IntegrationLatency, Known::End),
    ("context.path", Variable::Path, Known::Request),
    ("context.protocol", Variable::Protocol, Known::Request),
    ("context.requestId", Variable::RequestId, Known::Unique),
    ("context.responseLatency", Variable::ResponseLatency, Known::End),
    ("context.responseLength", Variable::ResponseLength, Known::End),
    ("context.route", Variable::Route, Known::Request),
    ("context.rule", Variable::Rule, Known::Request),
    ("context.scheme", Variable::Scheme, Known::Request),
    ("context.stage", Variable::Stage, Known::Request),
    ("context.stageId", Variable::StageId, Known::Request),
    ("context.status", Variable::Status, Known::End),
];

const fn certificate(field: CertificateField) -> Variable {
    Variable::ClientCertificate(field)
}

/// Why a text is not a variable, or not one that can be used in its place.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ParseVariableError {
    /// No such variable.
    #[error("unknown variable {0:?}; known variables: {names}", names = names())]
    Unknown(String),
    /// `request.header.NAME` with a text that is not a header name.
    #[error("{0:?} is not a header name")]
    HeaderName(String),
    /// The variable has no value yet.
    #[error("{0} is known when the response has ended: only the access log has it")]
    End(Variable),
    /// Each request has its own value, so that a cache key with it would never match.
    #[error("{0} differs for each request: a cache key with it never matches")]
    Unique(Variable),
}

impl Variable {
    /// The variable, where it can be used.
    pub fn parse_for(text: &str, usage: VariableUse) -> Result<Self, ParseVariableError> {
        let variable: Self = text.parse()?;
        match (variable.known(), usage) {
            (Known::End, VariableUse::HeaderValue | VariableUse::CacheKey) => Err(ParseVariableError::End(variable)),
            (Known::Unique, VariableUse::CacheKey) => Err(ParseVariableError::Unique(variable)),
            _ => Ok(variable),
        }
    }

    /// Whether only an authorizer can give its value.
    #[must_use]
    pub fn needs_authorizer(&self) -> bool {
        matches!(self, Self::Claim(_) | Self::AuthorizerContext(_) | Self::PrincipalId)
    }

    /// Whether its value is in the query or the headers of the request.
    #[must_use]
    pub fn reads_request(&self) -> bool {
        matches!(self, Self::QueryParameter(_) | Self::RequestHeader(_))
    }

    fn known(&self) -> Known {
        NAMES.iter().find(|(_, variable, _)| variable == self).map_or(Known::Request, |(.., known)| *known)
    }
}

/// The names of all variables, for messages.
fn names() -> String {
    let prefixes = PREFIXES.iter().map(|(prefix, _)| format!("{prefix}NAME"));
    let fixed = NAMES.iter().filter(|(.., known)| *known != Known::End).map(|(name, ..)| (*name).to_owned());
    prefixes.chain(fixed).collect::<Vec<_>>().join(", ")
}

/// Whether a text is a token (RFC 9110, 5.6.2), as the names of headers are.
fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&b))
}

impl FromStr for Variable {
    type Err = ParseVariableError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        if let Some((_, variable, _)) = NAMES.iter().find(|(name, ..)| *name == text) {
            return Ok(variable.clone());
        }
        let found = PREFIXES.iter().find_map(|(prefix, make)| Some((text.strip_prefix(prefix)?, make)));
        match found.filter(|(name, _)| !name.is_empty()) {
            None => Err(ParseVariableError::Unknown(text.to_owned())),
            Some((name, make)) => match make(Cow::Owned(name.to_owned())) {
                Self::RequestHeader(_) if !is_token(name) => Err(ParseVariableError::HeaderName(name.to_owned())),
                Self::AuthorizerContext(_) if name == "claims" || name.starts_with("claims.") => {
                    Err(ParseVariableError::Unknown(text.to_owned()))
                }
                Self::RequestHeader(_) => Ok(make(Cow::Owned(name.to_ascii_lowercase()))),
                variable => Ok(variable),
            },
        }
    }
}

impl fmt::Display for Variable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PathParameter(name) => write!(f, "request.path.{name}"),
            Self::QueryParameter(name) => write!(f, "request.querystring.{name}"),
            Self::RequestHeader(name) => write!(f, "request.header.{name}"),
            Self::Claim(name) => write!(f, "context.authorizer.claims.{name}"),
            Self::AuthorizerContext(name) => write!(f, "context.authorizer.{name}"),
            fixed => f.write_str(NAMES.iter().find(|(_, variable, _)| variable == fixed).map_or("", |(name, ..)| name)),
        }
    }
}

impl TryFrom<String> for Variable {
    type Error = ParseVariableError;
    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<Variable> for String {
    fn from(variable: Variable) -> Self {
        variable.to_string()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_variable_survives_its_text() {
        let prefixed = PREFIXES.iter().map(|(prefix, _)| format!("{prefix}a"));
        for name in prefixed.chain(NAMES.iter().map(|(name, ..)| (*name).to_owned())) {
            assert_eq!(name.parse::<Variable>().unwrap().to_string(), name);
        }
        assert_eq!("request.header.Accept".parse::<Variable>().unwrap().to_string(), "request.header.accept");
    }

    #[test]
    fn every_variable_is_in_the_docs() {
        let docs = include_str!("../../../docs/variables.md");
        let prefixed = PREFIXES.iter().map(|(prefix, _)| format!("`{prefix}NAME`"));
        for name in prefixed.chain(NAMES.iter().map(|(name, ..)| format!("`{name}`"))) {
            assert!(docs.lines().any(|line| line.starts_with('|') && line.contains(&name)), "{name}");
        }
    }

    #[test]
    fn unknown_names_and_variables_without_a_value_at_that_time_are_errors() {
        use VariableUse::{AccessLog, CacheKey, HeaderValue};
        let unknown = |text: &str| Err(ParseVariableError::Unknown(text.to_owned()));
        let end = Err(ParseVariableError::End(Variable::Status));
        for (text, usage, expected) in [
            ("", HeaderValue, unknown("")),
            ("context", HeaderValue, unknown("context")),
            ("context.authorizer.claims.", HeaderValue, unknown("context.authorizer.claims.")),
            ("request.header.", CacheKey, unknown("request.header.")),
            ("request.header.a b", CacheKey, Err(ParseVariableError::HeaderName("a b".to_owned()))),
            ("context.requestId", HeaderValue, Ok(Variable::RequestId)),
            ("context.requestId", CacheKey, Err(ParseVariableError::Unique(Variable::RequestId))),
            ("context.status", HeaderValue, end),
            ("context.status", AccessLog, Ok(Variable::Status)),
            ("context.identity.sourceIp", CacheKey, Ok(Variable::SourceIp)),
        ] {
            assert_eq!(Variable::parse_for(text, usage), expected, "{text:?}");
        }
    }
}
