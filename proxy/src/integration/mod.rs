//! What a request is forwarded to: Services of the cluster, and external URLs. `pipeline` checks requests before it
//! calls an integration.

pub(crate) mod upstream;

pub(crate) use upstream::{RequestBody, Upstream, UpstreamConnection, UpstreamResponse};
