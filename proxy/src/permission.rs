//! Which requests policies in the language of IAM allow: the resource policy of a Stage, and the policies of a caller.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use http::header::{REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, Method};
use sluice_iam::{Accounts, Context, Decided, Kind, Options, Policy, Principal, Request, Values, Verdict, combine};
use sluice_wire::StagePolicy;

const INVOKE: &str = "execute-api:Invoke";
const INVALIDATE_CACHE: &str = "execute-api:InvalidateCache";
/// AWS's limit for the ARN of a method.
const MAX_ARN: usize = 1_600;

/// A resource policy, ready to be evaluated.
pub(crate) struct ResourcePolicy(Policy);

impl ResourcePolicy {
    /// None: the document cannot be evaluated completely.
    pub(crate) fn compile(part: &StagePolicy) -> Option<Self> {
        let options = Options { resource_prefix: Some(&part.arn) };
        Policy::parse(&part.document, Kind::Resource, options).ok().map(Self)
    }
}

/// A caller that has policies of its own: it may only call what they allow.
#[derive(Default)]
pub(crate) struct CallerPolicies {
    /// None: resource policies see the caller as anonymous, in the account of the Stage.
    pub(crate) name: Option<AwsName>,
    /// An Allow of one is enough, a Deny of one denies.
    pub(crate) policies: Arc<[Policy]>,
    /// Further context keys of all its requests, in lower case, such as `aws:username`.
    pub(crate) keys: Arc<BTreeMap<Box<str>, Box<str>>>,
    /// Those of one session, which come before the others.
    pub(crate) of_session: Vec<(&'static str, Box<str>)>,
}

/// The name of a caller with AWS credentials.
pub(crate) struct AwsName {
    /// 12 digits.
    pub(crate) account: Box<str>,
    pub(crate) arn: Box<str>,
    /// Of a session of a role: the ARN of the role.
    pub(crate) role_arn: Option<Box<str>>,
}

/// The policies that decide about a request.
#[derive(Clone, Copy)]
pub(crate) struct Policies<'a> {
    /// How the ARNs of the Stage's methods begin: `arn:aws:execute-api:REGION:ACCOUNT:API/STAGE/`.
    pub(crate) prefix: &'a str,
    pub(crate) resource: Option<&'a ResourcePolicy>,
    pub(crate) caller: Option<&'a CallerPolicies>,
}

/// What a policy can read of a request.
pub(crate) struct Facts<'a> {
    pub(crate) address: IpAddr,
    pub(crate) secure: bool,
    pub(crate) headers: &'a HeaderMap,
    pub(crate) caller: Option<&'a CallerPolicies>,
}

/// A statement that decides about a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Statement<'a> {
    pub(crate) owner: Owner,
    /// Its index in the policy.
    pub(crate) index: usize,
    pub(crate) sid: Option<&'a str>,
}

/// Whose policy has a statement.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Owner {
    Stage,
    /// A Principal, with the index of its policy.
    Principal(usize),
    /// The function of a Lambda authorizer.
    Authorizer,
}

/// Where the statement is: a bounded number of texts, none of which a client chooses.
impl fmt::Display for Statement<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let index = self.index;
        match self.owner {
            Owner::Stage => write!(f, "stage.policy.Statement[{index}]"),
            Owner::Principal(policy) => write!(f, "principal.policies[{policy}].Statement[{index}]"),
            Owner::Authorizer => write!(f, "authorizer.policy.Statement[{index}]"),
        }
    }
}

/// Why a request is not allowed.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Denied<'a> {
    /// A statement denies it; with the ARN, and with that of the other form of the path that the statement denies, if it is one.
    Explicit { arn: String, by: Statement<'a>, form: Option<String> },
    /// No statement allows it; with the ARN.
    Implicit(String),
    /// Its ARN is too long.
    TooLong,
}

impl<'a> Policies<'a> {
    /// Whether there is nothing to check.
    pub(crate) fn is_empty(&self) -> bool {
        self.resource.is_none() && self.caller.is_none()
    }

    /// Whether a statement denies something: then other forms of a path matter.
    pub(crate) fn can_deny(&self) -> bool {
        self.all().any(Policy::can_deny)
    }

