//! The frames between operator and proxy. One HTTP/2 POST to [`STREAM_PATH`]: the request body carries [`Up`] frames,
//! the response body [`Down`] frames; a frame is a 4-byte big-endian length, then JSON. In one process a channel carries them.
//!
//! A frame is a JSON object with one field that names it. A receiver ignores a frame that it does not know, and ends the
//! stream when the frame is marked `"essential": true`. Unknown fields are ignored everywhere.

use std::collections::BTreeMap;

use serde::de::MapAccess;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tagged::{self, Nothing, Tagged, Unknown};
use crate::{AccessReview, Capabilities, FleetName, Hash, ObjectRef, Part, PartName, Reviewed, Used};

/// Where the operator serves the stream.
pub const STREAM_PATH: &str = "/v1/stream";
/// A longer frame ends the stream.
pub const MAX_FRAME_BYTES: usize = 256 << 20;
/// A longer part is rejected by both sides.
pub const MAX_PART_BYTES: usize = 4 << 20;

/// The first frame a proxy sends: who it is and what it already has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The proxy's name, usually its pod's.
    pub proxy: String,
    /// Its program version.
    pub program: String,
    /// Hashes of the parts it serves: the operator sends the difference.
    #[serde(default)]
    pub parts: BTreeMap<PartName, Hash>,
    /// The fleet it belongs to.
    #[serde(default)]
    pub fleet: FleetName,
    /// What it understands.
    #[serde(default)]
    pub capabilities: Capabilities,
}

impl Hello {
    /// The hello of a proxy of the default fleet that has no configuration and understands what this version does.
    #[must_use]
    pub fn new(proxy: impl Into<String>, program: impl Into<String>) -> Self {
        Self {
            proxy: proxy.into(),
            program: program.into(),
            parts: BTreeMap::new(),
            fleet: FleetName::default(),
            capabilities: Capabilities::of_this_version(),
        }
    }
}

/// The operator's reply to [`Hello`]. Sent only to proxies that list the frame.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Welcome {
    /// The operator's program version.
    pub program: String,
    /// What it understands.
    #[serde(default)]
    pub capabilities: Capabilities,
}

/// From proxy to operator.
#[derive(Clone, Debug, PartialEq)]
pub enum Up {
    /// Sent first, once.
    Hello(Hello),
    /// Sent after each delta.
    Ack(Ack),
    /// Sent when a [`Down::Ping`] arrives.
    Pong,
    /// Asks for an access review. Sent only to operators that list the frame.
    Review(AccessReview),
    /// Reports uses of access keys. Sent only to operators that list the frame.
    Used(Used),
    /// A frame of a newer version.
    Unknown(Unknown),
}

/// From operator to proxy.
#[derive(Clone, Debug, PartialEq)]
pub enum Down {
    /// Sent first, once, to a proxy that lists the frame.
    Welcome(Welcome),
    /// A change of configuration. It is also sent if it is empty, so that an up-to-date proxy can acknowledge.
    Delta(Delta),
    /// How many proxies share each limit: a proxy enforces 1/n of every rate.
    Fleet {
        /// At least 1.
        proxies: u32,
    },
    /// Asks for a [`Up::Pong`], so that both ends notice a silent loss.
    Ping,
    /// The result of a [`Up::Review`].
    Reviewed(Reviewed),
    /// A frame of a newer version.
    Unknown(Unknown),
}

/// A frame of either direction.
pub trait Frame {
    /// The frame when this version does not know it.
    fn unknown(&self) -> Option<&Unknown>;
}

impl Frame for Up {
    fn unknown(&self) -> Option<&Unknown> {
        if let Self::Unknown(unknown) = self { Some(unknown) } else { None }
    }
}

impl Frame for Down {
    fn unknown(&self) -> Option<&Unknown> {
        if let Self::Unknown(unknown) = self { Some(unknown) } else { None }
    }
}

/// The content of [`Down::Fleet`].
#[derive(Serialize, Deserialize)]
struct FleetSize {
    proxies: u32,
}

