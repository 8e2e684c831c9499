//! Expressions of `authorize`: conditions in CEL that a request must meet. The operator and the proxy compile them with the same
//! code: what the operator accepts, the proxy can evaluate. An expression reads declared variables only, its result is a
//! boolean, and its cost for the largest request is known when it is compiled.

mod check;
mod error;
mod expression;
mod limits;
mod network;
mod reads;
mod simple;
mod time;
mod types;
mod value;

pub use error::{CompileError, EvaluationError};
pub use expression::Expression;
pub use limits::{MAX_COST, MAX_LENGTH, MAX_NODES};
pub use time::time;
pub use types::Field;
pub use value::{Facts, Value, entry_of, from_json, from_json_value, list, map, text};
