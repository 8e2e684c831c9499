//! One statement.

use crate::arn::PARTS;
use crate::condition::{self, Condition};
use crate::error::{Path, PolicyError};
use crate::json::Node;
use crate::principal::Principals;
use crate::request::Request;
use crate::template::{self, Element, Pattern, Syntax};

/// How many values one element of a statement may have: actions, resources, principals of one type, values of one
/// condition key, and conditions.
pub const MAX_VALUES: usize = 512;

/// How long a resource of a policy of a Lambda authorizer may be, in characters.
/// <https://docs.aws.amazon.com/apigateway/latest/developerguide/api-gateway-lambda-authorizer-output.html>
pub const MAX_AUTHORIZER_RESOURCE: usize = 512;

/// Whose policy it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// A policy of a user or a role. `Principal` and `NotPrincipal` are errors.
    Identity,
    /// A policy of a resource. Each statement has `Principal` or `NotPrincipal`, and resources can have the short form
    /// `execute-api:/stage/VERB/path`.
    Resource,
    /// A policy that a Lambda authorizer returned. As [`Kind::Identity`], with shorter resources.
    Authorizer,
}

/// Settings of parsing.
#[derive(Debug, Clone, Copy, Default)]
pub struct Options<'a> {
    /// The text that replaces `execute-api:` in the short form of a resource, such as
    /// `arn:aws:execute-api:eu-west-1:123456789012:apiid`. It is literal. Without it the short form is an error.
    pub resource_prefix: Option<&'a str>,
}

/// What parsing a statement depends on.
#[derive(Clone, Copy)]
pub(crate) struct Rules<'a> {
    pub(crate) kind: Kind,
    pub(crate) options: Options<'a>,
    /// Policy variables: in the version 2012-10-17.
    pub(crate) variables: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Effect {
    Allow,
    Deny,
}

#[derive(Debug)]
pub(crate) struct Statement {
    pub(crate) sid: Option<String>,
    pub(crate) effect: Effect,
    principals: Option<Principals>,
    actions: List,
    resources: List,
    conditions: Vec<Condition>,
}

/// Patterns of `Action` or `Resource`, or of their negated forms.
#[derive(Debug)]
struct List {
    patterns: Vec<Pattern>,
    negated: bool,
}

impl Statement {
    pub(crate) fn parse(node: &Node, path: &Path<'_>, rules: Rules<'_>) -> Result<Self, PolicyError> {
        let mut effect = None;
        let mut sid = None;
        let (mut principals, mut actions, mut resources, mut conditions) = (None, None, None, Vec::new());
        for (name, node) in node.members(path)? {
            let at = path.key(name);
            let negated = name.starts_with("Not");
            match name.as_str() {
                "Sid" => sid = parse_sid(node, &at, rules.kind)?,
                "Effect" => effect = Some(parse_effect(node, &at)?),
                "Principal" | "NotPrincipal" => {
                    if rules.kind != Kind::Resource {
                        return Err(at.error("only a policy of a resource has principals"));
                    }
                    let parsed = Principals::parse(node, &at, negated, MAX_VALUES)?;
                    set_once(&mut principals, parsed, &at, "Principal and NotPrincipal")?;
                }
                "Action" | "NotAction" => {
                    let patterns = node.one_or_many(&at, MAX_VALUES, |node, at| {
                        parse_action(node.text(at)?).map_err(|reason| at.error(reason))
                    })?;
                    set_once(&mut actions, List { patterns, negated }, &at, "Action and NotAction")?;
                }
                "Resource" | "NotResource" => {
                    let patterns = node.one_or_many(&at, MAX_VALUES, |node, at| {
                        parse_resource(node.text(at)?, rules).map_err(|reason| at.error(reason))
                    })?;
                    set_once(&mut resources, List { patterns, negated }, &at, "Resource and NotResource")?;
                }
                "Condition" => conditions = condition::parse(node, &at, rules.variables, MAX_VALUES)?,
                _ => return Err(at.error("unknown element of a statement")),
            }
        }
        let missing = |what: &str| path.error(format!("{what} is missing"));
        let effect = effect.ok_or_else(|| missing("Effect"))?;
        if rules.kind == Kind::Resource && principals.is_none() {
            return Err(missing("Principal or NotPrincipal"));
        }
        if effect == Effect::Allow && principals.as_ref().is_some_and(Principals::is_negated) {
            return Err(path.key("NotPrincipal").error("the effect Allow does not support NotPrincipal"));
        }
        let actions = actions.ok_or_else(|| missing("Action or NotAction"))?;
        let resources = resources.ok_or_else(|| missing("Resource or NotResource"))?;
        Ok(Self { sid, effect, principals, actions, resources, conditions })
    }

