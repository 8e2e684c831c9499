//! Reading a credential: what is accepted, and the text of each error.

use http::{HeaderMap, HeaderName, HeaderValue};
use sluice_sigv4::{BodyHash, Incomplete, MAX_AUTHORIZATION, MAX_SESSION_TOKEN, Options, Presented};

const CREDENTIAL: &str = "Credential=AKID/20150830/us-east-1/execute-api/aws4_request";
const SIGNATURE: &str = "Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";
const QUERY: &str = "X-Amz-Algorithm=AWS4-HMAC-SHA256&X-Amz-Date=20150830T123600Z&X-Amz-SignedHeaders=host\
                     &X-Amz-Credential=AKID%2F20150830%2Fus-east-1%2Fexecute-api%2Faws4_request\
                     &X-Amz-Signature=5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7";

fn headers(list: &[(&str, &str)]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for (name, value) in list {
        headers.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_str(value).unwrap());
    }
    headers
}

fn find(list: &[(&str, &str)], query: Option<&str>) -> Result<Option<Presented>, Incomplete> {
    Presented::find(&headers(list), query, Options::default())
}

fn authorization(text: &str) -> Result<Option<Presented>, Incomplete> {
    find(&[("authorization", text), ("x-amz-date", "20150830T123600Z")], None)
}

fn valid() -> String {
    format!("AWS4-HMAC-SHA256 {CREDENTIAL}, SignedHeaders=host;x-amz-date, {SIGNATURE}")
}

fn error(result: Result<Option<Presented>, Incomplete>) -> String {
    result.expect_err("an error").to_string()
}

#[test]
fn a_request_without_credential_has_none() {
    for query in [None, Some(""), Some("a=b&X-Amz-Date=20150830T123600Z"), Some("x-amz-algorithm=AWS4-HMAC-SHA256")] {
        assert!(find(&[("x-amz-date", "20150830T123600Z")], query).unwrap().is_none(), "{query:?}");
    }
}

#[test]
fn the_parts_of_a_credential_are_read_from_headers() {
    let list = [
        ("authorization", valid()),
        ("x-amz-date", "20150830T123600Z".to_owned()),
        ("x-amzn-trace-id", "Root=1".to_owned()),
        ("x-amz-cf-id", "added".to_owned()),
    ];
    let list: Vec<(&str, &str)> = list.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let presented = find(&list, Some("X-Amz-Expires=5&X-Amz-Security-Token=no")).unwrap().unwrap();
    assert_eq!(presented.access_key_id(), "AKID");
    assert_eq!(presented.date(), "20150830");
    assert_eq!(presented.region(), "us-east-1");
    assert_eq!(presented.service(), "execute-api");
    assert_eq!(presented.timestamp(), 1_440_938_160);
    assert_eq!(presented.timestamp_text(), "20150830T123600Z");
    assert_eq!(presented.signed_headers().collect::<Vec<_>>(), ["host", "x-amz-date"]);
    assert_eq!(presented.session_token(), None);
    assert_eq!(presented.expires(), None);
    assert_eq!(presented.declared_body(), None);
    assert!(!presented.is_presigned());
    let debug = format!("{presented:?}");
    assert!(debug.contains("AKID") && !debug.contains("5d672d79"), "{debug}");
}

#[test]
fn the_parts_of_a_credential_are_read_from_a_query() {
    let query = format!(
        "a=1&{QUERY}&X-Amz-Expires=600&X-Amz-Security-Token=a%2Bb%2F%3D&x-amz-content-sha256=UNSIGNED-PAYLOAD&b=2"
    );
    let presented = find(&[], Some(&query)).unwrap().unwrap();
    assert_eq!(presented.access_key_id(), "AKID");
    assert_eq!(presented.signed_headers().collect::<Vec<_>>(), ["host"]);
    assert_eq!(presented.session_token(), Some("a+b/="));
    assert_eq!(presented.expires(), Some(600));
    assert_eq!(presented.declared_body(), Some(&BodyHash::Unsigned));
    assert!(presented.is_presigned());
    assert!(!format!("{presented:?}").contains("a+b"));
    assert_eq!(find(&[], Some(QUERY)).unwrap().unwrap().expires(), None);
    let escaped = QUERY.replace("X-Amz-Algorithm", "%58-Amz-Algorithm");
    assert!(find(&[], Some(&escaped)).unwrap().is_some());
}

#[test]
fn order_case_and_separators_of_the_header_are_lenient() {
    for text in [
        format!("AWS4-HMAC-SHA256 {SIGNATURE},{CREDENTIAL},SignedHeaders=host;x-amz-date"),
        format!("  AWS4-HMAC-SHA256\t{SIGNATURE}   SignedHeaders=host;x-amz-date ,, {CREDENTIAL} "),
        format!("AWS4-HMAC-SHA256 {CREDENTIAL}, SignedHeaders=X-Amz-Date;Host, {SIGNATURE}, Other=1"),
    ] {
        let presented = authorization(&text).unwrap().unwrap();
        assert_eq!(presented.signed_headers().collect::<Vec<_>>(), ["host", "x-amz-date"], "{text}");
    }
}

