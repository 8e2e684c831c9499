//! Statements that apply to no request.

use sluice_iam::{Decided, Kind, Policy, WithoutEffect};

use crate::support::OPTIONS;

const ACTIONS: [&str; 2] = ["execute-api:Invoke", "execute-api:InvalidateCache"];
const PREFIX: &str = "arn:aws:execute-api:eu-west-1:111122223333:shop/prod/";

/// `a`: it has other actions, `r`: it has other resources, `+`: it may apply.
fn outcome(action: &str, resource: &str) -> char {
    let text = format!(r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"Allow",{action},{resource}}}]}}"#);
    let policy = Policy::parse(&text, Kind::Identity, OPTIONS).unwrap();
    match policy.without_effect(&ACTIONS, PREFIX).as_slice() {
        [] => '+',
        [WithoutEffect::Action(Decided { statement: 0, sid: None })] => 'a',
        [WithoutEffect::Resource(Decided { statement: 0, sid: None })] => 'r',
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_resource_reaches_a_stage_if_one_of_its_texts_begins_with_the_stage() {
    for (resource, expected) in [
        ("*", '+'),
        ("arn:aws:execute-api:*", '+'),
        ("arn:aws:execute-api:eu-west-1:111122223333:shop/prod/GET/orders", '+'),
        ("arn:aws:execute-api:eu-west-1:111122223333:shop/*", '+'),
        ("arn:aws:execute-api:*:*:*/prod/*", '+'),
        ("arn:aws:execute-api:*:*:*/test/*", '+'), // the star can be any text, also one with slashes
        ("arn:aws:execute-api:eu-west-?:111122223333:sho?/prod/*", '+'),
        ("arn:aws:execute-api:eu-west-1:111122223333:shop/${aws:username}/GET/a", '+'),
        ("arn:aws:execute-api:eu-west-1:111122223333:shop/pro*", '+'),
        ("arn:aws:execute-api:eu-west-1:111122223333:shop/test/*", 'r'),
        ("arn:aws:execute-api:eu-west-1:111122223333:shop/prod", 'r'),
        ("arn:aws:execute-api:eu-west-1:111122223333:shop/pro?", 'r'),
        ("arn:aws:execute-api:eu-west-2:111122223333:shop/prod/*", 'r'),
        ("arn:aws:execute-api:eu-west-1:444455556666:shop/prod/*", 'r'),
        ("arn:aws:s3:::bucket/*", 'r'),
    ] {
        assert_eq!(
            outcome(r#""Action":"execute-api:Invoke""#, &format!(r#""Resource":"{resource}""#)),
            expected,
            "{resource}"
        );
    }
    assert_eq!(outcome(r#""Action":"*""#, r#""NotResource":"arn:aws:s3:::bucket/*""#), '+');
}

#[test]
fn actions_are_compared_without_their_case() {
    for (action, expected) in [
        (r#""Action":"*""#, '+'),
        (r#""Action":"EXECUTE-API:invoke""#, '+'),
        (r#""Action":["s3:GetObject","execute-api:Inv*"]"#, '+'),
        (r#""Action":"execute-api:InvalidateCache""#, '+'),
        (r#""Action":"s3:*""#, 'a'),
        (r#""Action":"execute-api:Invok""#, 'a'),
        (r#""NotAction":"s3:*""#, '+'),
        (r#""NotAction":"execute-api:*""#, 'a'),
    ] {
        assert_eq!(outcome(action, r#""Resource":"*""#), expected, "{action}");
    }
}

#[test]
fn a_policy_may_allow_an_action_of_a_statement_that_allows() {
    let policy = |effect: &str, action: &str| {
        let text = format!(
            r#"{{"Version":"2012-10-17","Statement":{{"Effect":"{effect}","Action":"{action}","Resource":"*"}}}}"#
        );
        Policy::parse(&text, Kind::Identity, OPTIONS).unwrap().may_allow("execute-api:Invoke")
    };
    assert!(policy("Allow", "execute-api:*") && policy("Allow", "*"));
    assert!(!policy("Deny", "*") && !policy("Allow", "s3:*"));
}
