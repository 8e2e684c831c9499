//! The package as a whole: documents and requests in, errors and verdicts out.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::panic,
    clippy::let_underscore_must_use,
    reason = "tests are read, not linked"
)]

mod evaluate;
mod naive;
mod properties;
mod rejected;
mod support;
mod wildcards;
mod without_effect;
