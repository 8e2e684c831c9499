use http::HeaderValue;
use serde_json::{Value, json};

use super::*;

const ARN: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop";
const PREFIX: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop/prod/";

fn policy(statements: Value) -> ResourcePolicy {
    let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
    ResourcePolicy::compile(&StagePolicy { document, arn: ARN.to_owned() }).unwrap()
}

fn statement(effect: &str, resource: &str) -> Value {
    json!({"Effect": effect, "Principal": "*", "Action": "execute-api:Invoke", "Resource": resource})
}

fn facts(headers: &HeaderMap) -> Facts<'_> {
    Facts { address: "192.0.2.7".parse().unwrap(), secure: false, headers, caller: None }
}

fn of_stage(resource: &ResourcePolicy) -> Policies<'_> {
    Policies { prefix: PREFIX, resource: Some(resource), caller: None }
}

/// `+`: allowed, `-`: denied by a statement, `0`: allowed by none.
fn outcome(policy: &ResourcePolicy, method: &str, sent: &str, matched: &str) -> char {
    let headers = HeaderMap::new();
    match of_stage(policy).check(&method.parse().unwrap(), matched, &[sent], &facts(&headers)) {
        Ok(_) => '+',
        Err(Denied::Explicit { .. }) => '-',
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
    let headers = HeaderMap::new();
    let slash = of_stage(&denied).check(&Method::GET, "/admin/", &[], &facts(&headers));
    let Err(Denied::Explicit { arn, by, form: Some(form) }) = slash else { panic!("{slash:?}") };
    assert_eq!((arn.strip_prefix(PREFIX), form.strip_prefix(PREFIX)), (Some("GET/admin/"), Some("GET/admin")));
    assert_eq!((by.to_string().as_str(), by.sid), ("stage.policy.Statement[1]", None));
    assert!(of_stage(&denied).can_deny() && !of_stage(&policy_of("execute-api:/*")).can_deny());
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
        let check = |headers| of_stage(&policy).check(&Method::GET, "/a", &[], &facts(headers)).is_ok();
        assert_eq!(check(&headers), allowed, "{condition}");
        if condition["StringEquals"]["aws:Referer"].is_string() {
            assert!(!check(&repeated), "of two values, which one counts is not known");
        }
    }
}

#[test]
fn the_sentence_is_that_of_aws_and_hides_the_account() {
    let headers = HeaderMap::new();
    let policy = policy_of("execute-api:/prod/GET/a");
    let denied = of_stage(&policy).check(&Method::POST, "/a:b", &[], &facts(&headers));
    let Err(Denied::Implicit(arn)) = denied else { panic!("{denied:?}") };
    let expected = "User: anonymous is not authorized to perform: execute-api:Invoke on resource: \
                    arn:aws:execute-api:eu-west-1:********3333:shop/prod/POST/a:b";
    assert_eq!(sentence(None, &arn, false), expected);
    assert_eq!(sentence(None, &arn, true), format!("{expected} with an explicit deny"));
    let ann = caller("111122223333", json!([]));
    assert_eq!(sentence(Some(&ann), &arn, false), expected.replace("anonymous", "arn:aws:iam::111122223333:user/ann"));
    let of_function = CallerPolicies::default();
    let expected = "User is not authorized to access this resource with an explicit deny";
    assert_eq!(sentence(Some(&of_function), &arn, true), expected);
}

#[test]
fn a_document_that_cannot_be_evaluated_completely_is_no_policy() {
    for document in ["", "{}", r#"{"Statement": [{"Effect": "Allow", "Action": "*", "Resource": "*"}]}"#] {
        let part = StagePolicy { document: document.to_owned(), arn: ARN.to_owned() };
        assert!(ResourcePolicy::compile(&part).is_none(), "{document}");
    }
}

/// A caller with one identity policy for each list of statements.
fn caller(account: &str, policies: Value) -> CallerPolicies {
    let compile = |statements: &Value| {
        let document = json!({"Version": "2012-10-17", "Statement": statements}).to_string();
        Policy::parse(&document, Kind::Identity, Options::default()).unwrap()
    };
    let arn = format!("arn:aws:iam::{account}:user/ann");
    CallerPolicies {
        name: Some(AwsName { account: account.into(), arn: arn.clone().into(), role_arn: None }),
        policies: policies.as_array().unwrap().iter().map(compile).collect(),
        keys: Arc::new(
            [("aws:principalarn".into(), arn.into()), ("aws:principaltag/team".into(), "blue".into())].into(),
        ),
        of_session: Vec::new(),
    }
}

