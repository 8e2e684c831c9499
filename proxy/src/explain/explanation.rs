//! The explanation as a whole: which check comes after which, and what its end means.

use serde::Serialize;

use super::checks::{Check, CheckOutcome, CheckResult};
use super::facts::{
    ExplainedAuthorizer, ExplainedCache, ExplainedCaller, ExplainedExpression, ExplainedKey, ExplainedLimit,
    ExplainedPolicy, ExplainedRequest, ExplainedResponse, ExplainedRule, ExplainedStage, ExplainedUpstream,
    RuleOfStage, StageOfHosts,
};

/// What would happen to a request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub enum ExplainedOutcome {
    /// Its integration would be called.
    Forwarded,
    /// The gateway has the response itself and rejects nothing: a mock, or the response to a preflight request.
    Responded,
    /// The gateway rejects it, or redirects it to HTTPS.
    Rejected,
    /// The time for the explanation ended before.
    #[default]
    Unfinished,
}

/// The explanation of a request.
#[derive(Clone, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Explanation {
    /// What would happen.
    pub outcome: ExplainedOutcome,
    /// The request; none: its head cannot be parsed, or the connection failed before.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub request: Option<ExplainedRequest>,
    /// The checks that were made, in their order. The last one has decided.
    pub checks: Vec<CheckResult>,
    /// The Stage; none: none matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub stage: Option<ExplainedStage>,
    /// If no Stage matched: the Stages that there are.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub stages: Vec<StageOfHosts>,
    /// The subject of the client certificate, if the Stage accepts it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub client_certificate: Option<String>,
    /// The rule; none: none matched.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rule: Option<ExplainedRule>,
    /// If no rule of the Stage matched: the rules that it has.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<RuleOfStage>,
    /// The authorizer that was called, and its decision.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub authorizer: Option<ExplainedAuthorizer>,
    /// The caller that was identified.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub caller: Option<ExplainedCaller>,
    /// What policies of Stage and caller decided.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub policy: Option<ExplainedPolicy>,
    /// The API key.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub api_key: Option<ExplainedKey>,
    /// The expressions that were evaluated, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub expressions: Vec<ExplainedExpression>,
    /// The limits that the request counts towards, in their order.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub limits: Vec<ExplainedLimit>,
    /// What the cache would do.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cache: Option<ExplainedCache>,
    /// The request to the integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub upstream: Option<ExplainedUpstream>,
    /// The response, or what the gateway adds to that of the integration.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub response: Option<ExplainedResponse>,
}

impl Explanation {
    /// Begins a check: the one before has passed.
    pub(crate) fn begin(&mut self, check: Check) {
        if self.checks.last().is_some_and(|last| last.check == check) {
            return;
        }
        self.pass_last();
        self.checks.push(CheckResult { check, result: CheckOutcome::Unfinished });
    }

    /// Takes back a check that has found that there is nothing to check.
    pub(crate) fn forget(&mut self, check: Check) {
        if self.checks.last().is_some_and(|last| last.check == check) {
            self.checks.pop();
        }
    }

    /// The response is complete: the last check has passed, or it has rejected the request.
    pub(crate) fn respond(&mut self, mut response: ExplainedResponse) {
        self.outcome = match (&response.reason, &self.upstream) {
            (Some(_), _) => ExplainedOutcome::Rejected,
            (None, Some(_)) => ExplainedOutcome::Forwarded,
            (None, None) => ExplainedOutcome::Responded,
        };
        match self.outcome {
            ExplainedOutcome::Rejected => {
                self.upstream = None;
                self.cache = None;
                if let Some(last) = self.checks.last_mut() {
                    last.result = CheckOutcome::Rejected;
                }
            }
            ExplainedOutcome::Forwarded => {
                // Those of the integration are not known.
                (response.status, response.body) = (None, None);
                self.pass_last();
            }
            ExplainedOutcome::Responded | ExplainedOutcome::Unfinished => self.pass_last(),
        }
        self.response = Some(response);
    }

    /// The connection is closed without a response.
    pub(crate) fn close(&mut self, reason: &str) {
        let reason = Some(reason.to_owned());
        self.respond(ExplainedResponse { status: None, reason, denied_by: None, headers: Vec::new(), body: None });
    }

    fn pass_last(&mut self) {
        if let Some(last) = self.checks.last_mut()
            && last.result == CheckOutcome::Unfinished
        {
            last.result = CheckOutcome::Passed;
        }
    }
}
