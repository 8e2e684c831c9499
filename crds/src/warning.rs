//! Codes of warnings: an object is valid, but probably not what its author meant. Once released, a code is API.

/// The annotation of an object that silences warnings: a list of codes, separated by commas.
pub const SILENCE: &str = "sluice.dev/silence";

/// A kind of warning.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Code {
    /// The code, in CamelCase.
    pub name: &'static str,
    /// What it is about, for a list of the codes.
    pub summary: &'static str,
}

macro_rules! codes {
    ($($name:ident = $text:literal: $summary:literal;)*) => {
        $(
            #[doc = $summary]
            pub const $name: Code = Code { name: $text, summary: $summary };
        )*

        /// Every code, by name.
        pub const ALL: &[Code] = &[$($name),*];
    };
}

codes! {
    AUTHORIZER_WITHOUT_PRINCIPAL = "AuthorizerWithoutPrincipal": "no Principal in its namespace has signatures that an Iam Authorizer accepts";
    BURST_BELOW_RATE = "BurstBelowRate": "the burst of a throttle is far below its rate";
    CACHE_IN_NO_STAGE = "CacheInNoStage": "a rule has a cache, and a Stage has none";
    CACHE_KEY_WITHOUT_BODY = "CacheKeyWithoutBody": "responses to POST are stored under a key that does not contain the body";
    CACHE_OF_OTHER_METHODS = "CacheOfOtherMethods": "the rule does not match the methods whose responses are stored";
    CACHE_WITHOUT_KEYS = "CacheWithoutKeys": "requests that differ in the query share a stored response";
    CERTIFICATE_CHAIN = "CertificateChain": "the certificates of a chain are not in order";
    CERTIFICATE_EXPIRED = "CertificateExpired": "a certificate has expired";
    CERTIFICATE_EXPIRES_SOON = "CertificateExpiresSoon": "a certificate expires soon";
    CERTIFICATE_NAME = "CertificateName": "no certificate is valid for a host name of the Stage";
    CERTIFICATE_NOT_YET_VALID = "CertificateNotYetValid": "a certificate is not valid yet";
    CERTIFICATE_USAGE = "CertificateUsage": "a certificate is not for servers";
    CERTIFICATE_WEAK = "CertificateWeak": "a certificate has a short key or a broken signature algorithm";
    CREDENTIALS_WITHOUT_TLS = "CredentialsWithoutTls": "credentials are sent to an external server without TLS";
    IDENTITY_SOURCE_NEVER_PRESENT = "IdentitySourceNeverPresent": "a Lambda authorizer reads what requests of a Stage never have";
    INTROSPECTION_WITHOUT_TLS = "IntrospectionWithoutTls": "tokens and a client secret are sent to an introspection endpoint without TLS";
    KEY_SET_WITHOUT_TLS = "KeySetWithoutTls": "the keys of an issuer are fetched without TLS";
    KEY_WITHOUT_PLAN = "KeyWithoutPlan": "an ApiKey is in no UsagePlan";
    LAMBDA_WITHOUT_TLS = "LambdaWithoutTls": "credentials of requests are sent to a function without TLS";
    LITERAL_PATTERN = "LiteralPattern": "a segment of a path looks like a pattern and matches only itself";
    NEVER_MATCHES = "NeverMatches": "a rule matches no request";
    OPEN_CATCH_ALL = "OpenCatchAll": "an open rule serves paths beside a protected rule";
    PARAMETER_NOT_IN_PATH = "ParameterNotInPath": "an expression reads a parameter that the path of a rule does not have";
    PREFIX_REPEATED = "PrefixRepeated": "a path begins with the base path or version that come before it anyway";
    PRINCIPAL_WITHOUT_AUTHORIZER = "PrincipalWithoutAuthorizer": "no Iam Authorizer in its namespace accepts a Principal";
    PRINCIPAL_WITHOUT_POLICY = "PrincipalWithoutPolicy": "a Principal has no policy that allows anything";
    REVOCATION_LIST_EXPIRED = "RevocationListExpired": "a list of revoked certificates has expired";
    REVOCATION_LIST_EXPIRES_SOON = "RevocationListExpiresSoon": "a list of revoked certificates expires soon";
    SCOPES_NEVER_MET = "ScopesNeverMet": "a rule requires scopes, and callers of its Authorizer have none";
    STATEMENT_WITHOUT_EFFECT = "StatementWithoutEffect": "a statement of a policy applies to no request";
    THROTTLE_WITHOUT_KEY = "ThrottleWithoutKey": "a UsagePlan limits a rule that requires no API key";
    TIMEOUT_ABOVE_AWS = "TimeoutAboveAws": "a timeout is longer than AWS allows";
    UNKNOWN_CODE = "UnknownCode": "the annotation sluice.dev/silence names a code that does not exist";
    UNSIGNED_PAYLOAD = "UnsignedPayload": "an Authorizer accepts requests whose signature does not cover the body";
}

/// The code of that name.
#[must_use]
pub fn named(name: &str) -> Option<Code> {
    ALL.iter().copied().find(|code| code.name == name)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_sorted_camel_case_and_documented() {
        assert!(ALL.windows(2).all(|pair| pair[0].name < pair[1].name), "sorted, each once");
        let page = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/warnings.md")).unwrap();
        for code in ALL {
            let camel = code.name.starts_with(|c: char| c.is_ascii_uppercase());
            assert!(camel && code.name.bytes().all(|b| b.is_ascii_alphanumeric()), "{}", code.name);
            assert!(page.contains(&format!("\n## {}\n", code.name)), "docs/warnings.md has no section {}", code.name);
        }
    }
}
