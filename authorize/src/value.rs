//! Values of a request, in the form of the library. Their sizes are limited, which makes the estimate of costs true.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::Arc;

use cel::objects::{Key, Map};

use crate::error::EvaluationError;
use crate::types::Field;

/// A value of an expression.
pub type Value = cel::Value;

/// The longest text, in bytes.
pub(crate) const MAX_TEXT: usize = 16 * 1024;
/// The largest number of entries of a list or map.
pub(crate) const MAX_ENTRIES: usize = 1024;
/// The largest number of values below one.
const MAX_VALUES: usize = 8192;
/// The deepest nesting.
const MAX_DEPTH: usize = 16;

/// Floating point numbers below it are exact, if they are whole.
const WHOLE: f64 = 9_007_199_254_740_992.0;

/// A text.
///
/// # Errors
/// It is too long.
pub fn text(text: &str) -> Result<Value, EvaluationError> {
    Ok(Value::String(Arc::new(limited(text)?.to_owned())))
}

/// A text that is not too long.
pub(crate) fn limited<T: AsRef<str>>(text: T) -> Result<T, EvaluationError> {
    if text.as_ref().len() > MAX_TEXT { Err(EvaluationError::BadValue) } else { Ok(text) }
}

/// A list.
///
/// # Errors
/// It has too many entries, or one is not valid.
pub fn list(values: impl IntoIterator<Item = Result<Value, EvaluationError>>) -> Result<Value, EvaluationError> {
    let mut out = Vec::new();
    for value in values {
        if out.len() >= MAX_ENTRIES {
            return Err(EvaluationError::BadValue);
        }
        out.push(value?);
    }
    Ok(Value::List(Arc::new(out)))
}

/// A map.
///
/// # Errors
/// It has too many entries, or one is not valid.
pub fn map<'a>(
    entries: impl IntoIterator<Item = (&'a str, Result<Value, EvaluationError>)>,
) -> Result<Value, EvaluationError> {
    let mut out: HashMap<Key, Value> = HashMap::new();
    for (name, value) in entries {
        if out.len() >= MAX_ENTRIES || name.len() > MAX_TEXT {
            return Err(EvaluationError::BadValue);
        }
        out.insert(Key::String(Arc::new(name.to_owned())), value?);
    }
    Ok(Value::Map(Map { map: Arc::new(out) }))
}

/// A map of JSON: all claims of a token.
///
/// # Errors
/// It is too large.
pub fn from_json(object: &serde_json::Map<String, serde_json::Value>) -> Result<Value, EvaluationError> {
    let mut left = MAX_VALUES;
    map(object.iter().map(|(name, value)| (name.as_str(), json(value, 1, &mut left))))
}

fn json(value: &serde_json::Value, depth: usize, left: &mut usize) -> Result<Value, EvaluationError> {
    use serde_json::Value as Json;
    if depth > MAX_DEPTH || *left == 0 {
        return Err(EvaluationError::BadValue);
    }
    *left -= 1;
    match value {
        Json::Null => Ok(Value::Null),
        Json::Bool(value) => Ok(Value::Bool(*value)),
        // A number that is whole is an int, if it fits: so that it is equal to a literal.
        Json::Number(number) => match (number.as_i64(), number.as_f64()) {
            (Some(whole), _) => Ok(Value::Int(whole)),
            // 3.0 is written by some programs for 3.
            (None, Some(number)) if number.fract() == 0.0 && number.abs() < WHOLE => Ok(Value::Int(number as i64)),
            (None, Some(number)) => Ok(Value::Float(number)),
            (None, None) => Err(EvaluationError::BadValue),
        },
        Json::String(value) => text(value),
        Json::Array(values) => list(values.iter().map(|value| json(value, depth + 1, left))),
        Json::Object(object) => map(object.iter().map(|(name, value)| (name.as_str(), json(value, depth + 1, left)))),
    }
}

/// The values of a request.
pub trait Facts {
    /// A field that is a text; none: the request has none.
    fn text(&self, field: Field) -> Option<Result<Cow<'_, str>, EvaluationError>>;

    /// An entry of a field that is a map of texts; none: there is no such entry.
    fn text_entry(&self, field: Field, name: &str) -> Option<Result<Cow<'_, str>, EvaluationError>>;

    /// A field that is no text; none: the request has none.
    fn field(&self, field: Field) -> Option<Result<Value, EvaluationError>>;

    /// An entry of a field that is another map; none: there is no such entry.
    fn entry(&self, field: Field, name: &str) -> Option<Result<Value, EvaluationError>>;
}

/// An entry of a map.
#[must_use]
pub fn entry_of(map: &Value, name: &str) -> Option<Value> {
    let Value::Map(map) = map else { return None };
    map.map.get(&Key::String(Arc::new(name.to_owned()))).cloned()
}

/// A value of JSON, such as a claim of a token.
///
/// # Errors
/// It is too large.
pub fn from_json_value(value: &serde_json::Value) -> Result<Value, EvaluationError> {
    let mut left = MAX_VALUES;
    json(value, 1, &mut left)
}
