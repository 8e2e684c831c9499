//! Tests of the proxy as a whole, over real sockets: parts configure it, responses and metrics are checked.
#![allow(
    missing_docs,
    unreachable_pub,
    clippy::unwrap_used,
    clippy::panic,
    clippy::string_slice,
    clippy::let_underscore_must_use,
    clippy::disallowed_methods,
    reason = "tests are read, not linked"
)]

mod alternative_key;
mod authorize;
mod aws;
mod bodies;
mod caching;
mod client_certificates;
mod client_headers;
mod early;
mod edge;
mod explain;
mod forwarding;
mod fuzz;
mod harness;
mod http2;
mod http2_pool;
mod iam;
mod iam_sessions;
mod introspection;
mod lambda_authorizer;
mod limits;
mod names;
mod overload;
mod policy;
mod request_policy;
mod resource_policy;
mod routing;
mod skew;
mod slow;
mod source;
mod stored;
mod swap;
mod tls;
mod token_places;
mod trailers;
mod upstream_failures;
mod upstream_tls;
