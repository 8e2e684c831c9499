//! Enums on the wire that a newer version may extend. A value is a JSON object with one field that names the variant and
//! holds its content: `{"Fleet":{"proxies":3}}`. A name that this version does not know becomes the `Unknown` variant.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::ser::SerializeMap as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

/// The field that marks a value that a receiver must not ignore.
const ESSENTIAL: &str = "essential";
/// How much of an unknown name is kept, for the log.
const MAX_NAME_CHARS: usize = 64;

/// A variant of a newer version.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unknown {
    /// Its name.
    pub name: String,
    /// Whether a receiver that does not know it must end the stream.
    pub essential: bool,
}

/// An enum that a newer version may extend.
pub(crate) trait Tagged<'de>: Sized {
    /// Reads the content of the variant of this name; none: the name is unknown and nothing was read.
    fn read<A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Option<Self>, A::Error>;

    /// The variant for a name of a newer version.
    fn unknown(unknown: Unknown) -> Self;
}

/// Deserializes a value. Fields other than the one that names the variant are ignored, and may precede it.
pub(crate) fn deserialize<'de, T: Tagged<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<T, D::Error> {
    deserializer.deserialize_map(TaggedVisitor(PhantomData))
}

struct TaggedVisitor<T>(PhantomData<T>);

impl<'de, T: Tagged<'de>> Visitor<'de> for TaggedVisitor<T> {
    type Value = T;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an object with one field that names the variant")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<T, A::Error> {
        let (mut known, mut unknown, mut essential) = (None, None, false);
        while let Some(name) = map.next_key::<String>()? {
            if name == ESSENTIAL {
                essential = map.next_value()?;
                continue;
            }
            match T::read(&name, &mut map)? {
                Some(_) if known.is_some() => return Err(A::Error::custom("an object with two known variants")),
                Some(value) => known = Some(value),
                None => {
                    map.next_value::<IgnoredAny>()?;
                    unknown.get_or_insert(name);
                }
            }
        }
        let unknown = unknown.map(|name| Unknown { name: name.chars().take(MAX_NAME_CHARS).collect(), essential });
        known.or(unknown.map(T::unknown)).ok_or_else(|| A::Error::custom("an object without a variant"))
    }
}

/// Writes a variant.
pub(crate) fn serialize<S: Serializer>(name: &str, content: &impl Serialize, to: S) -> Result<S::Ok, S::Error> {
    let mut map = to.serialize_map(Some(1))?;
    map.serialize_entry(name, content)?;
    map.end()
}

impl Serialize for Unknown {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        let mut map = to.serialize_map(Some(2))?;
        map.serialize_entry(&self.name, &Nothing {})?;
        map.serialize_entry(ESSENTIAL, &self.essential)?;
        map.end()
    }
}

/// The content of a variant without fields: an object, so that a newer version can add some.
#[derive(Serialize, Deserialize)]
pub(crate) struct Nothing {}
