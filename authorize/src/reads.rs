//! What an expression reads of a request. Each read becomes a variable, so that only values that are read are copied, and not the maps
//! that contain them.

use std::borrow::Cow;

use cel::common::ast::{CallExpr, EntryExpr, Expr, IdedExpr, LiteralValue, operators};

use crate::error::EvaluationError;
use crate::types::{self, Field, Type};
use crate::value::{Facts, Value, limited, map, text};

/// One read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Read {
    what: What,
    /// Whether only its presence is asked for.
    is_test: bool,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum What {
    /// A variable with all its fields.
    Variable(&'static str),
    Field(Field),
    /// An entry of a field that is a map.
    Entry(Field, String),
}

impl Read {
    /// Whether it asks for presence only.
    pub(crate) fn is_test(&self) -> bool {
        self.is_test
    }

    /// Whether its value is a text.
    pub(crate) fn is_text(&self) -> bool {
        !self.is_test
            && match &self.what {
                What::Field(field) => field.type_() == Type::String,
                What::Entry(field, _) => has_texts(*field),
                What::Variable(_) => false,
            }
    }

    /// Its value; none: the request has none.
    pub(crate) fn value(&self, facts: &dyn Facts) -> Result<Option<Value>, EvaluationError> {
        let found = match &self.what {
            What::Field(field) => field_of(facts, *field).transpose()?,
            What::Entry(field, name) if has_texts(*field) => facts.text_entry(*field, name).map(owned).transpose()?,
            What::Entry(field, name) => facts.entry(*field, name).transpose()?,
            What::Variable(name) => {
                let fields = Field::ALL.iter().filter(|field| field.variable() == *name);
                let fields = fields.filter_map(|field| Some((field.name(), field_of(facts, *field)?)));
                Some(map(fields)?)
            }
        };
        Ok(if self.is_test { Some(Value::Bool(found.is_some())) } else { found })
    }

    /// Its text; of a read that asks for presence, any text if it is present.
    pub(crate) fn text<'f>(&self, facts: &'f dyn Facts) -> Result<Option<Cow<'f, str>>, EvaluationError> {
        let found = match &self.what {
            What::Field(field) if field.type_() == Type::String => facts.text(*field),
            What::Entry(field, name) if has_texts(*field) => facts.text_entry(*field, name),
            _ => return Ok(self.value(facts)?.filter(|found| *found != Value::Bool(false)).map(|_| Cow::Borrowed(""))),
        };
        let found = found.transpose()?;
        found.map_or(Ok(None), |text| limited(text).map(Some))
    }
}

fn field_of(facts: &dyn Facts, field: Field) -> Option<Result<Value, EvaluationError>> {
    if field.type_() == Type::String { facts.text(field).map(owned) } else { facts.field(field) }
}

fn owned(found: Result<Cow<'_, str>, EvaluationError>) -> Result<Value, EvaluationError> {
    found.and_then(|found| text(&found))
}

/// The path parameters that are read, without those whose presence is tested.
pub(crate) fn parameters(reads: &[Read]) -> Vec<String> {
    let named = |is_test: bool| {
        reads.iter().filter_map(move |read| match &read.what {
            What::Entry(Field::Params, name) if read.is_test == is_test => Some(name),
            _ => None,
        })
    };
    named(false).filter(|name| !named(true).any(|tested| tested == *name)).cloned().collect()
}

/// A name of a header that no request has, because it is not in lower case.
pub(crate) fn unusual_header(reads: &[Read]) -> Option<&str> {
    reads.iter().find_map(|read| match &read.what {
        What::Entry(Field::Headers, name) if name.bytes().any(|byte| byte.is_ascii_uppercase()) => Some(name.as_str()),
        _ => None,
    })
}

/// The name of the variable of a read. No name of an author has this form.
pub(crate) fn name(at: usize) -> String {
    format!("#{at}")
}

/// The position of the read of a variable.
pub(crate) fn index(name: &str) -> Option<usize> {
    name.strip_prefix('#')?.parse().ok()
}

/// The function that tests whether a map has an entry. No name of an author has this form.
pub(crate) const HAS: &str = "@has";

/// Replaces what an expression reads by variables: the first is [`name`]`(0)`. For the library a field of a value that is no map is
/// `false`, which a negation would make `true`: what remains of fields becomes `value['field']`, and `has` a function, so that it is
/// an error.
pub(crate) fn replace(expression: &mut IdedExpr) -> Vec<Read> {
    let mut found = Vec::new();
    walk(expression, &mut found);
    found
}

fn walk(expression: &mut IdedExpr, found: &mut Vec<Read>) {
    if let Some(read) = read_of(&expression.expr) {
        let at = found.iter().position(|known| *known == read).unwrap_or_else(|| {
            found.push(read);
            found.len() - 1
        });
        expression.expr = Expr::Ident(name(at));
        return;
    }
    match &mut expression.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => {}
        Expr::Select(select) => {
            walk(&mut select.operand, found);
            let operand = std::mem::take(&mut *select.operand);
            let field = Expr::Literal(LiteralValue::String(select.field.as_str().into()));
            let func_name = if select.test { HAS } else { operators::INDEX };
            let args = vec![operand, IdedExpr { id: 0, expr: field }];
            expression.expr = Expr::Call(CallExpr { func_name: func_name.to_owned(), target: None, args });
        }
        Expr::Call(call) => {
            call.target.iter_mut().for_each(|target| walk(target, found));
            call.args.iter_mut().for_each(|argument| walk(argument, found));
        }
        // The variables of loops have other names than those of requests.
        Expr::Comprehension(of) => {
            let parts = [&mut of.iter_range, &mut of.accu_init, &mut of.loop_cond, &mut of.loop_step, &mut of.result];
            parts.into_iter().for_each(|part| walk(part, found));
        }
        Expr::List(list) => list.elements.iter_mut().for_each(|element| walk(element, found)),
        Expr::Map(map) => map.entries.iter_mut().for_each(|entry| walk_entry(&mut entry.expr, found)),
        Expr::Struct(object) => object.entries.iter_mut().for_each(|entry| walk_entry(&mut entry.expr, found)),
    }
}

