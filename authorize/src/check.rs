//! Checks an expression: its names, its types, its cost.

use std::fmt;

use cel::common::ast::{CallExpr, ComprehensionExpr, EntryExpr, Expr, IdedExpr, LiteralValue, SelectExpr, operators};
use regex::Regex;

use crate::error::CompileError;
use crate::limits::MAX_NODES;
use crate::network;
use crate::time;
use crate::types::{self, Field, Type};
use crate::value::{MAX_ENTRIES, MAX_TEXT};

/// The deepest nesting: the evaluation is recursive, on the stack of the caller.
const MAX_DEPTH: usize = 48;
/// The cost of reading a text: one unit for ten bytes.
const TEXT_COST: u64 = MAX_TEXT as u64 / 10;
/// The cost of adding an entry to a list that is collected, which may copy it.
const COLLECT_COST: u64 = MAX_ENTRIES as u64 / 10;
/// The cost of reading a text of a few bytes: a longer one is not valid.
const SHORT_COST: u64 = 10;
/// What arguments must be.
const TIMESTAMP: &str = "it must be a time, such as 2026-01-31T08:00:00Z";
const DURATION: &str = "it must be a duration, such as 1h30m";
const ZONE: &str = "it must be UTC or an offset, such as +02:00";
const ADDRESS: &str = "it must be an address, such as 10.0.0.1 or 2001:db8::1";
/// The cost of comparing two values of any size.
const ANY_COST: u64 = 4 * TEXT_COST;
/// The longest program of a pattern, in bytes.
const PATTERN_SIZE: usize = 256 * 1024;

/// What is known about an expression.
#[derive(Default)]
pub(crate) struct Checked {
    /// Its patterns, compiled.
    pub(crate) patterns: Vec<(String, Regex)>,
}

struct Checker<'t> {
    scopes: Vec<(String, Type)>,
    nodes: usize,
    depth: usize,
    loops: usize,
    /// How much longer a value can become by additions.
    growth: u64,
    /// The expression, for positions.
    text: &'t str,
    checked: Checked,
}

/// The type and the cost of a part.
type Part = (Type, u64);

/// Checks an expression; `text` is what it was parsed from.
pub(crate) fn check(text: &str, expression: &IdedExpr) -> Result<(Checked, u64), CompileError> {
    let growth = 1 + additions(expression);
    let mut checker =
        Checker { scopes: Vec::new(), nodes: 0, depth: 0, loops: 0, growth, text, checked: Checked::default() };
    let (result, cost) = checker.part(expression)?;
    if !matches!(result, Type::Bool | Type::Dyn) {
        return wrong(format!("the result is of type {}; it must be bool", result.name()));
    }
    Ok((checker.checked, cost))
}

/// The number of additions: each can make a text or list longer.
fn additions(expression: &IdedExpr) -> u64 {
    let all = |parts: &[IdedExpr]| parts.iter().map(additions).sum::<u64>();
    match &expression.expr {
        Expr::Unspecified | Expr::Literal(_) | Expr::Ident(_) => 0,
        Expr::Call(call) => {
            let target = call.target.as_deref().map_or(0, additions);
            u64::from(call.func_name == operators::ADD && !collects(call)) + target + all(&call.args)
        }
        Expr::Comprehension(of) => {
            let parts = [&of.iter_range, &of.accu_init, &of.loop_cond, &of.loop_step, &of.result];
            parts.into_iter().map(additions).sum()
        }
        Expr::List(list) => all(&list.elements),
        Expr::Select(select) => additions(&select.operand),
        Expr::Map(map) => map.entries.iter().map(|entry| entry_additions(&entry.expr)).sum(),
        Expr::Struct(object) => object.entries.iter().map(|entry| entry_additions(&entry.expr)).sum(),
    }
}

/// Whether it is the step of `filter` or `map`, which adds one entry to the list that is collected: no name of an author has an @.
fn collects(call: &CallExpr) -> bool {
    let accumulated = |of: &IdedExpr| matches!(&of.expr, Expr::Ident(name) if name.starts_with('@'));
    call.func_name == operators::ADD && call.args.first().is_some_and(accumulated)
}

fn entry_additions(entry: &EntryExpr) -> u64 {
    match entry {
        EntryExpr::MapEntry(entry) => additions(&entry.key) + additions(&entry.value),
        EntryExpr::StructField(field) => additions(&field.value),
    }
}

fn wrong<T>(why: impl Into<String>) -> Result<T, CompileError> {
    Err(CompileError::Type(why.into()))
}

