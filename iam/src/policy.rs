//! A whole policy.

use std::collections::HashSet;

use serde_json::Value;

use crate::error::{Path, PolicyError};
use crate::json::Node;
use crate::request::Request;
use crate::statement::{Effect, Kind, Options, Rules, Statement};
use crate::verdict::{Decided, Verdict, WithoutEffect};

/// How long a document may be, in bytes. IAM allows 6,144 characters in a managed policy and 10,240 in all
/// inline policies of a role, not counting white space.
pub const MAX_DOCUMENT: usize = 20_480;

/// How long the policy of a resource may be, in characters, as in API Gateway.
pub const MAX_RESOURCE_DOCUMENT: usize = 8_192;

/// How many statements a policy may have.
pub const MAX_STATEMENTS: usize = 256;

/// A policy, parsed and compiled.
#[derive(Debug)]
pub struct Policy {
    statements: Vec<Statement>,
}

impl Policy {
    /// Parses a JSON document. Everything in it is used; anything unknown or invalid is an error.
    pub fn parse(text: &str, kind: Kind, options: Options<'_>) -> Result<Self, PolicyError> {
        check_length(text, kind)?;
        Self::compile(&Node::parse(text)?, kind, options)
    }

    /// Parses a JSON value, whose length is that of its compact form. Prefer [`Policy::parse`]: a value no longer has
    /// the duplicate keys of its document, which are an error.
    pub fn from_value(value: &Value, kind: Kind, options: Options<'_>) -> Result<Self, PolicyError> {
        let node = Node::from_value(value)?;
        check_length(&value.to_string(), kind)?;
        Self::compile(&node, kind, options)
    }

    fn compile(node: &Node, kind: Kind, options: Options<'_>) -> Result<Self, PolicyError> {
        let root = Path::Root;
        let members = node.members(&root)?;
        // Before the statements: their syntax depends on it.
        let variables = match members.iter().find(|(name, _)| name == "Version") {
            Some((name, version)) => parse_version(version, &root.key(name))?,
            None => false,
        };
        let rules = Rules { kind, options, variables };
        let mut statements = None;
        for (name, node) in members {
            let path = root.key(name);
            match name.as_str() {
                "Version" => {}
                "Id" if node.text(&path)?.is_empty() => return Err(path.error("must not be empty")),
                "Id" => {}
                "Statement" => statements = Some(parse_statements(node, &path, rules)?),
                _ => return Err(path.error("unknown element of a policy")),
            }
        }
        let statements = statements.ok_or_else(|| root.error("Statement is missing"))?;
        Ok(Self { statements })
    }

    /// Whether a statement has the effect `Deny`. Without one no verdict is [`Verdict::Deny`].
    pub fn can_deny(&self) -> bool {
        self.statements.iter().any(|statement| statement.effect == Effect::Deny)
    }

    /// Evaluates the policy for a request: a Deny that matches, else an Allow that matches.
    ///
    /// The time depends on the policy, the length of the resource and the values of the context keys that the policy
    /// names. Nothing is allocated, except for patterns with policy variables and for `BinaryEquals`.
    pub fn evaluate(&self, request: &Request<'_>) -> Verdict<Decided<'_>> {
        if let Some(denied) = self.first(Effect::Deny, request) {
            return Verdict::Deny(denied);
        }
        self.first(Effect::Allow, request).map_or(Verdict::Silent, Verdict::Allow)
    }

    /// Whether a statement with the effect `Allow` applies to this action, for some resource and some request.
    pub fn may_allow(&self, action: &str) -> bool {
        self.statements.iter().any(|statement| statement.effect == Effect::Allow && statement.may_concern(action))
    }

    /// The statements that apply to no request, whatever its caller and its context: none of the actions is one of theirs, or none
    /// of their resources begins with `prefix`. Every text begins with the empty one.
    pub fn without_effect(&self, actions: &[&str], prefix: &str) -> Vec<WithoutEffect<'_>> {
        let mut found = Vec::new();
        for (index, statement) in self.statements.iter().enumerate() {
            let decided = Decided { statement: index, sid: statement.sid.as_deref() };
            if !actions.iter().any(|action| statement.may_concern(action)) {
                found.push(WithoutEffect::Action(decided));
            } else if !statement.may_reach(prefix) {
                found.push(WithoutEffect::Resource(decided));
            }
        }
        found
    }

    fn first(&self, effect: Effect, request: &Request<'_>) -> Option<Decided<'_>> {
        let matches = |statement: &Statement| statement.effect == effect && statement.matches(request);
        let (index, statement) = self.statements.iter().enumerate().find(|(_, statement)| matches(statement))?;
        Some(Decided { statement: index, sid: statement.sid.as_deref() })
    }
}

fn check_length(text: &str, kind: Kind) -> Result<(), PolicyError> {
    if text.len() > MAX_DOCUMENT {
        return Err(Path::Root.error(format!("the document is longer than {MAX_DOCUMENT} bytes")));
    }
    if kind == Kind::Resource && text.chars().nth(MAX_RESOURCE_DOCUMENT).is_some() {
        return Err(Path::Root.error(format!("the document is longer than {MAX_RESOURCE_DOCUMENT} characters")));
    }
    Ok(())
}

/// Whether the version has policy variables.
fn parse_version(node: &Node, path: &Path<'_>) -> Result<bool, PolicyError> {
    match node.text(path)? {
        "2012-10-17" => Ok(true),
        "2008-10-17" => Ok(false),
        _ => Err(path.error("must be 2012-10-17 or 2008-10-17")),
    }
}

fn parse_statements(node: &Node, path: &Path<'_>, rules: Rules<'_>) -> Result<Vec<Statement>, PolicyError> {
    let mut sids = HashSet::new();
    node.one_or_many(path, MAX_STATEMENTS, |node, path| {
        let statement = Statement::parse(node, path, rules)?;
        if let Some(sid) = &statement.sid
            && !sids.insert(sid.clone())
        {
            return Err(path.key("Sid").error("another statement has the same Sid"));
        }
        Ok(statement)
    })
}
