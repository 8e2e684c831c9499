//! Evaluates what most expressions consist of without the library: texts that are compared with each other, joined by `&&`, `||` and
//! `!`. The result is the library's, for a tenth of the time; every other expression is the library's.

use std::borrow::Cow;

use cel::common::ast::{CallExpr, Expr, IdedExpr, LiteralValue, operators};

use crate::error::EvaluationError;
use crate::reads::{Read, index};

/// A condition.
#[derive(Debug)]
pub(crate) enum Condition {
    Literal(bool),
    /// A read that asks for presence.
    Presence(usize),
    Equal(Text, Text),
    Relation(Relation, Text, Text),
    In(Text, Vec<Text>),
    Not(Box<Condition>),
    And(Box<Condition>, Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

/// A text.
#[derive(Debug)]
pub(crate) enum Text {
    Read(usize),
    Literal(Box<str>),
}

/// What the first text does with the second.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Relation {
    StartsWith,
    EndsWith,
    Contains,
}

/// The texts that were read; none: the request has none. Of a read that asks for presence, any text.
pub(crate) type Texts<'f> = [Option<Cow<'f, str>>];

impl Condition {
    /// None: it is the library's.
    pub(crate) fn compile(tree: &IdedExpr, reads: &[Read]) -> Option<Self> {
        match &tree.expr {
            Expr::Literal(LiteralValue::Boolean(value)) => Some(Self::Literal(*value.inner())),
            Expr::Ident(name) => index(name).filter(|at| reads.get(*at).is_some_and(Read::is_test)).map(Self::Presence),
            Expr::Call(call) => Self::of_call(call, reads),
            _ => None,
        }
    }

    fn of_call(call: &CallExpr, reads: &[Read]) -> Option<Self> {
        let condition = |of: &IdedExpr| Self::compile(of, reads).map(Box::new);
        let text = |of: &IdedExpr| Text::compile(of, reads);
        match (call.func_name.as_str(), call.target.as_deref(), call.args.as_slice()) {
            (operators::LOGICAL_NOT, None, [of]) => Some(Self::Not(condition(of)?)),
            (operators::LOGICAL_AND, None, [a, b]) => Some(Self::And(condition(a)?, condition(b)?)),
            (operators::LOGICAL_OR, None, [a, b]) => Some(Self::Or(condition(a)?, condition(b)?)),
            (operators::EQUALS, None, [a, b]) => Some(Self::Equal(text(a)?, text(b)?)),
            (operators::NOT_EQUALS, None, [a, b]) => Some(Self::Not(Box::new(Self::Equal(text(a)?, text(b)?)))),
            (operators::IN, None, [item, list]) => {
                let Expr::List(list) = &list.expr else { return None };
                Some(Self::In(text(item)?, list.elements.iter().map(text).collect::<Option<_>>()?))
            }
            ("startsWith", Some(of), [with]) => Some(Self::Relation(Relation::StartsWith, text(of)?, text(with)?)),
            ("endsWith", Some(of), [with]) => Some(Self::Relation(Relation::EndsWith, text(of)?, text(with)?)),
            ("contains", Some(of), [with]) => Some(Self::Relation(Relation::Contains, text(of)?, text(with)?)),
            _ => None,
        }
    }

    /// Whether it holds. As in CEL, an error does not matter beside what decides already.
    pub(crate) fn holds(&self, texts: &Texts<'_>) -> Result<bool, EvaluationError> {
        match self {
            Self::Literal(value) => Ok(*value),
            Self::Presence(at) => Ok(texts.get(*at).is_some_and(Option::is_some)),
            Self::Equal(a, b) => Ok(a.of(texts)? == b.of(texts)?),
            Self::Relation(relation, of, with) => {
                let (of, with) = (of.of(texts)?, with.of(texts)?);
                Ok(match relation {
                    Relation::StartsWith => of.starts_with(with),
                    Relation::EndsWith => of.ends_with(with),
                    Relation::Contains => of.contains(with),
                })
            }
            Self::In(item, list) => {
                let item = item.of(texts)?;
                // Each entry is evaluated, also after one that is equal.
                list.iter().try_fold(false, |found, entry| Ok(entry.of(texts)? == item || found))
            }
            Self::Not(of) => of.holds(texts).map(|holds| !holds),
            Self::And(a, b) => joined(a, b, false, texts),
            Self::Or(a, b) => joined(a, b, true, texts),
        }
    }
}

/// Two conditions, of which one with the value `decides` decides.
fn joined(a: &Condition, b: &Condition, decides: bool, texts: &Texts<'_>) -> Result<bool, EvaluationError> {
    let first = a.holds(texts);
    if first == Ok(decides) {
        return first;
    }
    let second = b.holds(texts)?;
    if second == decides { Ok(second) } else { first }
}

impl Text {
    fn compile(tree: &IdedExpr, reads: &[Read]) -> Option<Self> {
        match &tree.expr {
            Expr::Literal(LiteralValue::String(text)) => Some(Self::Literal(text.inner().into())),
            Expr::Ident(name) => index(name).filter(|at| reads.get(*at).is_some_and(Read::is_text)).map(Self::Read),
            _ => None,
        }
    }

    fn of<'t>(&'t self, texts: &'t Texts<'_>) -> Result<&'t str, EvaluationError> {
        match self {
            Self::Literal(text) => Ok(text),
            Self::Read(at) => texts.get(*at).and_then(Option::as_deref).ok_or(EvaluationError::NoSuchKey),
        }
    }
}
