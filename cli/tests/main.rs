//! The built `sluice` command, used as people use it. What the operator and the proxy do is tested with them.

#![allow(clippy::unwrap_used, reason = "helpers of tests fail as tests do")]

mod dev;
mod harness;
mod lint;
