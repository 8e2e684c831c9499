//! Values of a request, in the form of the library. Their sizes are limited, which makes the estimate of costs true.

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

/// A text.
///
/// # Errors
/// It is too long.
pub fn text(text: &str) -> Result<Value, EvaluationError> {
    if text.len() > MAX_TEXT {
        return Err(EvaluationError::BadValue);
    }
    Ok(Value::String(Arc::new(text.to_owned())))
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

/// A map of JSON, such as the claims of a token.
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
            (None, Some(number)) => Ok(Value::Float(number)),
            (None, None) => Err(EvaluationError::BadValue),
        },
        Json::String(value) => text(value),
        Json::Array(values) => list(values.iter().map(|value| json(value, depth + 1, left))),
        Json::Object(object) => map(object.iter().map(|(name, value)| (name.as_str(), json(value, depth + 1, left)))),
    }
}

/// The values that a request has for the fields that are read.
#[derive(Default)]
pub struct Values {
    variables: HashMap<&'static str, HashMap<Key, Value>>,
    whole: Vec<(&'static str, Value)>,
}

impl Values {
    /// Sets a field. A field that is not set does not exist.
    pub fn set(&mut self, field: Field, value: Value) {
        if field.name().is_empty() {
            self.whole.push((field.variable(), value));
            return;
        }
        let key = Key::String(Arc::new(field.name().to_owned()));
        self.variables.entry(field.variable()).or_default().insert(key, value);
    }

    /// The variables, for the evaluation of several expressions. Every variable exists, with the fields that were set.
    #[must_use]
    pub fn finish(mut self) -> Variables {
        let mut out = std::mem::take(&mut self.whole);
        for name in ["request", "source", "identity", "certificate", "key", "stage"] {
            let fields = self.variables.remove(name).unwrap_or_default();
            out.push((name, Value::Map(Map { map: Arc::new(fields) })));
        }
        Variables(out)
    }
}

/// The variables of a request.
pub struct Variables(pub(crate) Vec<(&'static str, Value)>);
