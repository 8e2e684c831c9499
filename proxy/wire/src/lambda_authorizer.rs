//! What an Authorizer of type Lambda configures: a function that decides about requests, and what it is called with.

use std::fmt;

use regex::bytes::{Regex, RegexBuilder};
use serde::{Deserialize, Serialize};

use crate::{PartName, TokenSource, Variable};

/// A function that decides about requests.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Lambda {
    /// How it is called.
    pub function: LambdaFunction,
    /// What it is called with.
    pub event: LambdaEvent,
    /// What it returns.
    pub responses: LambdaResponses,
    /// The values by which callers are distinguished. A request without one of them is rejected without a call. Of
    /// [`LambdaEvent::Token`] exactly one header.
    pub identity_sources: Vec<IdentitySource>,
    /// The whole token must match it; none: every token is sent to the function. See [`TokenPattern`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<String>,
    /// For how long a result is used for the same values, in milliseconds; 0: for no time. Needs an identity source.
    pub result_ttl_ms: u64,
    /// The time for a call, in milliseconds.
    pub timeout_ms: u64,
}

/// How a function is called.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum LambdaFunction {
    /// The event is the body of a POST to this URL, the result is the body of the response.
    Url(String),
    /// By the API `Invoke` of AWS Lambda.
    Invoke(LambdaInvoke),
    /// By a port of a Service, as [`Self::Url`] or as [`Self::Invoke`].
    Service(LambdaService),
}

impl LambdaFunction {
    /// The part of the Service that is called.
    #[must_use]
    pub fn upstream(&self) -> Option<&PartName> {
        match self {
            Self::Url(_) | Self::Invoke(_) => None,
            Self::Service(service) => Some(&service.upstream),
        }
    }
}

/// A function behind a port of a Service.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LambdaService {
    /// The part with the endpoints, and with the settings of TLS.
    pub upstream: PartName,
    /// The header `host`.
    pub host: String,
    /// The path of the POST.
    pub path: String,
    /// Set if the server has the API `Invoke`; none: the event is the body of the POST.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub invoke: Option<Invocation>,
}

/// A function behind the API `Invoke`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LambdaInvoke {
    /// `ENDPOINT/2015-03-31/functions/NAME/invocations`.
    pub url: String,
    /// How calls are signed.
    #[serde(flatten)]
    pub invocation: Invocation,
}

/// How calls of the API `Invoke` are signed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Invocation {
    /// The region of the signature.
    pub region: String,
    /// With which calls are signed; none: they are not signed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credentials: Option<AwsCredentials>,
}

/// An access key of AWS.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AwsCredentials {
    /// Its id.
    pub access_key_id: String,
    /// Its secret.
    pub secret_access_key: String,
    /// Of temporary credentials.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_token: Option<String>,
}

impl fmt::Debug for AwsCredentials {
    // It holds a secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "AwsCredentials({})", self.access_key_id)
    }
}

/// What a function is called with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LambdaEvent {
    /// The token and the ARN of the method.
    Token,
    /// The request, in AWS's format 1.0.
    RequestV1,
    /// The request, in AWS's format 2.0.
    RequestV2,
}

/// What a function returns.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum LambdaResponses {
    /// `principalId`, `policyDocument` and `context`.
    Policy,
    /// `isAuthorized` and `context`; with [`LambdaEvent::RequestV2`] only.
    Simple,
}

/// A value by which callers are distinguished.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum IdentitySource {
    /// In a variable, which no authorizer sets.
    Context {
        /// The variable.
        context: Variable,
    },
    /// In a header, a query parameter or a cookie.
    Place(TokenSource),
}

/// A regular expression for tokens, in ASCII: `\w` and `\d` are letters and digits of ASCII.
#[derive(Debug)]
pub struct TokenPattern(Regex);

/// The most memory that a compiled expression takes.
const MAX_PATTERN: usize = 256 << 10;

