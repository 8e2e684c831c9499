//! Why an expression is not accepted, or has no result. Neither contains a value of a request.

use crate::limits::{MAX_COST, MAX_LENGTH, MAX_NODES};

/// Why an expression is not accepted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CompileError {
    /// It is not an expression.
    #[error("line {line}, column {column}: {why}")]
    Syntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
        /// What the parser reports.
        why: String,
    },
    /// It is too long, or has too many parts.
    #[error(
        "the expression is too long: at most {} bytes and {} operators, names and literals are accepted",
        MAX_LENGTH,
        MAX_NODES
    )]
    TooLong,
    /// It is nested too deeply for an evaluation with little stack.
    #[error("the expression is nested too deeply, or has too many operators")]
    TooDeep,
    /// It uses something that does not exist, or has a wrong type.
    #[error("{0}")]
    Type(String),
    /// It can take too long.
    #[error("the estimated cost of the expression is {0}; the limit is {limit}", limit = MAX_COST)]
    Cost(u64),
}

/// Why the evaluation of an expression has no result.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EvaluationError {
    /// A key, field or index does not exist.
    #[error("a key does not exist")]
    NoSuchKey,
    /// A value has a type that an operator or function does not accept.
    #[error("a value has the wrong type")]
    WrongType,
    /// The result is not a boolean.
    #[error("the result is not a boolean")]
    NotBoolean,
    /// Division by zero, overflow, or a conversion that is not possible.
    #[error("a value cannot be computed")]
    Arithmetic,
    /// A value of the request is larger than expressions accept, or cannot be represented.
    #[error("a value of the request cannot be used in expressions")]
    BadValue,
    /// The evaluation stopped.
    #[error("the evaluation failed")]
    Failed,
}
