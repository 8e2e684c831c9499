//! The identity of one node of the translation: an object, a port of a Service, or a certificate.

use crate::objects::{Kind, ObjectKey};

/// A port of a Service, and how rules call it.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct UpstreamId {
    pub(crate) service: ObjectKey,
    pub(crate) port: u16,
    /// TLS as rules demand it; none: as the port says.
    pub(crate) tls: Option<UpstreamTlsId>,
}

/// TLS as rules of one namespace demand it. The namespace is that of the rules: it may differ from the Service's, and its
/// quota is what such an upstream takes from.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct UpstreamTlsId {
    pub(crate) namespace: String,
    pub(crate) hostname: Option<String>,
    pub(crate) ca: Option<CaId>,
}

/// Certificates of authorities in a key of a ConfigMap or Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) struct CaId {
    pub(crate) kind: Kind,
    pub(crate) object: ObjectKey,
    pub(crate) key: String,
}

/// What is translated on its own: an object, a port of a Service, or a certificate in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Node {
    Object(Kind, ObjectKey),
    Upstream(UpstreamId),
    Certificate(ObjectKey),
}

impl Node {
    pub(crate) fn namespace(&self) -> &str {
        match self {
            Self::Upstream(UpstreamId { tls: Some(tls), .. }) => &tls.namespace,
            Self::Upstream(UpstreamId { service: key, .. }) | Self::Object(_, key) | Self::Certificate(key) => {
                &key.namespace
            }
        }
    }

    pub(crate) fn is_stage(&self) -> bool {
        matches!(self, Self::Object(Kind::Stage, _))
    }
}
