//! Documents that are not valid, each with the path and a part of the reason.

use serde_json::{Value, json};
use sluice_iam::{Kind, MAX_NESTING, MAX_STATEMENTS, MAX_VALUES, Options, Policy, PolicyError};

use crate::support::OPTIONS;

fn error_of(text: &str, kind: Kind, options: Options<'_>) -> PolicyError {
    match Policy::parse(text, kind, options) {
        Ok(_) => panic!("accepted: {text}"),
        Err(error) => error,
    }
}

fn check(text: &str, kind: Kind, path: &str, reason: &str) {
    let error = error_of(text, kind, OPTIONS);
    assert_eq!(error.path, path, "{text}: {error}");
    assert!(error.reason.contains(reason), "{text}: {error}");
}

/// Members of a statement that is valid without them, unless `null` removes one.
fn statement(members: &str, kind: Kind) -> String {
    let mut statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*"});
    if kind == Kind::Resource {
        statement["Principal"] = json!("*");
    }
    let given: Value = serde_json::from_str(members).unwrap();
    for (name, value) in given.as_object().unwrap() {
        match value {
            Value::Null => {
                statement.as_object_mut().unwrap().remove(name);
            }
            value => statement[name] = value.clone(),
        }
    }
    json!({"Version": "2012-10-17", "Statement": [statement]}).to_string()
}