impl<'de> Tagged<'de> for Up {
    fn read<A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Option<Self>, A::Error> {
        Ok(Some(match name {
            "Hello" => Self::Hello(map.next_value()?),
            "Ack" => Self::Ack(map.next_value()?),
            "Pong" => {
                map.next_value::<Nothing>()?;
                Self::Pong
            }
            "Review" => Self::Review(map.next_value()?),
            "Used" => Self::Used(map.next_value()?),
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl<'de> Tagged<'de> for Down {
    fn read<A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Option<Self>, A::Error> {
        Ok(Some(match name {
            "Welcome" => Self::Welcome(map.next_value()?),
            "Delta" => Self::Delta(map.next_value()?),
            "Fleet" => {
                let FleetSize { proxies } = map.next_value()?;
                Self::Fleet { proxies }
            }
            "Ping" => {
                map.next_value::<Nothing>()?;
                Self::Ping
            }
            "Reviewed" => Self::Reviewed(map.next_value()?),
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl<'de> Tagged<'de> for Outcome {
    fn read<A: MapAccess<'de>>(name: &str, map: &mut A) -> Result<Option<Self>, A::Error> {
        Ok(Some(match name {
            "Applied" => {
                map.next_value::<Nothing>()?;
                Self::Applied
            }
            "Rejected" => {
                let Rejected { why } = map.next_value()?;
                Self::Rejected { why }
            }
            _ => return Ok(None),
        }))
    }

    fn unknown(unknown: Unknown) -> Self {
        Self::Unknown(unknown)
    }
}

impl<'de> Deserialize<'de> for Up {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        tagged::deserialize(from)
    }
}

impl<'de> Deserialize<'de> for Down {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        tagged::deserialize(from)
    }
}

impl<'de> Deserialize<'de> for Outcome {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        tagged::deserialize(from)
    }
}

impl Serialize for Up {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Hello(hello) => tagged::serialize("Hello", hello, to),
            Self::Ack(ack) => tagged::serialize("Ack", ack, to),
            Self::Pong => tagged::serialize("Pong", &Nothing {}, to),
            Self::Review(review) => tagged::serialize("Review", review, to),
            Self::Used(used) => tagged::serialize("Used", used, to),
            Self::Unknown(unknown) => unknown.serialize(to),
        }
    }
}

impl Serialize for Down {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Welcome(welcome) => tagged::serialize("Welcome", welcome, to),
            Self::Delta(delta) => tagged::serialize("Delta", delta, to),
            Self::Fleet { proxies } => tagged::serialize("Fleet", &FleetSize { proxies: *proxies }, to),
            Self::Ping => tagged::serialize("Ping", &Nothing {}, to),
            Self::Reviewed(reviewed) => tagged::serialize("Reviewed", reviewed, to),
            Self::Unknown(unknown) => unknown.serialize(to),
        }
    }
}

impl Serialize for Outcome {
    fn serialize<S: Serializer>(&self, to: S) -> Result<S::Ok, S::Error> {
        match self {
            Self::Applied => tagged::serialize("Applied", &Nothing {}, to),
            Self::Rejected { why } => tagged::serialize("Rejected", &Rejected { why: why.clone() }, to),
            Self::Unknown(unknown) => unknown.serialize(to),
        }
    }
}

/// A change from one configuration to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// The version it applies to; [`Hash::NONE`]: replaces everything.
    pub base: Hash,
    /// The version it results in: see [`crate::Parts::version`].
    pub version: Hash,
    /// New and changed parts.
    pub upsert: Vec<Part>,
    /// Parts that are gone.
    pub remove: Vec<PartName>,
}

/// The result of a delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The version of the delta.
    pub version: Hash,
    /// Whether it is applied.
    pub outcome: Outcome,
    /// Objects that are configured but cannot be served as written: they fail closed. Complete for the version.
    #[serde(default)]
    pub diagnostics: Vec<Diagnostic>,
}

/// Whether a version is applied.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// Every new request uses it.
    Applied,
    /// The proxy keeps the version before.
    Rejected {
        /// Why, in a sentence.
        why: String,
    },
    /// An outcome of a newer version. It does not count as applied.
    Unknown(Unknown),
}

/// The content of [`Outcome::Rejected`].
#[derive(Serialize, Deserialize)]
struct Rejected {
    why: String,
}