impl TokenPattern {
    /// Compiles an expression. The error is a sentence without the expression.
    pub fn compile(text: &str) -> Result<Self, String> {
        let whole = format!(r"\A(?:{text})\z");
        let build = |text: &str| RegexBuilder::new(text).unicode(false).size_limit(MAX_PATTERN).build();
        // By itself first, so that no parenthesis of it ends the group.
        let compiled = build(text).and_then(|_| build(&whole));
        compiled.map(Self).map_err(|error| match error {
            regex::Error::CompiledTooBig(_) => "the regular expression is too large".to_owned(),
            error => {
                let text = error.to_string();
                let last = text.lines().last().unwrap_or_default().trim_start_matches("error: ");
                format!("the regular expression is not valid: {last}")
            }
        })
    }

    /// Whether it matches the whole token.
    #[must_use]
    pub fn matches(&self, token: &str) -> bool {
        self.0.is_match(token.as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_matches_as_a_whole() {
        for (pattern, token, expected) in [
            (r"Bearer [-0-9a-zA-Z._]*", "Bearer a.b-c", true),
            (r"Bearer [-0-9a-zA-Z._]*", "Bearer a.b-c ", false),
            (r"Bearer [-0-9a-zA-Z._]*", "xBearer a", false),
            ("a|b", "b", true),
            ("a|b", "ab", false),
            (r"\d+", "١", false),
            (r"a$", "a\n", false),
            (r"(?x) a # comment", "a", false),
            ("(?m)^a$", "b\na", false),
            ("", "", true),
        ] {
            // A comment would hide the end of the group.
            let compiled = TokenPattern::compile(pattern);
            assert_eq!(compiled.is_ok_and(|pattern| pattern.matches(token)), expected, "{pattern} {token:?}");
        }
        for (bad, expected) in
            [("(", "not valid"), ("a)(b", "not valid"), ("(?=x)", "not valid"), (r"(?:(?:a{1000}){1000})", "too large")]
        {
            let why = TokenPattern::compile(bad).unwrap_err();
            assert!(why.contains(expected) && !why.contains('\n'), "{bad}: {why}");
        }
    }

    #[test]
    fn secrets_are_never_printed_and_parts_survive_their_text() {
        let text = r#"{"function":{"Invoke":{"url":"https://l.example/2015-03-31/functions/f/invocations","region":"eu-west-1","credentials":{"access_key_id":"AKIA","secret_access_key":"s3cret","session_token":"s3ssion"}}},"event":"RequestV1","responses":"Policy","identity_sources":[{"header":"authorization"},{"context":"context.httpMethod"},{"query":"q"}],"result_ttl_ms":0,"timeout_ms":10000}"#;
        let lambda: Lambda = serde_json::from_str(text).unwrap();
        assert_eq!(serde_json::to_string(&lambda).unwrap(), text);
        let printed = format!("{lambda:?} {lambda:#?}");
        assert!(printed.contains("AKIA") && !printed.contains("s3cret") && !printed.contains("s3ssion"), "{printed}");
        let service = text.replace(
            r#"{"Invoke":{"url":"https://l.example/2015-03-31/functions/f/invocations","region""#,
            r#"{"Service":{"upstream":"upstream/shop/l:80","host":"l.shop.svc","path":"/2015-03-31/functions/f/invocations","invoke":{"region""#,
        );
        let service = service.replacen("}}}", "}}}}", 1);
        let by_service: Lambda = serde_json::from_str(&service).unwrap();
        assert_eq!(serde_json::to_string(&by_service).unwrap(), service);
        assert_eq!(by_service.function.upstream().map(ToString::to_string).as_deref(), Some("upstream/shop/l:80"));
        assert!(!format!("{by_service:?}").contains("s3"), "{by_service:?}");
        let unknown = text.replace("\"query\"", "\"form\"");
        assert!(serde_json::from_str::<Lambda>(&unknown).is_err());
    }
}
