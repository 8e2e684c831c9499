//! Parts in, real sockets, answers and metrics out.
#![allow(missing_docs, unreachable_pub, reason = "tests are read, not linked")]

mod edge;
mod forwarding;
mod harness;
mod policy;
mod routing;
mod swap;
mod tls;