#[test]
fn documents_that_are_not_valid_are_rejected_with_their_place() {
    const ONE: &str = r#"{"Effect": "Allow", "Action": "*", "Resource": "*"}"#;
    for (text, path, reason) in [
        ("", "$", "not valid JSON"),
        ("{", "$", "not valid JSON"),
        ("{} x", "$", "not valid JSON"),
        ("[]", "$", "must be an object, not an array"),
        ("null", "$", "must be an object, not null"),
        ("{}", "$", "must not be empty"),
        (r#"{"Version": "2012-10-17"}"#, "$", "Statement is missing"),
        (r#"{"Version": "2012-10-18", "Statement": ONE}"#, "$.Version", "2012-10-17 or 2008-10-17"),
        (r#"{"Version": 2012, "Statement": ONE}"#, "$.Version", "must be a string, not a number"),
        (r#"{"version": "2012-10-17", "Statement": ONE}"#, "$.version", "unknown element of a policy"),
        (r#"{"Id": "", "Statement": ONE}"#, "$.Id", "must not be empty"),
        (r#"{"Id": 1, "Statement": ONE}"#, "$.Id", "must be a string"),
        (r#"{"Statement": ONE, "Statements": ONE}"#, "$.Statements", "unknown element"),
        (r#"{"Statement": ONE, "Statement": ONE}"#, "$.Statement", "duplicate key"),
        (r#"{"Statement": ONE, "a b": 1}"#, "$[\"a b\"]", "unknown element"),
        (r#"{"Statement": []}"#, "$.Statement", "must not be empty"),
        (r#"{"Statement": {}}"#, "$.Statement", "must not be empty"),
        (r#"{"Statement": "x"}"#, "$.Statement", "must be an object, not a string"),
        (r#"{"Statement": [ONE, []]}"#, "$.Statement[1]", "must be an object, not an array"),
        (r#"{"Statement": [ONE, {"Effect": "Deny"}]}"#, "$.Statement[1]", "Action or NotAction is missing"),
        (r#"{"Statement": {"Effect": "Allow", "Effect": "Deny"}}"#, "$.Statement.Effect", "duplicate key"),
        (r#"{"Statement": {"Effect": "Allow", "\u0045ffect": "Deny"}}"#, "$.Statement.Effect", "duplicate key"),
        (
            r#"{"Statement": {"Condition": {"Bool": {"aws:x": "true", "aws:x": "true"}}}}"#,
            r#"$.Statement.Condition.Bool["aws:x"]"#,
            "duplicate key",
        ),
        (
            r#"{"Statement": [{"Sid": "A", "Effect": "Allow", "Action": "*", "Resource": "*"},
                {"Sid": "A", "Effect": "Deny", "Action": "*", "Resource": "*"}]}"#,
            "$.Statement[1].Sid",
            "another statement has the same Sid",
        ),
    ] {
        check(&text.replace("ONE", ONE), Kind::Identity, path, reason);
    }
}

#[test]
fn statements_that_are_not_valid_are_rejected_with_their_place() {
    for (members, path, reason) in [
        (r#"{"Effect": null}"#, "", "Effect is missing"),
        (r#"{"Effect": "allow"}"#, ".Effect", "must be Allow or Deny"),
        (r#"{"Effect": true}"#, ".Effect", "must be a string, not a boolean"),
        (r#"{"effect": "Allow"}"#, ".effect", "unknown element of a statement"),
        (r#"{"Sid": "a b"}"#, ".Sid", "letters and digits"),
        (r#"{"Sid": 1}"#, ".Sid", "must be a string"),
        (r#"{"Principal": "*"}"#, ".Principal", "only a policy of a resource"),
        (r#"{"NotPrincipal": "*"}"#, ".NotPrincipal", "only a policy of a resource"),
        (r#"{"Action": null}"#, "", "Action or NotAction is missing"),
        (r#"{"NotAction": "s3:Get"}"#, ".NotAction", "exclude each other"),
        (r#"{"Action": []}"#, ".Action", "must not be empty"),
        (r#"{"Action": ""}"#, ".Action", "is not an action"),
        (r#"{"Action": ["s3:Get", "Invoke"]}"#, ".Action[1]", "is not an action"),
        (r#"{"Action": "s3:"}"#, ".Action", "is not an action"),
        (r#"{"Action": "s*:Get"}"#, ".Action", "is not an action"),
        (r#"{"Action": "s3:Get:x"}"#, ".Action", "is not an action"),
        (r#"{"Action": "s3:${aws:username}"}"#, ".Action", "is not an action"),
        (r#"{"Action": [["s3:Get"]]}"#, ".Action[0]", "must be a string, not an array"),
        (r#"{"Action": 1}"#, ".Action", "must be a string, not a number"),
        (r#"{"Resource": null}"#, "", "Resource or NotResource is missing"),
        (r#"{"NotResource": "*"}"#, ".Resource", "exclude each other"),
        (r#"{"Resource": []}"#, ".Resource", "must not be empty"),
        (r#"{"Resource": ""}"#, ".Resource", "is not a resource"),
        (r#"{"Resource": "/prod/GET"}"#, ".Resource", "is not a resource"),
        (r#"{"Resource": "arn:aws:s3"}"#, ".Resource", "is not a resource"),
        (r#"{"Resource": "execute-api:/prod"}"#, ".Resource", "is not a resource"),
        (r#"{"Resource": ["*", "arn:aws:s3:::${x"]}"#, ".Resource[1]", "no closing brace"),
        (r#"{"Resource": "arn:aws:s3:::${}"}"#, ".Resource", "is empty"),
        (r#"{"Resource": "arn:aws:s3:::${user}"}"#, ".Resource", "prefix:name"),
        (r#"{"Resource": "arn:aws:s3:::${ aws:username}"}"#, ".Resource", "must not contain ' '"),
        (r#"{"Resource": "arn:aws:s3:::${aws:username, x}"}"#, ".Resource", "default value"),
        (r#"{"Resource": "arn:aws:s3:::${aws:username, 'x}"}"#, ".Resource", "default value"),
        (r#"{"Condition": {}}"#, ".Condition", "must not be empty"),
        (r#"{"Condition": []}"#, ".Condition", "must be an object"),
        (r#"{"Condition": {"Equals": {"aws:x": "1"}}}"#, ".Condition.Equals", "unknown condition operator"),
        (r#"{"Condition": {"stringEquals": {"aws:x": "1"}}}"#, ".Condition.stringEquals", "unknown condition operator"),
        (r#"{"Condition": {"BoolNot": {"aws:x": "1"}}}"#, ".Condition.BoolNot", "unknown condition operator"),
        (r#"{"Condition": {"NullIfExists": {"aws:x": "true"}}}"#, ".Condition.NullIfExists", "Null has neither"),
        (
            r#"{"Condition": {"ForAllValues:Null": {"aws:x": "true"}}}"#,
            r#".Condition["ForAllValues:Null"]"#,
            "Null has neither",
        ),
        (
            r#"{"Condition": {"ForEachValue:Bool": {"aws:x": "true"}}}"#,
            r#".Condition["ForEachValue:Bool"]"#,
            "unknown condition operator",
        ),
        (r#"{"Condition": {"Bool": {}}}"#, ".Condition.Bool", "must not be empty"),
        (r#"{"Condition": {"Bool": "aws:x"}}"#, ".Condition.Bool", "must be an object"),
        (r#"{"Condition": {"Bool": {"": "true"}}}"#, r#".Condition.Bool[""]"#, "is empty"),
        (r#"{"Condition": {"Bool": {"x": "true"}}}"#, ".Condition.Bool.x", "prefix:name"),
        (
            r#"{"Condition": {"StringEquals": {"aws:x": "a", "AWS:X": "a"}}}"#,
            r#".Condition.StringEquals["aws:x"]"#,
            "the case of condition keys is ignored",
        ),
    ] {
        check(&statement(members, Kind::Identity), Kind::Identity, &format!("$.Statement[0]{path}"), reason);
    }
}

#[test]
fn values_of_conditions_that_are_not_valid_are_rejected_with_their_place() {
    for (operator, value, index, reason) in [
        ("Bool", r#"[]"#, "", "must not be empty"),
        ("Bool", r#""yes""#, "", "is not true or false"),
        ("Null", r#"["true", "x"]"#, "[1]", "is not true or false"),
        ("StringEquals", "null", "", "must be a string, a number or a boolean, not null"),
        ("StringEquals", r#"[["a"]]"#, "[0]", "not an array"),
        ("StringEquals", r#"{"a": "b"}"#, "", "not an object"),
        ("StringLike", r#""${aws:username""#, "", "no closing brace"),
        ("StringEquals", "0.12345678901234567", "", "more than 15 digits"),
        ("NumericEquals", r#""ten""#, "", "is not a decimal number"),
        ("NumericLessThan", r#"["1", ""]"#, "[1]", "is not a decimal number"),
        ("NumericLessThan", r#""1e3""#, "", "is not a decimal number"),
        ("NumericLessThan", "true", "", "is not a decimal number"),
        ("NumericLessThan", r#""${aws:x}""#, "", "is not a decimal number"),
        ("DateEquals", r#""yesterday""#, "", "is not a date"),
        ("DateLessThan", r#""2026-02-30""#, "", "is not a date"),
        ("DateLessThan", r#""2026""#, "", "is not a date"),
        ("DateLessThan", r#""2026-01-02T03:04:05""#, "", "is not a date"),
        ("BinaryEquals", r#""Q""#, "", "is not base64"),
        ("IpAddress", r#"["10.0.0.0/33"]"#, "[0]", "is not an IP address or a CIDR"),
        ("IpAddress", r#""10.0.0""#, "", "is not an IP address or a CIDR"),
        ("NotIpAddress", r#"["::/0", "::/129"]"#, "[1]", "is not an IP address or a CIDR"),
        ("IpAddressIfExists", r#""${aws:x}""#, "", "is not an IP address or a CIDR"),
        ("ArnLike", r#""topic""#, "", "is not an ARN"),
        ("ArnEquals", r#""arn:aws:sns:*:topic""#, "", "is not an ARN"),
        ("ArnNotLike", r#"["*", ""]"#, "[1]", "is not an ARN"),
        ("ForAnyValue:ArnNotEquals", r#""${aws:a}${aws:b}""#, "", "is not an ARN"),
    ] {
        let text = statement(&format!(r#"{{"Condition": {{"{operator}": {{"aws:x": {value}}}}}}}"#), Kind::Identity);
        let name = if operator.contains(':') { format!("[\"{operator}\"]") } else { format!(".{operator}") };
        let path = format!(r#"$.Statement[0].Condition{name}["aws:x"]{index}"#);
        check(&text, Kind::Identity, &path, reason);
    }
}

#[test]
fn policies_of_resources_that_are_not_valid_are_rejected_with_their_place() {
    for (members, path, reason) in [
        (r#"{"Principal": null}"#, "", "Principal or NotPrincipal is missing"),
        (r#"{"NotPrincipal": "*", "Principal": null}"#, ".NotPrincipal", "the effect Allow does not support"),
        (r#"{"NotPrincipal": "*", "Effect": "Deny"}"#, ".Principal", "exclude each other"),
        (r#"{"Principal": "123456789012"}"#, ".Principal", "must be \"*\" or an object"),
        (r#"{"Principal": ["*"]}"#, ".Principal", "must be an object, not an array"),
        (r#"{"Principal": {}}"#, ".Principal", "must not be empty"),
        (r#"{"Principal": {"aws": "*"}}"#, ".Principal.aws", "unknown type of principal"),
        (r#"{"Principal": {"*": "*"}}"#, ".Principal[\"*\"]", "unknown type of principal"),
        (r#"{"Principal": {"AWS": []}}"#, ".Principal.AWS", "must not be empty"),
        (r#"{"Principal": {"AWS": 123456789012}}"#, ".Principal.AWS", "must be a string, not a number"),
        (r#"{"Principal": {"AWS": ""}}"#, ".Principal.AWS", "is not a principal"),
        (r#"{"Principal": {"AWS": "12345"}}"#, ".Principal.AWS", "is not a principal"),
        (r#"{"Principal": {"AWS": "AIDAEXAMPLE"}}"#, ".Principal.AWS", "is not a principal"),
        (r#"{"Principal": {"AWS": ["*", "arn:aws:iam::1:root"]}}"#, ".Principal.AWS[1]", "is not a principal"),
        (r#"{"Principal": {"AWS": "arn:aws:iam::123456789012:user/*"}}"#, ".Principal.AWS", "wildcards"),
        (r#"{"Principal": {"AWS": "arn:aws:iam::123456789012:user/"}}"#, ".Principal.AWS", "is not a principal"),
        (r#"{"Principal": {"AWS": "arn:aws:iam::123456789012:group/a"}}"#, ".Principal.AWS", "is not a principal"),
        (r#"{"Principal": {"AWS": "arn:aws:iam::123456789012:root/a"}}"#, ".Principal.AWS", "is not a principal"),
        (r#"{"Principal": {"AWS": "arn:aws:s3::123456789012:user/a"}}"#, ".Principal.AWS", "is not a principal"),
        (r#"{"Principal": {"Service": "*"}}"#, ".Principal.Service", "is not the name of a service"),
        (r#"{"Principal": {"Service": "apigateway"}}"#, ".Principal.Service", "is not the name of a service"),
        (r#"{"Principal": {"Federated": ""}}"#, ".Principal.Federated", "must not be empty"),
        (r#"{"Principal": {"Federated": "*"}}"#, ".Principal.Federated", "wildcards"),
        (r#"{"Resource": "execute-api:prod"}"#, ".Resource", "or the form execute-api:/stage/VERB/path"),
        (r#"{"Resource": "/prod/GET"}"#, ".Resource", "or the form execute-api:/stage/VERB/path"),
    ] {
        check(&statement(members, Kind::Resource), Kind::Resource, &format!("$.Statement[0]{path}"), reason);
    }
    let short = statement(r#"{"Resource": "execute-api:/prod"}"#, Kind::Resource);
    let error = error_of(&short, Kind::Resource, Options::default());
    assert_eq!(error.to_string(), "$.Statement[0].Resource: the short form execute-api:/… cannot be expanded here");
}

#[test]
fn sizes_have_caps() {
    let long = |length| statement(&format!(r#"{{"Sid": "{}"}}"#, "a".repeat(length)), Kind::Resource);
    assert!(Policy::parse(&long(8000), Kind::Resource, OPTIONS).is_ok());
    check(&long(8192), Kind::Resource, "$", "longer than 8192 characters");
    check(&" ".repeat(20_481), Kind::Identity, "$", "longer than 20480 bytes");

    let resource = |length| statement(&format!(r#"{{"Resource": "arn:aws:x:::{:*<length$}"}}"#, ""), Kind::Authorizer);
    assert!(Policy::parse(&resource(500), Kind::Authorizer, OPTIONS).is_ok());
    check(&resource(501), Kind::Authorizer, "$.Statement[0].Resource", "longer than 512 characters");
    assert!(Policy::parse(&resource(501), Kind::Identity, OPTIONS).is_ok());

    let values = |count| statement(&json!({"Action": vec!["a:b"; count]}).to_string(), Kind::Identity);
    assert!(Policy::parse(&values(MAX_VALUES), Kind::Identity, OPTIONS).is_ok());
    check(&values(MAX_VALUES + 1), Kind::Identity, "$.Statement[0].Action", "at most 512");

    let statements = json!(vec![json!({"Effect": "Deny", "Action": "*", "Resource": "*"}); MAX_STATEMENTS + 1]);
    check(&json!({"Statement": statements}).to_string(), Kind::Identity, "$.Statement", "at most 256");

    let nested = "[".repeat(MAX_NESTING + 1) + &"]".repeat(MAX_NESTING + 1);
    check(&nested, Kind::Identity, "$", "nested more than 16 levels");
    check(&"[".repeat(20_000), Kind::Identity, "$", "nested more than 16 levels");
    let mut value = json!("x");
    for _ in 0..=MAX_NESTING {
        value = json!([value]);
    }
    assert!(Policy::from_value(&value, Kind::Identity, OPTIONS).unwrap_err().reason.contains("nested"));
}
