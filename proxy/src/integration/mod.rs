//! What a request is forwarded to: Services of the cluster, and external URLs.
//! Whether a request may be forwarded was decided before.

pub(crate) mod upstream;

pub(crate) use upstream::{PooledConnection, Received, RequestBody, Upstream};
