//! JSON documents that keep duplicate keys, so that they can be rejected: `serde_json::Value` keeps the last one.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::Value;

use crate::error::{Path, PolicyError};

/// How deep arrays and objects may be nested. The language of policies needs 7 levels.
pub const MAX_NESTING: usize = 16;

/// A JSON value.
#[derive(Debug)]
pub(crate) enum Node {
    Null,
    Bool(bool),
    Integer(String),
    Float(f64),
    String(String),
    Array(Vec<Node>),
    Object(Vec<(String, Node)>),
}

impl Node {
    /// Parses a text. An object with a duplicate key is an error.
    pub(crate) fn parse(text: &str) -> Result<Self, PolicyError> {
        let invalid = |error: serde_json::Error| Path::Root.error(format!("not valid JSON: {error}"));
        let mut deserializer = serde_json::Deserializer::from_str(text);
        let node = Seed { depth: 0 }.deserialize(&mut deserializer).map_err(invalid)?;
        deserializer.end().map_err(invalid)?;
        node.check_duplicates(&Path::Root)?;
        Ok(node)
    }

    /// Converts a value.
    pub(crate) fn from_value(value: &Value) -> Result<Self, PolicyError> {
        Self::convert(value, 0)
    }

    fn convert(value: &Value, depth: usize) -> Result<Self, PolicyError> {
        if depth > MAX_NESTING {
            return Err(Path::Root.error(too_deep()));
        }
        Ok(match value {
            Value::Null => Self::Null,
            Value::Bool(value) => Self::Bool(*value),
            Value::Number(number) if number.is_f64() => Self::Float(number.as_f64().unwrap_or(f64::NAN)),
            Value::Number(number) => Self::Integer(number.to_string()),
            Value::String(text) => Self::String(text.clone()),
            Value::Array(items) => {
                Self::Array(items.iter().map(|item| Self::convert(item, depth + 1)).collect::<Result<_, _>>()?)
            }
            Value::Object(members) => {
                let convert = |(key, value): (&String, &Value)| Ok((key.clone(), Self::convert(value, depth + 1)?));
                Self::Object(members.iter().map(convert).collect::<Result<_, PolicyError>>()?)
            }
        })
    }

    fn check_duplicates(&self, path: &Path<'_>) -> Result<(), PolicyError> {
        match self {
            Self::Array(items) => {
                items.iter().enumerate().try_for_each(|(index, item)| item.check_duplicates(&path.index(index)))
            }
            Self::Object(members) => {
                let mut keys = HashSet::new();
                members.iter().try_for_each(|(key, member)| {
                    let path = path.key(key);
                    if !keys.insert(key) {
                        return Err(path.error("duplicate key"));
                    }
                    member.check_duplicates(&path)
                })
            }
            _ => Ok(()),
        }
    }

    /// What the value is, for errors.
    pub(crate) fn kind(&self) -> &'static str {
        match self {
            Self::Null => "null",
            Self::Bool(_) => "a boolean",
            Self::Integer(_) | Self::Float(_) => "a number",
            Self::String(_) => "a string",
            Self::Array(_) => "an array",
            Self::Object(_) => "an object",
        }
    }

    /// The members of an object that has at least one.
    pub(crate) fn members(&self, path: &Path<'_>) -> Result<&[(String, Node)], PolicyError> {
        match self {
            Self::Object(members) if members.is_empty() => Err(path.error("must not be empty")),
            Self::Object(members) => Ok(members),
            other => Err(path.error(format!("must be an object, not {}", other.kind()))),
        }
    }

    /// The text of a string.
    pub(crate) fn text(&self, path: &Path<'_>) -> Result<&str, PolicyError> {
        match self {
            Self::String(text) => Ok(text),
            other => Err(path.error(format!("must be a string, not {}", other.kind()))),
        }
    }

    /// Parses one item, or each item of an array that has at least one and at most `max`.
    pub(crate) fn one_or_many<T>(
        &self,
        path: &Path<'_>,
        max: usize,
        mut parse: impl FnMut(&Node, &Path<'_>) -> Result<T, PolicyError>,
    ) -> Result<Vec<T>, PolicyError> {
        match self {
            Self::Array(items) if items.is_empty() => Err(path.error("must not be empty")),
            Self::Array(items) if items.len() > max => {
                Err(path.error(format!("has {} items; at most {max} are allowed", items.len())))
            }
            Self::Array(items) => {
                items.iter().enumerate().map(|(index, item)| parse(item, &path.index(index))).collect()
            }
            single => Ok(vec![parse(single, path)?]),
        }
    }
}

fn too_deep() -> String {
    format!("arrays and objects are nested more than {MAX_NESTING} levels deep")
}

/// Deserializes a node at a depth.
#[derive(Clone, Copy)]
struct Seed {
    depth: usize,
}

impl Seed {
    fn below<E: serde::de::Error>(self) -> Result<Self, E> {
        let depth = self.depth + 1;
        if depth > MAX_NESTING { Err(E::custom(too_deep())) } else { Ok(Self { depth }) }
    }
}

impl<'de> DeserializeSeed<'de> for Seed {
    type Value = Node;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Node, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Seed {
    type Value = Node;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_unit<E>(self) -> Result<Node, E> {
        Ok(Node::Null)
    }

    fn visit_bool<E>(self, value: bool) -> Result<Node, E> {
        Ok(Node::Bool(value))
    }

    fn visit_u64<E>(self, value: u64) -> Result<Node, E> {
        Ok(Node::Integer(value.to_string()))
    }

    fn visit_i64<E>(self, value: i64) -> Result<Node, E> {
        Ok(Node::Integer(value.to_string()))
    }

    fn visit_f64<E>(self, value: f64) -> Result<Node, E> {
        Ok(Node::Float(value))
    }

    fn visit_str<E>(self, value: &str) -> Result<Node, E> {
        Ok(Node::String(value.to_owned()))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut sequence: A) -> Result<Node, A::Error> {
        let seed = self.below()?;
        let mut items = Vec::new();
        while let Some(item) = sequence.next_element_seed(seed)? {
            items.push(item);
        }
        Ok(Node::Array(items))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Node, A::Error> {
        let seed = self.below()?;
        let mut members = Vec::new();
        while let Some(key) = map.next_key::<String>()? {
            members.push((key, map.next_value_seed(seed)?));
        }
        Ok(Node::Object(members))
    }
}
