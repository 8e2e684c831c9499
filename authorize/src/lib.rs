//! Expressions of `authorize`: conditions in CEL that a request must meet. The operator and the proxy compile them with the same
//! code: what the operator accepts, the proxy can evaluate. An expression reads declared variables only, its result is a
//! boolean, and its cost for the largest request is known when it is compiled.

mod check;
mod error;
mod expression;
mod types;
mod value;

pub use error::{CompileError, EvaluationError};
pub use expression::Expression;
pub use types::{Field, Fields};
pub use value::{Value, Values, Variables, from_json, list, map, text};

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// The largest number of operators, functions, literals and names in an expression.
pub const MAX_NODES: usize = 512;
/// The highest estimated cost of an expression: as of the rules of Kubernetes, about one unit for ten bytes that are read.
pub const MAX_COST: u64 = 10_000_000;
