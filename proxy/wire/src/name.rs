//! Names of parts: what a part configures and which object it belongs to. They are built, printed and parsed here only.
//!
//! The text of a name is `kind/namespace/name`, followed by a sub-part where an object has several parts:
//! `route/shop/orders@prod` (a stage), `upstream/shop/orders:80` (a port). Shards of API keys belong to no single object:
//! `keys/07`. The text is what is hashed, sent and kept; the type reads the fields from it, so that a name of a newer
//! version keeps its text.

use std::fmt;
use std::str::FromStr;
use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::ObjectRef;

/// What a part configures.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PartKind {
    /// One Stage.
    Stage,
    /// One ApiRoute.
    Route,
    /// One Authorizer.
    Authorizer,
    /// One shard of API key digests.
    Keys,
    /// One UsagePlan.
    Plan,
    /// The endpoints of one Service port.
    Upstream,
    /// One TLS certificate with its private key: secret.
    Certificate,
    /// One Principal with its signing keys: secret.
    Principal,
    /// A kind of a newer version. Such a part is kept and passed on, and serves no request.
    Unknown,
}

/// Each known kind: its prefix in names, and the kind of the Kubernetes object that its parts are made of.
const KINDS: [(PartKind, &str, &str); 8] = [
    (PartKind::Stage, "stage", "Stage"),
    (PartKind::Route, "route", "ApiRoute"),
    (PartKind::Authorizer, "authorizer", "Authorizer"),
    (PartKind::Keys, "keys", "ApiKey"),
    (PartKind::Plan, "plan", "UsagePlan"),
    (PartKind::Upstream, "upstream", "Service"),
    (PartKind::Certificate, "certificate", "Secret"),
    (PartKind::Principal, "principal", "Principal"),
];

impl PartKind {
    /// The kinds that this version knows.
    pub fn known() -> impl Iterator<Item = Self> {
        KINDS.iter().map(|(kind, _, _)| *kind)
    }

    /// The prefix of the kind in names; empty for an unknown kind.
    #[must_use]
    pub fn text(self) -> &'static str {
        self.row().map_or("", |(_, text, _)| text)
    }

    fn row(self) -> Option<&'static (Self, &'static str, &'static str)> {
        KINDS.iter().find(|(kind, _, _)| *kind == self)
    }
}

/// The name of a part.
#[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PartName {
    /// What the part configures.
    pub kind: PartKind,
    /// The text after `kind/`; of an unknown kind the whole text.
    id: Arc<str>,
}

/// A text that is not a part name: it has no kind.
#[derive(Debug, thiserror::Error)]
#[error("{0:?} is not a part name: it has no kind")]
pub struct ParsePartNameError(String);

/// Which of the parts of an object a part is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubPart<'a> {
    /// What one of its stages gets, by the name of the Stage.
    Stage(&'a str),
    /// One port of a Service.
    Port(u16),
    /// One shard of many objects.
    Shard(&'a str),
    /// A sub-part of a newer version, with its separator.
    Other(&'a str),
}

/// The fields of a name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NameFields<'a> {
    /// The namespace of the object; empty for a shard.
    pub namespace: &'a str,
    /// The name of the object; empty for a shard.
    pub name: &'a str,
    /// The sub-part, if the object has several parts.
    pub sub_part: Option<SubPart<'a>>,
}

impl PartName {
    /// The name of a kind and of the text that follows it, for example `shop/orders` or `shop/orders@prod`.
    #[must_use]
    pub fn new(kind: PartKind, id: impl Into<Arc<str>>) -> Self {
        Self { kind, id: id.into() }
    }

    /// The part of a whole object.
    #[must_use]
    pub fn of_object(kind: PartKind, namespace: &str, name: &str) -> Self {
        Self::new(kind, format!("{namespace}/{name}"))
    }

    /// The part of an ApiRoute that one of its stages serves.
    #[must_use]
    pub fn of_route_at_stage(namespace: &str, route: &str, stage: &str) -> Self {
        Self::new(PartKind::Route, format!("{namespace}/{route}@{stage}"))
    }

    /// The endpoints of a port of a Service.
    #[must_use]
    pub fn of_upstream(namespace: &str, service: &str, port: u16) -> Self {
        Self::new(PartKind::Upstream, format!("{namespace}/{service}:{port}"))
    }

    /// A shard of API key digests.
    #[must_use]
    pub fn of_shard(shard: u8) -> Self {
        Self::new(PartKind::Keys, format!("{shard:02}"))
    }

    /// The text after the kind: for messages, hashes and lengths. [`Self::fields`] has what it consists of.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.id
    }

    /// What the name consists of.
    #[must_use]
    pub fn fields(&self) -> NameFields<'_> {
        let text = match self.kind {
            PartKind::Keys => {
                return NameFields { namespace: "", name: "", sub_part: Some(SubPart::Shard(&self.id)) };
            }
            PartKind::Unknown => self.id.split_once('/').map_or("", |(_, rest)| rest),
            _ => &self.id,
        };
        let (namespace, object) = text.split_once('/').unwrap_or(("", text));
        // Names of Kubernetes objects consist of these characters: the first other one begins the sub-part.
        let end = object.find(|c: char| !(c.is_ascii_alphanumeric() || c == '-' || c == '.')).unwrap_or(object.len());
        let (name, rest) = object.split_at_checked(end).unwrap_or((object, ""));
        let sub_part = match (rest.strip_prefix('@'), rest.strip_prefix(':').map(str::parse)) {
            (Some(stage), _) => Some(SubPart::Stage(stage)),
            (_, Some(Ok(port))) => Some(SubPart::Port(port)),
            _ => (!rest.is_empty()).then_some(SubPart::Other(rest)),
        };
        NameFields { namespace, name, sub_part }
    }

    /// The Kubernetes object that the part is made of, derived from the name.
    #[must_use]
    pub fn object(&self) -> ObjectRef {
        let NameFields { namespace, name, .. } = self.fields();
        ObjectRef::new(self.kind.row().map_or("", |(_, _, object)| object), namespace, name)
    }

    /// Whether another part belongs to the same object.
    #[must_use]
    pub fn is_of_same_object(&self, other: &Self) -> bool {
        let (own, others) = (self.fields(), other.fields());
        self.kind == other.kind && own.namespace == others.namespace && own.name == others.name
    }

    /// The text, in pieces.
    pub(crate) fn pieces(&self) -> [&str; 3] {
        [self.kind.text(), if self.kind == PartKind::Unknown { "" } else { "/" }, &self.id]
    }
}