    fn all(&self) -> impl Iterator<Item = &'a Policy> {
        let of_caller = self.caller.into_iter().flat_map(|caller| caller.policies.iter());
        self.resource.map(|policy| &policy.0).into_iter().chain(of_caller)
    }

    /// Whether a request is allowed for its path below the base path, as rules are matched with it. `others` are the forms of
    /// the path that the integration sees or could read in it. A statement that denies one of them, with or without a slash at
    /// its end, denies the request: otherwise another form of a path would be a way around it. The same holds for methods in
    /// lower case, which some programs accept. The result is the statement that allows it.
    pub(crate) fn check(
        &self,
        method: &Method,
        matched: &str,
        others: &[&str],
        facts: &Facts<'_>,
    ) -> Result<Statement<'a>, Denied<'a>> {
        let arn = method_arn(self.prefix, method.as_str(), matched).ok_or(Denied::TooLong)?;
        let by = match self.evaluate(INVOKE, &arn, facts) {
            Verdict::Deny(by) => return Err(Denied::Explicit { arn, by, form: None }),
            Verdict::Silent => return Err(Denied::Implicit(arn)),
            Verdict::Allow(by) => by,
        };
        if self.can_deny()
            && let Some((by, form)) = self.denies_other_form(&arn, method, matched, others, facts)?
        {
            return Err(Denied::Explicit { arn, by, form: Some(form) });
        }
        Ok(by)
    }

    /// The statement that denies another form, with the ARN of the form.
    fn denies_other_form(
        &self,
        arn: &str,
        method: &Method,
        matched: &str,
        others: &[&str],
        facts: &Facts<'_>,
    ) -> Result<Option<(Statement<'a>, String)>, Denied<'a>> {
        let upper = method.as_str().to_ascii_uppercase();
        let names = [Some(method.as_str()), Some(&*upper).filter(|upper| *upper != method.as_str())];
        for path in std::iter::once(matched).chain(others.iter().copied()) {
            let other = match path.strip_suffix('/') {
                Some(shorter) => shorter.to_owned(),
                None => [path, "/"].concat(),
            };
            for (name, path) in names.into_iter().flatten().flat_map(|name| [(name, path), (name, &*other)]) {
                let form = method_arn(self.prefix, name, path).ok_or(Denied::TooLong)?;
                if form != arn
                    && let Verdict::Deny(by) = self.evaluate(INVOKE, &form, facts)
                {
                    return Ok(Some((by, form)));
                }
            }
        }
        Ok(None)
    }

    /// Whether the caller may replace the stored response of a method.
    pub(crate) fn may_invalidate_cache(&self, method: &Method, matched: &str, facts: &Facts<'_>) -> bool {
        let arn = method_arn(self.prefix, method.as_str(), matched);
        arn.is_some_and(|arn| matches!(self.evaluate(INVALIDATE_CACHE, &arn, facts), Verdict::Allow(_)))
    }

    fn evaluate(&self, action: &str, arn: &str, facts: &Facts<'_>) -> Verdict<Statement<'a>> {
        let name = self.caller.and_then(|caller| caller.name.as_ref());
        let principal = name.map_or(Principal::Anonymous, AwsName::principal);
        let request = Request { action, resource: arn, principal, context: facts };
        let of_stage = |Decided { statement, sid }| Statement { owner: Owner::Stage, index: statement, sid };
        let of_resource = self.resource.map(|policy| policy.0.evaluate(&request).map(of_stage));
        let Some(caller) = self.caller else { return of_resource.unwrap_or(Verdict::Silent) };
        let of_caller = caller.evaluate(&request);
        let accounts = match name {
            Some(name) if account_of(self.prefix) != Some(&*name.account) => Accounts::Cross,
            _ => Accounts::Same,
        };
        combine(accounts, of_caller, of_resource.unwrap_or(Verdict::Silent))
    }
}

impl CallerPolicies {
    /// The value of a context key.
    fn key(&self, name: &str) -> Option<&str> {
        let of_session = self.of_session.iter().find(|(known, _)| *known == name).map(|(_, value)| value);
        of_session.or_else(|| self.keys.get(name)).map(|value| &**value)
    }

    fn evaluate(&self, request: &Request<'_>) -> Verdict<Statement<'_>> {
        let mut allowed = Verdict::Silent;
        for (at, policy) in self.policies.iter().enumerate() {
            let owner = if self.name.is_some() { Owner::Principal(at) } else { Owner::Authorizer };
            match policy.evaluate(request).map(|Decided { statement, sid }| Statement { owner, index: statement, sid })
            {
                Verdict::Allow(decided) if allowed == Verdict::Silent => allowed = Verdict::Allow(decided),
                denied @ Verdict::Deny(_) => return denied,
                Verdict::Allow(_) | Verdict::Silent => {}
            }
        }
        allowed
    }
}

impl AwsName {
    fn principal(&self) -> Principal<'_> {
        Principal::Aws { account: &self.account, arn: &self.arn, role_arn: self.role_arn.as_deref() }
    }
}

/// The ARN of a method; none: it is too long.
pub(crate) fn method_arn(prefix: &str, method: &str, path: &str) -> Option<String> {
    let path = path.strip_prefix('/').unwrap_or(path);
    let length = prefix.len() + method.len() + 1 + path.len();
    (length <= MAX_ARN).then(|| [prefix, method, "/", path].concat())
}

/// The account in an ARN.
fn account_of(arn: &str) -> Option<&str> {
    arn.split(':').nth(4)
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
            _ => match self.caller.and_then(|caller| caller.key(key)) {
                Some(value) => Values::borrowed(Some(value)),
                None if key == "aws:principaltype" => Values::borrowed(Some("Anonymous")),
                None => Values::None,
            },
        }
    }
}

/// The sentence with which AWS rejects a request: the account is not shown.
pub(crate) fn sentence(caller: Option<&CallerPolicies>, arn: &str, explicit: bool) -> String {
    let suffix = if explicit { " with an explicit deny" } else { "" };
    let user = match caller {
        None => "anonymous",
        Some(CallerPolicies { name: Some(name), .. }) => &*name.arn,
        // A caller that a Lambda authorizer has accepted has no name that a policy knows.
        Some(_) => return format!("User is not authorized to access this resource{suffix}"),
    };
    let mut parts: Vec<Cow<'_, str>> = arn.splitn(6, ':').map(Cow::Borrowed).collect();
    if let Some(account) = parts.get_mut(4) {
        let end = account.get(account.len().saturating_sub(4)..).unwrap_or_default();
        *account = Cow::Owned(format!("********{end}"));
    }
    let arn = parts.join(":");
    format!("User: {user} is not authorized to perform: execute-api:Invoke on resource: {arn}{suffix}")
}

#[cfg(test)]
mod tests;
