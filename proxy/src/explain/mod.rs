//! The explanation of one request: which Stage, rule and checks would decide about it, as plain data. `pipeline` records it while
//! the request passes its steps; nothing here decides.

mod checks;
mod explanation;
mod facts;
mod parts;
mod trace;

pub use checks::{Check, CheckOutcome, CheckResult};
pub use explanation::{ExplainedOutcome, Explanation};
pub use facts::{
    ExplainedAuthorizer, ExplainedCache, ExplainedCaller, ExplainedExpression, ExplainedIntegration, ExplainedKey,
    ExplainedLimit, ExplainedPolicy, ExplainedRequest, ExplainedResponse, ExplainedRule, ExplainedStage,
    ExplainedStatement, ExplainedUpstream, Matches, RuleOfStage, StageOfHosts,
};
pub(crate) use parts::complete;
pub(crate) use trace::Trace;

#[cfg(test)]
mod tests;