impl Checker<'_> {
    fn part(&mut self, expression: &IdedExpr) -> Result<Part, CompileError> {
        self.nodes += 1;
        if self.nodes > MAX_NODES {
            return Err(CompileError::TooLong);
        }
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(CompileError::TooDeep);
        }
        let part = self.inner(expression);
        self.depth -= 1;
        part
    }

    fn inner(&mut self, expression: &IdedExpr) -> Result<Part, CompileError> {
        match &expression.expr {
            Expr::Literal(literal) => Ok((literal_type(literal), 1)),
            Expr::Ident(name) => self.name(name),
            Expr::Select(select) => self.select(select),
            Expr::Call(call) => self.call(call),
            Expr::Comprehension(comprehension) => self.comprehension(comprehension),
            Expr::List(list) if list.optional_indices.is_empty() => {
                let (mut of, mut cost) = (None, 1_u64);
                for element in &list.elements {
                    let (type_, own) = self.part(element)?;
                    cost = cost.saturating_add(own);
                    of = Some(if of.as_ref().is_none_or(|of| *of == type_) { type_ } else { Type::Dyn });
                }
                Ok((Type::List(Box::new(of.unwrap_or(Type::Dyn))), cost))
            }
            Expr::Map(map) => {
                let mut cost = 1_u64;
                for entry in &map.entries {
                    let EntryExpr::MapEntry(entry) = &entry.expr else { return wrong("objects are not supported") };
                    if entry.optional {
                        return wrong("optional values are not supported");
                    }
                    cost = cost.saturating_add(self.part(&entry.key)?.1).saturating_add(self.part(&entry.value)?.1);
                }
                Ok((Type::Map(Box::new(Type::Dyn)), cost))
            }
            Expr::List(_) => wrong("optional values are not supported"),
            Expr::Struct(object) => wrong(format!("objects such as {} are not supported", object.type_name)),
            Expr::Unspecified => wrong("a part of the expression is empty"),
        }
    }

    fn name(&mut self, name: &str) -> Result<Part, CompileError> {
        if let Some((_, type_)) = self.scopes.iter().rev().find(|(known, _)| known == name) {
            return Ok((type_.clone(), 1));
        }
        let Some(type_) = types::variable(name) else {
            return wrong(format!("there is no variable {name:?}; the variables are {}", types::names(None)));
        };
        Ok((type_, 1))
    }

    /// A field of a variable that is not hidden by a variable of a loop.
    fn field(&mut self, of: &IdedExpr, name: &str) -> Result<Option<Field>, CompileError> {
        let Expr::Ident(variable) = &of.expr else { return Ok(None) };
        if self.scopes.iter().any(|(known, _)| known == variable) {
            return Ok(None);
        }
        let Some(Type::Variable(variable)) = types::variable(variable) else { return Ok(None) };
        let Some(field) = types::field(variable, name) else {
            let known = types::names(Some(variable));
            return wrong(format!("{variable} has no field {name:?}; its fields are {known}"));
        };
        Ok(Some(field))
    }

    fn select(&mut self, select: &SelectExpr) -> Result<Part, CompileError> {
        let (type_, cost) = match self.field(&select.operand, &select.field)? {
            Some(field) => (field.type_(), 1),
            None => {
                let (of, cost) = self.part(&select.operand)?;
                match of {
                    Type::Map(of) => (*of, cost),
                    Type::Dyn => (Type::Dyn, cost),
                    Type::Variable(_) => return wrong("a variable must be named directly before its field"),
                    other => return wrong(format!("a {} has no field {:?}", other.name(), select.field)),
                }
            }
        };
        Ok((if select.test { Type::Bool } else { type_ }, cost.saturating_add(1)))
    }

    fn call(&mut self, call: &CallExpr) -> Result<Part, CompileError> {
        let name = call.func_name.as_str();
        if name == operators::INDEX
            && let [of, key] = call.args.as_slice()
            && let Expr::Literal(LiteralValue::String(key)) = &key.expr
            && let Some(field) = self.field(of, key.inner())?
        {
            return Ok((field.type_(), 2));
        }
        let mut types = Vec::new();
        let mut cost = 1_u64;
        for part in call.target.as_deref().into_iter().chain(&call.args) {
            let (type_, own) = self.part(part)?;
            cost = cost.saturating_add(own);
            types.push(type_);
        }
        let (type_, own) = self.signature(call, &types)?;
        let own = if collects(call) { COLLECT_COST } else { own };
        Ok((type_, cost.saturating_add(own.saturating_mul(self.growth))))
    }

    /// The result and the own cost of an operator or function.
    fn signature(&mut self, call: &CallExpr, types: &[Type]) -> Result<Part, CompileError> {
        let name = call.func_name.as_str();
        let method = call.target.is_some();
        let no_overload = || {
            let types: Vec<_> = types.iter().map(Type::name).collect();
            let shown = name.trim_matches(|c| c == '_' || c == '@');
            wrong(format!("{shown} does not accept ({})", types.join(", ")))
        };
        let is = |of: &Type, one: &Type| matches!(of, Type::Dyn) || of == one;
        let part = match (name, types, method) {
            (operators::LOGICAL_AND | operators::LOGICAL_OR, [a, b], false)
                if is(a, &Type::Bool) && is(b, &Type::Bool) =>
            {
                (Type::Bool, 0)
            }
            (operators::LOGICAL_NOT | operators::NOT_STRICTLY_FALSE, [a], false) if is(a, &Type::Bool) => {
                (Type::Bool, 0)
            }
            (operators::CONDITIONAL, [test, a, b], false) if is(test, &Type::Bool) => {
                (if a == b { a.clone() } else { Type::Dyn }, 0)
            }
            (operators::EQUALS | operators::NOT_EQUALS, [a, b], false) if a.may_equal(b) => {
                one_number_type(call, a, b)?;
                (Type::Bool, comparison(a, b))
            }
            (
                operators::LESS | operators::LESS_EQUALS | operators::GREATER | operators::GREATER_EQUALS,
                [a, b],
                false,
            ) if a.may_equal(b) && ordered(a) && ordered(b) => (Type::Bool, comparison(a, b)),
            (operators::ADD, [Type::Timestamp, Type::Duration] | [Type::Duration, Type::Timestamp], false)
            | (operators::SUBSTRACT, [Type::Timestamp, Type::Duration], false) => (Type::Timestamp, 1),
            (operators::ADD | operators::SUBSTRACT, [Type::Duration, Type::Duration], false)
            | (operators::SUBSTRACT, [Type::Timestamp, Type::Timestamp], false) => (Type::Duration, 1),
            (operators::ADD, [a, b], false) if a.may_equal(b) && added(a) && added(b) => {
                (if a == b { a.clone() } else { Type::Dyn }, added_cost(a, b))
            }
            (operators::SUBSTRACT | operators::MULTIPLY | operators::DIVIDE | operators::MODULO, [a, b], false)
                if [a, b].iter().all(|of| of.is_number() || **of == Type::Dyn) =>
            {
                (if a == b { a.clone() } else { Type::Dyn }, 0)
            }
            (operators::NEGATE, [a], false) if a.is_number() || *a == Type::Dyn => (a.clone(), 0),
            (operators::IN, [item, Type::List(of)], false) if item.may_equal(of) => {
                one_number_type(call, item, of)?;
                (Type::Bool, MAX_ENTRIES as u64 + ANY_COST)
            }
            (operators::IN, [item, Type::Map(_)], false) if is(item, &Type::String) => (Type::Bool, TEXT_COST),
            (operators::IN, [_, Type::Dyn], false) => (Type::Bool, MAX_ENTRIES as u64 + ANY_COST),
            (operators::INDEX, [Type::List(of), at], false) if is(at, &Type::Int) => ((**of).clone(), 1),
            (operators::INDEX, [Type::Map(of), key], false) if is(key, &Type::String) => ((**of).clone(), TEXT_COST),
            (operators::INDEX, [Type::Dyn, _], false) => (Type::Dyn, TEXT_COST),
            ("size", [Type::String | Type::Bytes | Type::List(_) | Type::Map(_) | Type::Dyn], _) => {
                (Type::Int, TEXT_COST)
            }
            ("contains" | "startsWith" | "endsWith", [of, with], true)
                if is(of, &Type::String) && is(with, &Type::String) =>
            {
                (Type::Bool, 2 * TEXT_COST)
            }
            ("matches", [of, with], true) if is(of, &Type::String) && is(with, &Type::String) => {
                self.pattern(call)?;
                (Type::Bool, 2 * TEXT_COST)
            }
            ("int", [of], false) if *of == Type::String || of.is_number() || *of == Type::Dyn => (Type::Int, TEXT_COST),
            ("double", [of], false) if *of == Type::String || of.is_number() || *of == Type::Dyn => {
                (Type::Double, TEXT_COST)
            }
            ("string", [of], false) if *of == Type::String || of.is_number() || *of == Type::Dyn => {
                (Type::String, TEXT_COST)
            }
            ("ip", [of], false) if is(of, &Type::String) => {
                self.constant(call, false, |text| network::parse_ip(text).map(drop).ok_or(ADDRESS))?;
                (Type::Ip, SHORT_COST)
            }
            ("isIP", [of], false) if is(of, &Type::String) => (Type::Bool, SHORT_COST),
            ("cidr", [of], false) if is(of, &Type::String) => {
                self.constant(call, true, |text| network::parse_cidr(text).map(drop))?;
                (Type::Cidr, SHORT_COST)
            }
            ("containsIP", [of, with], true)
                if is(of, &Type::Cidr) && (is(with, &Type::Ip) || is(with, &Type::String)) =>
            {
                self.constant(call, false, |text| network::parse_ip(text).map(drop).ok_or(ADDRESS))?;
                (Type::Bool, SHORT_COST)
            }
            ("family", [of], true) if is(of, &Type::Ip) => (Type::Int, 1),
            ("timestamp", [of], false) if is(of, &Type::String) || *of == Type::Int => {
                self.constant(call, false, |text| time::parse_timestamp(text).map(drop).ok_or(TIMESTAMP))?;
                (Type::Timestamp, SHORT_COST)
            }
            ("duration", [of], false) if is(of, &Type::String) => {
                self.constant(call, true, |text| time::parse_duration(text).map(drop).ok_or(DURATION))?;
                (Type::Duration, SHORT_COST)
            }
            (_, [Type::Timestamp, rest @ ..], true)
                if time::is_of_timestamp(name) && matches!(rest, [] | [Type::String]) =>
            {
                if !rest.is_empty() {
                    self.constant(call, true, |text| time::parse_zone(text).map(drop).ok_or(ZONE))?;
                }
                (Type::Int, SHORT_COST)
            }
            (_, [Type::Duration], true) if time::is_of_duration(name) => (Type::Int, 1),
            _ if name.starts_with(['_', '@', '!', '-']) => return no_overload(),
            _ if FUNCTIONS.contains(&name) => return no_overload(),
            _ => return wrong(format!("there is no function {name:?}; the functions are {}", FUNCTIONS.join(", "))),
        };
        Ok(part)
    }

    /// Checks the argument of a function if it is a literal: a mistake in it is known before a request exists.
    fn constant<E: fmt::Display>(
        &self,
        call: &CallExpr,
        is_required: bool,
        parse: impl Fn(&str) -> Result<(), E>,
    ) -> Result<(), CompileError> {
        let name = &call.func_name;
        let literal = match call.args.as_slice() {
            [argument] => &argument.expr,
            _ => return Ok(()),
        };
        match literal {
            Expr::Literal(LiteralValue::String(text)) => {
                let text = text.inner();
                parse(text).map_err(|why| self.at_literal(text, format!("the argument of {name} is not valid: {why}")))
            }
            _ if is_required => wrong(format!("the argument of {name} must be a literal")),
            _ => Ok(()),
        }
    }

    /// An error at the position of a literal. The library does not keep positions: the first literal with this text is taken.
    fn at_literal(&self, literal: &str, why: String) -> CompileError {
        let quoted = ['\'', '"'].iter().filter_map(|quote| self.text.find(&format!("{quote}{literal}{quote}")));
        let Some(before) = quoted.min().and_then(|at| self.text.get(..at)) else { return CompileError::Type(why) };
        let column = before.chars().rev().take_while(|c| *c != '\n').count() + 1;
        CompileError::Syntax { line: before.matches('\n').count() + 1, column, why }
    }

    /// A pattern is compiled once, so it must be a literal.
    fn pattern(&mut self, call: &CallExpr) -> Result<(), CompileError> {
        let [argument] = call.args.as_slice() else { return wrong("matches requires one pattern") };
        let Expr::Literal(LiteralValue::String(pattern)) = &argument.expr else {
            return wrong("the pattern of matches must be a literal");
        };
        let pattern = pattern.inner();
        let built = regex::RegexBuilder::new(pattern).size_limit(PATTERN_SIZE).dfa_size_limit(PATTERN_SIZE).build();
        match built {
            Ok(regex) => self.checked.patterns.push((pattern.to_owned(), regex)),
            Err(why) => return wrong(format!("the pattern {pattern:?} is not valid: {why}")),
        }
        Ok(())
    }

    fn comprehension(&mut self, of: &ComprehensionExpr) -> Result<Part, CompileError> {
        let (range, range_cost) = self.part(&of.iter_range)?;
        if of.iter_var2.is_some() {
            return wrong("loops with two variables are not supported");
        }
        if self.loops > 0 {
            return wrong("a loop (all, exists, exists_one, filter, map) must not be inside of another");
        }
        let item = match range {
            Type::List(of) => *of,
            Type::Map(_) => Type::String,
            Type::Dyn => Type::Dyn,
            other => return wrong(format!("a {} cannot be iterated over", other.name())),
        };
        let rounds = match &of.iter_range.expr {
            Expr::List(list) => list.elements.len() as u64,
            _ => (MAX_ENTRIES as u64).saturating_mul(self.growth),
        };
        let (start, start_cost) = self.part(&of.accu_init)?;
        // The type of a list that is collected is not known.
        let collected = if matches!(start, Type::List(_)) { Type::Dyn } else { start };
        if types::variable(&of.iter_var).is_some() {
            return wrong(format!("the variable {:?} of a loop hides a variable of the request", of.iter_var));
        }
        self.loops += 1;
        self.scopes.push((of.accu_var.clone(), collected));
        self.scopes.push((of.iter_var.clone(), item));
        let condition = self.part(&of.loop_cond);
        let step = condition.and_then(|condition| Ok((condition, self.part(&of.loop_step)?)));
        self.scopes.pop();
        let result = step.and_then(|step| Ok((step, self.part(&of.result)?)));
        self.scopes.pop();
        self.loops -= 1;
        let (((_, condition), (_, step)), (type_, end)) = result?;
        let round = condition.saturating_add(step).saturating_add(1);
        let fixed = range_cost.saturating_add(start_cost).saturating_add(end);
        Ok((type_, fixed.saturating_add(round.saturating_mul(rounds))))
    }
}

