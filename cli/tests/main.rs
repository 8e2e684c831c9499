//! The built `sluice` command, used as people use it. What the operator and the proxy do is tested with them.

mod dev;
mod harness;
mod lint;