fn own(effect: &str, resource: &str) -> Value {
    json!({"Effect": effect, "Action": "execute-api:Invoke", "Resource": resource})
}

#[test]
fn policies_of_caller_and_stage_are_combined_by_the_tables_of_aws() {
    let (same, other) = ("111122223333", "444455556666");
    let (allow, deny) =
        (own("Allow", "arn:aws:execute-api:*:*:*/prod/*"), own("Deny", "arn:aws:execute-api:*:*:*/prod/GET/a"));
    let silent = own("Allow", "arn:aws:execute-api:*:*:*/test/*");
    let stage = |effect: &str| policy(json!([statement(effect, "execute-api:/prod/GET/a")]));
    let silent_stage = || policy(json!([statement("Allow", "execute-api:/prod/GET/b")]));
    let headers = HeaderMap::new();
    let none = "no statement";
    for (account, policies, resource, expected) in [
        // Table A.
        (same, json!([[allow]]), None, "+principal.policies[0].Statement[0]"),
        (same, json!([[silent]]), None, none),
        (same, json!([]), None, none),
        (same, json!([[silent], [silent, allow]]), None, "+principal.policies[1].Statement[1]"),
        (same, json!([[allow], [deny]]), None, "-principal.policies[1].Statement[0]"),
        (same, json!([[deny]]), Some(stage("Allow")), "-principal.policies[0].Statement[0]"),
        (same, json!([[silent]]), Some(stage("Allow")), "+stage.policy.Statement[0]"),
        (same, json!([[allow]]), Some(silent_stage()), "+principal.policies[0].Statement[0]"),
        (same, json!([[silent]]), Some(silent_stage()), none),
        (same, json!([[allow]]), Some(stage("Deny")), "-stage.policy.Statement[0]"),
        // Table B.
        (other, json!([[allow]]), None, none),
        (other, json!([[allow]]), Some(stage("Allow")), "+principal.policies[0].Statement[0]"),
        (other, json!([[allow]]), Some(silent_stage()), none),
        (other, json!([[silent]]), Some(stage("Allow")), none),
        (other, json!([[deny]]), Some(stage("Allow")), "-principal.policies[0].Statement[0]"),
        (other, json!([[allow]]), Some(stage("Deny")), "-stage.policy.Statement[0]"),
    ] {
        let caller = caller(account, policies.clone());
        let facts = Facts { caller: Some(&caller), ..facts(&headers) };
        let policies_of = Policies { prefix: PREFIX, resource: resource.as_ref(), caller: Some(&caller) };
        let found = match policies_of.check(&Method::GET, "/a", &[], &facts) {
            Ok(by) => format!("+{by}"),
            Err(Denied::Explicit { by, .. }) => format!("-{by}"),
            Err(Denied::Implicit(_)) => none.to_owned(),
            Err(Denied::TooLong) => "too long".to_owned(),
        };
        assert_eq!(found, expected, "{account} {policies} with a resource policy: {}", resource.is_some());
    }
}

#[test]
fn conditions_and_resource_policies_know_the_caller() {
    let headers = HeaderMap::new();
    let ann = caller("111122223333", json!([]));
    let facts = Facts { caller: Some(&ann), ..facts(&headers) };
    let mut named = statement("Allow", "execute-api:/*");
    named["Principal"] = json!({"AWS": "arn:aws:iam::111122223333:user/ann"});
    named["Condition"] = json!({"StringEquals": {"aws:PrincipalTag/Team": "blue"}});
    let resource = policy(json!([named]));
    let check = |caller| {
        let facts = Facts { caller, address: facts.address, ..facts };
        Policies { prefix: PREFIX, resource: Some(&resource), caller }.check(&Method::GET, "/a", &[], &facts).is_ok()
    };
    assert!(check(Some(&ann)) && !check(None) && !check(Some(&CallerPolicies::default())));
}
