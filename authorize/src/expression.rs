//! One expression: compiled once, evaluated for each request.

use std::collections::HashMap;
use std::fmt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use cel::extractors::This;
use cel::objects::Key;
use cel::parser::Expression as Tree;
use cel::{Context, ExecutionError, Program, functions};

use crate::check::{self, Checked, FUNCTIONS};
use crate::error::{CompileError, EvaluationError};
use crate::limits::{MAX_COST, MAX_LENGTH};
use crate::network;
use crate::reads::{self, HAS, Read};
use crate::simple::Condition;
use crate::time;
use crate::value::{Facts, Value};

/// A compiled expression.
pub struct Expression {
    /// None: it is the library's.
    simple: Option<Condition>,
    /// With a variable for each read.
    tree: Tree,
    functions: Context<'static>,
    /// What it reads, with the names of the variables.
    reads: Vec<(String, Read)>,
    cost: u64,
    parameters: Vec<String>,
}

impl fmt::Debug for Expression {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Expression(cost {})", self.cost)
    }
}

impl Expression {
    /// Compiles an expression.
    ///
    /// # Errors
    /// It is not valid, or its cost is too high.
    pub fn compile(text: &str) -> Result<Self, CompileError> {
        if text.len() > MAX_LENGTH {
            return Err(CompileError::TooLong);
        }
        if is_deep(text) {
            return Err(CompileError::TooDeep);
        }
        // The parser is recursive: on a stack of its own, an expression cannot exhaust that of the caller. A panic ends the thread.
        let owned = text.to_owned();
        let thread = std::thread::Builder::new().stack_size(STACK).spawn(move || parse(&owned));
        let parsed = thread.ok().and_then(|thread| thread.join().ok());
        let (mut tree, checked, cost) = parsed.unwrap_or_else(|| Err(unparsable()))?;
        if cost > MAX_COST {
            return Err(CompileError::Cost(cost));
        }
        let patterns: HashMap<String, regex::Regex> = checked.patterns.into_iter().collect();
        let reads = reads::replace(&mut tree);
        if let Some(name) = reads::unusual_header(&reads) {
            let why = format!("names of headers are in lower case here: write {:?}", name.to_ascii_lowercase());
            return Err(CompileError::Type(why));
        }
        let parameters = reads::parameters(&reads);
        let simple = Condition::compile(&tree, &reads);
        let reads = reads.into_iter().enumerate().map(|(at, read)| (reads::name(at), read)).collect();
        Ok(Self { simple, tree, functions: functions(patterns), reads, cost, parameters })
    }

    /// The path parameters that it reads by name, without those whose presence it tests: a request without one of them has no result.
    #[must_use]
    pub fn parameters(&self) -> &[String] {
        &self.parameters
    }

    /// The estimated cost for the largest request.
    #[must_use]
    pub const fn cost(&self) -> u64 {
        self.cost
    }

    /// Whether a request with these values meets it.
    ///
    /// # Errors
    /// It has no result: the request must be rejected.
    pub fn evaluate(&self, facts: &dyn Facts) -> Result<bool, EvaluationError> {
        let Some(simple) = &self.simple else { return self.interpret(facts) };
        let texts: Result<Vec<_>, _> = self.reads.iter().map(|(_, read)| read.text(facts)).collect();
        simple.holds(&texts?)
    }

    /// Evaluates it with the library.
    fn interpret(&self, facts: &dyn Facts) -> Result<bool, EvaluationError> {
        let mut context = self.functions.new_inner_scope();
        for (name, read) in &self.reads {
            // Without a variable the name is unknown, which is an error.
            if let Some(value) = read.value(facts)? {
                context.add_variable_from_value(name.as_str(), value);
            }
        }
        // The library has paths that panic; `check` rejects those that are known.
        let result = catch_unwind(AssertUnwindSafe(|| Value::resolve(&self.tree, &context)));
        match result {
            Ok(Ok(Value::Bool(result))) => Ok(result),
            Ok(Ok(_)) => Err(EvaluationError::NotBoolean),
            Ok(Err(error)) => Err(reason(&error)),
            Err(_) => Err(EvaluationError::Failed),
        }
    }
}

/// The stack of the parser.
const STACK: usize = 64 * 1024 * 1024;
/// The deepest nesting of brackets.
const MAX_BRACKETS: usize = 32;
/// The largest number of characters of operators.
const MAX_OPERATORS: usize = 512;

/// Whether the parser could need more than its stack: brackets and operators are counted, also those in texts.
fn is_deep(text: &str) -> bool {
    let (mut depth, mut operators) = (0_usize, 0_usize);
    for byte in text.bytes() {
        match byte {
            b'(' | b'[' | b'{' => depth += 1,
            b')' | b']' | b'}' => depth = depth.saturating_sub(1),
            b'!' | b'-' | b'+' | b'*' | b'/' | b'%' | b'?' | b':' | b'<' | b'>' | b'=' | b'&' | b'|' | b'.' => {
                operators += 1
            }
            _ => {}
        }
        if depth > MAX_BRACKETS || operators > MAX_OPERATORS {
            return true;
        }
    }
    false
}

fn unparsable() -> CompileError {
    CompileError::Syntax { line: 1, column: 1, why: "it cannot be parsed".to_owned() }
}

fn parse(text: &str) -> Result<(Tree, Checked, u64), CompileError> {
    let program = Program::compile(text).map_err(|errors| match errors.errors.first() {
        Some(error) => {
            let position = |at: isize| usize::try_from(at).unwrap_or(0).max(1);
            CompileError::Syntax { line: position(error.pos.0), column: position(error.pos.1), why: error.msg.clone() }
        }
        None => unparsable(),
    })?;
    let (checked, cost) = check::check(text, program.expression())?;
    Ok((program.expression().clone(), checked, cost))
}

