//! The custom resources that a user writes: Stage, ApiRoute, Authorizer, Principal, ApiKey and UsagePlan.
//! This package has their types, schemas, defaults and conditions. The operator translates the objects.

#![allow(clippy::duplicated_attributes, reason = "printer columns repeat their keys within one `kube` attribute")]

pub mod accepts;
pub mod api_key;
pub mod api_route;
pub mod authorizer;
pub mod client_throttle;
pub mod condition;
pub mod cors;
pub mod field;
pub mod group;
pub mod manifest;
pub mod policy_document;
pub mod principal;
pub mod reference;
pub mod schema;
pub mod source;
pub mod stage;
pub mod usage_plan;
pub mod warning;

pub use api_key::{ApiKey, ApiKeySpec, ApiKeyStatus};
pub use api_route::{ApiRoute, ApiRouteSpec, ApiRouteStatus};
pub use authorizer::{Authorizer, AuthorizerSpec, AuthorizerStatus};
pub use group::{API_VERSION, GROUP, VERSION};
pub use principal::{Principal, PrincipalSpec, PrincipalStatus};
pub use stage::{Stage, StageSpec, StageStatus};
pub use usage_plan::{UsagePlan, UsagePlanSpec, UsagePlanStatus};