impl fmt::Display for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.pieces().into_iter().try_for_each(|piece| f.write_str(piece))
    }
}

impl fmt::Debug for PartName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PartName({self})")
    }
}

impl From<PartName> for String {
    fn from(name: PartName) -> Self {
        name.to_string()
    }
}

impl FromStr for PartName {
    type Err = ParsePartNameError;
    fn from_str(text: &str) -> Result<Self, ParsePartNameError> {
        let (prefix, id) = text.split_once('/').ok_or_else(|| ParsePartNameError(text.to_owned()))?;
        Ok(match KINDS.iter().find(|(_, known, _)| *known == prefix) {
            Some((kind, _, _)) => Self::new(*kind, id),
            None => Self::new(PartKind::Unknown, text),
        })
    }
}

impl TryFrom<String> for PartName {
    type Error = ParsePartNameError;
    fn try_from(text: String) -> Result<Self, ParsePartNameError> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_their_fields_survive_their_text_also_those_of_a_newer_version() {
        use SubPart::{Other, Port, Shard, Stage};
        let rows = [
            ("stage/shop/prod", PartKind::Stage, ("shop", "prod", None)),
            ("route/shop/orders", PartKind::Route, ("shop", "orders", None)),
            ("route/shop/orders@prod", PartKind::Route, ("shop", "orders", Some(Stage("prod")))),
            ("route/shop/orders@web/prod", PartKind::Route, ("shop", "orders", Some(Stage("web/prod")))),
            ("route/shop/or.ders-2#canary", PartKind::Route, ("shop", "or.ders-2", Some(Other("#canary")))),
            ("upstream/shop/orders:80", PartKind::Upstream, ("shop", "orders", Some(Port(80)))),
            ("upstream/shop/orders:http", PartKind::Upstream, ("shop", "orders", Some(Other(":http")))),
            ("keys/07", PartKind::Keys, ("", "", Some(Shard("07")))),
            ("certificate/shop/tls", PartKind::Certificate, ("shop", "tls", None)),
            ("plan/gold", PartKind::Plan, ("", "gold", None)),
            ("quota/shop/gold", PartKind::Unknown, ("shop", "gold", None)),
            ("quota/shop/gold@prod", PartKind::Unknown, ("shop", "gold", Some(Stage("prod")))),
            ("quota/é/ü", PartKind::Unknown, ("é", "", Some(Other("ü")))),
            ("/", PartKind::Unknown, ("", "", None)),
        ];
        for (text, kind, (namespace, object, sub_part)) in rows {
            let name: PartName = text.parse().unwrap();
            assert_eq!((name.kind, name.to_string().as_str()), (kind, text));
            assert_eq!(name.fields(), NameFields { namespace, name: object, sub_part }, "{text}");
            let json = serde_json::to_string(&name).unwrap();
            assert_eq!(serde_json::from_str::<PartName>(&json).unwrap(), name);
        }
        assert!("route".parse::<PartName>().is_err());
    }

    #[test]
    fn a_name_made_of_fields_has_the_same_fields_when_it_is_parsed() {
        for (name, text) in [
            (PartName::of_object(PartKind::Authorizer, "shop", "idp"), "authorizer/shop/idp"),
            (PartName::of_route_at_stage("shop", "orders", "prod"), "route/shop/orders@prod"),
            (PartName::of_upstream("shop", "orders", 8080), "upstream/shop/orders:8080"),
            (PartName::of_shard(7), "keys/07"),
        ] {
            assert_eq!(name, text.parse().unwrap());
        }
        let (whole, one) =
            (PartName::of_object(PartKind::Route, "a", "b"), PartName::of_route_at_stage("a", "b", "prod"));
        assert!(whole.is_of_same_object(&one) && one.object() == ObjectRef::new("ApiRoute", "a", "b"));
        assert!(!whole.is_of_same_object(&PartName::of_object(PartKind::Route, "a", "b-2")));
    }

    #[test]
    fn a_name_is_as_small_as_a_kind_and_a_shared_text() {
        assert_eq!(size_of::<PartName>(), 24);
        let name = PartName::of_object(PartKind::Route, "shop", "orders");
        assert!(std::ptr::eq(name.id(), name.clone().id()));
    }
}