fn walk_entry(entry: &mut EntryExpr, found: &mut Vec<Read>) {
    match entry {
        EntryExpr::MapEntry(entry) => {
            walk(&mut entry.key, found);
            walk(&mut entry.value, found);
        }
        EntryExpr::StructField(field) => walk(&mut field.value, found),
    }
}

/// The read that a part of an expression is, if it is one as a whole.
fn read_of(expression: &Expr) -> Option<Read> {
    match expression {
        Expr::Select(select) => {
            let what = step(what_of(&select.operand.expr)?, &select.field)?;
            Some(Read { what, is_test: select.test })
        }
        // 'name' in request.headers
        Expr::Call(call) if call.func_name == operators::IN => {
            let (name, of) = literal_first(call)?;
            match what_of(&of.expr)? {
                What::Field(field) if is_map(field) => {
                    Some(Read { what: What::Entry(field, name.to_owned()), is_test: true })
                }
                _ => None,
            }
        }
        other => what_of(other).map(|what| Read { what, is_test: false }),
    }
}

fn what_of(expression: &Expr) -> Option<What> {
    match expression {
        Expr::Ident(name) => match types::variable(name)? {
            Type::Variable(name) => Some(What::Variable(name)),
            _ => Field::ALL.iter().find(|field| field.variable() == name).copied().map(What::Field),
        },
        Expr::Select(select) if !select.test => step(what_of(&select.operand.expr)?, &select.field),
        Expr::Call(call) if call.func_name == operators::INDEX => {
            let [of, key] = call.args.as_slice() else { return None };
            let Expr::Literal(LiteralValue::String(key)) = &key.expr else { return None };
            step(what_of(&of.expr)?, key.inner())
        }
        _ => None,
    }
}

/// What a name below something names.
fn step(of: What, name: &str) -> Option<What> {
    match of {
        What::Variable(variable) => types::field(variable, name).map(What::Field),
        What::Field(field) if is_map(field) => Some(What::Entry(field, name.to_owned())),
        What::Field(_) | What::Entry(..) => None,
    }
}

/// Whether its entries are texts.
fn has_texts(field: Field) -> bool {
    matches!(field.type_(), Type::Map(of) if *of == Type::String)
}

fn is_map(field: Field) -> bool {
    matches!(field.type_(), Type::Map(_))
}

fn literal_first(call: &CallExpr) -> Option<(&str, &IdedExpr)> {
    let [name, of] = call.args.as_slice() else { return None };
    let Expr::Literal(LiteralValue::String(name)) = &name.expr else { return None };
    Some((name.inner(), of))
}

#[cfg(test)]
mod tests {
    use cel::Program;

    use super::*;

    fn reads(text: &str) -> Vec<Read> {
        replace(&mut Program::compile(text).unwrap().expression().clone())
    }

    #[test]
    fn each_value_is_read_alone_and_once() {
        let field = |what, is_test| vec![Read { what, is_test }];
        let entry = |field, name: &str| What::Entry(field, name.to_owned());
        for (text, expected) in [
            ("request.method == 'GET' || request['method'] == 'PUT'", field(What::Field(Field::Method), false)),
            ("request.headers.accept == 'a'", field(entry(Field::Headers, "accept"), false)),
            ("request.headers['x-a'] == 'a'", field(entry(Field::Headers, "x-a"), false)),
            ("'x-a' in request.headers", field(entry(Field::Headers, "x-a"), true)),
            ("has(request.headers.accept)", field(entry(Field::Headers, "accept"), true)),
            ("has(identity.id)", field(What::Field(Field::IdentityId), true)),
            ("'read' in identity.scopes", field(What::Field(Field::IdentityScopes), false)),
            ("request.headers.exists(name, name == 'a')", field(What::Field(Field::Headers), false)),
            ("identity.claims.a.b == 1 && has(identity.claims.a.c)", field(entry(Field::IdentityClaims, "a"), false)),
            ("params.id == 'a'", field(entry(Field::Params, "id"), false)),
            ("size(params) == 1", field(What::Field(Field::Params), false)),
            ("identity == null", field(What::Variable("identity"), false)),
            ("request != null", field(What::Variable("request"), false)),
            ("'a' in params", field(entry(Field::Params, "a"), true)),
            ("true", vec![]),
        ] {
            assert_eq!(reads(text), expected, "{text}");
        }
        let both = reads("request.method == 'GET' && identity.claims['a'] == 1 && request.method != 'PUT'");
        let expected = [What::Field(Field::Method), entry(Field::IdentityClaims, "a")];
        assert_eq!(both, expected.map(|what| Read { what, is_test: false }));
    }
}
