//! The configuration of each fleet and its distribution to the proxies. `translate` makes it; `report` writes statuses about
//! it.

mod admission;
mod configuration;
mod key_uses;
mod proxies;
mod publisher;
mod reviewer;
mod rollout;
pub mod server;
mod stream;

pub use admission::{Account, Admission, ProxyAccount, SecretError};
pub use configuration::{Current, Published, delta};
pub use key_uses::{AccessKeyOf, KeyUses};
pub(crate) use proxies::Membership;
pub use proxies::{Known, Member, Proxies, ProxyId};
pub use publisher::Publisher;
pub use reviewer::Reviewer;
pub use rollout::{Programmed, Rollout, programmed};
