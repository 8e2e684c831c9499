//! What travels between operator and proxy. One HTTP/2 POST to [`STREAM_PATH`]: the request body carries [`Up`] frames,
//! the response body [`Down`] frames; a frame is a 4-byte big-endian length, then JSON. In one process they travel in a channel.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::{Hash, ObjectRef, Part, PartName};

/// Where the operator serves the stream.
pub const STREAM_PATH: &str = "/v1/stream";
/// A longer frame ends the stream.
pub const MAX_FRAME_BYTES: usize = 256 << 20;
/// A longer part is refused by both sides.
pub const MAX_PART_BYTES: usize = 4 << 20;

/// The first frame a proxy sends: who it is and what it already has.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// The proxy's name, usually its pod's.
    pub proxy: String,
    /// Its program version.
    pub program: String,
    /// Hashes of the parts it serves: the operator sends the difference.
    pub parts: BTreeMap<PartName, Hash>,
}

/// From proxy to operator.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Up {
    /// Sent first, once.
    Hello(Hello),
    /// Sent after each delta.
    Ack(Ack),
    /// Sent when a [`Down::Ping`] arrives.
    Pong,
}

/// From operator to proxy.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Down {
    /// A change of configuration, also sent empty so that a proxy in step can say so.
    Delta(Delta),
    /// How many proxies share each limit: a proxy enforces 1/n of every rate.
    Fleet {
        /// At least 1.
        proxies: u32,
    },
    /// Asks for a [`Up::Pong`], so that both ends notice a silent loss.
    Ping,
}

/// A change from one configuration to the next.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Delta {
    /// The version it applies to; [`Hash::NONE`]: replaces everything.
    pub base: Hash,
    /// The version it leads to: see [`crate::Parts::version`].
    pub version: Hash,
    /// New and changed parts.
    pub upsert: Vec<Part>,
    /// Parts that are gone.
    pub remove: Vec<PartName>,
}

/// What became of a delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ack {
    /// The version that is now served, or was refused.
    pub version: Hash,
    /// Whether it is in force.
    pub outcome: Outcome,
    /// Objects that are configured but cannot be served as written: they fail closed. Complete for the version.
    pub diagnostics: Vec<Diagnostic>,
}

/// Whether a version is in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every request is judged by it.
    Applied,
    /// The one before stays in force.
    Refused {
        /// Why, in a sentence.
        why: String,
    },
}

/// One object that a proxy cannot serve as written.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Diagnostic {
    /// Which object.
    pub object: ObjectRef,
    /// What is wrong, in a sentence for its author.
    pub message: String,
}