#[test]
fn the_header_date_replaces_the_one_of_aws() {
    let text = valid().replace(";x-amz-date", "").replace("host", "date;host");
    for date in ["20150830T123600Z", "Sun, 30 Aug 2015 12:36:00 GMT"] {
        let presented = find(&[("authorization", &text), ("date", date)], None).unwrap().unwrap();
        assert_eq!(presented.timestamp(), 1_440_938_160);
        assert_eq!(presented.timestamp_text(), date);
    }
    let both = [("authorization", valid()), ("date", "then".to_owned()), ("x-amz-date", "20150830T123600Z".to_owned())];
    let both: Vec<(&str, &str)> = both.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert!(find(&both, None).is_ok());
    let unsigned = [("authorization", valid()), ("date", "20150830T123600Z".to_owned())];
    let unsigned: Vec<(&str, &str)> = unsigned.iter().map(|(name, value)| (*name, value.as_str())).collect();
    assert_eq!(error(find(&unsigned, None)), "'Date' must be a 'SignedHeader' in the AWS Authorization.");
}

#[test]
fn a_header_of_another_scheme_is_incomplete() {
    assert_eq!(
        error(find(&[("authorization", "Bearer abc")], None)),
        "'abc' not a valid key=value pair (missing equal-sign) in Authorization header: 'Bearer abc'."
    );
    for header in ["abc", "Basic YWI=", ""] {
        assert_eq!(
            error(find(&[("authorization", header)], None)),
            format!(
                "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' \
                 parameter. Authorization header requires 'SignedHeaders' parameter. Authorization header requires \
                 existence of either a 'X-Amz-Date' or a 'Date' header. Authorization={header}"
            )
        );
    }
}

#[test]
fn a_redacted_text_has_a_hash_instead_of_the_header() {
    let incomplete = find(&[("authorization", "Bearer abc")], None).unwrap_err();
    assert_eq!(
        incomplete.redacted(),
        "Invalid key=value pair (missing equal-sign) in Authorization header (hashed with SHA-256 and encoded with \
         Base64): 'w1Xc6WwWEogNEZQP/dkBTThsJT4MNlKmzQanIm970rY='."
    );
    assert_eq!(format!("{incomplete:?}"), "Incomplete(no_equal_sign)");
    let incomplete = find(&[("authorization", "Token x=secret"), ("x-amz-date", "x")], None).unwrap_err();
    let text = incomplete.redacted();
    assert!(text.contains("'SignedHeaders' parameter. (Hashed with SHA-256 and encoded with Base64) Authorization="));
    assert!(!text.contains("secret"), "{text}");
    assert_eq!(incomplete.error_type(), "IncompleteSignatureException");
}

#[test]
fn each_missing_parameter_is_named() {
    assert_eq!(
        error(authorization(&format!("AWS4-HMAC-SHA256 {CREDENTIAL}, SignedHeaders=host"))),
        format!(
            "Authorization header requires 'Signature' parameter. Authorization=AWS4-HMAC-SHA256 {CREDENTIAL}, \
             SignedHeaders=host"
        )
    );
    assert_eq!(
        error(find(&[], Some("X-Amz-Algorithm=&X-Amz-Date=20150830T123600Z"))),
        "AWS query-string parameters must include 'X-Amz-Algorithm'. AWS query-string parameters must include \
         'X-Amz-Credential'. AWS query-string parameters must include 'X-Amz-Signature'. AWS query-string parameters \
         must include 'X-Amz-SignedHeaders'. Re-examine the query-string parameters."
    );
}

#[test]
fn a_request_has_one_credential() {
    let incomplete = find(&[("authorization", &valid()), ("x-amz-date", "20150830T123600Z")], Some(QUERY)).unwrap_err();
    assert_eq!(
        incomplete.to_string(),
        "Found both 'X-Amz-Algorithm' as a query-string param and 'Authorization' as HTTP header."
    );
    assert_eq!(incomplete.error_type(), "InvalidSignatureException");
    for (text, what) in [
        (format!("{}, {SIGNATURE}", valid()), "Signature"),
        (format!("{}, SignedHeaders=host", valid()), "SignedHeaders"),
        (format!("{}, Credential=", valid()), "Credential"),
    ] {
        assert_eq!(error(authorization(&text)), format!("'{what}' must not be present more than once."));
    }
    for name in ["authorization", "x-amz-date", "x-amz-security-token", "x-amz-content-sha256"] {
        let mut list = headers(&[("authorization", &valid()), ("x-amz-date", "20150830T123600Z"), (name, "x")]);
        list.append(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("x"));
        let result = Presented::find(&list, None, Options::default());
        assert_eq!(error(result), format!("'{name}' must not be present more than once."));
    }
    let twice = format!("{QUERY}&%58-Amz-Date=20150830T123600Z");
    assert_eq!(error(find(&[], Some(&twice))), "'X-Amz-Date' must not be present more than once.");
}

