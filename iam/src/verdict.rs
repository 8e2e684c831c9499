//! Results of evaluation, and how those of two policies are combined.

/// The result of evaluating one policy, or two; `D` describes the statement that decided.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<D> {
    /// A statement with the effect `Deny` matches.
    Deny(D),
    /// A statement with the effect `Allow` matches, and none with `Deny`.
    Allow(D),
    /// No statement matches: an implicit deny, unless another policy allows the request.
    Silent,
}

impl<D> Verdict<D> {
    /// The same with another description of the statement: that of one among several policies, for example.
    pub fn map<T>(self, describe: impl FnOnce(D) -> T) -> Verdict<T> {
        match self {
            Self::Deny(decided) => Verdict::Deny(describe(decided)),
            Self::Allow(decided) => Verdict::Allow(describe(decided)),
            Self::Silent => Verdict::Silent,
        }
    }
}

/// The statement that decided: the first one with the effect that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided<'p> {
    /// Its index in the policy, from 0.
    pub statement: usize,
    /// Its `Sid`, when it has one.
    pub sid: Option<&'p str>,
}

/// A statement that applies to no request, and why.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WithoutEffect<'p> {
    /// It has other actions.
    Action(Decided<'p>),
    /// It has other resources.
    Resource(Decided<'p>),
}

/// Whether the caller and the resource belong to the same account.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Accounts {
    /// One account: an Allow of either policy is enough.
    Same,
    /// Two accounts: both policies must allow the request.
    Cross,
}

/// Combines the verdict about the caller (identity policy or authorizer) with that of the resource policy, by Tables A
/// and B of "How API Gateway resource policies affect authorization workflow". With both equal, the first decides.
pub fn combine<D>(accounts: Accounts, caller: Verdict<D>, resource: Verdict<D>) -> Verdict<D> {
    use Verdict::{Allow, Deny, Silent};
    match (caller, resource) {
        (Deny(decided), _) | (_, Deny(decided)) => Deny(decided),
        (Allow(decided), Allow(_)) => Allow(decided),
        (Allow(decided), Silent) | (Silent, Allow(decided)) if accounts == Accounts::Same => Allow(decided),
        _ => Silent,
    }
}
