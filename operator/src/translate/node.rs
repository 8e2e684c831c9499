//! The identity of one node of the translation: an object, a port of a Service, or a certificate.

use crate::objects::{Kind, ObjectKey};

/// What is translated on its own: an object, a port of a Service, or a certificate in a Secret.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Node {
    Object(Kind, ObjectKey),
    Upstream(ObjectKey, u16),
    Certificate(ObjectKey),
}

impl Node {
    pub(crate) fn namespace(&self) -> &str {
        let (Self::Object(_, key) | Self::Upstream(key, _) | Self::Certificate(key)) = self;
        &key.namespace
    }

    pub(crate) fn is_stage(&self) -> bool {
        matches!(self, Self::Object(Kind::Stage, _))
    }
}