    /// Whether the statement applies to a request.
    pub(crate) fn matches(&self, request: &Request<'_>) -> bool {
        self.principals.as_ref().is_none_or(|principals| principals.matches(request.principal))
            && self.actions.matches(request.action, request)
            && self.resources.matches(request.resource, request)
            && self.conditions.iter().all(|condition| condition.holds(request.context))
    }
}

impl Statement {
    /// Whether it applies to some request with this action.
    pub(crate) fn may_concern(&self, action: &str) -> bool {
        // Actions have no variables.
        let listed = self.actions.patterns.iter().any(|pattern| pattern.matches_always(action));
        listed != self.actions.negated
    }

    /// Whether it applies to some request for a resource that begins with `prefix`.
    pub(crate) fn may_reach(&self, prefix: &str) -> bool {
        self.resources.negated || self.resources.patterns.iter().any(|pattern| pattern.may_begin_with(prefix))
    }
}

impl List {
    /// A variable without a value makes both forms false.
    fn matches(&self, text: &str, request: &Request<'_>) -> bool {
        template::any_matches(self.patterns.iter().map(|pattern| pattern.matches(text, request.context)))
            .is_some_and(|matches| matches != self.negated)
    }
}

fn set_once<T>(slot: &mut Option<T>, value: T, path: &Path<'_>, names: &str) -> Result<(), PolicyError> {
    match slot.replace(value) {
        None => Ok(()),
        Some(_) => Err(path.error(format!("{names} exclude each other"))),
    }
}

/// An empty Sid, which tools write, is none.
fn parse_sid(node: &Node, path: &Path<'_>, kind: Kind) -> Result<Option<String>, PolicyError> {
    let text = node.text(path)?;
    if kind == Kind::Identity && !text.bytes().all(|byte| byte.is_ascii_alphanumeric()) {
        return Err(path.error("must consist of letters and digits of ASCII"));
    }
    Ok((!text.is_empty()).then(|| text.to_owned()))
}

fn parse_effect(node: &Node, path: &Path<'_>) -> Result<Effect, PolicyError> {
    match node.text(path)? {
        "Allow" => Ok(Effect::Allow),
        "Deny" => Ok(Effect::Deny),
        _ => Err(path.error("must be Allow or Deny")),
    }
}

/// `*`, or `service:name` with wildcards in the name.
fn parse_action(text: &str) -> Result<Pattern, String> {
    let is_service = |text: &str| !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let is_name = |text: &str| {
        !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'*' | b'?' | b'-' | b'_'))
    };
    if text != "*" && !text.split_once(':').is_some_and(|(service, name)| is_service(service) && is_name(name)) {
        return Err(format!("{text:?} is not an action: use \"*\" or service:name, such as execute-api:Invoke"));
    }
    Pattern::parse(text, Syntax { variables: false, wildcards: true, fold: true })
}

/// `*`, an ARN, or the short form.
fn parse_resource(text: &str, rules: Rules<'_>) -> Result<Pattern, String> {
    if rules.kind == Kind::Authorizer && text.chars().nth(MAX_AUTHORIZER_RESOURCE).is_some() {
        return Err(format!("is longer than {MAX_AUTHORIZER_RESOURCE} characters"));
    }
    let syntax = Syntax { variables: rules.variables, wildcards: true, fold: false };
    if rules.kind == Kind::Resource
        && let Some(path) = text.strip_prefix("execute-api:").filter(|path| path.starts_with('/'))
    {
        let prefix = rules.options.resource_prefix.ok_or("the short form execute-api:/… cannot be expanded here")?;
        let mut elements = vec![Element::Text(prefix.to_owned())];
        elements.extend(template::parse(path, syntax)?);
        return Ok(Pattern::new(elements, false));
    }
    let elements = template::parse(text, syntax)?;
    let colons: usize = elements.iter().map(literal_colons).sum();
    // A star at the end spans the parts that are missing.
    let is_arn = text.starts_with("arn:") && (colons >= PARTS - 1 || matches!(elements.last(), Some(Element::Any)));
    if text != "*" && !is_arn {
        let short = if rules.kind == Kind::Resource { ", or the form execute-api:/stage/VERB/path" } else { "" };
        return Err(format!("{text:?} is not a resource: use \"*\" or an ARN of six parts{short}"));
    }
    Ok(Pattern::new(elements, false))
}

fn literal_colons(element: &Element) -> usize {
    match element {
        Element::Text(text) => text.matches(':').count(),
        _ => 0,
    }
}
