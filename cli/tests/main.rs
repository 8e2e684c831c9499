//! Tests of the built `sluice` command, from the command line. The operator and the proxy have their own tests.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod dev;
mod explain;
mod explain_request;
mod harness;
mod lint;
