//! Parts in, real sockets, answers and metrics out.

mod edge;
mod forwarding;
mod harness;
mod policy;
mod routing;
mod swap;
mod tls;
