//! Results of evaluation, and how those of two policies are combined.

/// The result of evaluating one policy, or two.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict<'p> {
    /// A statement with the effect `Deny` matches.
    Deny(Decided<'p>),
    /// A statement with the effect `Allow` matches, and none with `Deny`.
    Allow(Decided<'p>),
    /// No statement matches: an implicit deny, unless another policy allows the request.
    Silent,
}

/// The statement that decided: the first one with the effect that matches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Decided<'p> {
    /// Its index in the policy, from 0.
    pub statement: usize,
    /// Its `Sid`, when it has one.
    pub sid: Option<&'p str>,
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
pub fn combine<'p>(accounts: Accounts, caller: Verdict<'p>, resource: Verdict<'p>) -> Verdict<'p> {
    use Verdict::{Allow, Deny, Silent};
    match (caller, resource) {
        (Deny(decided), _) | (_, Deny(decided)) => Deny(decided),
        (Allow(decided), Allow(_)) => Allow(decided),
        (Allow(decided), Silent) | (Silent, Allow(decided)) if accounts == Accounts::Same => Allow(decided),
        _ => Silent,
    }
}
