use http::HeaderValue;
use serde_json::{Value, json};

use super::*;

const ARN: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop";

fn policy(statements: Value) -> ResourcePolicy {
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    ResourcePolicy::compile(&StagePolicy { document, arn: ARN.to_owned() }, "prod").unwrap()
}

fn statement(effect: &str, resource: &str) -> Value {
    json!({"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource})
}

fn facts(headers: &HeaderMap) -> Facts<'_> {
    Facts { address: "192.0.2.7".parse().unwrap(), secure: false, headers }
}

/// `+`: allowed, `-`: denied by a statement, `0`: allowed by none.
fn outcome(policy: &ResourcePolicy, method: &str, sent: &str, matched: &str) -> char {
    let headers = HeaderMap::new();
    match policy.check(&method.parse().unwrap(), matched, &[sent], &facts(&headers)) {
        Ok(()) => '+',
        Err(Denied::Explicit(_)) => '-',
        Err(Denied::Implicit(_)) => '0',
        Err(Denied::TooLong) => '>',
    }
}

#[test]
fn the_method_and_the_path_below_the_base_path_are_the_resource() {
    let policy = policy(json!([
        statement("Allow", "execute-api:/prod/GET/*"),
        statement("Allow", "arn:aws:execute-api:eu-west-1:111122223333:shop/prod/POST/orders"),
        statement("Deny", "execute-api:/*/*/admin"),
        statement("Deny", "execute-api:/prod/*/admin/*"),
        statement("Allow", "execute-api:/test/*"),
    ]));
    for (method, path, expected) in [
        ("GET", "/", '+'),
        ("GET", "/orders/7", '+'),
        ("POST", "/orders", '+'),
        ("POST", "/orders/7", '0'),
        ("DELETE", "/orders", '0'),
        ("get", "/orders", '0'),
        ("get", "/admin", '-'),
        ("GET", "/admin", '-'),
        ("GET", "/admin/users", '-'),
        ("GET", "/administrators", '+'),
        ("DELETE", "/admin", '-'),
    ] {
        assert_eq!(outcome(&policy, method, path, path), expected, "{method} {path}");
    }
    let long = format!("/{}", "a".repeat(MAX_ARN));
    assert_eq!(outcome(&policy, "GET", &long, &long), '>');
}

#[test]
fn no_form_of_a_path_is_a_way_around_a_statement_that_denies() {
    let denied =
        policy(json!([statement("Allow", "execute-api:/*"), statement("Deny", "execute-api:/prod/GET/admin")]));
    for (sent, matched) in
        [("/admin", "/admin"), ("/admin/", "/admin/"), ("//admin", "/admin"), ("/admin//", "/admin/")]
    {
        assert_eq!(outcome(&denied, "GET", sent, matched), '-', "{sent}");
    }
    let open = policy(json!([statement("Allow", "execute-api:/*"), statement("Deny", "execute-api:/prod/DELETE/*")]));
    for (method, expected) in [("DELETE", '-'), ("delete", '-'), ("dELETE", '-'), ("GET", '+')] {
        assert_eq!(outcome(&open, method, "/a", "/a"), expected, "{method}");
    }
    let slash = policy(json!([statement("Allow", "execute-api:/*"), statement("Deny", "execute-api:/prod/GET/s/")]));
    for path in ["/s", "/s/"] {
        assert_eq!(outcome(&slash, "GET", path, path), '-', "{path}");
    }
    for (sent, matched) in [("/", "/"), ("/admin/x", "/admin/x"), ("//x/", "/x/")] {
        assert_eq!(outcome(&denied, "GET", sent, matched), '+', "{sent}");
    }
    assert!(denied.can_deny() && !policy_of("execute-api:/*").can_deny());
    // What allows a request is the form that is matched.
    let exact = policy_of("execute-api:/prod/GET/orders");
    assert_eq!(outcome(&exact, "GET", "//orders", "/orders"), '+');
    assert_eq!(outcome(&exact, "GET", "/orders/", "/orders/"), '0');
}

fn policy_of(resource: &str) -> ResourcePolicy {
    policy(json!([statement("Allow", resource)]))
}

#[test]
fn conditions_read_the_request() {
    let mut headers = HeaderMap::new();
    headers.insert(USER_AGENT, HeaderValue::from_static("shop/1.0"));
    headers.append(REFERER, HeaderValue::from_static("https://shop.example/"));
    let mut repeated = headers.clone();
    repeated.append(REFERER, HeaderValue::from_static("https://other.example/"));
    let tomorrow = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs() + 86_400;
    for (condition, allowed) in [
        (json!({"IpAddress": {"aws:SourceIp": "192.0.2.0/24"}}), true),
        (json!({"NotIpAddress": {"aws:SourceIp": "192.0.2.0/24"}}), false),
        (json!({"Bool": {"aws:SecureTransport": "false"}}), true),
        (json!({"Bool": {"aws:SecureTransport": true}}), false),
        (json!({"StringLike": {"aws:UserAgent": "shop/*"}}), true),
        (json!({"StringEquals": {"aws:Referer": "https://shop.example/"}}), true),
        (json!({"DateLessThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}), false),
        (json!({"DateGreaterThan": {"aws:CurrentTime": "2020-01-01T00:00:00Z"}}), true),
        (json!({"NumericLessThan": {"aws:EpochTime": tomorrow}}), true),
        (json!({"StringEquals": {"aws:SourceVpc": "vpc-1"}}), false),
        (json!({"Null": {"aws:PrincipalArn": "true"}}), true),
    ] {
        let mut one = statement("Allow", "execute-api:/*");
        one["Condition"] = condition.clone();
        let policy = policy(json!(one));
        let check = |headers| policy.check(&Method::GET, "/a", &[], &facts(headers)).is_ok();
        assert_eq!(check(&headers), allowed, "{condition}");
        if condition["StringEquals"]["aws:Referer"].is_string() {
            assert!(!check(&repeated), "of two values, which one counts is not known");
        }
    }
}

#[test]
fn the_sentence_is_that_of_aws_and_hides_the_account() {
    let headers = HeaderMap::new();
    let denied = policy_of("execute-api:/prod/GET/a").check(&Method::POST, "/a:b", &[], &facts(&headers));
    let Err(Denied::Implicit(arn)) = denied else { panic!("{denied:?}") };
    let expected = "User: anonymous is not authorized to perform: execute-api:Invoke on resource: \
                    arn:aws:execute-api:eu-west-1:********3333:shop/prod/POST/a:b";
    assert_eq!(sentence(&arn, false), expected);
    assert_eq!(sentence(&arn, true), format!("{expected} with an explicit deny"));
}

#[test]
fn a_document_that_cannot_be_evaluated_completely_is_no_policy() {
    for document in ["", "{}", r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#] {
        let part = StagePolicy { document: document.to_owned(), arn: ARN.to_owned() };
        assert!(ResourcePolicy::compile(&part, "prod").is_none(), "{document}");
    }
}
