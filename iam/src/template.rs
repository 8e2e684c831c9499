//! Texts with wildcards and policy variables: `${aws:username}`, `${aws:username, 'default'}`, `${*}`, `${?}`, `${$}`.

use std::borrow::Cow;

use crate::glob::{Builder, Glob};
use crate::request::Context;

/// What has a meaning in a text.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Syntax {
    /// `${…}`: in policies of the version 2012-10-17.
    pub(crate) variables: bool,
    /// `*` and `?`.
    pub(crate) wildcards: bool,
    /// Upper and lower case match each other.
    pub(crate) fold: bool,
}

/// A part of a text.
#[derive(Debug, Clone)]
pub(crate) enum Element {
    Text(String),
    Any,
    One,
    Variable(Variable),
}

/// A context key whose value is inserted.
#[derive(Debug, Clone)]
pub(crate) struct Variable {
    /// In lower case.
    key: String,
    default: Option<String>,
}

impl Variable {
    /// The value in a request. None: the key has no value and no default, or it has several values.
    pub(crate) fn resolve<'a>(&'a self, context: &'a dyn Context) -> Option<Cow<'a, str>> {
        let values = context.values(&self.key);
        match values.as_slice() {
            [] => self.default.as_deref().map(Cow::Borrowed),
            [value] => Some(value.clone()),
            _ => None,
        }
    }
}

/// A pattern. Without variables it is compiled once; with variables it is compiled for each request, and their values
/// match themselves only.
#[derive(Debug)]
pub(crate) enum Pattern {
    Fixed(Glob),
    Template { elements: Vec<Element>, fold: bool },
}

impl Pattern {
    pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Self, String> {
        Ok(Self::new(parse(text, syntax)?, syntax.fold))
    }

    pub(crate) fn new(elements: Vec<Element>, fold: bool) -> Self {
        match compile(&elements, fold, |_| None) {
            Some(glob) => Self::Fixed(glob),
            None => Self::Template { elements, fold },
        }
    }

    /// Whether the pattern matches the whole text in every request.
    pub(crate) fn matches_always(&self, text: &str) -> bool {
        matches!(self, Self::Fixed(glob) if glob.matches(text))
    }

    /// Whether the pattern matches a text that begins with `prefix`, in some request.
    pub(crate) fn may_begin_with(&self, prefix: &str) -> bool {
        match self {
            Self::Fixed(glob) => glob.may_begin_with(prefix),
            Self::Template { elements, fold } => {
                let mut builder = Builder::new(*fold);
                for element in elements {
                    match element {
                        Element::Text(text) => builder.text(text),
                        Element::One => builder.one(),
                        // A variable can have any value.
                        Element::Any | Element::Variable(_) => builder.any(),
                    }
                }
                builder.finish().may_begin_with(prefix)
            }
        }
    }

    /// Whether the pattern matches the whole text. None: a variable of it has no value.
    pub(crate) fn matches(&self, text: &str, context: &dyn Context) -> Option<bool> {
        match self {
            Self::Fixed(glob) => Some(glob.matches(text)),
            Self::Template { elements, fold } => {
                Some(compile(elements, *fold, |variable| variable.resolve(context))?.matches(text))
            }
        }
    }
}

/// None: a variable has no value.
fn compile<'a>(
    elements: &'a [Element],
    fold: bool,
    value: impl Fn(&'a Variable) -> Option<Cow<'a, str>>,
) -> Option<Glob> {
    let mut builder = Builder::new(fold);
    for element in elements {
        match element {
            Element::Text(text) => builder.text(text),
            Element::Any => builder.any(),
            Element::One => builder.one(),
            Element::Variable(variable) => builder.text(&value(variable)?),
        }
    }
    Some(builder.finish())
}

/// Whether one of the patterns matches. None: none matches, and a variable of one has no value.
pub(crate) fn any_matches(results: impl Iterator<Item = Option<bool>>) -> Option<bool> {
    let mut unresolved = false;
    for result in results {
        match result {
            Some(true) => return Some(true),
            Some(false) => {}
            None => unresolved = true,
        }
    }
    (!unresolved).then_some(false)
}

/// Parses a text into its elements.
pub(crate) fn parse(text: &str, syntax: Syntax) -> Result<Vec<Element>, String> {
    let mut elements = Vec::new();
    let mut literal = String::new();
    let mut rest = text;
    loop {
        if syntax.variables
            && let Some(after) = rest.strip_prefix("${")
        {
            let (variable, after) = variable(after)?;
            match variable {
                Element::Text(text) => literal.push_str(&text),
                other => flush(&mut elements, &mut literal, other),
            }
            rest = after;
            continue;
        }
        let mut chars = rest.chars();
        match chars.next() {
            None => break,
            Some('*') if syntax.wildcards => flush(&mut elements, &mut literal, Element::Any),
            Some('?') if syntax.wildcards => flush(&mut elements, &mut literal, Element::One),
            Some(char) => literal.push(char),
        }
        rest = chars.as_str();
    }
    if !literal.is_empty() {
        elements.push(Element::Text(literal));
    }
    Ok(elements)
}

fn flush(elements: &mut Vec<Element>, literal: &mut String, next: Element) {
    if !literal.is_empty() {
        elements.push(Element::Text(std::mem::take(literal)));
    }
    elements.push(next);
}

/// Parses what follows `${`, up to and including the brace, and returns the rest.
fn variable(text: &str) -> Result<(Element, &str), String> {
    for special in ["*", "?", "$"] {
        if let Some(rest) = text.strip_prefix(special).and_then(|rest| rest.strip_prefix('}')) {
            return Ok((Element::Text(special.to_owned()), rest));
        }
    }
    let unclosed = || "a policy variable has no closing brace".to_owned();
    let end = text.find([',', '}']).ok_or_else(unclosed)?;
    let (key, rest) = text.split_at_checked(end).ok_or_else(unclosed)?;
    check_key(key).map_err(|reason| format!("the policy variable ${{{key}}} is invalid: {reason}"))?;
    let key = key.to_ascii_lowercase();
    if let Some(rest) = rest.strip_prefix('}') {
        return Ok((Element::Variable(Variable { key, default: None }), rest));
    }
    let invalid = || format!("the default value of the policy variable ${{{key}}} must have the form , 'value'");
    let rest = rest.strip_prefix(',').ok_or_else(invalid)?.trim_start_matches(' ');
    let (default, rest) = rest.strip_prefix('\'').and_then(|rest| rest.split_once('\'')).ok_or_else(invalid)?;
    let rest = rest.strip_prefix('}').ok_or_else(invalid)?;
    Ok((Element::Variable(Variable { key, default: Some(default.to_owned()) }), rest))
}

/// A context key has a prefix, a colon and a name: `aws:SourceIp`, `aws:PrincipalTag/team`.
pub(crate) fn check_key(key: &str) -> Result<(), String> {
    if key.is_empty() {
        return Err("the name of the context key is empty".to_owned());
    }
    if let Some(char) = key.chars().find(|char| !char.is_ascii_graphic() || "${}*?'\",".contains(*char)) {
        return Err(format!("a context key must not contain {char:?}"));
    }
    match key.split_once(':') {
        Some((prefix, name)) if !prefix.is_empty() && !name.is_empty() => Ok(()),
        _ => Err("a context key has the form prefix:name".to_owned()),
    }
}
