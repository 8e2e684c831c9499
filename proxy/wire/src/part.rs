//! One piece of configuration: small, named, hashed, decoded once. The body of each kind is in the module of that kind, its
//! name in `name`.

use std::fmt;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::authorizer;
use crate::{
    AuthorizerPart, CertificatePart, Hash, KeysPart, PartKind, PartName, PlanPart, PrincipalPart, RoutePart, StagePart,
    UpstreamPart,
};

/// One piece of configuration, as it is sent and stored. The body stays text until it is compiled, so that
/// a part of a newer version fails alone.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// The part's name.
    pub name: PartName,
    /// The hash of `json`.
    pub hash: Hash,
    /// The body, as JSON text.
    pub json: Arc<str>,
}

impl fmt::Debug for Part {
    // Bodies may hold private keys.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Part({} {})", self.name, self.hash.short())
    }
}

/// What a part holds, decoded.
#[derive(Clone, Debug, PartialEq)]
pub enum PartBody {
    /// See [`StagePart`].
    Stage(StagePart),
    /// See [`RoutePart`].
    Route(RoutePart),
    /// See [`AuthorizerPart`].
    Authorizer(AuthorizerPart),
    /// See [`KeysPart`].
    Keys(KeysPart),
    /// See [`PlanPart`].
    Plan(PlanPart),
    /// See [`UpstreamPart`].
    Upstream(UpstreamPart),
    /// See [`CertificatePart`].
    Certificate(CertificatePart),
    /// See [`PrincipalPart`].
    Principal(PrincipalPart),
}

/// Why a part cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DecodeError {
    /// A kind this version does not know.
    #[error("unknown kind of part {0}")]
    UnknownKind(PartName),
    /// The text does not match its hash.
    #[error("the content of part {0} does not match its hash")]
    HashMismatch(PartName),
    /// The body has a shape this version does not know.
    #[error("cannot decode part {name}")]
    Body {
        /// Which part.
        name: PartName,
        /// What is wrong with it.
        #[source]
        source: serde_json::Error,
    },
}

impl Part {
    /// Makes a part of a body: written out once, hashed once.
    #[must_use]
    pub fn new(name: PartName, body: &PartBody) -> Self {
        let written = match body {
            PartBody::Stage(body) => serde_json::to_string(body),
            PartBody::Route(body) => serde_json::to_string(body),
            PartBody::Authorizer(body) => serde_json::to_string(body),
            PartBody::Keys(body) => serde_json::to_string(body),
            PartBody::Plan(body) => serde_json::to_string(body),
            PartBody::Upstream(body) => serde_json::to_string(body),
            PartBody::Certificate(body) => serde_json::to_string(body),
            PartBody::Principal(body) => serde_json::to_string(body),
        };
        // Bodies are plain data with string keys: writing them cannot fail. Were it to, the part would not decode.
        let json: Arc<str> = written.unwrap_or_default().into();
        Self { name, hash: Hash::of(json.as_bytes()), json }
    }

    /// Whether the body holds a secret that must not be written to a disk, or may hold one.
    #[must_use]
    pub fn may_hold_secrets(&self) -> bool {
        match self.name.kind {
            PartKind::Certificate | PartKind::Principal => true,
            PartKind::Authorizer => authorizer::may_hold_secrets(&self.json),
            _ => false,
        }
    }

    /// Checks the hash and reads the body.
    pub fn decode(&self) -> Result<PartBody, DecodeError> {
        if Hash::of(self.json.as_bytes()) != self.hash {
            return Err(DecodeError::HashMismatch(self.name.clone()));
        }
        let text = &*self.json;
        match self.name.kind {
            PartKind::Stage => serde_json::from_str(text).map(PartBody::Stage),
            PartKind::Route => serde_json::from_str(text).map(PartBody::Route),
            PartKind::Authorizer => serde_json::from_str(text).map(PartBody::Authorizer),
            PartKind::Keys => serde_json::from_str(text).map(PartBody::Keys),
            PartKind::Plan => serde_json::from_str(text).map(PartBody::Plan),
            PartKind::Upstream => serde_json::from_str(text).map(PartBody::Upstream),
            PartKind::Certificate => serde_json::from_str(text).map(PartBody::Certificate),
            PartKind::Principal => serde_json::from_str(text).map(PartBody::Principal),
            PartKind::Unknown => return Err(DecodeError::UnknownKind(self.name.clone())),
        }
        .map_err(|source| DecodeError::Body { name: self.name.clone(), source })
    }
}
