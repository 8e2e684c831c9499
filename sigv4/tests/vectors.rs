//! Requests that others have signed.

use std::time::{Duration, UNIX_EPOCH};

use sluice_sigv4::{BodyHash, Presented, signing_key};

use crate::cases::{self, Case};
use crate::{ACCESS_KEY_ID, SECRET};

/// What differs from the signature or the canonical request of a case.
fn difference(case: &Case) -> Option<String> {
    let presented = match Presented::find(&case.headers, case.query.as_deref(), case.options) {
        Ok(presented) => presented.expect("a credential"),
        Err(error) => return Some(format!("{}: {error}", case.name)),
    };
    assert_eq!(presented.access_key_id(), ACCESS_KEY_ID, "{}", case.name);
    assert_eq!(presented.is_presigned(), case.name.contains(" query "), "{}", case.name);
    let signed = UNIX_EPOCH + Duration::from_secs(presented.timestamp());
    presented.check_time(signed, Duration::from_secs(300)).unwrap();
    let key = signing_key(SECRET, presented.date(), presented.region(), presented.service());
    let body = presented.declared_body().cloned().unwrap_or_else(|| BodyHash::of(case.body.as_bytes()));
    let other = signing_key("another", presented.date(), presented.region(), presented.service());
    let mismatch = presented.verify(&other, &case.request(), &body).expect_err("another key");
    let name = &case.name;
    if !case.canonical.is_empty() && mismatch.canonical_request != case.canonical {
        let (ours, theirs) = (&mismatch.canonical_request, &case.canonical);
        return Some(format!("{name}: canonical request\n{ours}\nshould be\n{theirs}"));
    }
    presented.verify(&key, &case.request(), &body).err().map(|_| format!("{name}: signature"))
}

fn check(file: &str, at_least: usize) {
    let cases = cases::read(file);
    assert!(cases.len() >= at_least, "{} cases", cases.len());
    let differences: Vec<String> = cases.iter().filter_map(difference).collect();
    assert!(differences.is_empty(), "{} of {}:\n{}", differences.len(), cases.len(), differences.join("\n\n"));
}

#[test]
fn the_test_suite_of_aws_is_verified() {
    check(include_str!("vectors/aws-test-suite.txt"), 75);
}

#[test]
fn requests_of_clients_are_verified() {
    check(include_str!("vectors/clients.txt"), 42);
}
