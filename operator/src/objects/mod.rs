//! The kinds of objects that the operator watches and their identities: the lowest module of the operator. Each kind is one
//! row in `table.rs` and one file here. What an object is translated to is decided by `translate`.

mod key;
mod manifest_schema;
pub(crate) mod object;
mod scope;
pub(crate) mod table;
mod watched;

mod api_key;
mod api_route;
mod authorizer;
mod config_map;
mod endpoint_slice;
mod namespace;
mod principal;
mod reference_grant;
mod secret;
mod service;
mod stage;
mod usage_plan;

pub use api_key::secret_of;
pub use authorizer::iam_authorizers_of;
pub use key::ObjectKey;
pub use object::{Object, Unparsable, UnparsableStage};
pub(crate) use object::{for_own_object, recorded_access_keys};
pub(crate) use principal::recorded_ids;
pub use principal::{access_key_secrets, generated_access_key, principals_of, session_secret};
pub use scope::Watch;
pub use table::{Kind, Own, Tabled};
pub(crate) use table::{for_kind, for_own_kind, kinds};
pub use watched::{Target, Watched};
