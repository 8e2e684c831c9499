//! What functions return: policies or simple responses, with a context. Anything that is not completely one of them is a failure.

use std::borrow::Cow;

use serde_json::{Map, Value};
use sluice_iam::{Kind, Options, Policy};
use sluice_wire::LambdaResponses;

use super::super::json;
use super::super::token_error::LambdaFailure;
use crate::key::{Presented, presented};
use crate::permission::CallerPolicies;

/// The message of an error by which a function rejects a request with 401.
const UNAUTHORIZED: &str = "Unauthorized";

/// A decision of a function.
#[derive(Debug)]
pub(super) struct Output {
    pub(super) principal: Option<String>,
    pub(super) context: Map<String, Value>,
    pub(super) policy: Policy,
    /// `usageIdentifierKey`.
    pub(super) api_key: Presented,
    /// The bytes of the policy.
    pub(super) size: usize,
}

/// Why a function has not decided.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Failed {
    /// It rejects the caller with 401.
    Unauthorized,
    Failure(LambdaFailure),
}

impl Output {
    /// `is_error`: the response has a header that says so. `flat`: the context has no lists and objects.
    pub(super) fn parse(
        body: &[u8],
        is_error: bool,
        responses: LambdaResponses,
        flat: bool,
        resource_prefix: &str,
    ) -> Result<Self, Failed> {
        const INVALID: Failed = Failed::Failure(LambdaFailure::InvalidResponse);
        let object = json::object(body);
        let message = object.as_ref().ok().and_then(|object| object.get("errorMessage"));
        // Some servers for tests have no header for errors.
        let decides = |object: &Map<String, Value>| {
            ["principalId", "policyDocument", "isAuthorized"].iter().any(|name| object.contains_key(*name))
        };
        if is_error || (message.is_some() && !object.as_ref().is_ok_and(decides)) {
            return Err(match message {
                Some(Value::String(text)) if text == UNAUTHORIZED => Failed::Unauthorized,
                _ => Failed::Failure(LambdaFailure::FunctionError),
            });
        }
        let mut object = object.map_err(|_| INVALID)?;
        let context = context(object.remove("context"), flat).ok_or(INVALID)?;
        match responses {
            LambdaResponses::Policy => {
                let Some(Value::String(principal)) = object.remove("principalId") else { return Err(INVALID) };
                let document = object.remove("policyDocument").filter(Value::is_object).ok_or(INVALID)?.to_string();
                let options = Options { resource_prefix: Some(resource_prefix) };
                let policy = Policy::parse(&document, Kind::Authorizer, options).map_err(|_| INVALID)?;
                let principal = Some(principal).filter(|text| !text.is_empty()).ok_or(INVALID)?;
                let api_key = api_key(object.remove("usageIdentifierKey"));
                Ok(Self { principal: Some(principal), context, policy, api_key, size: document.len() })
            }
            LambdaResponses::Simple => {
                let Some(Value::Bool(allowed)) = object.remove("isAuthorized") else { return Err(INVALID) };
                // Constants that are valid.
                let policy = everything(if allowed { "Allow" } else { "Deny" }).ok_or(INVALID)?;
                Ok(Self { principal: None, context, policy, api_key: Presented::Nothing, size: 0 })
            }
        }
    }

    /// The policies of the caller.
    pub(super) fn policies(policy: Policy) -> CallerPolicies {
        CallerPolicies { name: None, policies: [policy].into(), ..CallerPolicies::default() }
    }
}

/// The API key that a function names. One that is not a text is none that a Stage accepts; where Stages have other keys it has no
/// effect.
fn api_key(value: Option<Value>) -> Presented {
    match value {
        None | Some(Value::Null) => Presented::Nothing,
        Some(Value::String(text)) => presented(std::iter::once(Cow::Borrowed(text.as_bytes()))),
        Some(_) => Presented::Invalid,
    }
}

/// The policy about each request.
fn everything(effect: &str) -> Option<Policy> {
    let text = format!(
        r#"{{"Version":"2012-10-17","Statement":[{{"Effect":"{effect}","Action":"execute-api:Invoke","Resource":"*"}}]}}"#
    );
    Policy::parse(&text, Kind::Authorizer, Options::default()).ok()
}

/// The context; none: it is not valid. A value that is null is left out.
fn context(value: Option<Value>, flat: bool) -> Option<Map<String, Value>> {
    let mut context = match value {
        None | Some(Value::Null) => return Some(Map::new()),
        Some(Value::Object(context)) => context,
        Some(_) => return None,
    };
    context.retain(|_, value| !value.is_null());
    let nested = |value: &Value| matches!(value, Value::Array(_) | Value::Object(_));
    if flat && context.values().any(nested) { None } else { Some(context) }
}
