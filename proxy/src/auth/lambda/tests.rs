//! Events and outputs.