#[test]
fn headers_that_must_be_signed_are_named() {
    let list = [("authorization", valid()), ("x-amz-date", "20150830T123600Z".to_owned())];
    let with = |name: &str, options: Options| {
        let mut headers: HeaderMap = HeaderMap::new();
        for (name, value) in &list {
            headers.insert(*name, value.parse().unwrap());
        }
        headers.insert(HeaderName::from_bytes(name.as_bytes()).unwrap(), HeaderValue::from_static("x"));
        Presented::find(&headers, None, options)
    };
    let lenient = Options { unsigned_session_token: true, ..Options::default() };
    let text = "'X-Amz-Security-Token' must be a 'SignedHeader' in the AWS Authorization.";
    assert_eq!(error(with("x-amz-security-token", Options::default())), text);
    assert_eq!(with("x-amz-security-token", lenient).unwrap().unwrap().session_token(), Some("x"));
    assert!(error(with("x-amz-target", lenient)).starts_with("'X-Amz-Target' must be"));
    assert!(with("x-amzn-trace-id", Options::default()).is_ok());
    assert_eq!(
        error(authorization(&valid().replace("host;", ""))),
        "'Host' or ':authority' must be a 'SignedHeader' in the AWS Authorization."
    );
    assert_eq!(
        error(authorization(&valid().replace(";x-amz-date", ""))),
        "'X-Amz-Date' must be a 'SignedHeader' in the AWS Authorization."
    );
    let presigned = find(&[("x-amz-meta", "1")], Some(QUERY));
    assert_eq!(error(presigned), "'X-Amz-Meta' must be a 'SignedHeader' in the AWS Authorization.");
}

#[test]
fn what_has_another_form_is_named() {
    for (from, to, text) in [
        ("AWS4-HMAC-SHA256", "AWS4-ECDSA-P256-SHA256", "Unsupported AWS 'algorithm': 'AWS4-ECDSA-P256-SHA256' (only"),
        (
            "/us-east-1",
            "",
            "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term",
        ),
        ("AKID", "", "Credential must have exactly 5 slash-delimited elements"),
        ("aws4_request", "e", "Credential should be scoped with a valid terminator: 'aws4_request', not 'e'. "),
        ("host;", "host;host;", "'SignedHeaders' must be a list of different header names"),
        ("host;", "host;a b;", "'b;x-amz-date' not a valid key=value pair"),
        ("host;", "host;;", "'SignedHeaders' must be a list"),
        ("host;", "host;é;", "'SignedHeaders' must be a list"),
    ] {
        let text_of = error(authorization(&valid().replace(from, to)));
        assert!(text_of.starts_with(text), "{text_of}");
    }
    let date = find(&[("authorization", &valid()), ("x-amz-date", "201")], None);
    assert_eq!(
        error(date),
        "Date must be in ISO-8601 'basic format'. Got '201'. See http://en.wikipedia.org/wiki/ISO_8601"
    );
    for expires in ["0", "604801", "", "+5", "5.0", "99999999999", "five"] {
        let result = find(&[], Some(&format!("{QUERY}&X-Amz-Expires={expires}")));
        assert!(error(result).starts_with("X-Amz-Expires must be a number of seconds"), "{expires}");
    }
    for scope in ["us%20east", "us%0Aeast", "%C3%BC"] {
        let result = find(&[], Some(&QUERY.replace("us-east-1", scope)));
        assert!(error(result).starts_with("Credential must have exactly 5"), "{scope}");
    }
    let result = find(&[], Some(&format!("{QUERY}&X-Amz-Security-Token=a%0D%0Ab")));
    assert_eq!(error(result), "The security token included in the request is invalid.");
    let result = find(&[], Some(&format!("{QUERY}&X-Amz-Content-Sha256=abc")));
    assert!(error(result).starts_with("x-amz-content-sha256 must be UNSIGNED-PAYLOAD"));
}

#[test]
fn everything_has_a_cap() {
    let long = "a".repeat(MAX_AUTHORIZATION + 1);
    assert_eq!(error(authorization(&long)), "'Authorization' must not be longer than 8192 bytes.");
    let credential = valid().replace("AKID", &"A".repeat(513));
    assert_eq!(error(authorization(&credential)), "'Credential' must not be longer than 512 bytes.");
    let many: String = (0..100).map(|number| format!("h{number};")).collect();
    let result = authorization(&valid().replace("host;", &format!("{many}host;")));
    assert_eq!(error(result), "'SignedHeaders' must not have more than 100 names.");
    for token in ["a".repeat(MAX_SESSION_TOKEN + 1), "%41".repeat(MAX_SESSION_TOKEN + 1)] {
        let result = find(&[], Some(&format!("{QUERY}&X-Amz-Security-Token={token}")));
        assert_eq!(error(result), "'X-Amz-Security-Token' must not be longer than 8192 bytes.");
    }
}