/// The functions, without operators and macros.
pub(crate) const FUNCTIONS: [&str; 25] = [
    "cidr",
    "contains",
    "containsIP",
    "double",
    "duration",
    "endsWith",
    "family",
    "getDate",
    "getDayOfMonth",
    "getDayOfWeek",
    "getDayOfYear",
    "getFullYear",
    "getHours",
    "getMilliseconds",
    "getMinutes",
    "getMonth",
    "getSeconds",
    "int",
    "ip",
    "isIP",
    "matches",
    "size",
    "startsWith",
    "string",
    "timestamp",
];

fn literal_type(literal: &LiteralValue) -> Type {
    match literal {
        LiteralValue::Boolean(_) => Type::Bool,
        LiteralValue::Bytes(_) => Type::Bytes,
        LiteralValue::Double(_) => Type::Double,
        LiteralValue::Int(_) => Type::Int,
        LiteralValue::Null => Type::Null,
        LiteralValue::String(_) => Type::String,
        LiteralValue::UInt(_) => Type::UInt,
    }
}

fn ordered(of: &Type) -> bool {
    of.is_number() || matches!(of, Type::String | Type::Timestamp | Type::Duration | Type::Dyn)
}

fn added_cost(a: &Type, b: &Type) -> u64 {
    if a.is_number() && b.is_number() { 0 } else { ANY_COST }
}

