//! Random documents and requests.

use proptest::collection::{btree_map, vec};
use proptest::prelude::*;
use proptest::sample::select;
use serde_json::{Value, json};
use sluice_iam::{Kind, Policy, Request};

use crate::naive;
use crate::support::{Keys, OPTIONS, principal, text_of};

const KEYS: [&str; 4] = ["aws:a", "AWS:A", "aws:b", "aws:c"];
const ARNS: [&str; 4] = ["arn:aws:sns:r:1:t", "arn:aws:sns:r:2:t:u", "arn:aws:sqs:::q", "t"];
const NUMBERS: [&str; 5] = ["1", "2", "2.0", "-3", "10"];
const DATES: [&str; 4] = ["2026-01-02", "1767312000", "2026-01-03", "2026-01-02T03:04:05Z"];
const ADDRESSES: [&str; 4] = ["10.0.0.1", "10.1.0.1", "::ffff:10.0.0.1", "2001:db8::1"];
const STRINGS: [&str; 6] = ["ann", "ANN", "bob", "a*", "true", "QQ=="];
const USERS: [&str; 4] = [
    "anonymous",
    "123456789012 arn:aws:iam::123456789012:user/ann",
    "999999999999 arn:aws:iam::999999999999:root",
    "123456789012 arn:aws:sts::123456789012:assumed-role/r/s arn:aws:iam::123456789012:role/r",
];

fn list(values: &'static [&'static str]) -> impl Strategy<Value = Value> {
    prop_oneof![
        select(values).prop_map(|value| json!(value)),
        vec(select(values), 1..3).prop_map(|values| json!(values))
    ]
}

fn condition() -> impl Strategy<Value = (String, Value)> {
    let texts = ["ann", "a*", "?ob", "*", "${aws:b}", "${aws:c, 'bob'}", "x${*}", "${aws:a}*"];
    let arns = ["arn:aws:sns:*:1:*", "arn:aws:s?s:*:*:t", "*", "${aws:b}", "arn:aws:sns:r:${aws:b}:t*"];
    let orders = ["Equals", "NotEquals", "LessThan", "LessThanEquals", "GreaterThan", "GreaterThanEquals"];
    let values = |pool: Vec<&'static str>| vec(select(pool), 1..3).prop_map(|values| json!(values));
    let names = |prefix: &'static str, names: &[&'static str]| {
        select(names.iter().map(|name| format!("{prefix}{name}")).collect::<Vec<_>>())
    };
    let strings = ["Equals", "NotEquals", "EqualsIgnoreCase", "NotEqualsIgnoreCase", "Like", "NotLike"];
    let networks = vec!["10.0.0.0/16", "10.0.0.1", "2001:db8::/32", "::ffff:10.1.0.0/112"];
    let operand = prop_oneof![
        4 => (names("String", &strings), values(texts.to_vec())),
        2 => (names("Arn", &["Equals", "Like", "NotEquals", "NotLike"]), values(arns.to_vec())),
        1 => (names("Numeric", &orders), values(NUMBERS.to_vec())),
        1 => (names("Date", &orders), values(DATES.to_vec())),
        1 => (names("", &["IpAddress", "NotIpAddress"]), values(networks)),
        1 => (names("", &["Bool"]), values(vec!["true", "false"])),
        1 => (names("", &["BinaryEquals"]), values(vec!["QQ==", "Qg=="])),
    ];
    let prefix = select(vec!["", "", "ForAllValues:", "ForAnyValue:"]);
    let full = (prefix, operand, select(vec!["", "", "IfExists"]))
        .prop_map(|(prefix, (name, values), suffix)| (format!("{prefix}{name}{suffix}"), values));
    let operand = prop_oneof![
        9 => full,
        1 => select(vec!["true", "false"]).prop_map(|value| ("Null".to_owned(), json!(value))),
    ];
    (operand, select(&KEYS[..])).prop_map(|((operator, values), key)| (operator, json!({key: values})))
}

