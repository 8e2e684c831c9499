//! The limits of an expression.

/// The longest expression, in bytes.
pub const MAX_LENGTH: usize = 4096;
/// The largest number of operators, functions, literals and names in an expression.
pub const MAX_NODES: usize = 512;
/// The highest estimated cost of an expression: as of the rules of Kubernetes, about one unit for ten bytes that are read.
pub const MAX_COST: u64 = 10_000_000;