fn added(of: &Type) -> bool {
    of.is_number() || matches!(of, Type::String | Type::List(_) | Type::Dyn)
}

/// The cost of comparing two values: of the smaller one.
/// For the library, numbers of different types are never equal. A number of a request is an int if it is whole.
fn one_number_type(call: &CallExpr, a: &Type, b: &Type) -> Result<(), CompileError> {
    if a.is_number() && b.is_number() && a != b {
        return wrong(format!(
            "a {} and a {} are never equal; convert one of them with int() or double()",
            a.name(),
            b.name()
        ));
    }
    let with_unknown = matches!((a, b), (Type::Dyn, _) | (_, Type::Dyn));
    let is_fraction = |of: &IdedExpr| {
        match &of.expr {
        Expr::Literal(LiteralValue::Double(number)) => number.inner().fract() != 0.0,
        Expr::List(list) => list.elements.iter().all(|element| {
            matches!(&element.expr, Expr::Literal(LiteralValue::Double(number)) if number.inner().fract() != 0.0)
        }),
        _ => false,
    }
    };
    let is_other = |of: &Type| matches!(of, Type::Double | Type::UInt);
    if with_unknown && (is_other(a) || is_other(b)) && !call.args.iter().any(is_fraction) {
        return wrong("a whole number of a request is an int: write 3, and not 3.0 or 3u, or compare with >= and <=");
    }
    Ok(())
}

fn comparison(a: &Type, b: &Type) -> u64 {
    let size = |of: &Type| match of {
        Type::Bool | Type::Int | Type::UInt | Type::Double | Type::Null => 0,
        Type::Timestamp | Type::Duration | Type::Ip | Type::Cidr => 1,
        Type::String | Type::Bytes => TEXT_COST,
        Type::Dyn | Type::List(_) | Type::Map(_) | Type::Variable(_) => ANY_COST,
    };
    size(a).min(size(b))
}
