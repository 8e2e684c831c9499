//! The custom resources that a user writes: Stage, ApiRoute, Authorizer, ApiKey and UsagePlan.
//! Types, schemas, defaults and the vocabulary of conditions live here; what the objects lead to is the operator's.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat their keys within one `kube` attribute")]

pub mod accepts;
pub mod api_key;
pub mod api_route;
pub mod authorizer;
pub mod condition;
pub mod field;
pub mod manifest;
pub mod reference;
pub mod schema;
pub mod stage;
pub mod usage_plan;

pub use api_key::{ApiKey, ApiKeySpec, ApiKeyStatus};
pub use api_route::{ApiRoute, ApiRouteSpec, ApiRouteStatus};
pub use authorizer::{Authorizer, AuthorizerSpec, AuthorizerStatus};
pub use stage::{Stage, StageSpec, StageStatus};
pub use usage_plan::{UsagePlan, UsagePlanSpec, UsagePlanStatus};

/// The API group of every custom resource.
pub const GROUP: &str = "sluice.dev";

/// The one served version of the group.
pub const VERSION: &str = "v1alpha1";

/// What an object's `apiVersion` must say.
pub const API_VERSION: &str = "sluice.dev/v1alpha1";
