//! The configuration of each fleet and its distribution to the proxies. `translate` makes it; `report` writes statuses about
//! it.

mod admission;
mod certificate;
mod configuration;
mod key_uses;
mod proxies;
mod publisher;
mod reviewer;
mod rollout;
pub mod server;
mod stream;
mod token_review;

pub use admission::{Account, Admission, ProxyAccount, SecretError};
pub(crate) use certificate::reload_interval;
pub use certificate::{Certificate, CertificateError, CertificateFiles};
pub use configuration::{Current, Published, delta};
pub use key_uses::{AccessKeyOf, KeyUses};
pub(crate) use proxies::Membership;
pub use proxies::{Known, Member, Proxies, ProxyId};
pub use publisher::Publisher;
pub use reviewer::Reviewer;
pub use rollout::{Programmed, Rollout, programmed};
pub(crate) use token_review::{AuthError, Reviews as TokenReviews, claims, review as review_token};
