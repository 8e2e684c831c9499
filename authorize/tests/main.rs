//! Expressions: what is accepted, and their results.
#![allow(clippy::unwrap_used, clippy::panic)]

mod table;
