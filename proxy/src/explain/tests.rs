use super::*;

fn response(reason: Option<&str>) -> ExplainedResponse {
    let (status, reason, denied_by) = (Some(200), reason.map(str::to_owned), None);
    ExplainedResponse { status, reason, denied_by, headers: Vec::new(), body: Some(String::new()) }
}

fn results(found: &Explanation) -> Vec<(Check, CheckOutcome)> {
    found.checks.iter().map(|check| (check.check, check.result)).collect()
}

#[test]
fn the_last_check_that_began_decides() {
    use CheckOutcome::{Rejected, Unfinished};
    let mut found = Explanation::default();
    found.begin(Check::Stage);
    found.begin(Check::Rule);
    found.begin(Check::Rule);
    assert_eq!(results(&found), [(Check::Stage, CheckOutcome::Passed), (Check::Rule, Unfinished)]);
    assert_eq!(found.outcome, ExplainedOutcome::Unfinished);
    found.respond(response(Some("NotFound")));
    assert_eq!(results(&found), [(Check::Stage, CheckOutcome::Passed), (Check::Rule, Rejected)]);
    assert_eq!(found.outcome, ExplainedOutcome::Rejected);
    assert_eq!(found.response.unwrap().status, Some(200));
}

#[test]
fn a_response_without_a_reason_is_that_of_the_integration_or_of_the_gateway() {
    let mut mock = Explanation::default();
    mock.begin(Check::Integration);
    mock.respond(response(None));
    assert_eq!(
        (mock.outcome, results(&mock)),
        (ExplainedOutcome::Responded, vec![(Check::Integration, CheckOutcome::Passed)])
    );
    let mut forwarded = Explanation::default();
    let (method, target, timeout_ms) = ("GET".to_owned(), "/".to_owned(), 1);
    let upstream = ExplainedUpstream { method, target, set_headers: vec![], removed_headers: vec![], timeout_ms };
    forwarded.upstream = Some(upstream);
    forwarded.respond(response(None));
    assert_eq!(forwarded.outcome, ExplainedOutcome::Forwarded);
    // The integration has these.
    let response = forwarded.response.unwrap();
    assert!(response.status.is_none() && response.body.is_none());
}

#[test]
fn a_check_that_does_not_apply_is_forgotten() {
    let mut found = Explanation::default();
    found.begin(Check::Rule);
    found.forget(Check::Stage);
    found.forget(Check::Rule);
    found.begin(Check::Preflight);
    found.respond(response(None));
    assert_eq!(results(&found), [(Check::Preflight, CheckOutcome::Passed)]);
}
