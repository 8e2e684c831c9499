//! The resource policy of a Stage: which requests it allows, in the language of IAM.

use std::borrow::Cow;
use std::net::IpAddr;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, Method};
use sluice_iam::{Context, Kind, Options, Policy, Principal, Request, Values, Verdict};
use sluice_wire::StagePolicy;

/// AWS's limit for the ARN of a method.
const MAX_ARN: usize = 1_600;

/// A policy, ready to be evaluated.
pub(crate) struct ResourcePolicy {
    policy: Policy,
    /// `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/`.
    prefix: Box<str>,
}

/// What a policy can read of a request.
pub(crate) struct Facts<'a> {
    pub(crate) address: IpAddr,
    pub(crate) secure: bool,
    pub(crate) headers: &'a HeaderMap,
}

/// Why a request is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied {
    /// A statement denies it; with the ARN.
    Explicit(String),
    /// No statement allows it; with the ARN.
    Implicit(String),
    /// Its ARN is too long.
    TooLong,
}

impl ResourcePolicy {
    /// None: the document cannot be evaluated completely.
    pub(crate) fn compile(part: &StagePolicy, stage: &str) -> Option<Self> {
        let options = Options { resource_prefix: Some(&part.arn) };
        let policy = Policy::parse(&part.document, Kind::Resource, options).ok()?;
        Some(Self { policy, prefix: format!("{}/{stage}/", part.arn).into() })
    }

    /// Whether a statement denies something: then other forms of a path matter.
    pub(crate) fn can_deny(&self) -> bool {
        self.policy.can_deny()
    }

    /// Whether a request is allowed for its path below the base path, as rules are matched with it. `others` are the forms of
    /// the path that the integration sees or could read in it. A statement that denies one of them, with or without a slash at
    /// its end, denies the request: otherwise another form of a path would be a way around it. The same holds for methods in
    /// lower case, which some programs accept.
    pub(crate) fn check(
        &self,
        method: &Method,
        matched: &str,
        others: &[&str],
        facts: &Facts<'_>,
    ) -> Result<(), Denied> {
        let arn = self.arn(method.as_str(), matched)?;
        match self.evaluate(&arn, facts) {
            Verdict::Deny(_) => return Err(Denied::Explicit(arn)),
            Verdict::Silent => return Err(Denied::Implicit(arn)),
            Verdict::Allow(_) if !self.can_deny() => return Ok(()),
            Verdict::Allow(_) => {}
        }
        let upper = method.as_str().to_ascii_uppercase();
        let names = [Some(method.as_str()), Some(&*upper).filter(|upper| *upper != method.as_str())];
        for path in std::iter::once(matched).chain(others.iter().copied()) {
            let other = match path.strip_suffix('/') {
                Some(shorter) => shorter.to_owned(),
                None => [path, "/"].concat(),
            };
            for (name, path) in names.into_iter().flatten().flat_map(|name| [(name, path), (name, &*other)]) {
                let form = self.arn(name, path)?;
                if form != arn && matches!(self.evaluate(&form, facts), Verdict::Deny(_)) {
                    return Err(Denied::Explicit(arn));
                }
            }
        }
        Ok(())
    }

    fn arn(&self, method: &str, path: &str) -> Result<String, Denied> {
        let path = path.strip_prefix('/').unwrap_or(path);
        let length = self.prefix.len() + method.len() + 1 + path.len();
        if length > MAX_ARN { Err(Denied::TooLong) } else { Ok([&*self.prefix, method, "/", path].concat()) }
    }

    fn evaluate(&self, arn: &str, facts: &Facts<'_>) -> Verdict<'_> {
        let request =
            Request { action: "execute-api:Invoke", resource: arn, principal: Principal::Anonymous, context: facts };
        self.policy.evaluate(&request)
    }
}

impl Facts<'_> {
    /// A header that is there once, as text; bytes that are not UTF-8 are replaced.
    fn header(&self, name: &HeaderName) -> Values<'_> {
        let mut all = self.headers.get_all(name).iter();
        match (all.next(), all.next()) {
            (Some(value), None) => Values::One(String::from_utf8_lossy(value.as_bytes())),
            _ => Values::None,
        }
    }
}

impl Context for Facts<'_> {
    fn values(&self, key: &str) -> Values<'_> {
        let text = |text: String| Values::One(Cow::Owned(text));
        match key {
            "aws:sourceip" => text(self.address.to_string()),
            "aws:securetransport" => Values::borrowed(Some(if self.secure { "true" } else { "false" })),
            // Dates can be seconds.
            "aws:currenttime" | "aws:epochtime" => {
                let seconds = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
                text(seconds.to_string())
            }
            "aws:useragent" => self.header(&USER_AGENT),
            "aws:referer" => self.header(&REFERER),
            "aws:principaltype" => Values::borrowed(Some("Anonymous")),
            _ => Values::None,
        }
    }
}

/// The sentence with which AWS rejects a request: the account is not shown.
pub(crate) fn sentence(arn: &str, explicit: bool) -> String {
    let mut parts: Vec<Cow<'_, str>> = arn.splitn(6, ':').map(Cow::Borrowed).collect();
    if let Some(account) = parts.get_mut(4) {
        let end = account.get(account.len().saturating_sub(4)..).unwrap_or_default();
        *account = Cow::Owned(format!("********{end}"));
    }
    let suffix = if explicit { " with an explicit deny" } else { "" };
    let arn = parts.join(":");
    format!("User: anonymous is not authorized to perform: execute-api:Invoke on resource: {arn}{suffix}")
}

#[cfg(test)]
mod tests;
