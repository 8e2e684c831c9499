//! Integration tests.

mod evaluate;
mod naive;
mod properties;
mod rejected;
mod support;
mod wildcards;
