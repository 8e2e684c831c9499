//! Tests of the public interface.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking, in its helpers too")]

mod cases;
mod find;
mod properties;
mod sign;
mod time;
mod vectors;

/// The credentials of AWS's examples.
const ACCESS_KEY_ID: &str = "AKIDEXAMPLE";
const SECRET: &str = "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY";
