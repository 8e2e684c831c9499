//! Patterns of texts. The operator parses the texts; the patterns reject obvious errors in the API server.

/// The name of a namespace.
pub const NAMESPACE_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";
/// The name of an object: lower case letters, digits, `-` and `.`.
pub const OBJECT_NAME: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// One label of a DNS name: lower case letters, digits and `-`.
pub const DNS_LABEL: &str = r"^[a-z0-9]([-a-z0-9]*[a-z0-9])?$";

/// A host name in lower case; its first label may be `*`.
pub const HOSTNAME: &str = r"^(\*\.)?[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$";

/// The name of a server in its certificate: a DNS name in lower case, or an IP address.
pub const SERVER_NAME: &str =
    r"^([a-z0-9_]([-a-z0-9_]*[a-z0-9])?(\.[a-z0-9_]([-a-z0-9_]*[a-z0-9])?)*|[0-9a-f]*:[0-9a-f:.]+)$";

/// A header name (RFC 9110, token).
pub const HEADER_NAME: &str = r"^[A-Za-z0-9!#$%&'*+.^_`|~-]+$";

/// A header name, or `*` for all of them.
pub const HEADER_NAME_OR_ANY: &str = r"^(\*|[A-Za-z0-9!#$%&'+.^_`|~-]+)$";

/// Text that can be a header's value: printable ASCII, spaces and tabs.
pub const HEADER_VALUE: &str = r"^[\t -~]*$";

/// A path template such as `/orders/{id}/{proxy+}`.
pub const PATH_TEMPLATE: &str = r"^/[A-Za-z0-9._~!$&'()*+,;=:@%{}/-]*$";

/// A base path such as `/` or `/v1/shop`, without a slash at its end.
pub const BASE_PATH: &str = r"^/([A-Za-z0-9._~-]+(/[A-Za-z0-9._~-]+)*)?$";

/// An absolute http or https URL without user information, query or fragment.
pub const HTTP_URL: &str = r"^https?://[A-Za-z0-9.:\[\]-]+(/[A-Za-z0-9._~!$&'()*+,;=:@%{}/-]*)?$";

/// The path of a URL, without a query.
pub const URL_PATH: &str = r"^/[A-Za-z0-9._~!$&'()*+,;=:@%/-]*$";

/// An origin of CORS, or a wildcard.
pub const ORIGIN: &str = r"^(\*|null|https?://\*|[a-zA-Z][a-zA-Z0-9+.-]*://(\*\.)?[A-Za-z0-9_.:\[\]-]+)$";

/// An address, or an address and a prefix length.
pub const NETWORK: &str = r"^[0-9a-fA-F.:]+(/[0-9]{1,3})?$";

/// The name of an API version.
pub const VERSION_NAME: &str = r"^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$";

/// A variable of a cache key.
pub const CACHE_KEY: &str = r"^(request\.(path|querystring|header)\.[!-~]{1,128}|context\.[!-~]{1,160})$";

/// A scope (RFC 6749, section 3.3).
pub const SCOPE: &str = r"^[!#-\[\]-~]+$";

/// Printable ASCII characters without spaces.
pub const VISIBLE: &str = r"^[!-~]+$";

/// Printable ASCII characters, with spaces between them.
pub const PRINTABLE: &str = r"^[!-~]([ -~]*[!-~])?$";

/// The type of a token (`typ`), which is a media type that may lack `application/`.
pub const TOKEN_TYPE: &str = r"^[A-Za-z0-9!#$&^_.+/-]+$";

/// The scheme before a token.
pub const TOKEN_SCHEME: &str = r"^[A-Za-z0-9._~+/-]+$";

/// A region of AWS.
pub const REGION: &str = r"^[a-z]+(-[a-z0-9]+)+$";

/// The id of a Cognito user pool: a region, or another word, and a name.
pub const USER_POOL: &str = r"^[a-z][a-z0-9-]*_[0-9A-Za-z]+$";

/// The name of a Lambda function, or its ARN.
pub const FUNCTION_NAME: &str = r"^[a-zA-Z0-9$_.:-]+$";

/// The number of an AWS account.
pub const ACCOUNT: &str = r"^[0-9]{12}$";

/// The ARN of an IAM user or role.
pub const IAM_ARN: &str = r"^arn:aws(-cn|-us-gov)?:iam::[0-9]{12}:(user|role)/[A-Za-z0-9+=,.@_/-]+$";

/// The name of a service in a credential scope of AWS.
pub const AWS_SERVICE: &str = r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?$";

/// A key of a ConfigMap or Secret.
pub const DATA_KEY: &str = r"^[-._a-zA-Z0-9]+$";
