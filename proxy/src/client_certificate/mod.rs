//! Certificates of clients: which of them a Stage trusts, and what they state. The handshake is in `listen`; `pipeline` decides what
//! happens to requests without one.

mod details;
mod name;
mod presented;
mod trust;

pub(crate) use details::Details;
pub(crate) use presented::{Certificate, Presented, Standing};
pub(crate) use trust::{AnyTrust, Trust, UNREADABLE, problem};
