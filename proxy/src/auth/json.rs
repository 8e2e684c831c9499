//! JSON objects whose members have one value each. Of a repeated member, readers use the first or the last, so that two of them see
//! different objects.

use std::cell::Cell;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

use super::token_error::TokenError;

/// An object in which no member is repeated, at any depth.
pub(super) fn object(text: &[u8]) -> Result<Map<String, Value>, TokenError> {
    let repeated = Cell::new(false);
    let mut reader = serde_json::Deserializer::from_slice(text);
    let value = Unique(&repeated).deserialize(&mut reader).and_then(|value| reader.end().map(|()| value));
    match value {
        Ok(Value::Object(object)) => Ok(object),
        _ if repeated.get() => Err(TokenError::Duplicate),
        _ => Err(TokenError::Malformed),
    }
}

/// Reads a value, and remembers whether a member was repeated.
#[derive(Clone, Copy)]
struct Unique<'a>(&'a Cell<bool>);

impl<'de> DeserializeSeed<'de> for Unique<'_> {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, from: D) -> Result<Value, D::Error> {
        from.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Unique<'_> {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON without repeated members")
    }

    fn visit_bool<E>(self, value: bool) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_i64<E>(self, value: i64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_u64<E>(self, value: u64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_f64<E>(self, value: f64) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_str<E>(self, value: &str) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_string<E>(self, value: String) -> Result<Value, E> {
        Ok(value.into())
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(item) = items.next_element_seed(self)? {
            list.push(item);
        }
        Ok(Value::Array(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut members: A) -> Result<Value, A::Error> {
        let mut object = Map::new();
        while let Some(name) = members.next_key::<String>()? {
            let value = members.next_value_seed(self)?;
            if object.insert(name, value).is_some() {
                self.0.set(true);
                return Err(A::Error::custom("repeated member"));
            }
        }
        Ok(Value::Object(object))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn members_have_one_value_at_any_depth() {
        use TokenError::{Duplicate, Malformed};
        for (text, error) in [
            ("{}", None),
            (r#" {"a": [1, -1, 1.5, "x", true, null, {"a": {}}]} "#, None),
            (r#"{"a": 1, "A": 2}"#, None),
            (r#"{"a": 1, "a": 1}"#, Some(Duplicate)),
            (r#"{"a": 1, "\u0061": 2}"#, Some(Duplicate)),
            (r#"{"x": {"a": 1, "a": 2}}"#, Some(Duplicate)),
            (r#"{"x": [{"a": 1}, {"b": 1, "b": 2}]}"#, Some(Duplicate)),
            ("[]", Some(Malformed)),
            ("{} {}", Some(Malformed)),
            ("{", Some(Malformed)),
            ("{\"a\": 1,}", Some(Malformed)),
            ("", Some(Malformed)),
        ] {
            assert_eq!(object(text.as_bytes()).err(), error, "{text}");
        }
        let text = br#"{"a": [1, -1, 1.5, "x", true, null, {"b": {}}], "c": 18446744073709551615}"#;
        assert_eq!(Value::Object(object(text).unwrap()), serde_json::from_slice::<Value>(text).unwrap());
        assert_eq!(object("[".repeat(1000).as_bytes()).err(), Some(Malformed));
    }
}
