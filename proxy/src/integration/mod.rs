//! What answers a request: Services in the cluster, outside URLs, fixed answers.
//! Whether a request gets here was decided before.

pub(crate) mod balance;
pub(crate) mod call;
mod names;
pub(crate) mod pool;