/// One object that a proxy cannot serve as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Which object.
    pub object: ObjectRef,
    /// What is wrong, in a sentence for its author.
    pub message: String,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{KeyUse, PartKind};

    fn read<T: serde::de::DeserializeOwned>(text: &str) -> T {
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn every_frame_survives_its_text_and_is_listed() {
        let ups = [
            Up::Hello(Hello::new("one", "1")),
            Up::Ack(Ack { version: Hash::NONE, outcome: Outcome::Rejected { why: "no".into() }, diagnostics: vec![] }),
            Up::Ack(Ack { version: Hash::NONE, outcome: Outcome::Applied, diagnostics: vec![] }),
            Up::Pong,
            Up::Review(AccessReview {
                id: 7,
                user: "system:serviceaccount:shop:orders".into(),
                verb: "get".into(),
                namespace: "shop".into(),
                route: "items".into(),
            }),
            Up::Used(Used {
                keys: vec![KeyUse {
                    principal: PartName::of_object(PartKind::Principal, "shop", "ann"),
                    id: "SLCEAAAAAAAAAAAAAAA1".into(),
                    at: 1_700_000_040,
                }],
            }),
        ];
        let downs = [
            Down::Welcome(Welcome { program: "1".into(), capabilities: Capabilities::default() }),
            Down::Delta(Delta { base: Hash::NONE, version: Hash::NONE, upsert: vec![], remove: vec![] }),
            Down::Fleet { proxies: 3 },
            Down::Ping,
            Down::Reviewed(Reviewed { id: 7, allowed: None }),
            Down::Reviewed(Reviewed { id: 8, allowed: Some(false) }),
        ];
        let mut texts = Vec::new();
        for up in ups {
            texts.push(serde_json::to_string(&up).unwrap());
            assert_eq!(read::<Up>(texts.last().unwrap()), up);
        }
        for down in downs {
            texts.push(serde_json::to_string(&down).unwrap());
            assert_eq!(read::<Down>(texts.last().unwrap()), down);
        }
        let all = Capabilities::of_this_version();
        let named = |text: &String| read::<BTreeMap<String, serde_json::Value>>(text).into_keys().next().unwrap();
        assert!(texts.iter().map(named).all(|name| all.has_frame(&name)));
    }

    #[test]
    fn a_frame_or_outcome_of_a_newer_version_is_unknown_and_extra_fields_are_ignored() {
        let unknown = |name: &str, essential| Unknown { name: name.to_owned(), essential };
        assert_eq!(read::<Down>(r#"{"Lease":{"a":[1]}}"#), Down::Unknown(unknown("Lease", false)));
        assert_eq!(read::<Down>(r#"{"essential":true,"Lease":3}"#), Down::Unknown(unknown("Lease", true)));
        assert_eq!(read::<Up>(r#"{"Usage":null,"essential":true}"#), Up::Unknown(unknown("Usage", true)));
        assert_eq!(read::<Down>(r#"{"trace":"a","Ping":{"at":1},"essential":true}"#), Down::Ping);
        assert_eq!(read::<Down>(r#"{"Fleet":{"proxies":2,"weight":0.5}}"#), Down::Fleet { proxies: 2 });
        assert_eq!(read::<Outcome>(r#"{"Partly":{"of":3}}"#), Outcome::Unknown(unknown("Partly", false)));
        let long = format!(r#"{{"{}":{{}}}}"#, "x".repeat(1000));
        assert!(matches!(read::<Up>(&long), Up::Unknown(unknown) if unknown.name.len() == 64));
        for bad in
            ["{}", r#"{"essential":true}"#, r#""Ping""#, r#"{"Fleet":{}}"#, r#"{"Ping":{},"Fleet":{"proxies":1}}"#]
        {
            assert!(serde_json::from_str::<Down>(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_hello_without_new_fields_is_of_the_default_fleet_and_understands_what_there_was_before() {
        let Up::Hello(hello) = read(r#"{"Hello":{"proxy":"one","program":"0.1","parts":{}}}"#) else {
            panic!("no hello")
        };
        assert_eq!(hello.fleet.as_str(), "default");
        for kind in PartKind::known() {
            assert_eq!(hello.capabilities.has_part(kind), kind != PartKind::Principal, "{kind:?}");
        }
        assert!(hello.capabilities.has_frame("Fleet") && !hello.capabilities.has_frame("Welcome"));
        assert!(serde_json::from_str::<Up>(r#"{"Hello":{"proxy":"one","program":"0.1","fleet":"A b"}}"#).is_err());
    }
}