fn functions(patterns: HashMap<String, regex::Regex>) -> Context<'static> {
    let mut context = Context::empty();
    for name in FUNCTIONS {
        match name {
            "contains" => context.add_function(name, functions::contains),
            "double" => context.add_function(name, functions::double),
            "endsWith" => context.add_function(name, functions::ends_with),
            "int" => context.add_function(name, functions::int),
            "size" => context.add_function(name, functions::size),
            "startsWith" => context.add_function(name, functions::starts_with),
            "string" => context.add_function(name, functions::string),
            _ => {}
        }
    }
    let matches = move |This(text): This<Arc<String>>, pattern: Arc<String>| -> Result<bool, ExecutionError> {
        let regex = patterns.get(pattern.as_str());
        regex.map(|regex| regex.is_match(&text)).ok_or_else(|| ExecutionError::no_such_key("pattern"))
    };
    context.add_function("matches", matches);
    let has = |of: Value, field: Arc<String>| match of {
        Value::Map(map) => Ok(map.map.contains_key(&Key::String(field))),
        _ => Err(ExecutionError::NoSuchOverload),
    };
    context.add_function(HAS, has);
    network::add(&mut context);
    time::add(&mut context);
    context
}

/// The reason without the values that the error of the library contains.
fn reason(error: &ExecutionError) -> EvaluationError {
    match error {
        ExecutionError::NoSuchKey(_) | ExecutionError::IndexOutOfBounds(_) | ExecutionError::UndeclaredReference(_) => {
            EvaluationError::NoSuchKey
        }
        ExecutionError::FunctionError { .. }
        | ExecutionError::DivisionByZero(_)
        | ExecutionError::RemainderByZero(_)
        | ExecutionError::Overflow(..) => EvaluationError::Arithmetic,
        _ => EvaluationError::WrongType,
    }
}

#[cfg(test)]
mod tests {
    use std::borrow::Cow;

    use proptest::prelude::*;

    use super::*;
    use crate::types::Field;

    /// A request with the headers `x`, which is `a`, and `z`, which is not valid; and without an identity.
    struct Few;

    impl Facts for Few {
        fn text(&self, field: Field) -> Option<Result<Cow<'_, str>, EvaluationError>> {
            (field == Field::Method).then_some(Ok(Cow::Borrowed("GET")))
        }

        fn text_entry(&self, _: Field, name: &str) -> Option<Result<Cow<'_, str>, EvaluationError>> {
            match name {
                "x" => Some(Ok(Cow::Borrowed("a"))),
                "z" => Some(Err(EvaluationError::BadValue)),
                _ => None,
            }
        }

        fn field(&self, _: Field) -> Option<Result<Value, EvaluationError>> {
            None
        }

        fn entry(&self, _: Field, _: &str) -> Option<Result<Value, EvaluationError>> {
            None
        }
    }

    const TEXTS: &[&str] = &[
        "'GET'",
        "'a'",
        "''",
        "request.method",
        "request.headers.x",
        "request.headers.y",
        "params['z']",
        "identity.id",
    ];
    const TESTS: &[&str] = &["true", "false", "has(identity.id)", "has(request.headers.x)", "'y' in request.headers"];

    fn text() -> impl Strategy<Value = String> {
        prop::sample::select(TEXTS).prop_map(str::to_owned)
    }

    fn condition() -> impl Strategy<Value = String> {
        let leaf = prop_oneof![
            prop::sample::select(TESTS).prop_map(str::to_owned),
            (text(), prop::sample::select(&["==", "!="][..]), text()).prop_map(|(a, op, b)| format!("{a} {op} {b}")),
            (text(), prop::sample::select(&["startsWith", "endsWith", "contains"][..]), text())
                .prop_map(|(a, op, b)| format!("{a}.{op}({b})")),
            (text(), prop::collection::vec(text(), 0..3)).prop_map(|(a, list)| format!("{a} in [{}]", list.join(", "))),
        ];
        leaf.prop_recursive(4, 24, 2, |inner| {
            prop_oneof![
                inner.clone().prop_map(|of| format!("!({of})")),
                (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a}) && ({b})")),
                (inner.clone(), inner).prop_map(|(a, b)| format!("({a}) || ({b})")),
            ]
        })
    }

    proptest! {
        #[test]
        fn what_is_simple_has_the_result_of_the_library(text in condition()) {
            let expression = Expression::compile(&text).unwrap();
            prop_assert!(expression.simple.is_some(), "{}", text);
            // Errors deny, whichever it is.
            let (ours, theirs) = (expression.evaluate(&Few).ok(), expression.interpret(&Few).ok());
            prop_assert_eq!(ours, theirs, "{}", text);
        }
    }

    #[test]
    fn other_expressions_are_the_library_s() {
        for (text, simple) in [
            ("request.method == 'GET' && !has(identity.id)", true),
            ("request.headers.x in ['a', request.method]", true),
            ("size(request.method) == 3", false),
            ("identity.claims.admin == true", false),
            ("request.method.matches('^G')", false),
            ("'a' in identity.scopes", false),
            ("request.method == 'GET' || 1 > 0", false),
            ("request.query.a[0] == 'b'", false),
        ] {
            assert_eq!(Expression::compile(text).unwrap().simple.is_some(), simple, "{text}");
        }
    }
}
