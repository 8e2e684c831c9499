//! Wildcards, compared with a table of all prefixes, and their time.

use std::time::{Duration, Instant};

use proptest::prelude::*;
use serde_json::json;
use sluice_iam::{Kind, Policy, Principal, Request, Verdict};

use crate::naive::{like, tokens};
use crate::support::{Keys, OPTIONS};

const ARN: &str = "arn:aws:x:::";

/// Whether a resource after `ARN` matches.
fn matches(policy: &Policy, text: &str) -> bool {
    let resource = format!("{ARN}{text}");
    let request = Request {
        action: "execute-api:Invoke",
        resource: &resource,
        principal: Principal::Anonymous,
        context: &Keys::default(),
    };
    matches!(policy.evaluate(&request), Verdict::Allow(_))
}

fn policy(pattern: &str) -> Policy {
    let resource = format!("{ARN}{pattern}");
    let document = json!({"Statement": {"Effect": "Allow", "Action": "*", "Resource": resource}});
    Policy::from_value(&document, Kind::Identity, OPTIONS).unwrap()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn wildcards_match_as_a_table_of_all_prefixes(pattern in "[abé*?]{0,10}", text in "[abé]{0,12}") {
        let expected = like(&tokens(&pattern), &text.chars().collect::<Vec<_>>());
        prop_assert_eq!(matches(&policy(&pattern), &text), expected, "{} {}", pattern, text);
    }

    #[test]
    fn a_condition_that_ignores_case_matches_as_lower_case(pattern in "[aBÉ]{0,4}", text in "[AbÉé]{0,4}") {
        let condition = json!({"StringEqualsIgnoreCase": {"aws:username": pattern}});
        let statement = json!({"Effect": "Allow", "Action": "*", "Resource": "*", "Condition": condition});
        let policy = Policy::from_value(&json!({"Statement": statement}), Kind::Identity, OPTIONS).unwrap();
        let context = Keys([("aws:username".to_owned(), vec![text.clone()])].into());
        let request = Request { action: "a:b", resource: ARN, principal: Principal::Anonymous, context: &context };
        let is_allowed = matches!(policy.evaluate(&request), Verdict::Allow(_));
        prop_assert_eq!(is_allowed, pattern.to_lowercase() == text.to_lowercase());
    }
}

#[test]
fn segments_do_not_overlap_and_are_found_again_after_a_false_start() {
    for (pattern, text, expected) in [
        ("ab*ba", "aba", false),
        ("ab*ba", "abba", true),
        ("*aab*", "aaab", true),
        ("*a?c*", "abaac", true),
        ("**", "", true),
        ("*?*", "", false),
        ("?*?", "a", false),
        ("", "", true),
        ("", "a", false),
        ("a*b*c", "abc", true),
        ("a*b*c", "acb", false),
        ("*ab", "abab", true),
    ] {
        assert_eq!(matches(&policy(pattern), text), expected, "{pattern} {text}");
    }
}

#[test]
fn patterns_made_to_be_slow_take_no_time() {
    let text = "a".repeat(100_000);
    let started = Instant::now();
    for pattern in ["a*".repeat(500) + "b", "*a".repeat(500) + "*b*", format!("*{}b*", "a".repeat(1000))] {
        assert!(!matches(&policy(&pattern), &text));
    }
    assert!(!matches(&policy(&("?*a".repeat(300) + "?*b*")), &text));
    // The one case that is not linear: text times segment, once.
    let length = 1600;
    assert!(!matches(&policy(&format!("*?{}b*", "a".repeat(700))), &"a".repeat(length)));
    assert!(started.elapsed() < Duration::from_secs(5), "{:?}", started.elapsed());
}
