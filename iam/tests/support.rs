//! Requests for tests.

use std::borrow::Cow;
use std::collections::BTreeMap;

use sluice_iam::{Context, Decided, Options, Principal, Values, Verdict};

pub(crate) const PREFIX: &str = "arn:aws:execute-api:eu-west-1:123456789012:abc";
pub(crate) const OPTIONS: Options<'_> = Options { resource_prefix: Some(PREFIX) };

/// Context keys in lower case, with their values.
#[derive(Debug, Clone, Default)]
pub(crate) struct Keys(pub(crate) BTreeMap<String, Vec<String>>);

impl Context for Keys {
    fn values(&self, key: &str) -> Values<'_> {
        match self.0.get(key).map(Vec::as_slice) {
            None => Values::None,
            Some([value]) => Values::One(Cow::Borrowed(value)),
            Some(values) => Values::Many(values.iter().map(|value| Cow::Borrowed(value.as_str())).collect()),
        }
    }
}

/// `anonymous`, or `account arn` with an optional third word for the ARN of the role.
pub(crate) fn principal(text: &str) -> Principal<'_> {
    let words: Vec<&str> = text.split(' ').collect();
    match words.as_slice() {
        ["anonymous"] => Principal::Anonymous,
        [account, arn] => Principal::Aws { account, arn, role_arn: None },
        [account, arn, role] => Principal::Aws { account, arn, role_arn: Some(role) },
        _ => panic!("{text}"),
    }
}

/// `Silent`, or the effect and the statement: `Allow 0 Sid`.
pub(crate) fn text_of(verdict: Verdict<Decided<'_>>) -> String {
    let decided = |effect: &str, Decided { statement, sid }: Decided<'_>| match sid {
        Some(sid) => format!("{effect} {statement} {sid}"),
        None => format!("{effect} {statement}"),
    };
    match verdict {
        Verdict::Silent => "Silent".to_owned(),
        Verdict::Allow(allowed) => decided("Allow", allowed),
        Verdict::Deny(denied) => decided("Deny", denied),
    }
}