fn statement(kind: Kind) -> impl Strategy<Value = Value> {
    let actions = list(&["execute-api:Invoke", "execute-api:In*", "*", "EXECUTE-API:?nvoke", "s3:Get"]);
    let resources = list(&[
        "*",
        "arn:aws:execute-api:eu-west-1:123456789012:abc/prod/*",
        "arn:aws:execute-api:*:*:abc/*/GET/?ets",
        "arn:aws:execute-api:*:*:abc/prod/GET/${aws:a}",
        "arn:aws:execute-api:*:*:abc/${aws:b, 'prod'}/*",
    ]);
    let principals = prop_oneof![
        Just(json!("*")),
        list(&[
            "*",
            "123456789012",
            "arn:aws:iam::999999999999:root",
            "arn:aws:iam::123456789012:user/ann",
            "arn:aws:iam::123456789012:role/r",
        ])
        .prop_map(|list| json!({"AWS": list})),
        Just(json!({"Service": "a.b"})),
    ];
    let conditions = prop_oneof![1 => Just(vec![]), 3 => vec(condition(), 1..3)];
    let negations = (any::<bool>(), prop::bool::weighted(0.2), prop::bool::weighted(0.2), any::<bool>());
    (negations, actions, resources, principals, conditions).prop_map(
        move |((allow, not_action, not_resource, not_principal), actions, resources, principals, conditions)| {
            let mut statement = json!({"Effect": if allow { "Allow" } else { "Deny" }});
            statement[if not_action { "NotAction" } else { "Action" }] = actions;
            statement[if not_resource { "NotResource" } else { "Resource" }] = resources;
            if kind == Kind::Resource {
                statement[if not_principal && !allow { "NotPrincipal" } else { "Principal" }] = principals;
            }
            for (operator, keys) in conditions {
                statement["Condition"][operator] = keys;
            }
            statement
        },
    )
}

fn context() -> impl Strategy<Value = Keys> {
    let value = prop_oneof![
        1 => select(&ARNS[..]),
        1 => select(&NUMBERS[..]),
        1 => select(&DATES[..]),
        1 => select(&ADDRESSES[..]),
        4 => select(&STRINGS[..]),
        1 => Just("pets"),
        1 => Just("prod"),
    ];
    let values = prop_oneof![2 => vec(value.clone(), 1..2), 1 => vec(value, 0..4)];
    let values = values.prop_map(|values| values.into_iter().map(str::to_owned).collect());
    btree_map(select(vec!["aws:a", "aws:b", "aws:c"]).prop_map(str::to_owned), values, 0..4).prop_map(Keys)
}

fn check(
    document: &Value,
    kind: Kind,
    caller: &str,
    action: &str,
    path: &str,
    keys: &Keys,
) -> Result<(), TestCaseError> {
    let policy = Policy::parse(&document.to_string(), kind, OPTIONS)
        .map_err(|error| TestCaseError::fail(format!("{error}: {document}")))?;
    let resource = format!("{}{path}", crate::support::PREFIX);
    let request = Request { action, resource: &resource, principal: principal(caller), context: keys };
    let verdict = text_of(policy.evaluate(&request));
    prop_assert_eq!(verdict.split(' ').next(), Some(naive::evaluate(document, &request)));
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 4000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn policies_evaluate_as_the_naive_evaluator_does(
        old in prop::bool::weighted(0.1),
        (kind, statements) in prop_oneof![Just(Kind::Identity), Just(Kind::Resource)]
            .prop_flat_map(|kind| (Just(kind), vec(statement(kind), 1..4))),
        caller in select(&USERS[..]),
        action in select(vec!["execute-api:Invoke", "execute-api:INVOKE", "s3:Get"]),
        path in select(vec!["/prod/GET/pets", "/dev/GET/pets", "/prod/GET/ann"]),
        keys in context(),
    ) {
        let version = if old { "2008-10-17" } else { "2012-10-17" };
        // Without variables, a value that is a variable only is not an ARN.
        let is_arn_variable = |text: &str| text.contains("\"Arn") || text.contains(":Arn");
        let document = json!({"Version": version, "Statement": statements});
        prop_assume!(!old || !is_arn_variable(&document.to_string()));
        check(&document, kind, caller, action, path, &keys)?;
    }

    #[test]
    fn parsing_arbitrary_text_returns(text in "\\PC{0,200}") {
        for kind in [Kind::Identity, Kind::Resource, Kind::Authorizer] {
            let _ = Policy::parse(&text, kind, OPTIONS).is_ok();
        }
    }

    #[test]
    fn parsing_a_damaged_document_returns(
        statement in statement(Kind::Resource),
        at in any::<prop::sample::Index>(),
        length in 0..6usize,
        inserted in "[\\[\\]{}\":,$*?'a1é.\\\\]{0,4}",
    ) {
        let document = json!({"Version": "2012-10-17", "Statement": [statement]}).to_string();
        let chars: Vec<char> = document.chars().collect();
        let at = at.index(chars.len());
        let end = (at + length).min(chars.len());
        let text = |chars: &[char]| chars.iter().collect::<String>();
        let damaged = text(&chars[..at]) + &inserted + &text(&chars[end..]);
        if let Err(error) = Policy::parse(&damaged, Kind::Resource, OPTIONS) {
            prop_assert!(error.path.starts_with('$') && !error.reason.is_empty());
        }
    }
}
